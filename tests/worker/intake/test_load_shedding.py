"""Which requests are not worth running any more: the rule, with a clock of the test's own."""

import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from wsgicluster.errors import Overloaded, ProtocolError
from wsgicluster.ipc.reasons import CloseReason
from wsgicluster.worker.intake.load_shedding import SAY_S, Admission, AdmissionParts, Tally, age_s
from wsgicluster.worker.intake.policy import QUEUE_LOOK_S as LOOK_S


class FakeSocket:
    """Tells when the last byte came, or nothing."""

    def __init__(self, age_ms: int | None) -> None:
        self._age_ms = age_ms

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        if self._age_ms is None:
            raise OSError("not supported")
        return bytes(52) + self._age_ms.to_bytes(4, "little") + bytes(size - 56)


class FakeConnection:
    """A connection with a request; notes what becomes of it."""

    def __init__(self, age_ms: int | None = 0, *, gone: bool = False, kept: bool = False) -> None:
        self.transport = FakeSocket(age_ms)
        self.kept = kept
        self.gone = gone
        self.looks = 0
        self.due = 0.0
        self.fate: list[object] = []

    def lost_client(self) -> bool:
        self.looks += 1
        return self.gone

    def close(self, reason: CloseReason) -> None:
        assert reason is CloseReason.CLIENT
        self.fate.append("closed")

    def refuse(self, error: ProtocolError) -> None:
        self.fate.append(error)


class FakeWorker:
    """A worker with a queue that nobody empties; it is its own clock, and its own loop unless it is given one."""

    def __init__(self, limit_s: float, loop: Any = None) -> None:
        self.now = 100.0
        self.loop = cast(Any, loop or self)
        self.calls: list[tuple[float, Callable[[], object]]] = []
        self.waiting: list[Any] = []
        self.shed_ones: list[tuple[Any, bool]] = []
        self.later: list[Callable[[], object]] = []
        self.queues = True
        parts = AdmissionParts(self.loop, self.run, self.shed, self)
        self.admission = Admission(parts, limit_s, lambda: self.now)

    def run(self, connection: Any) -> None:
        connection.fate.append("run")
        if self.queues:
            self.waiting.append(connection)

    def withdraw(self, unwanted: Callable[[Any], bool]) -> list[Any]:
        found = []
        while self.waiting and unwanted(self.waiting[0]):
            found.append(self.waiting.pop(0))
        return found

    def call_soon(self, call: Callable[[], object]) -> None:
        self.later.append(call)

    def shed(self, connection: Any, gone: bool) -> None:
        self.shed_ones.append((connection, gone))

    def call_at(self, moment: float, call: Callable[[], object]) -> None:
        self.calls.append((moment, call))

    def pass_time(self, until: float) -> None:
        """Make the calls that are due, in order."""
        while due := [each for each in self.calls if each[0] <= until]:
            first = min(due, key=lambda each: each[0])
            self.calls.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = until

    def admit(self, connection: Any) -> list[object]:
        self.admission.admit(connection)
        fate: list[object] = connection.fate
        return fate


def status_of(fate: list[object]) -> int:
    (error,) = fate
    assert isinstance(error, Overloaded)
    return error.status


def test_a_fresh_request_is_run_without_a_look_at_its_client() -> None:
    connection = FakeConnection(int(LOOK_S * 1000) - 1, gone=True)
    assert FakeWorker(2.0).admit(connection) == ["run"]
    assert connection.looks == 0


def test_one_that_has_waited_is_run_while_its_client_is_there() -> None:
    worker = FakeWorker(2.0)
    assert worker.admit(FakeConnection(1900)) == ["run"]
    assert worker.admit(FakeConnection(60, gone=True)) == ["closed"]
    assert [gone for _, gone in worker.shed_ones] == [True]


def test_one_that_has_waited_for_too_long_is_refused() -> None:
    worker = FakeWorker(2.0)
    connection = FakeConnection(2001)
    assert status_of(worker.admit(connection)) == 503
    assert worker.shed_ones == [(connection, False)]
    (error,) = connection.fate
    assert isinstance(error, Overloaded)
    assert error.fields in ("Retry-After: 1\r\n", "Retry-After: 2\r\n")
    assert worker.admit(FakeConnection(2001, gone=True)) == ["closed"]


def test_where_the_kernel_does_not_tell_only_the_turn_of_the_loop_counts() -> None:
    loop = FakeWorker(0.0)
    loop.now -= 3.0
    worker = FakeWorker(2.0, loop)
    assert worker.admit(FakeConnection(None)) == ["run"]
    assert status_of(worker.admit(FakeConnection(None, kept=True))) == 503


def test_the_queue_is_looked_through_when_the_first_in_it_is_due() -> None:
    worker = FakeWorker(2.0)
    first, second, third = FakeConnection(500), FakeConnection(), FakeConnection(gone=True)
    for connection in (first, second, third):
        worker.admit(connection)
    assert [moment for moment, _ in worker.calls] == [101.5]
    worker.pass_time(101.4)
    assert first.fate == ["run"]
    worker.pass_time(101.6)
    assert status_of(first.fate[1:]) == 503
    assert second.fate == ["run"]
    worker.pass_time(102.1)
    assert status_of(second.fate[1:]) == 503
    assert third.fate[1:] == ["closed"]
    worker.pass_time(103.0)
    assert not worker.calls
    assert worker.admit(FakeConnection()) == ["run"]
    assert [moment for moment, _ in worker.calls] == [105.0]


def test_without_a_queue_nobody_looks() -> None:
    worker = FakeWorker(2.0)
    worker.queues = False
    worker.admit(FakeConnection())
    assert not worker.calls


def test_a_thread_leaves_what_is_unwanted_to_the_loop() -> None:
    worker = FakeWorker(2.0)
    served: list[Any] = []
    serve = worker.admission.guard(served.append)
    fresh, late, left = FakeConnection(), FakeConnection(), FakeConnection()
    for connection in (fresh, late, left):
        worker.admit(connection)
    serve(fresh)  # type: ignore[arg-type]
    worker.now += 1.0
    left.gone = True
    serve(left)  # type: ignore[arg-type]
    worker.now += 1.1
    serve(late)  # type: ignore[arg-type]
    assert served == [fresh]
    for call in worker.later:
        call()
    assert left.fate[1:] == ["closed"]
    assert status_of(late.fate[1:]) == 503


def test_many_make_one_line() -> None:
    worker = FakeWorker(2.0)
    said: list[int] = []
    tally = Tally(worker.loop, said.append)
    for _ in range(3):
        tally.add()
    worker.pass_time(100.0 + SAY_S)
    tally.add()
    worker.pass_time(100.0 + 3 * SAY_S)
    assert said == [3, 1]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_the_kernel_tells_how_old_a_request_is(family: socket.AddressFamily) -> None:
    class Accepted(FakeConnection):
        transport: Any

    connection = Accepted()
    if family == socket.AF_UNIX:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    with ours, theirs:
        theirs.sendall(b"x")
        ours.recv(1)
        connection.transport = ours
        age = age_s(connection)  # type: ignore[arg-type]
        assert age is None if family == socket.AF_UNIX else age is not None and 0 <= age < 5
