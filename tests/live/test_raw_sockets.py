"""The socket that an application takes: WebSockets of a real library, and every way in which such a request can end."""

import contextlib
import pathlib
import signal
import time
from collections.abc import Iterator

import pytest
import simple_websocket

from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, socket, threading
import flask, flask_sock

site = flask.Flask("site")
sock = flask_sock.Sock(site)
kept = []

@sock.route("/echo")
def echo(ws):
    while True:
        ws.send(ws.receive())

@sock.route("/count")
def count(ws):
    for number in range(int(ws.receive())):
        ws.send(str(number))

@site.get("/plain")
def plain():
    return "plain"

def switch(environ, later=b""):
    found = environ["gunicorn.socket"]
    assert found is environ["werkzeug.socket"] and isinstance(found, socket.socket)
    found.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: shout\\r\\nConnection: Upgrade\\r\\n\\r\\n")
    data = b""
    while len(data) < 5:
        piece = found.recv(5 - len(data))
        if not piece:
            raise ConnectionError("the client has left")
        data += piece
    found.sendall(data.upper())
    return found

def generated(environ, start_response):
    switch(environ)
    start_response("200 OK", [])
    yield b"never sent"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/returns":
        switch(environ)
        start_response("200 OK", [("Content-Length", "10")])
        return [b"never sent"]
    if path == "/returns-nothing":
        switch(environ)
        return []
    if path == "/stops":
        switch(environ)
        raise StopIteration
    if path == "/raises":
        switch(environ)
        raise ValueError("on purpose")
    if path == "/writes":
        switch(environ)
        start_response("200 OK", [])(b"never sent")
    if path == "/generates":
        return generated(environ, start_response)
    if path == "/closes":
        switch(environ).close()
        start_response("200 OK", [])
        return [b"never sent"]
    if path == "/duplicates":
        with environ["gunicorn.socket"].dup() as other:
            other.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\nHELLO")
        return []
    if path == "/asks-whether-gone":
        switch(environ)
        assert not environ["wsgicluster.client_disconnected"]()
        raise StopIteration
    if path == "/leaves-a-thread":
        found = switch(environ)
        threading.Thread(target=found.recv, args=(1,), daemon=True).start()
        return []
    if path == "/keeps":
        kept.append(environ["gunicorn.socket"])
    if path == "/uses-kept":
        found = kept.pop()
        for use in (lambda: found.send(b"?"), found.fileno, found.dup):
            try:
                assert use() == -1
            except OSError:
                pass
    if path == "/begins":
        start_response("200 OK", [("Content-Length", "8")])(b"refu")
        try:
            environ["gunicorn.socket"].send(b"?")
        except OSError as error:
            return [b"sed!"]
    if path in ("/keeps", "/uses-kept", "/refuses"):
        found = environ.get("gunicorn.socket")
        text = repr(found)
        if found is not None:
            found.getpeername()
        start_response("403 Forbidden", [("Content-Length", str(len(text)))])
        return [text.encode()]
    return site(environ, start_response)
"""

SMALL_SOURCE = """
def application(environ, start_response):
    found = environ["gunicorn.socket"]
    found.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n")
    found.sendall(found.recv(5).upper())
    return []
"""

KINDS = {
    "sync": ("-k", "sync"),
    "gthread": ("-k", "gthread", "--threads", "8"),
    "gevent": ("-k", "gevent"),
}
TAKERS = (
    "returns", "returns-nothing", "stops", "raises", "writes", "generates", "closes", "duplicates", "asks-whether-gone",
    "leaves-a-thread",
)  # fmt: skip
UPGRADE = "Connection: Upgrade\r\nUpgrade: shout\r\n"
SHOUTED = b"HELLO"


# Of the two cores only the parsers of heads are used here, in the same way by all kinds.
@pytest.fixture(scope="module", params=[*((kind, "0") for kind in KINDS), ("gthread", "1")], ids="-".join)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    kind, pure = request.param
    folder = tmp_path_factory.mktemp("raw")
    (folder / "app.py").write_text(SOURCE, "utf-8")
    path = folder / "web.sock"
    bind = ("-b", "127.0.0.1:0", "-b", f"unix:{path}")
    arguments = [*bind, "app", "-w", "1", "--raw-socket", *KINDS[kind]]
    found = LiveServer(folder, arguments, {"WSGICLUSTER_PURE": pure}).start().wait_listening()
    yield found
    found.end()


def websocket(live: LiveServer, path: str) -> simple_websocket.Client:
    return simple_websocket.Client(f"ws://127.0.0.1:{live.port}{path}")


def take(target: int | pathlib.Path, path: str) -> bytes:
    """All that comes back on a connection whose client sends more than a head at once, and reads to the end."""
    with Connection(target) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\nhello".encode())
        return client.rest()


def test_a_websocket_echoes_and_ends_from_either_side(live: LiveServer) -> None:
    for _ in range(2):
        with contextlib.closing(websocket(live, "/echo")) as client:
            for number in range(100):
                client.send(f"message {number}")
                assert client.receive(timeout=10) == f"message {number}"
            client.send(b"x" * 1_000_000)
            assert client.receive(timeout=10) == b"x" * 1_000_000
        assert fetch(live.port, "/plain").body == b"plain"
        client = websocket(live, "/count")
        client.send("50")
        assert [client.receive(timeout=10) for _ in range(50)] == [str(number) for number in range(50)]
        with pytest.raises(simple_websocket.ConnectionClosed):
            client.receive(timeout=10)
    assert "Traceback" not in live.log()


def test_a_taken_socket_outlives_the_timeout_of_requests(server: StartServer) -> None:
    arguments = ("app", "-w", "1", "-t", "2", "--raw-socket", "--access-logfile", "-")
    servers = [server(*arguments, *flags, source=SMALL_SOURCE) for flags in KINDS.values()]
    for _ in range(2):
        clients = [Connection(live.port) for live in servers]
        for client in clients:
            client.ask("/", extra=UPGRADE)
            assert client.response().status == 101
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2.6, 10)  # noqa: B023
        for client in clients:
            client.send(b"hello")
            assert client.rest() == SHOUTED
            client.close()
    for live in servers:
        live.wait_log(r'"GET / HTTP/1.1" 101 ', count=2)
        assert not live.said("stuck|hung|timeout|Traceback")


@pytest.mark.parametrize("end", TAKERS)
def test_what_is_sent_behind_the_head_is_the_applications_and_nothing_follows(live: LiveServer, end: str) -> None:
    targets = (live.port, live.folder / "web.sock", live.port)
    for target in targets:
        head, _, rest = take(target, f"/{end}").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert rest == SHOUTED
    assert fetch(live.port, "/plain").body == b"plain"
    logged = live.said(rf"the application failed in GET /{end} ")
    assert logged is (end == "raises")


def test_a_socket_that_is_not_used_changes_nothing(live: LiveServer) -> None:
    for path in ("/refuses", "/keeps"):
        with Connection(live.port) as client:
            assert client.exchange("/plain").body == b"plain"
            response = client.exchange(path, extra=UPGRADE)
            assert (response.status, response.closes, response.body) == (403, True, b"<RawSocket not taken>")
            assert client.rest() == b""
    # Nobody's once its request is over.
    assert fetch(live.port, "/uses-kept").status == 403


def test_a_socket_cannot_be_taken_once_the_response_has_begun(live: LiveServer) -> None:
    assert fetch(live.port, "/begins", extra=UPGRADE).body == b"refused!"


def test_only_an_upgrade_has_a_socket_and_requests_come_in_any_pieces(live: LiveServer) -> None:
    with Connection(live.port) as client:
        for body in (b"", b"x" * 9, b"x" * 20_000):
            extra = UPGRADE if body else ""
            assert client.exchange("/refuses", "POST", body, extra).body == b"None"
        head = f"GET /plain HTTP/1.1\r\nHost: x\r\nX: {'y' * 500}\r\n\r\n".encode()
        for cut in (1, len(head) - 3, len(head) - 1):
            client.send(head[:cut])
            client.send(head[cut:] + b"\r\n" + head)
            assert [client.response().body, client.response().body] == [b"plain", b"plain"]
        client.send(b"GET /refuses HTTP/1.0\r\nHost: x\r\n" + UPGRADE.encode() + b"\r\n")
        assert client.response().body == b"None"


def test_nothing_is_left_of_sockets_that_were_taken(live: LiveServer) -> None:
    (worker,) = live.children()
    fetch(live.port, "/plain")
    wait_until(lambda: not sockets_of_clients(worker), 10, "no client's socket")
    for path in TAKERS:
        take(live.port, f"/{path}")
    # One client leaves without a word, in the midst of its upgrade.
    with Connection(live.port) as client:
        client.ask("/returns", extra=UPGRADE)
        client.response()
    wait_until(lambda: not sockets_of_clients(worker), 10, "no client's socket")
    assert live.children() == [worker]


def sockets_of_clients(pid: int) -> list[str]:
    """The sockets of a process that are connected by TCP."""
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    connected = {f"socket:[{row[9]}]" for row in rows if row[3] != "0A"}
    return [name for name in descriptors_of(pid).values() if name in connected]


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_stops_ends_open_websockets(server: StartServer, kind: str) -> None:
    live = server("app", "-w", "1", "--raw-socket", "--graceful-timeout", "4", *KINDS[kind], source=SOURCE)
    clients = [websocket(live, "/echo") for _ in range(1 if kind == "sync" else 5)]
    for client in clients:
        client.send("here")
        assert client.receive(timeout=10) == "here"
    live.send(signal.SIGTERM)
    # What is said while the server waits for them is still answered.
    for client in clients:
        client.send("leaving")
        assert client.receive(timeout=10) == "leaving"
    live.wait_end()
    for client in clients:
        with pytest.raises(simple_websocket.ConnectionClosed):
            client.receive(timeout=10)
    assert "Traceback" not in live.log()
    assert not live.members()


def test_behind_a_proxy_that_introduces_its_clients(server: StartServer) -> None:
    live = server("app", "-w", "1", "--raw-socket", "--proxy-protocol", *KINDS["gthread"], source=SOURCE)
    for _ in range(2):
        with Connection(live.port) as client:
            line = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
            client.send(f"{line}GET /returns HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\nhello".encode())
            assert client.rest().endswith(b"\r\n\r\nHELLO")


def test_no_socket_is_given_unless_it_is_asked_for(server: StartServer) -> None:
    live = server("app", "-w", "1", source=SOURCE)
    assert fetch(live.port, "/refuses", extra=UPGRADE).body == b"None"
    # What the library says then is in the documentation.
    assert fetch(live.port, "/echo", extra="Connection: Upgrade\r\nUpgrade: websocket\r\n").status == 500
    assert live.said("Cannot obtain socket from WSGI environment")
