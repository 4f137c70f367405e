"""TLS sessions that clients resume: with every worker, and never where that would spare them what is wanted of them."""

import os
import pathlib
import shutil
import signal
import ssl

import pytest

from tests.apps import versioned
from tests.certificates import Certificates, make_certificates
from tests.conftest import LISTENING, LiveServer, StartServer, wait_until
from tests.live.tls_client import TlsClient, subject

pytestmark = pytest.mark.live

WORKERS = 4
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
IN_TURN = ("-w", str(WORKERS), "--scheduling", "round-robin")
"""A few connections meet all workers."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def begin(port: int, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLSession:
    """The session of a new connection; its ticket comes with the response in TLS 1.3."""
    with TlsClient(port, context, name) as client:
        assert client.exchange().status == 200
        assert not client.tls.session_reused
        session = client.tls.session
    assert session is not None
    assert session.has_ticket
    return session


def resumes(port: int, context: ssl.SSLContext, session: ssl.SSLSession) -> tuple[int, bool]:
    """The worker that a new connection meets, and whether it has resumed the session."""
    with TlsClient(port, context, session=session) as client:
        pid = int(client.exchange().body.split()[1])
        return pid, bool(client.tls.session_reused)


def resume_everywhere(port: int, context: ssl.SSLContext, session: ssl.SSLSession, workers: set[int]) -> None:
    """Connect until all of these workers have been met; each has to resume the session."""
    met: set[int] = set()

    def meet() -> bool:
        pid, resumed = resumes(port, context, session)
        assert resumed, f"worker {pid} did not resume the session; those that did: {met}"
        met.add(pid)
        return met >= workers

    wait_until(meet, 10, f"all of {workers} met, not only {met}")


def refused(port: int, context: ssl.SSLContext, session: ssl.SSLSession, name: str = "localhost") -> bool:
    """Whether the server ends a connection that resumes a session, or wants to, before it answers."""
    try:
        with TlsClient(port, context, name, session=session) as client:
            client.ask()
            return client.rest() == b""
    except OSError:
        return True


def all_met(port: int, context: ssl.SSLContext) -> set[int]:
    """The workers that new connections meet, of which there are `WORKERS`."""
    met: set[int] = set()

    def meet() -> bool:
        with TlsClient(port, context) as client:
            met.add(int(client.exchange().body.split()[1]))
        return len(met) == WORKERS

    wait_until(meet, 10, f"{WORKERS} workers met, not only {met}")
    return met


def reload(live: LiveServer) -> None:
    """Reload, to the end of the last worker of the generation before."""
    live.forget_log()
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    live.wait_children(WORKERS)


@pytest.mark.parametrize(
    ("kind", "preload"),
    [("sync", ()), ("gthread", ()), ("gevent", ()), ("sync", ("--preload",)), ("gevent", ("--preload",))],
    ids=["sync", "gthread", "gevent", "sync-preload", "gevent-preload"],
)
def test_every_worker_resumes(
    server: StartServer, certificates: Certificates, kind: str, preload: tuple[str, ...]
) -> None:
    """All of them, on all addresses, and the successor of one that dies. (Node 40: tls-ticket-cluster)"""
    second = ("-b", "127.0.0.1:0")
    live = server("tests.apps.basic", "-k", kind, *IN_TURN, *second, *preload, *certificates.flags())
    live.wait_log(f"Started: {WORKERS} workers serve")
    workers = all_met(live.port, certificates.client())
    ports = [int(found.rstrip("/,").rpartition(":")[2]) for found in LISTENING.findall(live.log())]
    assert len(ports) == len(second)
    for version in VERSIONS:
        context = certificates.client(version=version)
        session = begin(live.port, context)
        for port in ports:
            resume_everywhere(port, context, session, workers)
    killed = min(workers)
    os.kill(killed, signal.SIGKILL)
    live.wait_log("is ready", count=WORKERS + 1 + bool(preload))
    resume_everywhere(live.port, context, session, all_met(live.port, certificates.client()))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_renewed_certificate_ends_no_session(
    server: StartServer, certificates: Certificates, tmp_path: pathlib.Path, version: ssl.TLSVersion
) -> None:
    """New sessions get the new certificate, old ones are resumed; a reload that fails changes neither."""
    certificates.install(tmp_path, "server")
    live = server("tests.apps.basic", *IN_TURN, "--certfile", "tls.pem", "--keyfile", "tls.key")
    live.wait_workers(WORKERS)
    context = certificates.client(version=version)
    session = begin(live.port, context)
    certificates.install(tmp_path, "other")
    reload(live)
    for _ in range(WORKERS):
        assert subject(live.port, context) == "other"
    resume_everywhere(live.port, context, session, set(live.children()))
    (tmp_path / "tls.key").write_text("no key")
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted: .*keyfile")
    resume_everywhere(live.port, context, session, set(live.children()))
    resume_everywhere(live.port, context, begin(live.port, context), set(live.children()))


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_do_not_outlive_what_is_wanted_of_clients(
    server: StartServer, certificates: Certificates, tmp_path: pathlib.Path, version: ssl.TLSVersion
) -> None:
    """OpenSSL verifies nothing when it resumes: a session that began without a certificate would let a client in."""
    shutil.copy(certificates.path("ca.pem"), tmp_path / "clients.pem")
    config = tmp_path / "gunicorn.conf.py"
    config.write_text("ca_certs = 'clients.pem'\n")
    live = server("tests.apps.basic", *IN_TURN, *certificates.flags())
    live.wait_workers(WORKERS)
    anonymous, person = certificates.client(version=version), certificates.client("person", version)
    stranger = begin(live.port, anonymous)

    config.write_text("ca_certs = 'clients.pem'\ncert_reqs = 'required'\n")
    reload(live)
    for _ in range(WORKERS):
        assert refused(live.port, anonymous, stranger)
    session = begin(live.port, person)
    reload(live)
    resume_everywhere(live.port, person, session, set(live.children()))
    with TlsClient(live.port, person, session=session) as client:
        assert client.environ()["SSL_CLIENT_S_DN_CN"] == "A Person"

    # Another authority, in the same file: those of the former one have to shake hands again, and fail.
    shutil.copy(certificates.path("server.pem"), tmp_path / "clients.pem")
    reload(live)
    for _ in range(WORKERS):
        assert refused(live.port, person, session)


def test_a_reload_that_is_aborted_changes_no_keys(
    server: StartServer, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    """Workers that are replaced after it belong to the generation before, whose demands and sessions they have."""
    config, app = tmp_path / "wsgicluster.conf.py", tmp_path / "app.py"
    live = server("app", *IN_TURN, *certificates.flags(), source=versioned.good("1"))
    live.wait_workers(WORKERS)
    context = certificates.client()
    session = begin(live.port, context)
    config.write_text(f"ca_certs = {certificates.path('ca.pem')!r}\ncert_reqs = 'required'\n")
    app.write_text(versioned.RAISES)
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted")
    app.write_text(versioned.good("2"))
    killed = live.children()[0]
    os.kill(killed, signal.SIGKILL)
    live.wait_log("generation 1.* is ready", count=WORKERS + 1)
    workers = all_met(live.port, context)
    assert killed not in workers
    resume_everywhere(live.port, context, session, workers)
    reload(live)
    for _ in range(WORKERS):
        assert refused(live.port, context, session)


def test_a_context_of_the_configuration_file(
    server: StartServer, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    """All workers have its keys, until a reload: what it wants of clients is not known. Names do not mix."""
    (tmp_path / "gunicorn.conf.py").write_text(f"""
import ssl

certfile = {certificates.path("server.pem")!r}
keyfile = {certificates.path("server.key")!r}


def ssl_context(config, default_ssl_context_factory):
    usual, second = default_ssl_context_factory(), default_ssl_context_factory()
    second.load_cert_chain({certificates.path("second.pem")!r}, {certificates.path("second.key")!r})
    second.load_verify_locations({certificates.path("ca.pem")!r})
    second.verify_mode = ssl.CERT_REQUIRED

    def choose(connection, name, context):
        if name == "second.test":
            connection.context = second

    usual.sni_callback = choose
    return usual
""")
    live = server("tests.apps.basic", *IN_TURN, "-k", "gevent", "--preload", "--log-level", "debug")
    live.wait_log(f"Started: {WORKERS} workers serve")
    for version in VERSIONS:
        context = certificates.client(version=version)
        session = begin(live.port, context)
        workers = all_met(live.port, context)
        resume_everywhere(live.port, context, session, workers)
        assert refused(live.port, context, session, "second.test")
        second = begin(live.port, certificates.client("person", version), "second.test")
        assert second.has_ticket
    assert live.said("the session that was resumed has no client certificate, which is required")
    reload_with_mold(live, workers)
    for _ in range(WORKERS):
        assert not resumes(live.port, context, session)[1]


def reload_with_mold(live: LiveServer, workers: set[int]) -> None:
    """Reload, to the end of these workers of the generation before: until then one of them may still accept."""
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    wait_until(lambda: not workers & set(live.members()), 10, f"{workers} have ended")
