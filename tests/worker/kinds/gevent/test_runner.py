"""A whole gevent worker in the test's own process, whose hub runs while its loop waits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.own_worker import OwnWorker, hello
from wsgicluster.errors import BrokenBody
from wsgicluster.ipc.messages import RecycleWanted
from wsgicluster.ipc.scoreboard import Cell, ServerState

gevent = pytest.importorskip("gevent")

from gevent.event import Event  # noqa: E402

from wsgicluster.worker.kinds.gevent.worker import (  # noqa: E402
    PARTS,
    RequestCancelled,
    broken_body,
    run_in_greenlet,
    waiting_stacks,
)

KEPT = b"HTTP/1.1 200 OK\r\n"
WAIT = b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def _hub() -> Iterator[None]:
    """Each test has a hub of its own."""
    yield
    gevent.get_hub().destroy(destroy_loop=True)


class Gate:
    """An application whose requests wait at ``/wait``, and fail or read their bodies elsewhere."""

    def __init__(self) -> None:
        self.open = Event()
        self.greenlets: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.greenlets.append(gevent.getcurrent())
        if environ["PATH_INFO"] == "/wait":
            self.open.wait()
        if environ["PATH_INFO"] == "/exit":
            raise SystemExit(3)
        environ["wsgi.input"].read()
        return hello(environ, start_response)


def running(own: OwnWorker) -> int:
    return len(own.parts.runner.load.running)


def test_requests_wait_beside_each_other() -> None:
    gate = Gate()
    with OwnWorker(PARTS, gate) as own:
        waiting = [own.connect() for _ in range(5)]
        for client in waiting:
            own.ask(client, WAIT)
        own.turn_until(lambda: running(own) == 5)
        assert waiting_stacks().count("in __call__") == 5
        quick = own.connect()
        for _ in range(2):
            own.ask(quick)
            assert own.answer(quick).startswith(KEPT)
        gate.open.set()
        for client in waiting:
            assert own.answer(client).startswith(KEPT)
        # Each has had a greenlet of its own.
        assert len({*gate.greenlets}) == 7
        own.turn_until(lambda: own.page.cells[Cell.REQUESTS] == 7)


def test_one_that_has_timed_out_is_cancelled() -> None:
    gate = Gate()
    with OwnWorker(PARTS, gate, timeout=0.2) as own:
        client = own.connect()
        own.ask(client, WAIT)
        assert b" 500 " in own.answer(client, b"\n")
        assert "stuck in GET /wait HTTP/1.1" in own.said
        assert "was cancelled" in own.said
        assert RecycleWanted("hang", "a request has timed out") in own.told()
        own.ask(fresh := own.connect())
        assert own.answer(fresh).startswith(KEPT)


def test_what_an_application_raises_ends_its_request_alone() -> None:
    with OwnWorker(PARTS, Gate()) as own:
        client = own.connect()
        own.ask(client, b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 500 " in own.answer(client, b"\n")
        own.ask(fresh := own.connect())
        assert own.answer(fresh).startswith(KEPT)


def test_a_greenlet_that_is_killed_before_it_begins_is_answered() -> None:
    with OwnWorker(PARTS, Gate()) as own:
        client = own.connect()
        own.turn_until(lambda: own.context.connections)
        runner: Any = own.parts.runner.run.__self__  # type: ignore[attr-defined]
        begun = runner._begin

        def kill_first() -> None:
            runner._fresh[0][0].kill(block=False)
            begun()

        runner._begin = kill_first
        own.ask(client)
        assert b" 500 " in own.answer(client, b"\n")
        runner._begin = begun
        own.ask(fresh := own.connect())
        assert own.answer(fresh).startswith(KEPT)


def test_what_is_thrown_into_the_hub_leaves_no_request_behind() -> None:
    with OwnWorker(PARTS, Gate()) as own:
        clients = [own.connect() for _ in range(2)]
        own.turn_until(lambda: len(own.context.connections) == 2)
        runner: Any = own.parts.runner.run.__self__  # type: ignore[attr-defined]
        begun = runner._begin

        class Thrown:
            dead = False

            def switch(self) -> None:
                raise ValueError("thrown into the hub")

        def throw_first() -> None:
            runner._begin = begun
            runner._fresh.appendleft((Thrown(), None))
            begun()

        runner._begin = throw_first
        for client in clients:
            own.ask(client)
        for client in clients:
            assert own.answer(client).startswith(KEPT)


def test_a_body_is_read_while_it_arrives() -> None:
    with OwnWorker(PARTS, Gate(), stream_body="all") as own:
        client = own.connect()
        own.ask(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhel")
        own.turn_until(lambda: running(own) == 1)
        client.send(b"lo!")
        assert own.answer(client).startswith(KEPT)
        own.ask(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhel")
        own.turn_until(lambda: running(own) == 1)
        client.close()
        own.turn_until(lambda: running(own) == 0)
        assert "the body broke off: the client left" in own.said
        stored = own.connect()
        own.parts.runner.run.__self__._stream_body = "off"  # type: ignore[attr-defined]
        own.ask(stored, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhel")
        own.turn_until(lambda: any(not c.reader.idle for c in own.context.connections))
        stored.send(b"lo!")
        assert own.answer(stored).startswith(KEPT)


def test_a_stopping_worker_waits_for_its_greenlets() -> None:
    gate = Gate()
    with OwnWorker(PARTS, gate) as own:
        client = own.connect()
        own.ask(client, WAIT)
        own.turn_until(lambda: running(own) == 1)
        own.board.server.cells[Cell.STATE] = ServerState.STOPPING
        own.worker.begin_drain()
        own.turn()
        assert not own.drained
        gate.open.set()
        assert b"connection: close" in own.answer(client).lower()
        own.turn_until(lambda: own.drained)


def test_a_smoke_test_runs_in_a_greenlet() -> None:
    main = gevent.getcurrent()
    assert run_in_greenlet(gevent.getcurrent) is not main


def test_whose_fault_a_failure_is() -> None:
    broken = BrokenBody("gone")
    assert broken_body(broken) is broken
    assert broken_body(None) is None
    wrapped = RuntimeError("read failed")
    wrapped.__cause__ = broken
    assert broken_body(wrapped) is broken
    endless = RuntimeError("a circle")
    endless.__context__ = endless
    assert broken_body(endless) is None
    assert not issubclass(RequestCancelled, Exception)


def test_the_locals_of_a_request_are_those_of_its_own_greenlets_alone() -> None:
    found = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        own = gevent.getcurrent().spawn_tree_locals
        assert own == {}
        own["request"] = environ["PATH_INFO"]
        found.append(gevent.spawn(lambda: gevent.getcurrent().spawn_tree_locals).get())
        return hello(environ, start_response)

    with OwnWorker(PARTS, app) as own:
        client = own.connect()
        for path in (b"/a", b"/b"):
            own.ask(client, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert own.answer(client).startswith(KEPT)
        # Those that the main greenlet makes by itself share none either, as ever.
        assert gevent.spawn(str).spawn_tree_locals is not gevent.spawn(str).spawn_tree_locals
    assert found == [{"request": "/a"}, {"request": "/b"}]
