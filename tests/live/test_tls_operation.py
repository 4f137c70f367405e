"""Starting, reloading and stopping a server with certificates."""

import contextlib
import pathlib
import signal
import ssl
import subprocess

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import StartServer, wait_until
from tests.live.client import Connection
from tests.live.tls_client import TlsClient, half_a_hello, subject

pytestmark = pytest.mark.live

KINDS = ("sync", "gthread", "gevent")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client()


def test_a_reload_takes_the_new_certificate(
    server: StartServer, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    certificates.install(tmp_path, "server")
    live = server("tests.apps.basic", "-w", "2", "--certfile", "tls.pem", "--keyfile", "tls.key")
    context = certificates.client()
    assert subject(live.port, context) == "server"
    old = set(live.wait_workers(2))
    with TlsClient(live.port, context) as kept:
        assert kept.exchange().status == 200
        certificates.install(tmp_path, "other")
        live.send(signal.SIGHUP)
        wait_until(lambda: subject(live.port, context) == "other", 10)
        # Nothing is cut off: the connection gets an answer that says that it is the last, or its end.
        with contextlib.suppress(OSError):
            kept.ask()
        answer = kept.rest()
        assert not answer or answer.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: old.isdisjoint(live.children()), 10, "the old workers have left")
    (tmp_path / "tls.key").unlink()
    live.send(signal.SIGHUP)
    live.wait_log("keyfile: .*expected a file that can be read")
    assert subject(live.port, context) == "other"


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_waits_for_what_runs(
    server: StartServer, certificates: Certificates, context: ssl.SSLContext, tmp_path: pathlib.Path, kind: str
) -> None:
    live = server("tests.apps.basic", "-w", "2", "-k", kind, *certificates.flags())
    live.wait_workers(2)
    mark = tmp_path / "mark"
    with TlsClient(live.port, context) as idle, TlsClient(live.port, context) as client:
        assert idle.exchange().status == 200
        client.ask(f"/hold{mark}")
        wait_until(mark.exists, 5)
        live.send(signal.SIGTERM)
        live.wait_children(1)  # the other worker has left, so both have been asked to
        pathlib.Path(f"{mark}.go").touch()
        assert client.response().closes
        assert idle.rest() == b""
    assert live.wait_end() == 0


def test_a_stop_does_not_wait_for_the_silent(
    server: StartServer, certificates: Certificates, context: ssl.SSLContext
) -> None:
    waits = ("--head-timeout", "60", "--graceful-timeout", "60")
    live = server("tests.apps.basic", *certificates.flags(), "--defer-accept", "0", *waits)
    with Connection(live.port) as silent, Connection(live.port) as half, TlsClient(live.port, context) as client:
        half.send(half_a_hello(context))
        assert client.exchange().status == 200
        assert live.stop() == 0
        assert silent.rest() == half.rest() == b""


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--certfile", "missing.pem"], "certfile: .*missing.pem.*No such file"),
        (
            ["--certfile", "server.pem", "--keyfile", "other.key"],
            "keyfile: .*other.key.*the key of the certificate",
        ),
        (["--certfile", "server.pem"], "keyfile: .*server.pem.*with the certificate's key"),
        (["--certfile", "server.key", "--keyfile", "server.key"], "certfile: .*server.key.*a certificate in PEM"),
        (["--keyfile", "server.key"], "keyfile: .*a certfile as well"),
        (["--certfile", "server.pem", "--keyfile", "locked.key"], "keyfile: .*locked.key.*without a password"),
        (["--certfile", "server.pem", "--keyfile", "server.key", "--cert-reqs", "required"], "ca_certs as well"),
        (["--certfile", "server.pem", "--keyfile", "server.key", "--ciphers", "NONE-SUCH"], "ciphers: .*NONE-SUCH"),
        (["--certfile", "server.pem", "--keyfile", "server.key", "--ca-certs", "extensions"], "ca_certs: .*exten"),
    ],
    ids=["missing", "mismatch", "no key", "no certificate", "only key", "password", "no ca", "ciphers", "bad ca"],
)
def test_what_is_wrong_is_said_at_once(
    server: StartServer, certificates: Certificates, flags: list[str], says: str
) -> None:
    lock = ["openssl", "pkey", "-in", "server.key", "-aes128", "-passout", "pass:word", "-out", "locked.key"]
    subprocess.run(lock, cwd=certificates.folder, check=True, capture_output=True, timeout=20)
    live = server("tests.apps.basic", *flags, "--chdir", str(certificates.folder), listening=False)
    assert live.wait_end() == 2
    live.wait_log(says)
    assert "Traceback" not in live.log()


def test_the_files_function_decides(server: StartServer, certificates: Certificates, tmp_path: pathlib.Path) -> None:
    """One certificate for each name that clients ask for."""
    (tmp_path / "gunicorn.conf.py").write_text(f"""
import ssl

certfile = {certificates.path("server.pem")!r}
keyfile = {certificates.path("server.key")!r}


def ssl_context(config, default_ssl_context_factory):
    second = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    second.load_cert_chain({certificates.path("second.pem")!r}, {certificates.path("second.key")!r})

    def choose(connection, name, context):
        if name == "second.test":
            connection.context = second

    usual = default_ssl_context_factory()
    assert config.certfile.endswith("server.pem")
    usual.sni_callback = choose
    return usual
""")
    live = server("tests.apps.basic")
    context = certificates.client()
    assert subject(live.port, context) == "server"
    assert subject(live.port, context, "second.test") == "second"


def test_a_function_that_fails(server: StartServer, certificates: Certificates, tmp_path: pathlib.Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("def ssl_context(config, factory):\n    return factory().nothing\n")
    live = server("tests.apps.basic", listening=False)
    assert live.wait_end() != 0
    live.wait_log("ssl_context: the function raised AttributeError")
