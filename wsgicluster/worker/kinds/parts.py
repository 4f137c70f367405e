"""What a kind of worker is: the table of kinds names a module, and that module's ``PARTS`` say the rest."""

from collections.abc import Callable
from contextvars import copy_context
from types import CodeType
from typing import Protocol, TypeVar

from wsgicluster.dataclass import dataclass
from wsgicluster.settings.types.worker import WorkerKind
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.refusals import Refusals
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.lifecycle.arbiter_channel import ArbiterChannel
from wsgicluster.worker.lifecycle.log_writer import LogWriter
from wsgicluster.worker.loop.loop import Loop, do_nothing
from wsgicluster.worker.request.cycle import Cycle
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.worker.runner import KindRunner
from wsgicluster.wsgi.trust import Trust

T = TypeVar("T")


@dataclass(frozen=True)
class RunnerParts:
    """What a runner is made of."""

    cycle: Cycle
    listeners: WatchedListeners
    trust: Trust
    refusals: Refusals
    channel: ArbiterChannel
    logs: LogWriter
    named: bool
    """Whether requests get an ID or a trace before they run."""
    fast: bool
    """Whether requests are such that a fast path may take them."""
    serve: Callable[..., Outcome] | None = None
    """How a request is served where hooks come before or behind it; as `Cycle.serve`, with the cycle as the first."""


class RunsApart(Protocol):
    """Calls something where requests would run, before the worker serves, and returns its result."""

    def __call__(self, call: Callable[[], T]) -> T:
        """In the main thread; nothing else runs."""


def run_in_context(call: Callable[[], T]) -> T:
    """Call something as a request is called that runs in the loop's own thread."""
    return copy_context().run(call)


def no_stacks() -> str:
    """Where code waits that is in no thread now: nowhere."""
    return ""


@dataclass(frozen=True)
class KindParts:
    """One kind: its ``row`` in the table of kinds, its classes, and what it does to a process.

    ``setup`` is called before the application is imported, ``finish_setup`` in a worker after that. ``after_fork`` is
    called first in a worker that was forked after the import,
    ``leave_behind`` in a process that the application has forked. ``waiting_stacks`` returns where code waits that
    is in no thread now, as ``faulthandler`` writes stacks. ``serving_code`` are functions of which one is on the stack
    of whatever runs a request, beside those of the loop. ``thread_names`` is how the names of the threads begin that
    its runner can end; where ``unforkable`` says why, no mold may be forked from its workers.
    """

    row: WorkerKind
    loop: Callable[..., Loop]
    connection: type[Connection]
    runner: Callable[[WorkerContext, RunnerParts], KindRunner]
    multithread: bool = True
    setup: Callable[[], object] = do_nothing
    finish_setup: Callable[[], object] = do_nothing
    after_fork: Callable[[], object] = do_nothing
    leave_behind: Callable[[], object] = do_nothing
    waiting_stacks: Callable[[], str] = no_stacks
    apart: RunsApart = run_in_context
    serving_code: frozenset[CodeType] = frozenset()
    thread_names: str = ""
    unforkable: str = ""
