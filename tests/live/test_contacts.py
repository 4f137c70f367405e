"""What an application says to its client, and asks of it, beside its response: in every kind of worker, and TLS."""

import socket

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer
from tests.live.client import Connection, Patron
from tests.live.tls_client import TlsClient

pytestmark = pytest.mark.live

SOURCE = """
import threading, time

LINK = ("Link", "</style.css>; rel=preload; as=style")
stray = []

def shout():
    while True:
        for environ in list(stray):
            environ["wsgi.early_hints"]([("X-Stray", "1")])
        time.sleep(0.0005)

def application(environ, start_response):
    hint = environ["wsgi.early_hints"]
    path = environ["PATH_INFO"]
    body = path
    if path == "/keep":
        if not stray:
            threading.Thread(target=shout, daemon=True).start()
        stray.append(environ)
        hint([LINK])
    elif path == "/stray":
        for kept in stray:
            kept["wsgi.early_hints"]([("X-Stray", "1")])
        time.sleep(0.005)
    elif path == "/bad":
        try:
            hint([("Link", "a\\r\\nX: b")])
        except ValueError as error:
            body = str(error)
    elif path == "/watch":
        is_gone = environ["wsgicluster.client_disconnected"]
        environ["wsgi.errors"].write(f"there: {not is_gone()}\\n")
        while not is_gone():
            time.sleep(0.001)
        environ["wsgi.errors"].write("gone\\n")
    else:
        hint([LINK])
        hint([("X-Second", "2")])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""

KINDS = ("sync", "gthread", "gevent", "gthread over TLS")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Subject:
    """One server, and clients for it."""

    def __init__(self, server: StartServer, kind: str, certificates: Certificates) -> None:
        name, _, tls = kind.partition(" over ")
        self.context = certificates.client() if tls else None
        flags = [*(certificates.flags() if tls else []), *(["--threads", "4"] if name == "gthread" else [])]
        self.live: LiveServer = server("app", "-k", name, *flags, source=SOURCE)
        self.live.wait_log("is ready")

    def connect(self) -> Connection:
        port = self.live.port
        return TlsClient(port, self.context) if self.context is not None else Connection(port)


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, server: StartServer, certificates: Certificates) -> Subject:
    if "gevent" in request.param:
        pytest.importorskip("gevent")
    return Subject(server, request.param, certificates)


def test_hints_and_departures(subject: Subject) -> None:
    with Patron(subject.connect) as client, Patron(subject.connect) as other:
        first, second, last = client.exchange("/hint")
        assert (first.status, first.headers) == (103, {"link": "</style.css>; rel=preload; as=style"})
        assert (second.status, second.headers) == (103, {"x-second": "2"})
        assert (last.status, last.body) == (200, b"/hint")
        (bad,) = client.exchange("/bad")
        assert (bad.status, bad.body[:11]) == (200, b"header Link")
        # A thread goes on calling what it was given, and so do later requests, on this connection and on others.
        assert [each.status for each in client.exchange("/keep")] == [103, 200]
        for _ in range(30):
            assert [each.status for each in client.exchange("/stray")] == [200]
            assert [each.status for each in other.exchange("/stray")] == [200]
    # Who leaves in the midst of a request is missed, and so is who has nothing more to send; nobody else is.
    for way in ("close", "shut down"):
        with subject.connect() as client, subject.connect() as other:
            client.ask("/watch")
            subject.live.wait_log("there: True", count=1 if way == "close" else 2)
            if way == "close":
                client.close()
            else:
                client.sock.shutdown(socket.SHUT_WR)
            subject.live.wait_log("gone", count=1 if way == "close" else 2)
            assert other.exchange("/").status == 103
    assert "Traceback" not in subject.live.log()
