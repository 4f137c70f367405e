"""Header fields with underscores, from strangers and from proxies: to workers of every kind, compiled and plain."""

import json
import pathlib

import pytest

from tests.conftest import LiveServer, StartServer
from tests.live.client import Connection, Response

pytestmark = pytest.mark.live

# The sync worker has ways of its own to answer, compiled and plain; in the others the reader is all there is.
WORKERS = [
    *((how, "sync", core) for how in ("drop", "refuse", "dangerous") for core in ("compiled", "plain")),
    ("drop", "gthread", "plain"),
    ("refuse", "gthread", "compiled"),
    ("dangerous", "gthread", "plain"),
    ("drop", "gevent", "compiled"),
    ("refuse", "gevent", "plain"),
    ("dangerous", "gevent", "compiled"),
]


def ask(target: int | pathlib.Path, path: str, *lines: str) -> Response:
    """The answer to a request with these header lines, behind one without them on the same connection."""
    with Connection(target) as connection:
        if connection.exchange().closes:  # a sync worker was held up
            return ask(target, path, *lines)
        return connection.exchange(path, extra="".join(f"{line}\r\n" for line in lines))


def environ(target: int | pathlib.Path, path: str, *lines: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(ask(target, path, *lines).body)
    return found


@pytest.fixture(params=WORKERS, ids="-".join)
def started(request: pytest.FixtureRequest, server: StartServer) -> tuple[str, LiveServer]:
    """What becomes of such fields, and a server whose clients over TCP are strangers, and those over Unix proxies."""
    how, kind, core = request.param
    names = ("--forwarded-allow-ips", "192.0.2.1", "--forwarder-headers", "SCRIPT_NAME,X_USER")
    pure = {"WSGICLUSTER_PURE": "1"} if core == "plain" else None
    live = server("tests.apps.basic", "-k", kind, "-b", "unix:s.sock", "--header-map", how, *names, environ=pure)
    return how, live


def test_header_map(started: tuple[str, LiveServer]) -> None:
    how, live = started
    stranger, proxy = live.port, live.folder / "s.sock"

    if how == "refuse":
        assert ask(stranger, "/environ", "X_User: me").status == 400
        assert ask(proxy, "/environ", "X_User: me", "X_Other: a").status == 400
    else:
        given = "me" if how == "dangerous" else None
        found = environ(stranger, "/environ", "X_User: me", "SCRIPT_NAME: /environ", "Content_Length: 5")
        assert (found.get("HTTP_X_USER"), found["SCRIPT_NAME"], found["PATH_INFO"]) == (given, "", "/environ")
        assert not {"CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"} & found.keys(), "such a name never says how long a body is"
        found = environ(proxy, "/environ", "X_User: me", "X_Other: me")
        assert (found.get("HTTP_X_USER"), found.get("HTTP_X_OTHER")) == ("me", given)

    assert environ(stranger, "/environ", "X-User: me")["HTTP_X_USER"] == "me"
    found = environ(proxy, "/shop/environ?a", "script_name: /shop", "X_User: me")
    assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["HTTP_X_USER"]) == ("/shop", "/environ", "me")
    assert found["RAW_URI"] == "/shop/environ?a"
    assert ask(proxy, "/environ", "X_User: me", "X-User: other").status == 400
    assert ask(proxy, "/environ", "SCRIPT_NAME: /shop").status == 500
    live.wait_log("refused with 500: the path does not begin with the SCRIPT_NAME that the proxy sends")
