"""TLS as clients meet it: honest ones, slow ones, hostile ones; and as operators do."""

import contextlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, SharedServers, StartServer, wait_until
from tests.live.client import Connection, ask_at_once, numbered
from tests.live.tls_client import MemoryClient, TlsClient, half_a_hello
from wsgicluster.worker.transport.transport import RECEIVE_BYTES

pytestmark = pytest.mark.live

KINDS = ("sync", "gthread", "gevent")
SILENT = 100
QUICK_S = 0.020
HEAD_TIMEOUT_S = 20.0
"""The default: for so long a handshake may take."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    return certificates.client()


@pytest.fixture(params=KINDS)
def live(
    request: pytest.FixtureRequest, shared_servers: SharedServers, certificates: Certificates
) -> Iterator[LiveServer]:
    """One worker of each kind with the plain application."""
    arguments = ("tests.apps.basic", "-k", request.param, *certificates.flags(), "--log-level", "debug")
    with shared_servers.lend(*arguments) as lent:
        yield lent


class TestExchanges:
    """Requests and responses of all sizes."""

    def test_kept_and_described(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with TlsClient(live.port, context) as client:
            assert client.tls.selected_alpn_protocol() == "http/1.1"
            for _ in range(20):
                assert not client.exchange().closes
            environ = client.environ()
        assert f"Listening at: https://127.0.0.1:{live.port} " in live.whole_log()
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["HTTPS"] == "on"
        assert environ["SSL_PROTOCOL"] == "TLSv1.3"
        assert environ["SSL_CIPHER"].startswith("TLS_")
        assert "SSL_CLIENT_VERIFY" not in environ

    def test_older_version(self, live: LiveServer, certificates: Certificates) -> None:
        with TlsClient(live.port, certificates.client(version=ssl.TLSVersion.TLSv1_2)) as client:
            assert client.environ()["SSL_PROTOCOL"] == "TLSv1.2"

    def test_bodies_that_fill_many_records(self, live: LiveServer, context: ssl.SSLContext) -> None:
        body = os.urandom(3 << 20)
        with TlsClient(live.port, context) as client:
            assert client.exchange("/echo", "POST", body).body == body
            assert len(client.exchange("/blocks/50").body) == 50 << 16
            assert client.exchange("/echo", "POST", b"small").body == b"small"

    def test_file(self, live: LiveServer, context: ssl.SSLContext, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(os.urandom(5 << 20))
        with TlsClient(live.port, context) as client:
            for _ in range(2):
                assert client.exchange(f"/file{path}").body == path.read_bytes()

    def test_slow_reader_gets_everything(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with TlsClient(live.port, context) as slow:
            slow.ask("/blocks/200")
            with TlsClient(live.port, context) as other:
                for _ in range(10):
                    assert other.exchange().status == 200
            assert len(slow.response().body) == 200 << 16

    def test_pipelined_in_one_record(self, live: LiveServer, context: ssl.SSLContext) -> None:
        answers = ask_at_once(lambda: TlsClient(live.port, context), numbered(50))
        assert [answer.headers.get("x-turn") for answer in answers] == list(map(str, range(50)))

    def test_pipelined_in_a_burst(self, live: LiveServer, context: ssl.SSLContext) -> None:
        """More than is read at a time: what is left inside the TLS layer must not wait for the socket."""
        burst = numbered(180, "f" * 800)
        assert sum(map(len, burst)) > 2 * RECEIVE_BYTES
        answers = ask_at_once(lambda: TlsClient(live.port, context), burst)
        assert [answer.headers.get("x-turn") for answer in answers] == list(map(str, range(180)))

    def test_continue(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with TlsClient(live.port, context) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert client.response().status == 100
            client.send(b"abc")
            assert client.response().body == b"abc"

    def test_records_byte_by_byte(self, live: LiveServer, context: ssl.SSLContext) -> None:
        """Handshake and request come in the smallest pieces there are."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", live.port), 10) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def exchange(act: str) -> bytes:
                while True:
                    try:
                        data = b""
                        if act == "handshake":
                            tls.do_handshake()
                        else:
                            data = tls.read(65536)
                        waits = False
                    except ssl.SSLWantReadError:
                        waits = True
                    for byte in outgoing.read():
                        raw.sendall(bytes([byte]))
                    if not waits:
                        return data
                    incoming.write(raw.recv(65536))

            exchange("handshake")
            tls.write(b"GET /header/X-Slow/yes HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = exchange("read")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"X-Slow: yes" in answer


class TestEnds:
    """How a connection ends, and what the client can tell from it."""

    def test_complete(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with TlsClient(live.port, context) as client:
            client.send(b"GET /blocks/2 HTTP/1.0\r\n\r\n")
            head, _, body = client.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(body) == 2 << 16

    def test_refused_request(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with TlsClient(live.port, context) as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert client.response().status == 400
            assert client.rest() == b""

    @pytest.mark.parametrize("path", ["/too-little-late", "/raise-late"])
    def test_incomplete(self, live: LiveServer, context: ssl.SSLContext, path: str) -> None:
        with TlsClient(live.port, context) as client:
            client.send(b"GET " + path.encode() + b" HTTP/1.0\r\n\r\n")
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                while client.tls.recv(65536):
                    pass

    def test_client_ends_first(self, live: LiveServer, context: ssl.SSLContext) -> None:
        """It says all that it has to say at once, the end of its side included, and gets every response.

        Nobody waits for the rest of a request, although the socket has not come to its end.
        """
        for sent, answers in [
            (b"", 0),
            (b"GET / HTTP/1.1\r\nHo", 0),
            (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1", 0),
            (numbered(1)[0], 1),
            (b"".join(numbered(3)), 3),
        ]:
            for says_goodbye in (True, False):
                with MemoryClient(live.port, context) as client:
                    client.shake_hands()
                    if sent:
                        client.tls.write(sent)
                    if says_goodbye:
                        client.say_goodbye()
                    client.send()
                    if not says_goodbye:
                        client.sock.shutdown(socket.SHUT_WR)
                    # A busy sync worker may give up the connection before the last one.
                    assert min(answers, 1) <= client.rest().count(b"HTTP/1.1 200 OK") <= answers

    def test_idle(self, server: StartServer, certificates: Certificates) -> None:
        live = server("tests.apps.basic", *certificates.flags(), "--keep-alive", "1")
        with TlsClient(live.port, certificates.client()) as client:
            assert client.exchange().status == 200
            assert client.rest() == b""


class TestStrangers:
    """What does not speak TLS, or not ours, and what says nothing."""

    @pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"])
    def test_plain_http(self, live: LiveServer, line: bytes) -> None:
        with Connection(live.port) as client:
            client.send(line)
            response = client.response()
            assert response.status == 400
            assert b"https" in response.body
            assert client.rest() == b""

    def test_neither(self, live: LiveServer) -> None:
        for data in (b"\x00\x01\x02", b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02"):
            with Connection(live.port) as client:
                client.send(data)
                assert b"HTTP" not in client.rest()
        wait_until(lambda: live.said("neither TLS nor HTTP", 2) and live.said("handshake failed"), 5)

    def test_oldest_version(self, server: StartServer, certificates: Certificates) -> None:
        live = server("tests.apps.basic", *certificates.flags(), "--tls-minimum", "1.3")
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            TlsClient(live.port, certificates.client(version=ssl.TLSVersion.TLSv1_2))
        TlsClient(live.port, certificates.client()).close()

    def test_silent_ones_cost_no_worker(self, live: LiveServer, context: ssl.SSLContext) -> None:
        with contextlib.ExitStack() as stack:
            for hello in [b""] * SILENT + [half_a_hello(context)] * SILENT:
                raw = stack.enter_context(socket.create_connection(("127.0.0.1", live.port), 10))
                raw.sendall(hello)
            client = stack.enter_context(TlsClient(live.port, context))
            times = []
            for _ in range(300):
                began = time.perf_counter()
                assert client.exchange().status == 200
                times.append(time.perf_counter() - began)
        # Most wait for the machine, if it is a busy one; none waits for a handshake.
        assert sorted(times)[len(times) // 10] < QUICK_S
        assert max(times) < HEAD_TIMEOUT_S / 2

    def test_one_that_renews_its_keys_for_ever(self, live: LiveServer, certificates: Certificates) -> None:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{live.port}", "-CAfile", certificates.path("ca.pem")]
        client = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with client, contextlib.ExitStack() as stack:
            stack.callback(client.kill)
            keys = client.stdin
            assert keys is not None

            def is_over() -> bool:
                with contextlib.suppress(BrokenPipeError):  # it has ended with its connection
                    for _ in range(1000):
                        keys.write(b"k\n")
                return live.said("too many TLS records without data")

            wait_until(is_over, 20)

    def test_time_of_handshake_and_head(
        self, server: StartServer, certificates: Certificates, context: ssl.SSLContext
    ) -> None:
        live = server("tests.apps.basic", *certificates.flags(), "--head-timeout", "1", "--defer-accept", "0")
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(Connection(live.port)) for _ in range(2)]
            silent[1].send(half_a_hello(context))
            shaken = stack.enter_context(TlsClient(live.port, context))
            shaken.send(b"GET / HTTP/1.1\r\n")
            for client in silent:
                assert client.rest() == b""
            assert shaken.response().status == 408


class TestClientCertificates:
    """Who the client is, as its certificate says."""

    def test_optional(self, server: StartServer, certificates: Certificates) -> None:
        asks = ("--cert-reqs", "optional", "--ca-certs", certificates.path("ca.pem"))
        live = server("tests.apps.basic", *certificates.flags(), *asks)
        with TlsClient(live.port, certificates.client()) as client:
            assert client.environ()["SSL_CLIENT_VERIFY"] == "NONE"
        with TlsClient(live.port, certificates.client("person")) as client:
            environ = client.environ()
        assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
        assert environ["SSL_CLIENT_S_DN"] == "CN=A Person,O=Some\\, Inc."
        assert environ["SSL_CLIENT_S_DN_CN"] == "A Person"
        assert environ["SSL_CLIENT_I_DN"] == "CN=Test CA"
        assert int(environ["SSL_CLIENT_SERIAL"], 16)
        assert environ["SSL_CLIENT_CERT"].startswith("-----BEGIN CERTIFICATE-----")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_required(self, server: StartServer, certificates: Certificates, version: ssl.TLSVersion) -> None:
        asks = ("--cert-reqs", "2", "--ca-certs", certificates.path("ca.pem"))
        live = server("tests.apps.basic", *certificates.flags(), *asks)
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required|handshake.failure"):
            with TlsClient(live.port, certificates.client(version=version)) as client:
                client.exchange()
        with TlsClient(live.port, certificates.client("person", version)) as client:
            assert client.exchange().status == 200


class TestPeers:
    """Clients that others have written."""

    def test_openssl(self, live: LiveServer, certificates: Certificates) -> None:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{live.port}", "-CAfile", certificates.path("ca.pem")]
        request = b"GET /header/X-Peer/yes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        done = subprocess.run(
            [*command, "-quiet", "-ign_eof"], input=request, capture_output=True, check=False, timeout=20
        )
        assert b"X-Peer: yes" in done.stdout

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_curl(self, live: LiveServer, certificates: Certificates) -> None:
        url = f"https://localhost:{live.port}/echo"
        command = ["curl", "-sS", "--cacert", certificates.path("ca.pem"), "--data-binary", "@-", url, url]
        done = subprocess.run(command, input=b"x" * 200_000, capture_output=True, check=False, timeout=20)
        assert (len(done.stdout), done.stderr) == (400_000, b"")
