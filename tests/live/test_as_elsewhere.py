"""What applications give and servers are told that Gunicorn takes: to workers of every kind, compiled and plain."""

import json

import pytest

from tests.conftest import LiveServer, StartServer
from tests.live.client import Connection, Response

pytestmark = pytest.mark.live

SOURCE = """
import enum, json

class Text(str):
    pass

class Code(str, enum.Enum):
    OK = "201 Created"
    NAME = "X-Code"
    VALUE = "value"

class Injected(str):
    def __str__(self): return "fine"
    def encode(self, *_): return b"fine"
    def isprintable(self): return True

BODY = [("Content-Type", "text/plain"), ("Content-Length", "4")]
HEADS = {
    "/enum": lambda: (Code.OK, [*BODY, (Code.NAME, Code.VALUE)]),
    "/subclass": lambda: (Text("201 Created"), [*BODY, (Text("X-Code"), Text("value"))]),
    "/tuple": lambda: ("201 Created", (*BODY, ("X-Code", "value"))),
    "/generator": lambda: ("201 Created", (pair for pair in [*BODY, ("X-Code", "value")])),
    "/lists": lambda: ("201 Created", [[name, value] for name, value in [*BODY, ("X-Code", "value")]]),
    "/spaces": lambda: ("201 Created", [*BODY, ("X-Code", " value \\t")]),
    "/none": lambda: ("201 Created", [*BODY, ("X-Code", None)]),
    "/int": lambda: (201, BODY),
    "/bytes": lambda: ("201 Created", [*BODY, (b"X-Code", b"value")]),
    "/mapping": lambda: ("201 Created", dict(BODY)),
    "/lf": lambda: ("201 Created", [*BODY, ("X-Code", Injected("a\\r\\nX-Injected: 1"))]),
    "/status-lf": lambda: (Injected("201 Created\\r\\nX-Injected: 1"), BODY),
}

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path in HEADS:
        start_response(*HEADS[path]())
        return iter([b"bo", b"dy"]) if environ["QUERY_STRING"] else [b"body"]
    if path == "/never":
        return []
    body = json.dumps([environ["SCRIPT_NAME"], path, environ["RAW_URI"], environ.get("HTTP_X_SENT")]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

TAKEN = ("enum", "subclass", "tuple", "generator", "lists", "spaces")
REFUSED = {
    "none": "a header is a tuple of two str, not str and NoneType",
    "int": "a status is a str, not int: 201",
    "bytes": "a header is a tuple of two str, not bytes and bytes",
    "mapping": r"headers are a list of \(name, value\) tuples, not dict",
    "lf": "header X-Code has a control character in its value",
    "status-lf": "a status is '200 OK' or the like",
}
KINDS = [(kind, core) for kind in ("sync", "gthread", "gevent") for core in ("compiled", "plain")]


@pytest.fixture(params=KINDS, ids="-".join)
def live(request: pytest.FixtureRequest, server: StartServer) -> LiveServer:
    """A server whose application is mounted at ``/shop``."""
    kind, core = request.param
    if kind == "gevent":
        pytest.importorskip("gevent")
    pure = {"WSGICLUSTER_PURE": "1"} if core == "plain" else {}
    log = ("--access-logfile", "-", "--access-logformat", "seen %(U)s %(s)s %({X-Code}o)s")
    where = {"SCRIPT_NAME": "/shop/"} if core == "plain" else {}
    given = () if where else ("-e", "SCRIPT_NAME=/shop")
    return server(
        "app", "-k", kind, "--forwarder-headers", "SCRIPT_NAME", *log, *given, source=SOURCE, environ={**pure, **where}
    )


def ask_twice(live: LiveServer, path: str, method: str = "GET", extra: str = "") -> Response:
    """The second of two equal answers on one connection, unless the first one closes it."""
    with Connection(live.port) as connection:
        first = connection.exchange(path, method, extra=extra)
        second = first if first.closes else connection.exchange(path, method, extra=extra)
        assert (first.status, first.body) == (second.status, second.body)
        return second


def test_as_elsewhere(live: LiveServer) -> None:
    for path in TAKEN:
        for query in ("", "?streamed"):
            response = ask_twice(live, f"/shop/{path}{query}")
            assert (response.status, response.headers["x-code"], response.body) == (201, "value", b"body"), path
    with Connection(live.port) as connection:
        connection.send(b"GET /shop/spaces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"\r\nX-Code: value\r\n" in connection.rest()
    for path, said in REFUSED.items():
        response = ask_twice(live, f"/shop/{path}")
        assert (response.status, "x-injected" in response.headers) == (500, False), path
        live.wait_log(said)
    assert ask_twice(live, "/shop/never").status == 500
    live.wait_log(r"the application returned without having called start_response\(\)")
    assert not live.said("gave a body before")
    for path in TAKEN:
        live.wait_log(rf"seen /{path} 201 \s*value", count=4)


def test_script_name(live: LiveServer) -> None:
    for path, found in (
        ("/shop", ["/shop", "", "/shop", None]),
        ("/shop/", ["/shop", "/", "/shop/", None]),
        ("/shop/a%20b?c", ["/shop", "/a b", "/shop/a%20b?c", None]),
        ("/%73hop/shop", ["/shop", "/shop", "/%73hop/shop", None]),
    ):
        assert json.loads(ask_twice(live, path).body) == found
    sent = ask_twice(live, "/shop/x", extra="X-Sent: \t a b \t \r\n")
    assert json.loads(sent.body)[-1] == "a b"
    assert json.loads(ask_twice(live, "*", "OPTIONS").body) == ["/shop", "*", "*", None]
    assert json.loads(ask_twice(live, "/cart/x", extra="SCRIPT_NAME: /cart\r\n").body)[:2] == ["/cart", "/x"]
    for path in ("/", "/shopping", "/other/shop"):
        assert ask_twice(live, path).status == 500
    live.wait_log("the path does not begin with SCRIPT_NAME, which the server was started with")
