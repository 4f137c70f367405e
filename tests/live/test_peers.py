"""Clients that others have written, against every worker kind: curl, openssl and a browser."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, is_alive, wait_until
from tests.live.proxies import program

pytestmark = pytest.mark.live

ASSETS = 50
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Nothing that would ask anybody else for anything, and no sandbox, which root has not.
BROWSER_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
)  # fmt: skip

# Assets of three kinds, each counted by the page when it has come and when it has not; the last word is the title.
PAGE = """
ASSETS = 50
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
KINDS = {
    "js": ("text/javascript", b"came += 1;"),
    "css": ("text/css", b"b { color: red }"),
    "svg": ("image/svg+xml", SVG),
}
TAGS = (
    '<script src="/asset/%d.js" onerror="failed += 1"></script>',
    '<link rel="stylesheet" href="/asset/%d.css" onload="came += 1" onerror="failed += 1">',
    '<img src="/asset/%d.svg" onload="came += 1" onerror="failed += 1">',
)
PAGE = (
    '<!DOCTYPE html><title>loading</title><link rel="icon" href="data:,"><script>let came = 0, failed = 0;</script>'
    + "".join(TAGS[number % 3] % number for number in range(ASSETS))
    + '<script>onload = () => { document.title = `${came} came, ${failed} failed`; };</script>'
)

def application(environ, start_response):
    kind, body = KINDS.get(environ["PATH_INFO"].rpartition(".")[2], ("text/html", PAGE.encode()))
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(params=["sync", "gthread", "gevent"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class TestCurl:
    """curl, which says on its standard error what it has sent and seen."""

    def curl(self, *arguments: str, send: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        # Without -q the settings of whoever runs the tests would come in, without --noproxy their proxy.
        command = [program("curl"), "-q", "-sS", "-v", "--noproxy", "*", *arguments]
        done = subprocess.run(command, input=send, capture_output=True, check=False, timeout=20)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
        return done

    def test_http(self, kind: str, server: StartServer, tmp_path: pathlib.Path) -> None:
        program("curl")
        live = server("tests.apps.basic", "-k", kind, "-b", "unix:curl.sock", "--limit-request-body", "4M")
        environ, echo = f"{live.url}/environ", f"{live.url}/echo"

        # Requests with and without a body, answered with a length and in chunks: all on one connection.
        kept = self.curl(
            environ, "--next", "-d", "abc", echo, "--next", "-I", environ, "--next", f"{live.url}/blocks/3"
        )
        assert kept.stderr.count(b"HTTP/1.1 200 ") == 4
        # A sync worker gives up the connection of a request that took its only thread for long.
        closed = kept.stderr.count(b"< Connection: close")
        assert closed == 0 or kind == "sync"
        assert kept.stderr.count(b"Re-using existing connection") >= 3 - closed

        body = os.urandom(2 << 20)
        chunked = self.curl("-T", "-", echo, send=body)
        assert chunked.stdout == body
        assert b"> Transfer-Encoding: chunked" in chunked.stderr

        expecting = ("-H", "Expect: 100-continue", "--expect100-timeout", "15", "--data-binary", "@-")
        expected = self.curl(*expecting, "-w", "%{stderr}took %{time_total} s", echo, send=body)
        assert expected.stdout == body
        assert b"< HTTP/1.1 100 Continue" in expected.stderr
        took = re.search(rb"took ([0-9.]+) s", expected.stderr)
        assert took, expected.stderr
        assert float(took.group(1)) < 15, "curl has not waited until it lost patience"

        refused = self.curl(*expecting, "-w", "%{stderr}sent %{size_upload}", echo, send=b"x" * (5 << 20))
        assert b"< HTTP/1.1 413 " in refused.stderr
        assert refused.stderr.endswith(b"sent 0")

        local = self.curl("--unix-socket", str(tmp_path / "curl.sock"), "http://shop.test/environ")
        assert json.loads(local.stdout)["HTTP_HOST"] == "shop.test"

    def test_introduced_over_tls(self, kind: str, server: StartServer, certificates: Certificates) -> None:
        program("curl")
        live = server("tests.apps.basic", "-k", kind, "--proxy-protocol", *certificates.flags())
        url = f"https://localhost:{live.port}/environ"
        trusting = ("--haproxy-protocol", "--cacert", certificates.path("ca.pem"))
        # -4: the server listens on 127.0.0.1 alone, and curl would introduce itself anew for each address it tries.
        done = self.curl("-4", *trusting, "-w", "%{stderr}verified: %{ssl_verify_result}", url, url)
        assert done.stderr.count(b"verified: 0") == 2
        assert b"ALPN: server accepted http/1.1" in done.stderr
        environs = [json.loads(line) for line in done.stdout.replace(b"}{", b"}\n{").splitlines()]
        assert len(environs) == 2
        for environ in environs:
            assert (environ["REMOTE_ADDR"], environ["PROXY_PROTOCOL"]) == ("127.0.0.1", "TCP4")
            assert environ["wsgi.url_scheme"] == "https"


class TestOpenssl:
    """``openssl s_client``, which shows the handshake, and sends what it reads."""

    REQUEST = b"GET /environ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def s_client(self, live: LiveServer, certificates: Certificates, *arguments: str) -> tuple[int, str]:
        """The exit code, and all that was said and received."""
        address = ("-connect", f"127.0.0.1:{live.port}", "-servername", "localhost", "-verify_return_error")
        command = [program("openssl"), "s_client", *address, "-CAfile", certificates.path("ca.pem"), "-ign_eof"]
        done = subprocess.run([*command, *arguments], input=self.REQUEST, capture_output=True, check=False, timeout=20)
        return done.returncode, (done.stdout + done.stderr).decode("latin-1")

    def test_versions(self, kind: str, server: StartServer, certificates: Certificates) -> None:
        program("openssl")
        live = server("tests.apps.basic", "-k", kind, *certificates.flags())
        for flag, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            code, said = self.s_client(live, certificates, flag)
            assert code == 0, said
            assert "HTTP/1.1 200 OK" in said
            assert f'"SSL_PROTOCOL": "{version}"' in said
            assert "Verify return code: 0 (ok)" in said
        # Security level 0: else openssl itself would not even ask for so old a version.
        code, said = self.s_client(live, certificates, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
        assert code != 0
        assert re.search("(?i)alert protocol version", said), said
        assert "HTTP/1.1" not in said
        assert self.s_client(live, certificates)[0] == 0


def session_of(pid: int) -> list[int]:
    """The processes that run in the session that a process has begun."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):  # ended since it was listed
            if os.getsid(int(name)) == pid and is_alive(int(name)):
                found.append(int(name))
    return found


@pytest.fixture
def profile() -> Iterator[pathlib.Path]:
    """A new, empty folder, with a path short enough for the browser's sockets in it."""
    with tempfile.TemporaryDirectory(prefix="profile-", ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


class TestBrowser:
    """A page whose parts are asked for on several connections at once, over TLS."""

    def page(self, url: str, profile: pathlib.Path) -> str:
        """The page as it is when it has been loaded."""
        command = [program(*BROWSERS), *BROWSER_FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
        # A session of its own, so that none of its processes is left.
        browser = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": str(profile)},
        )
        try:
            return browser.communicate(timeout=40)[0].decode("utf-8")
        finally:
            for pid in session_of(browser.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            browser.wait(10)
            wait_until(lambda: not session_of(browser.pid), 10, "the browser's processes end")

    def test_fifty_assets(
        self, kind: str, server: StartServer, certificates: Certificates, profile: pathlib.Path
    ) -> None:
        program(*BROWSERS)
        access = ("--access-logfile", "-", "--access-logformat", "answered %(U)s %(s)s to %({REMOTE_PORT}e)s")
        live = server("app:application", "-k", kind, *certificates.flags(), *access, source=PAGE)
        page = self.page(f"https://localhost:{live.port}/", profile)
        assert f"<title>{ASSETS} came, 0 failed</title>" in page
        live.wait_log(r"answered /asset/\d+\.\w+ 200 to \d+", count=ASSETS)  # behind each response
        answered = re.findall(r"answered /asset/(\d+)\.\w+ 200 to (\d+)", live.log())
        assert sorted(int(number) for number, _ in answered) == list(range(ASSETS))
        if kind != "sync":  # which gives up the connection of each request that took its only thread for long
            assert len({port for _, port in answered}) < ASSETS / 2, "the connections were kept"
