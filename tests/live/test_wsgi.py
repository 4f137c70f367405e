"""PEP 3333 under wsgiref's validator and werkzeug's lint, in a real server."""

import pytest

from tests.conftest import StartServer, wait_until
from tests.live.client import Connection, Response

pytestmark = pytest.mark.live


@pytest.mark.parametrize("checked", ["validated", "linted"])
def test_battery(server: StartServer, checked: str) -> None:
    live = server(f"tests.apps.battery:{checked}")

    def ask(path: str, method: str = "GET", body: bytes | None = None, extra: str = "") -> Response:
        with Connection(live.port) as connection:
            response = connection.exchange(path, method, body, extra)
            # The same twice on one connection, in which nothing of the first may be left over.
            if not response.closes:
                again = connection.exchange(path, method, body, extra)
                assert again.status == response.status
        return response

    form = "Content-Type: application/octet-stream\r\n"
    assert ask("/plain").body == b"plain"
    assert ask("/plain", "HEAD").body == b""
    assert ask("/read", "POST", b"hello", form).body == b"hello"
    assert ask("/read").body == b""
    assert ask("/read_all", "POST", b"x" * 1000, form).body == b"x" * 1000
    if checked == "validated":  # lint lets no application call readline()
        assert ask("/read_lines", "POST", b"a\nb\nc", form).body == b"a\n|b\n|c"
    assert ask("/read_iterated", "POST", b"a\nb\nc", form).body == b"a\n|b\n|c"
    assert ask("/generated").body == b"one two"
    assert ask("/generated", "HEAD").body == b""
    assert ask("/written").body == b"written returned"
    assert ask("/nothing").status == 204
    assert ask("/unmodified").status == 304
    assert ask("/empty").body == b""
    assert ask("/file").body == b"f" * 100_000
    assert ask("/replaced").status == 500
    assert ask("/replaced").body == b"replaced"
    assert ask("/errors").body == b"logged"
    live.wait_log("a line for the error log \u2713")

    with Connection(live.port) as connection:
        connection.send(
            b"POST /read_all HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\n\r\n"
        )
        assert connection.response().body == b"hello"

    def counted() -> int:
        with Connection(live.port) as connection:
            return int(connection.exchange("/count_closed").body)

    before = counted()
    assert ask("/close_once", extra="Connection: close\r\n").body == b"ab"
    wait_until(lambda: counted() == before + 1, 5, "close() is called once")

    log = live.log()
    for complaint in ("AssertionError", "WSGIWarning", "HTTPWarning", "Traceback", "without being closed"):
        assert complaint not in log
