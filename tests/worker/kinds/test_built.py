"""A worker whose parts are made before its process is: when they are, what they are given later, and what is closed."""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.worker.own_worker import OwnWorker, hello
from wsgicluster.ipc.messages import Ready, RecycleWanted
from wsgicluster.settings import Settings
from wsgicluster.worker.kinds.built import BuiltWorker, build_before_fork
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.registry import hooks_class, worker_parts
from wsgicluster.worker.kinds.worker import Worker
from wsgicluster.worker.lifecycle.signals import WorkerSignals
from wsgicluster.worker.loop.loop import Loop


@pytest.fixture(params=["sync", "gthread"])
def kind(request: pytest.FixtureRequest) -> KindParts:
    """What a kind of worker is made of that can be built before the fork."""
    return worker_parts(hooks_class(request.param))


@pytest.fixture
def own(kind: KindParts) -> Iterator[OwnWorker]:
    """A worker that does not begin: what another one is made of."""
    with contextlib.ExitStack() as owned:
        made = OwnWorker(kind)
        owned.push(made)
        yield made


class Signals(WorkerSignals):
    """Handlers that are not installed."""

    def __init__(self) -> None:
        self.reopen = True


def settings_of(kind: KindParts, **values: Any) -> Settings:
    return Settings(**{"wsgi_app": "app", "workers": 1, "worker_class": kind.row.name, **values})


def built(own: OwnWorker, kind: KindParts, **values: Any) -> BuiltWorker:
    found = build_before_fork(own.logs, settings_of(kind, **values), own.assignment)
    assert found is not None
    return found


def completed(
    found: BuiltWorker, signals: WorkerSignals | None = None, application: Callable[..., Any] = hello
) -> Worker | None:
    return found.complete(application, signals or Signals(), 0.1, lambda: 4096)


def test_it_serves_once_it_is_completed(own: OwnWorker, kind: KindParts) -> None:
    found, signals = built(own, kind), Signals()
    worker = completed(found, signals)
    assert worker is not None
    own.loop.close()
    own.worker, own.context, own.parts, own.loop = worker, worker.context, worker.parts, worker.context.loop
    worker.begin(Ready(0.1, worker.parts.recycling.measure()))
    assert own.told() == [Ready(0.1, 4096)]
    client = own.connect()
    for _ in range(3):
        own.ask(client)
        assert own.answer(client).startswith(b"HTTP/1.1 200 OK\r\n")
    own.turn()
    assert (own.logs.reopened, signals.reopen) == (1, False), "its signals are heard"
    other = own.connect()
    own.ask(other)
    assert own.answer(other).startswith(b"HTTP/1.1 200 OK\r\n")


def test_its_limits_are_those_of_its_settings(own: OwnWorker, kind: KindParts) -> None:
    found = built(own, kind, max_requests=2)
    worker = completed(found)
    assert worker is not None
    assert worker.parts.recycling.max_requests == 2
    assert isinstance(worker.parts.recycling.check(1.0, 3), RecycleWanted)
    found.close()


def still_open(found: BuiltWorker) -> list[int]:
    """Its descriptors that are open."""
    return sorted(number for number in found.descriptors if os.path.exists(f"/proc/self/fd/{number}"))


def test_what_is_closed(own: OwnWorker, kind: KindParts) -> None:
    found = built(own, kind)
    assert still_open(found) == sorted(found.descriptors) != []
    found.close()
    assert still_open(found) == []
    found.close()
    found.abandon()
    other = built(own, kind)
    other.abandon()
    other.close()
    assert other.worker.parts.cycle.abandoned
    assert still_open(other) == []


def test_an_application_that_changes_where_it_is(
    own: OwnWorker, kind: KindParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environs begin with that: the worker has to be built of it."""
    found = built(own, kind)
    monkeypatch.setenv("SCRIPT_NAME", "/below")
    assert completed(found) is None
    assert still_open(found) == []
    monkeypatch.delenv("SCRIPT_NAME")
    again = built(own, kind)
    own.logs.access = None
    assert completed(again) is None, "nor may it have another access log"


def test_an_application_that_changes_the_limit_on_open_files(own: OwnWorker, kind: KindParts) -> None:
    found = built(own, kind)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        assert completed(found) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_request_comes_before_the_application(own: OwnWorker, kind: KindParts) -> None:
    found = built(own, kind)
    with pytest.raises(RuntimeError, match="before the application"):
        found.worker.parts.cycle.application({}, print)
    found.close()


@pytest.mark.parametrize(
    "values",
    [
        {"worker_class": "gevent"},
        {"worker_class": hooks_class("sync")},
        {"worker_class": "app.Worker"},
        {"worker_exit": print},
        {"refork_after": 10},
        {"trace": "create", "trace_spans": True},
        {"certfile": "certificate", "keyfile": "key"},
        {"proxy_protocol": "auto"},
        {"protocol": "uwsgi"},
    ],
    ids=lambda values: ",".join(values),
)
def test_what_only_the_process_itself_can_make(own: OwnWorker, kind: KindParts, values: dict[str, Any]) -> None:
    assert build_before_fork(own.logs, settings_of(kind, **values), own.assignment) is None


def test_what_cannot_be_built_is_left_to_the_process(
    own: OwnWorker, kind: KindParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Loop] = []
    monkeypatch.setattr(kind.loop, "close", lambda loop: closed.append(loop))
    own.listener.close()
    assert build_before_fork(own.logs, settings_of(kind), own.assignment) is None
    (loop,) = closed
    monkeypatch.undo()
    loop.close()
