"""The table of signals: what follows from it, and that each of its actions has a method."""

import signal

import pytest

from wsgicluster.arbiter.children.mold import Mold
from wsgicluster.arbiter.operations import Operations
from wsgicluster.support.child_loop import ChildLoop
from wsgicluster.system import signals
from wsgicluster.system.signals import TABLE, SignalRow
from wsgicluster.worker.lifecycle.signals import WorkerSignals

FOR_THE_ARBITER = {
    signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR2, signal.SIGWINCH,
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_each_signal_can_be_sent_and_is_explained(row: SignalRow) -> None:
    assert row.number in signal.valid_signals()
    assert bool(row.for_arbiter) is bool(row.arbiter)
    assert bool(row.for_worker) is bool(row.worker)
    assert row.arbiter or row.worker


def test_each_signal_has_one_row() -> None:
    assert len({row.number for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize(
    ("process", "prefix", "actions"),
    [
        (Operations, "", signals.ARBITER_ACTIONS),
        (WorkerSignals, "_", signals.WORKER_ACTIONS),
        (ChildLoop, "_", signals.WORKER_ACTIONS),
        (Mold, "_", signals.MOLD_ACTIONS),
    ],
)
def test_each_action_has_a_method(process: type, prefix: str, actions: dict[signal.Signals, str]) -> None:
    assert actions
    assert [action for action in actions.values() if not callable(getattr(process, prefix + action, None))] == []


def test_what_children_catch_and_ignore() -> None:
    assert set(signals.WORKER_ACTIONS) == {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGABRT}
    assert set(signals.MOLD_ACTIONS) == {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1}
    assert set(signals.IGNORED_BY_WORKERS) == set(signals.IGNORED_BY_MOLDS) == FOR_THE_ARBITER


def test_what_is_held_back_until_a_child_has_handlers() -> None:
    """All that a process of ours acts on, besides what it registers by itself."""
    assert {*signals.ARBITER_ACTIONS, *signals.WORKER_ACTIONS, *signals.MOLD_ACTIONS} == signals.HELD
    assert not {signals.DUMP_STACKS, signals.ARBITER_EXITED} & signals.HELD


def test_each_step_counts() -> None:
    each = {signal.SIGTTIN, signal.SIGTTOU, signal.SIGINT, signal.SIGQUIT}
    assert set(signals.ARBITER_ACTIONS) - signals.MERGED == each


def test_names() -> None:
    names = [row.name for row in TABLE]
    assert {"TERM", "RTMIN+7", "RTMIN+8"} <= set(names)
