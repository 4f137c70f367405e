"""The control server over real sockets, with a clock of the test's: what clients can do, and what they cannot do."""

import contextlib
import errno
import json
import logging
import pathlib
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wsgicluster.control import address, protocol, server
from wsgicluster.control.event_history import EventHistory
from wsgicluster.control.protocol import ControlError, ErrorCode, Request
from wsgicluster.control.server import Call, ControlServer


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class FakeInbox:
    """What is watched, looked at when the test says so."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def watch(self, source: socket.socket, handle: Callable[[], object], *, writable: bool = False) -> None:
        self.selector.register(source, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, handle)

    def unwatch(self, source: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # not watched, or closed before
            self.selector.unregister(source)

    def turn(self) -> int:
        found = self.selector.select(0)
        for key, _ in found:
            if self.selector.get_map().get(key.fd) is key:
                key.data()
        return len(found)


class Control:
    """A server, its clients, and the calls that it has passed on."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.clock, self.inbox, self.history = FakeClock(), FakeInbox(), EventHistory()
        self.calls: list[Call] = []
        self.address = str(folder / "control")
        self.sockets: list[socket.socket] = []
        handlers: dict[str, Callable[[Call], object]] = {
            "status": lambda call: call.succeed({"workers": 4}),
            "reload": self.calls.append,
            "show": self._show,
            "stacks": self._break,
            "events": self.history.answer,
        }
        self.server = ControlServer(
            address.open_listener(self.address), self.inbox, handlers, self.clock, logging.getLogger("tests.control")
        )

    def _show(self, call: Call) -> None:
        raise ControlError(ErrorCode.NO_SUCH_SLOT, "no worker has slot 9")

    def _break(self, call: Call) -> None:
        raise LookupError("a fault of ours")

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(self.address)
        self.sockets.append(sock)
        self.turn()
        return sock

    def turn(self) -> None:
        """Everything that there is to do now, as the arbiter's loop would."""
        self.server.advance()
        for _ in range(200):
            if not self.inbox.turn():
                return

    def send(self, sock: socket.socket, command: str, number: int = 1, **args: Any) -> None:
        sock.sendall(protocol.encode_request(Request(number, command, args)))
        self.turn()

    def ask(self, sock: socket.socket, command: str, number: int = 1, **args: Any) -> dict[str, Any]:
        self.send(sock, command, number, **args)
        return read(sock)


def read(sock: socket.socket) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(1)
        assert data, f"the connection ended after {line!r}"
        line += data
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def control(tmp_path: pathlib.Path) -> Iterator[Control]:
    found = Control(tmp_path)
    yield found
    found.server.close()
    for sock in found.sockets:
        sock.close()
    found.inbox.selector.close()


def test_a_command_is_answered_under_its_id(control: Control) -> None:
    sock = control.connect()
    assert control.ask(sock, "status", 5) == {"id": 5, "ok": True, "result": {"workers": 4}}
    assert control.ask(sock, "status", 6)["id"] == 6


def test_what_is_wrong_is_said_and_the_connection_goes_on(control: Control) -> None:
    sock = control.connect()
    sock.sendall(b"hello?\n\n")
    control.turn()
    assert read(sock)["error"]["code"] == "invalid"
    assert control.ask(sock, "dance")["error"]["code"] == "unknown_command"
    assert control.ask(sock, "show", slot="x")["error"]["code"] == "invalid"
    assert control.ask(sock, "show", slot=9)["error"] == {"code": "no_such_slot", "message": "no worker has slot 9"}
    assert control.ask(sock, "status")["ok"]


def test_a_fault_of_ours_reaches_the_log_and_the_client(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    sock = control.connect()
    assert control.ask(sock, "stacks", slot=1)["error"]["code"] == "internal"
    assert "a fault of ours" in caplog.text
    assert control.ask(sock, "status")["ok"]


def test_a_command_may_be_answered_later_while_others_are_answered(control: Control) -> None:
    sock = control.connect()
    control.send(sock, "reload", 1)
    (call,) = control.calls
    polls = []
    call.poll = lambda: polls.append(1)
    call.due = 101.0
    assert control.server.next_due() == 101.0
    assert control.ask(sock, "status", 2)["id"] == 2
    call.succeed({"generation": 2})
    assert read(sock) == {"id": 1, "ok": True, "result": {"generation": 2}}
    assert polls
    call.succeed({"generation": 3})
    assert control.ask(sock, "status", 4)["id"] == 4, "it is answered once"


def test_half_a_line_is_waited_for_and_costs_nothing(control: Control) -> None:
    slow, quick = control.connect(), control.connect()
    slow.sendall(b'{"id": 1, "comm')
    control.turn()
    assert control.server.next_due() == float("inf")
    assert control.ask(quick, "status")["ok"]
    slow.sendall(b'and": "status"}\n')
    control.turn()
    assert read(slow)["ok"]


def test_a_line_without_an_end_ends_the_connection(control: Control) -> None:
    sock = control.connect()
    sock.setblocking(False)
    for _ in range(4):
        sock.send(b"x" * 20000)
        control.turn()
    sock.settimeout(5)
    assert read(sock)["error"]["code"] == "invalid"
    assert sock.recv(1) == b""
    assert control.server.clients == 0


def test_several_lines_at_once_are_all_answered_in_order(control: Control) -> None:
    sock = control.connect()
    sock.sendall(b"".join(protocol.encode_request(Request(n, "status", {})) for n in range(50)))
    for _ in range(10):
        control.turn()
    assert [read(sock)["id"] for _ in range(50)] == list(range(50))


def test_a_flood_is_slowed_down_and_keeps_nobody_waiting(control: Control) -> None:
    flood, other = control.connect(), control.connect()
    count = 400
    flood.sendall(b"".join(protocol.encode_request(Request(n, "status", {})) for n in range(count)))
    for _ in range(100):
        control.turn()
    answered = int(server.REQUESTS_A_SECOND)
    assert [read(flood)["id"] for _ in range(answered)] == list(range(answered))
    flood.setblocking(False)
    with pytest.raises(BlockingIOError):
        flood.recv(1)
    flood.settimeout(5)
    assert control.ask(other, "status")["ok"]
    assert 100.0 < control.server.next_due() < 100.1
    for number in range(answered, count):
        control.clock.now += 1.0 / server.REQUESTS_A_SECOND
        control.turn()
        assert read(flood)["id"] == number


def test_one_that_does_not_read_is_not_read_from_and_then_dropped(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "UNSENT_BYTES", 200_000)
    sock = control.connect()
    control.send(sock, "reload", 1)
    (call,) = control.calls
    call.item("x" * 150_000)
    ended = []
    call.on_end = lambda: ended.append(True)
    control.send(sock, "status", 2)
    assert control.server.clients == 1
    call.item("x" * 500_000)
    assert control.server.clients == 0
    assert ended
    call.item("after its end")


def test_a_slow_reader_gets_everything(control: Control) -> None:
    sock = control.connect()
    control.send(sock, "reload", 1)
    (call,) = control.calls
    call.item("x" * 1_000_000)
    call.succeed({})
    data = b""
    while not data.endswith(b'"result":{}}\n'):
        data += sock.recv(65536)
        control.turn()
    assert len(data) > 1_000_000
    assert control.ask(sock, "status", 3)["id"] == 3


def test_the_longest_silent_client_makes_room(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CLIENTS", 3)
    waiting = control.connect()
    control.send(waiting, "reload")
    silent = control.connect()
    control.clock.now += 1
    heard = control.connect()
    control.clock.now += 1
    new = control.connect()
    assert silent.recv(1) == b""
    assert control.ask(heard, "status")["ok"]
    assert control.ask(new, "status")["ok"]
    for sock in (heard, new):
        control.send(sock, "reload")
    refused = control.connect()
    assert read(refused)["error"]["code"] == "overloaded"
    assert refused.recv(1) == b""


def test_clients_that_come_too_fast_wait_in_the_queue(control: Control) -> None:
    at_once = int(server.ACCEPTS_A_SECOND)
    for _ in range(at_once):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(control.address)
        control.turn()
    late = control.connect()
    late.sendall(protocol.encode_request(Request(1, "status", {})))
    late.setblocking(False)
    control.turn()
    with pytest.raises(BlockingIOError):
        late.recv(1)
    control.clock.now = control.server.next_due()
    control.turn()
    late.settimeout(5)
    assert read(late)["ok"]


def test_strangers_are_told_why_not(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "peer_of", lambda sock: (4711, 12345))
    control = Control(tmp_path)
    sock = control.connect()
    error = read(sock)["error"]
    assert error["code"] == "not_allowed"
    assert "user 12345" in error["message"]
    assert sock.recv(1) == b""
    control.server.close()
    sock.close()


def test_one_that_has_gone_is_forgotten_with_its_calls(control: Control) -> None:
    sock = control.connect()
    control.send(sock, "reload")
    (call,) = control.calls
    sock.close()
    control.turn()
    assert control.server.clients == 0
    assert call.is_over


def test_a_half_closed_client_still_gets_its_answers(control: Control) -> None:
    sock = control.connect()
    control.send(sock, "reload", 8)
    (call,) = control.calls
    call.poll = lambda: None
    sock.shutdown(socket.SHUT_WR)
    control.turn()
    call.succeed({})
    control.turn()
    assert read(sock)["id"] == 8


def test_a_client_that_leaves_takes_what_it_waits_for_along(control: Control) -> None:
    """At once where it closes its end; a little later where it had closed the half that it sends on before."""
    ended: list[str] = []
    for number in range(200):
        sock = control.connect()
        if number % 2:
            control.send(sock, "events", follow=True)
        else:
            control.send(sock, "reload")
            control.calls[-1].poll = lambda: None
            control.calls[-1].on_end = lambda: ended.append("reload")
        sock.close()
        control.clock.now += 0.01
        control.turn()
        assert control.server.clients == 0
    assert (len(control.calls), len(ended)) == (100, 100)
    control.history.add({"event": "scale"})
    assert control.server.next_due() == float("inf"), "there is nothing left to do"
    slow = control.connect()
    control.send(slow, "reload")
    control.calls[-1].poll = lambda: None
    slow.shutdown(socket.SHUT_WR)
    control.turn()
    assert control.server.clients == 1, "it may still read"
    assert control.server.next_due() == control.clock.now + server.LEFT_LOOK_S
    slow.close()
    control.turn()
    assert control.server.clients == 0
    assert control.calls[-1].is_over


def test_what_was_sent_before_the_end_is_carried_out(control: Control) -> None:
    sock = control.connect()
    count = 2 * server.REQUESTS_A_TURN
    sock.sendall(b"".join(protocol.encode_request(Request(n, "reload", {})) for n in range(count)))
    sock.close()
    for _ in range(10):
        control.turn()
    assert len(control.calls) == count
    assert control.server.clients == 0


def test_a_stop_answers_all_that_wait(control: Control) -> None:
    reloading, stopping = control.connect(), control.connect()
    control.send(reloading, "reload")
    control.send(stopping, "reload")
    control.calls[1].at_close = lambda: {"exit_code": 0}
    control.server.close()
    assert read(reloading)["error"]["code"] == "stopping"
    assert read(stopping)["result"] == {"exit_code": 0}
    assert not pathlib.Path(control.address).exists()


def test_events_are_kept_and_followed(control: Control) -> None:
    history = control.history
    for number in range(20):
        history.add({"event": "fork", "slot": number})
    sock = control.connect()
    control.send(sock, "events", 1, last=2)
    assert [read(sock).get("item") for _ in range(2)] == history.last(2)
    assert read(sock)["ok"]
    control.send(sock, "events", 2, last=0, follow=True)
    history.add({"event": "exit", "slot": 1})
    assert read(sock) == {"id": 2, "item": {"event": "exit", "slot": 1}}
    sock.close()
    control.turn()
    history.add({"event": "exit", "slot": 2})


class NoDescriptors(socket.socket):
    """A listener in a process without descriptors to spare, as long as ``is_short``."""

    is_short = True
    tried = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tried += 1
        if self.is_short:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_a_descriptor_clients_wait_and_nothing_spins(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[NoDescriptors] = []

    def listen(where: str) -> NoDescriptors:
        made.append(NoDescriptors(fileno=open_listener(where).detach()))
        return made[0]

    open_listener = address.open_listener
    monkeypatch.setattr(address, "open_listener", listen)
    control = Control(tmp_path)
    sock = control.connect()
    sock.sendall(protocol.encode_request(Request(1, "status", {})))
    for _ in range(20):
        control.turn()
    assert made[0].tried == 1
    assert control.server.next_due() == control.clock.now + server.RETRY_S
    control.clock.now += server.RETRY_S
    control.turn()
    assert made[0].tried == 2
    assert len(caplog.records) == 1, "it is said once"
    made[0].is_short = False
    control.clock.now += server.RETRY_S
    control.turn()
    assert read(sock)["ok"]
    control.server.close()
    sock.close()
