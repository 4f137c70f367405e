"""The one table of signals: what each process of a server does on which, and what people read about that.

The arbiter, the workers, the molds, the doctor and the reference page derive theirs from it. A process has one method
for each action that the table names. Knows no process.
"""

import importlib
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from wsgicluster.dataclass import dataclass

_REAL_TIME = hasattr(signal, "SIGRTMIN")

DUMP_STACKS: int = signal.SIGRTMIN + 7 if _REAL_TIME else signal.SIGUSR2
"""Makes ``faulthandler`` write the stacks of all threads; a real-time signal, which applications hardly use."""

ARBITER_EXITED: int = signal.SIGRTMIN + 8 if _REAL_TIME else 0
"""From the kernel, when the other end of a child's channel has been closed; 0 where there is no such signal."""

IGNORED = "ignored"
"""Instead of an action: for children, of what is meant for the arbiter. A terminal or a careless ``kill`` sends it to
the whole group."""


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal, and the names of the actions it leads to; empty for what the system does by default.

    ``merged``: of several that come at once, one says as much as all. ``held``: blocked in a new child until it has
    handlers. The texts are for the reference page, in reStructuredText; signals with the same text share a row there.
    """

    number: int
    arbiter: str = ""
    worker: str = IGNORED
    mold: str = IGNORED
    merged: bool = False
    held: bool = True
    for_arbiter: str = ""
    for_worker: str = "Ignored: they are meant for the arbiter, and a terminal sends some of them to the whole group."
    for_mold: str = "Ignored, as in a worker."

    @property
    def name(self) -> str:
        """``TERM``; ``RTMIN+7`` for one that the system has no name for."""
        if _REAL_TIME and signal.SIGRTMIN < self.number < signal.SIGRTMAX:
            return f"RTMIN+{self.number - signal.SIGRTMIN}"
        return signal.Signals(self.number).name.removeprefix("SIG")


_QUICK_STOP = (
    "Quick stop: requests in progress are aborted, and ``drain_delay`` is skipped. A second one ends all workers by "
    "force."
)
_END_OF_MOLD = (
    "The mold exits. Its workers keep serving, and the arbiter starts another mold when the next worker is needed."
)

TABLE: tuple[SignalRow, ...] = (
    SignalRow(
        signal.SIGTERM,
        arbiter="stop_gracefully",
        worker="drain",
        mold="end",
        merged=True,
        for_arbiter=(
            "Graceful stop: no new connections, requests in progress are finished, at the latest after "
            "``graceful_timeout``. With ``drain_delay`` the server keeps serving for that long, but reports that it "
            "is not ready; a second ``TERM`` ends the delay, and there is none when the next server serves at the same "
            "addresses. See :doc:`/howto/stop`."
        ),
        for_worker=(
            "Drain: finish what is in progress, hand off idle connections, exit; at the latest after "
            "``graceful_timeout``."
        ),
        for_mold=_END_OF_MOLD,
    ),
    SignalRow(signal.SIGINT, arbiter="stop_quickly", for_arbiter=_QUICK_STOP),
    SignalRow(
        signal.SIGQUIT,
        arbiter="stop_quickly",
        worker="quit",
        mold="end",
        for_arbiter=_QUICK_STOP,
        for_worker="Exit at once: requests in progress are aborted, ``atexit`` functions do not run.",
        for_mold=_END_OF_MOLD,
    ),
    SignalRow(
        signal.SIGHUP,
        arbiter="reload",
        merged=True,
        for_arbiter=(
            "Reload: settings and application are read again, workers are replaced, addresses come and go. Several "
            "in a row are one reload. Ignored when the server is about to stop. See :doc:`/howto/reload`."
        ),
    ),
    SignalRow(
        signal.SIGTTIN,
        arbiter="add_worker",
        for_arbiter="One more worker, up to 500. A reload sets the number to ``workers`` again.",
    ),
    SignalRow(
        signal.SIGTTOU,
        arbiter="remove_worker",
        for_arbiter="One worker fewer, the oldest, but at least one. A reload sets the number to ``workers`` again.",
    ),
    SignalRow(
        signal.SIGUSR1,
        arbiter="reopen_logs",
        worker="reopen_logs",
        mold="reopen_logs",
        merged=True,
        for_arbiter="Reopen the logs, in the workers, too.",
        for_worker="Reopen the logs.",
        for_mold="Reopen the logs.",
    ),
    SignalRow(
        signal.SIGUSR2,
        arbiter="start_successor",
        merged=True,
        for_arbiter=(
            "A new server is started beside this one, on its listeners: see :doc:`/howto/upgrade`. Refused while there "
            "is one already, by a server that is about to stop, and by one that is process 1 of a container."
        ),
    ),
    SignalRow(
        signal.SIGWINCH,
        arbiter="retire_all",
        merged=True,
        for_arbiter=(
            "In daemon mode, or when a new server that ``USR2`` has started serves: all workers are retired until the "
            "next ``HUP`` or ``TTIN``. Otherwise it is ignored, because a terminal sends it whenever its window "
            "changes."
        ),
    ),
    SignalRow(
        signal.SIGCHLD,
        arbiter="reap",
        worker="",
        mold="",
        merged=True,
        for_arbiter="A child has exited: sent by the system.",
        for_worker="",
        for_mold="",
    ),
    SignalRow(
        signal.SIGABRT,
        worker="rescue",
        mold="",
        for_worker="The arbiter sends it to a worker that hangs: hand off waiting connections, exit.",
        for_mold="",
    ),
    SignalRow(
        DUMP_STACKS,
        worker="dump_stacks",
        mold="dump_stacks",
        held=False,
        for_worker=(
            "The stacks of all threads are kept for the arbiter, which sends it to a worker that hangs and then logs "
            "them. By hand it does nothing that can be seen."
        ),
        for_mold="",
    ),
    SignalRow(
        ARBITER_EXITED,
        worker="drain",
        mold="end",
        held=False,
        for_worker=(
            "From the kernel when the arbiter has exited: drain, and end after ``graceful_timeout`` at the latest."
        ),
        for_mold="",
    ),
)
"""In the order of the reference page."""

UNCAUGHT: tuple[tuple[str, str, str], ...] = (
    (
        "``STOP``, ``CONT``",
        "No process is supervised in between, but workers keep serving. ``TSTP``, Ctrl-Z, stops them, too.",
        "",
    ),
    (
        "``KILL`` and others",
        (
            "The arbiter ends at once, with ``ABRT`` too. Workers notice, finish what is in progress and exit; a "
            "server that is started meanwhile waits for their addresses for a few seconds. A pid file is left behind, "
            "and taken over by that server."
        ),
        "The worker ends at once and is replaced; the request in progress is in the record of its end.",
    ),
)
"""What the system does on others, for people: names, and the effect on the arbiter and on a worker."""

_CAUGHT = {signal.Signals(row.number): row for row in TABLE if row.held}

HELD = frozenset(_CAUGHT)
"""Blocked in a new child until it has handlers of its own, so that none is lost between."""

MERGED = frozenset(number for number, row in _CAUGHT.items() if row.merged)
"""Of these one in a turn of the arbiter's loop says as much as ten."""

ARBITER_ACTIONS = {number: row.arbiter for number, row in _CAUGHT.items() if row.arbiter}
"""What the arbiter catches."""

WORKER_ACTIONS = {number: row.worker for number, row in _CAUGHT.items() if row.worker not in ("", IGNORED)}
"""What a worker catches, so that an application cannot."""

MOLD_ACTIONS = {number: row.mold for number, row in _CAUGHT.items() if row.mold not in ("", IGNORED)}

IGNORED_BY_WORKERS = tuple(number for number, row in _CAUGHT.items() if row.worker == IGNORED)
IGNORED_BY_MOLDS = tuple(number for number, row in _CAUGHT.items() if row.mold == IGNORED)


_plain = importlib.import_module("_signal")

BY_DEFAULT: int = _plain.SIG_DFL
"""``SIG_DFL``, as `set_handler` knows it."""

set_handler: Callable[[int, Callable[..., Any] | int], object] = _plain.signal
"""``signal.signal`` without its table of names: that turns what was there before into a member of an Enum, or fails to,
which made a fifteenth of the pages that a new child wrote to."""


def ignore(number: signal.Signals) -> None:
    """Have a signal do nothing in this process; unlike with ``SIG_IGN`` that ends when it starts another program."""
    set_handler(number, _do_nothing)
    # System calls that C code waits in continue, as they do where a signal is ignored.
    signal.siginterrupt(number, False)


def stop_ignoring(numbers: Iterable[signal.Signals]) -> None:
    """Restore what Python does on signals by default, unless they have another handler by now."""
    for number in numbers:
        if signal.getsignal(number) == _do_nothing:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass  # a handler that is there is all that is wanted
