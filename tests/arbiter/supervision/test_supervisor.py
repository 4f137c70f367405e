"""Supervision of children that are records: what is sent and exits goes in, signals, spawns and log lines come out."""

import errno
import os
import pathlib
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.arbiter.supervised import Supervised, settings, supervised
from wsgicluster.arbiter.hooks import NoHooks
from wsgicluster.arbiter.plan.backoff import WAITS_S
from wsgicluster.arbiter.plan.child import Role
from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.pool import DUMP_S, HANG_S, QUICK_STOP_S
from wsgicluster.arbiter.plan.rollout import PROBATION_S, Attempt, Result
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.arbiter.supervision.order_executor import MOST_TOGETHER
from wsgicluster.errors import UsageError
from wsgicluster.ipc.messages import BootFailed, Broken, Forked, Ready, RecycleWanted
from wsgicluster.ipc.scheduling import Scheduling
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.system.signals import DUMP_STACKS


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[Supervised]:
    with supervised(tmp_path) as made:
        yield made


class OtherHooks(NoHooks):
    """Hooks of a configuration file, as far as it is asked whether there are any."""


def serving(world: Supervised, **wanted: object) -> Supervised:
    """With all workers ready."""
    world.supervisor.reload(settings(**wanted), ())
    world.turn()
    world.ready()
    assert world.supervisor.status().enough
    return world


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "Cannot allocate memory"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "Resource temporarily unavailable"),
        (MemoryError(), "out of memory"),
    ],
)
def test_no_room_for_a_child(world: Supervised, refusal: BaseException, reason: str) -> None:
    supervisor, children, hands = world.supervisor, world.children, world.hands
    children.refusal = refusal
    supervisor.reload(settings(workers=1), ())
    for _ in range(12):
        supervisor.carry_out()
        supervisor.carry_out()
        due = supervisor.next_due()
        assert due > hands.now, "no busy loop"
        hands.now = due
    waits = [after - before for before, after in zip(children.asked_at, children.asked_at[1:], strict=False)]
    assert waits[:7] == [wait for wait in WAITS_S if wait]
    assert set(waits[7:]) == {WAITS_S[-1]}
    assert len(world.lines) == 12
    assert world.lines[0] == (
        f"Worker 1 could not be started ({reason}), next try in 0.5 s; degraded: 0 of 1 worker serves"
    )
    assert "next try in 30 s" in world.lines[-1]
    children.refusal = None
    children.asked_at.clear()
    supervisor.carry_out()
    assert len(world.living) == 1


def test_children_are_forked_with_nothing_in_between(world: Supervised) -> None:
    world.supervisor.reload(settings(workers=3), ())
    world.turn()
    assert world.children.steps == [(step, slot) for step in ("prepare", "start", "adopt") for slot in (1, 2, 3)]


def test_more_children_than_are_prepared_at_once(world: Supervised) -> None:
    """Each takes a descriptor more until it is forked."""
    world.supervisor.reload(settings(workers=MOST_TOGETHER + 2), ())
    world.turn()
    steps = [step for step, _ in world.children.steps]
    assert steps == [
        step for count in (MOST_TOGETHER, 2) for step in ("prepare", "start", "adopt") for _ in range(count)
    ]
    assert len(world.living) == MOST_TOGETHER + 2


def test_a_child_with_hooks_is_forked_before_the_next_one_is_prepared(world: Supervised) -> None:
    """What a hook sets before the fork is for this worker alone."""
    world.children.hooks = OtherHooks()
    world.supervisor.reload(settings(workers=2), ())
    world.turn()
    assert world.children.steps == [(step, slot) for slot in (1, 2) for step in ("prepare", "start", "adopt")]


def test_no_room_for_one_of_several_children(world: Supervised) -> None:
    world.children.refused_slot = 2
    world.supervisor.reload(settings(workers=3), ())
    world.turn()
    assert [link.child.slot for link in world.living] == [1, 3]
    (line,) = world.lines
    assert line == (
        "Worker 2 could not be started (Resource temporarily unavailable), next try in 0.5 s; "
        "degraded: 0 of 3 workers serve"
    )
    world.children.refused_slot = None
    world.turn(0.5)
    assert sorted(link.child.slot for link in world.living) == [1, 2, 3]


def test_a_fault_of_the_arbiter_between_two_children(world: Supervised) -> None:
    """Those that have been prepared by then are started, and known."""
    world.children.fault_at = 3
    world.supervisor.reload(settings(workers=3), ())
    with pytest.raises(ZeroDivisionError):
        world.turn()
    assert [link.child.slot for link in world.living] == [1, 2]
    world.children.fault_at = 0
    world.turn()
    assert [link.child.slot for link in world.living] == [1, 2, 3]


def test_a_process_that_the_kernel_holds(world: Supervised) -> None:
    """Killed again and again, which is logged once; its slot has another worker meanwhile."""
    serving(world, workers=1, timeout=3.0)
    (stuck,) = world.living
    stuck.deadline = world.hands.now + 3.0
    while world.hands.now < 125.0:
        world.turn()
        world.hands.now = min(world.supervisor.next_due(), world.hands.now + 0.7)
    assert stuck.sent[:3] == [DUMP_STACKS, signal.SIGABRT, signal.SIGKILL]
    assert stuck.sent.count(signal.SIGKILL) > 2
    assert len(world.living) == 2
    assert len([line for line in world.lines if "is still alive after SIGKILL" in line]) == 1


def test_reloads_leave_nothing_behind(world: Supervised) -> None:
    for number in range(1, 21):
        world.supervisor.reload(settings(workers=1), (number,))
        assert world.supervisor.listeners == {number}, "of the one on trial, since none serves"
    assert world.lines[-1] == "Generation 19 superseded by a newer reload"


def test_why_a_worker_of_a_mold_has_exited_at_once(world: Supervised) -> None:
    """It has exited before any message of it was read."""
    world.children.via_mold = True
    world.supervisor.reload(settings(workers=1, preload_app=True), ())
    world.turn()
    world.ready()
    mold, worker = world.living
    assert (mold.child.role, worker.child.unborn) == (Role.MOLD, True)
    world.children.unclaimed[4711] = Exit(3, 0, 0)
    failed = BootFailed(3, "smoke: GET / failed", "Traceback of the application")
    world.say(worker, Forked(worker.child.key, 4711), failed)
    assert worker not in world.living
    assert world.supervisor.failures.exit_code == 3
    assert "cannot boot: smoke: GET / failed\nTraceback of the application\n" in world.log.read_text()


def test_a_mold_that_cannot_fork(world: Supervised) -> None:
    world.children.via_mold = True
    world.supervisor.reload(settings(workers=1, preload_app=True), ())
    world.turn()
    world.ready()
    _, worker = world.living
    world.say(worker, Forked(worker.child.key, 0))
    assert worker not in world.living
    assert "Worker 1 could not be started (its mold could not fork it)" in world.lines[-1]


def test_a_worker_of_a_mold_whose_channel_ends_before_its_pid_is_known(world: Supervised) -> None:
    world.children.via_mold = True
    world.supervisor.reload(settings(workers=1, preload_app=True), ())
    world.turn()
    world.ready()
    _, worker = world.living
    worker.theirs.close()
    world.supervisor.messages.read(worker.child.key)
    assert worker not in world.living
    world.supervisor.messages.read(worker.child.key)  # which is of no use any more


@pytest.mark.parametrize(("takes_requests", "sent"), [(True, signal.SIGTERM), (False, signal.SIGQUIT)])
def test_a_stop_before_a_worker_of_a_mold_is_known(world: Supervised, takes_requests: bool, sent: int) -> None:
    world.children.via_mold = True
    world.supervisor.reload(settings(workers=1, preload_app=True), ())
    world.turn()
    world.ready()
    _, worker = world.living
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    worker.sent.clear()
    if takes_requests:
        worker.page.cells[Cell.STATE] = WorkerState.READY
    world.say(worker, Forked(worker.child.key, 4711))
    assert worker.sent == [sent]


def test_a_reload_from_first_to_last(world: Supervised) -> None:
    serving(world, workers=1)
    (old,) = world.living
    world.supervisor.reload(settings(workers=1, threads=2), (7,))
    assert world.supervisor.status().on_trial
    assert world.supervisor.status().last == Attempt(2, Result.UNDER_WAY, world.hands.time())
    world.turn()
    world.ready()
    new = world.living[-1]
    assert old.sent == []
    world.turn(PROBATION_S)
    assert (old.sent, new.sent) == ([signal.SIGTERM], [])
    world.exit(old)
    world.turn()
    assert world.supervisor.serving is not None
    assert world.supervisor.serving.threads == 2
    assert world.supervisor.listeners == {7}
    assert world.lines[-3:] == [
        "Generation 2 is healthy and now serving",
        "Reload complete: 1 worker serves",
        "Worker 1 (pid 10001, generation 1) exited: stop requested, 0 requests served",
    ]


def test_a_reload_that_fails(world: Supervised) -> None:
    serving(world, workers=1)
    world.supervisor.reload(settings(workers=1), ())
    world.turn()
    trial = world.living[-1]
    world.say(trial, BootFailed(4, "no module shop", "Traceback"))
    assert world.lines[-1] == "Reload aborted: generation 2 failed to start; generation 1 keeps serving"
    status = world.supervisor.status()
    assert (status.on_trial, status.generation) == (False, 1)
    assert status.last is not None
    assert (status.last.result, status.last.reason, status.last.trace) == (
        Result.ABORTED,
        "no module shop",
        "Traceback",
    )
    world.exit(trial, Exit(4, 0, 0))
    world.turn(1.0)
    assert len(world.living) == 1
    world.supervisor.refuse("bind: port in use")
    last = world.supervisor.status().last
    assert last is not None
    assert (last.number, last.result, last.reason) == (0, Result.REFUSED, "bind: port in use")


def test_scaling_and_retiring(world: Supervised) -> None:
    serving(world, workers=1)
    assert world.supervisor.scale(+1) == 2
    world.turn()
    world.ready()
    first, second = world.living
    world.supervisor.retire()
    world.turn()
    assert world.supervisor.status().retired
    assert (first.sent, second.sent) == ([signal.SIGTERM], [signal.SIGTERM])
    assert world.supervisor.resume() == 2
    world.turn()
    assert len(world.living) == 4
    world.supervisor.signal_all(signal.SIGUSR1)
    assert all(link.sent[-1] == signal.SIGUSR1 for link in world.living)
    assert world.supervisor.pids() == {os.getpid(), 10_001, 10_002, 10_003, 10_004}


def test_another_scheduling_policy(world: Supervised) -> None:
    serving(world, workers=2, scheduling="round-robin")

    def in_force() -> Scheduling:
        return world.children.scheduling

    assert in_force() == Scheduling("round-robin")
    found = world.supervisor.scheduling.set({"weights": "2,1"}, "here")
    assert (found.scheduling, found.weights) == ("weighted", (2, 1))
    assert in_force() == Scheduling("weighted", (2, 1))
    world.supervisor.scheduling.set({"sticky": "header:X-User"}, "here")
    assert in_force() == Scheduling("sticky", (2, 1), "header", "X-User")
    world.supervisor.scheduling.set({"scheduling": "weighted"}, "here")
    assert in_force() == Scheduling("weighted", (2, 1), "header", "X-User")
    world.supervisor.scale(+1)
    for wrong in ({"weights": "2,1"}, {"scheduling": "weighted"}, {"scheduling": "none"}):
        with pytest.raises(UsageError, match="here: "):
            world.supervisor.scheduling.set(wrong, "here")
    assert in_force().policy == "weighted"


@pytest.mark.parametrize("during", [False, True])
def test_a_reload_takes_the_policy_of_its_settings_unless_it_is_set_meanwhile(world: Supervised, during: bool) -> None:
    serving(world, workers=1)
    world.supervisor.scheduling.set({"scheduling": "round-robin"}, "here")
    world.supervisor.reload(settings(workers=1, scheduling="least-connections"), ())
    assert world.children.scheduling.policy == "round-robin", "what serves follows what is in force"
    if during:
        world.supervisor.scheduling.set({"sticky": "cookie"}, "here")
    world.turn()
    world.ready()
    world.turn(PROBATION_S)
    assert world.children.scheduling.policy == ("sticky" if during else "least-connections")


def test_what_clients_are_known_by_instead_is_said(world: Supervised) -> None:
    serving(world, workers=1, certfile="c.pem", keyfile="k.pem")
    world.supervisor.scheduling.set({"sticky": "cookie"}, "here")
    assert any("sticky: by address in place of cookie" in line for line in world.lines)


def test_a_stop_that_gets_quicker(world: Supervised) -> None:
    serving(world, workers=1, graceful_timeout=5.0)
    (worker,) = world.living
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    assert world.supervisor.stopping is Stopping.GRACEFUL
    world.supervisor.stop(Stopping.QUICK)
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    assert worker.sent == [signal.SIGTERM, signal.SIGQUIT]
    world.turn(QUICK_STOP_S)
    assert worker.sent[-1] == signal.SIGKILL
    assert world.lines[-1].endswith("did not exit on SIGQUIT; sending SIGKILL")
    assert not world.supervisor.status().is_over
    world.exit(worker, Exit(0, signal.SIGKILL, 0))
    assert world.supervisor.status().is_over
    assert str(world.supervisor.failures.forced) == "1 worker had to be killed"


def test_a_worker_that_does_not_finish_in_time(world: Supervised) -> None:
    serving(world, workers=1, graceful_timeout=5.0)
    (worker,) = world.living
    world.supervisor.stop(Stopping.GRACEFUL)
    world.turn()
    world.turn(6.0)
    assert worker.sent == [signal.SIGTERM, signal.SIGKILL]
    assert "was cut off after graceful_timeout of 5.0 s" in world.lines[-1]


def test_a_worker_that_crashes_is_replaced(world: Supervised) -> None:
    serving(world, workers=1)
    (worker,) = world.living
    world.hands.now += 10.0
    world.say(worker, Broken("ValueError: x", "Traceback of the server"))
    world.exit(worker, Exit(1, 0, 0))
    (death,) = world.supervisor.failures.deaths
    assert (death.detail, death.stacks) == ("ValueError: x", "Traceback of the server")
    world.turn()
    assert [link.child.slot for link in world.living] == [1]
    world.ready()
    world.turn(1.0)
    assert world.lines[-1] == "The worker serves again"


def test_a_worker_that_dies_quickly_is_waited_for(world: Supervised) -> None:
    serving(world, workers=2)
    worker = world.living[0]
    world.exit(worker, Exit(0, signal.SIGSEGV, 0))
    assert world.lines[-1] == "Worker 1: 1 quick death, next try now; degraded: 1 of 2 workers serve"


def test_the_first_generation_that_cannot_boot(world: Supervised) -> None:
    world.supervisor.reload(settings(workers=1), ())
    world.turn()
    (worker,) = world.living
    world.exit(worker, Exit(0, signal.SIGSEGV, 0))
    assert world.supervisor.failures.exit_code == 3
    assert world.supervisor.stopping is Stopping.QUICK
    assert world.lines[-1] == "No worker has ever booted: the server exits with exit code 3"


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_worker_that_hangs(world: Supervised, is_ready: bool) -> None:
    world.supervisor.reload(settings(workers=1, timeout=3.0), ())
    world.turn()
    (worker,) = world.living
    if is_ready:
        world.ready()
    worker.deadline = world.hands.now + 3.0
    world.turn(3.0)
    assert worker.sent == [DUMP_STACKS]
    assert world.supervisor.next_due() <= world.hands.now + DUMP_S
    world.turn(DUMP_S)
    assert worker.sent == [DUMP_STACKS, signal.SIGABRT]
    world.turn(HANG_S)
    assert worker.sent[-1] == signal.SIGKILL
    world.exit(worker, Exit(0, signal.SIGKILL, 0))
    text = "hung between requests" if is_ready else "did not become ready in time"
    assert any(f"{text}: timeout of 3.0 s passed" in line for line in world.lines)
    assert bool(world.supervisor.failures.exit_code) is not is_ready


def test_a_mold_that_hangs_instead_of_forking(world: Supervised) -> None:
    world.children.via_mold = True
    world.supervisor.reload(settings(workers=1, preload_app=True, timeout=3.0), ())
    world.turn()
    world.ready()
    mold, worker = world.living
    worker.deadline = world.hands.now + 3.0
    world.turn(3.0)
    assert mold.sent == [DUMP_STACKS]
    world.turn(DUMP_S)
    world.exit(mold, Exit(0, signal.SIGABRT, 0))
    assert any("did not fork the worker that was ordered" in line for line in world.lines)
    world.turn(1.0)
    assert worker not in world.living, "no process of it will ever be known"


def test_what_workers_request(world: Supervised) -> None:
    serving(world, workers=1)
    (worker,) = world.living
    world.say(worker, RecycleWanted("source", "app.py"))
    assert world.supervisor.messages.source_changed
    world.say(worker, RecycleWanted("astrology", "full moon"))
    assert world.lines[-1].endswith("requested a replacement for an unknown reason: astrology")
    world.say(worker, RecycleWanted("requests", "after 10 requests"))
    assert world.lines[-1].endswith("will be replaced: after 10 requests")
    world.turn()
    world.ready()
    world.turn()
    assert worker.sent == [signal.SIGTERM]
    worker.page.cells[Cell.REQUESTS] = 10
    world.exit(worker)
    assert world.lines[-1].endswith("exited: recycled after its number of requests, 10 requests served")


def test_an_application_that_needs_more_than_max_memory(world: Supervised) -> None:
    serving(world, workers=1, max_memory=10 << 20)
    (worker,) = world.living
    worker.child.resident_bytes = 20 << 20
    worker.page.cells[Cell.RESIDENT] = 30 << 20
    for _ in range(2):
        world.say(worker, RecycleWanted("memory", "30 MiB"))
    assert len([line for line in world.lines if "is less than the application needs" in line]) == 1
    assert worker.child.recycle is None
    worker.page.cells[Cell.RESIDENT] = 100 << 20
    world.say(worker, RecycleWanted("memory", "100 MiB"))
    assert worker.child.recycle is not None


def test_an_invalid_message(world: Supervised) -> None:
    serving(world, workers=1)
    (worker,) = world.living
    with socket.socket(fileno=os.dup(worker.theirs.fileno())) as raw:
        raw.send(b'{"type": "Surprise"}')
    world.say(worker, Ready(0.1))
    assert "sent an invalid message: not a message" in world.lines[-1]


def test_children_that_are_stopped_and_continued(world: Supervised) -> None:
    serving(world, workers=1)
    (worker,) = world.living
    world.children.paused += [(worker.child, True), (worker.child, False)]
    world.supervisor.reap()
    assert world.lines[-2].endswith("was stopped by a signal; other workers serve until it is continued")
    assert world.lines[-1].endswith("was continued by a signal")


def test_what_goes_wrong_with_one_exit_keeps_no_other_one(world: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    serving(world, workers=4)
    links = world.living
    for link in links[:2]:

        def cannot_be_read(slot: int = link.child.slot) -> str:
            raise OSError(f"the stacks of slot {slot}")

        monkeypatch.setattr(link, "stacks", cannot_be_read)
    world.children.exits += [(link.child, Exit(0, signal.SIGKILL, 1 << 20)) for link in links[:3]]
    world.children.paused.append((links[3].child, True))
    with pytest.raises(OSError, match="the stacks of slot 2") as raised:
        world.supervisor.reap()
    assert not world.children.exits, "one call has taken them all"
    assert [line for line in world.lines if "worker 3" in line.lower()], "which has its record"
    assert world.lines[-1].endswith("was stopped by a signal; other workers serve until it is continued")
    assert world.living == [links[3]]
    assert str(raised.value.__context__) == "the stacks of slot 1", "both are in the traceback that is logged"
    # All three slots get another worker.
    world.turn()
    world.turn(2.0)
    world.ready()
    assert sorted(link.child.slot for link in world.living) == [1, 2, 3, 4]


def test_started_with_some_of_the_workers(world: Supervised) -> None:
    world.supervisor.reload(settings(workers=2, min_ready=1), ())
    world.turn()
    world.say(world.living[0], Ready(0.5))
    world.turn()
    assert world.supervisor.status().started
    assert world.lines[-1] == "Started: 1 of 2 workers serve, the others boot"
    world.ready()
    assert world.lines[-1] == "Started: 2 workers serve"


def test_started_while_a_reload_has_begun(world: Supervised) -> None:
    world.supervisor.reload(settings(workers=2), ())
    world.turn()
    first, second = world.living
    world.say(first, Ready(0.5))
    world.supervisor.reload(settings(workers=2), ())
    world.say(second, Ready(0.5))
    world.turn()
    assert world.lines[-1] == "Started: 2 workers serve"
