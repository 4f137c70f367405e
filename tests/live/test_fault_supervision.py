"""Bad luck of workers and arbiter: deaths in a row, stopped processes, storms of signals, nothing left behind."""

import contextlib
import os
import pathlib
import re
import signal
import time

import pytest

from tests.apps import versioned
from tests.conftest import LiveServer, StartServer, children_of, has_at_most, steady_descriptors, wait_until
from tests.live.client import BrokenResponse, Load, fetch

pytestmark = pytest.mark.live

DIES_WHILE = """
import os, threading, time
def sicken():
    while not os.path.exists("ill"):
        time.sleep(0.01)
    os._exit(7)
threading.Thread(target=sicken, daemon=True).start()
"""
HANGS_WHILE = """
import os, time
if os.path.exists("slow"):
    time.sleep(60)
"""


def workers_of(live: LiveServer) -> dict[str, list[int]]:
    """The arbiter's children by what they are."""
    found: dict[str, list[int]] = {"mold": [], "worker": []}
    for pid in live.children():
        title = b""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        # One that has just been forked still has its parent's title.
        for role, pids in found.items():
            if title.startswith(f"wsgicluster: {role} ".encode()):
                pids.append(pid)
    return found


def all_delivered(pid: int) -> bool:
    """Whether no signal waits for this process any more."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return all(int(mask, 16) == 0 for mask in re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)", status, re.MULTILINE))


def test_quick_deaths_back_off_and_end(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Each wait is said, the arbiter does not spin, and a cured application serves again."""
    live = server("app", "-w", "1", source=DIES_WHILE + versioned.good())
    # A server none of whose workers has ever booted would end instead.
    live.wait_log("1 worker serves", 10)
    (tmp_path / "ill").touch()
    for line in ("1 quick death, next try now", "2 quick deaths .* in 0.5 s", "3 quick deaths .* in 1 s"):
        live.wait_log(f"{line}; degraded: 0 of 1 worker serves", 10)
    until_then = re.match("(?s).*3 quick deaths.*?\n", live.log())
    assert until_then
    assert len(re.findall("crashed: exit code 7", until_then[0])) == 3
    (tmp_path / "ill").unlink()
    live.wait_log("The worker serves again", 10)
    assert fetch(live.port).status == 200


def test_segmentation_faults_leave_the_other_slot_alone(server: StartServer) -> None:
    source = versioned.good() + (
        "\n\nORDINARY = application\n\n\n"
        "def application(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/fault':\n"
        "        import os, signal\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return ORDINARY(environ, start_response)\n"
    )
    live = server("app", "-w", "2", source=source)
    live.wait_log("2 workers serve")
    with contextlib.suppress(BrokenResponse, OSError):  # its worker dies of it
        fetch(live.port, "/fault")
    live.wait_log("crashed: signal SIGSEGV.* in GET /fault", 10)
    assert fetch(live.port).status == 200
    live.wait_log("All 2 workers serve again", 10)


def test_workers_killed_in_a_storm(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "3")
    live.wait_log("3 workers serve")
    before = steady_descriptors(live.pid)
    for pid in live.children():
        os.kill(pid, signal.SIGKILL)
    live.wait_log("was killed from outside", 5, count=3)
    live.wait_log("All 3 workers serve again", 10)
    wait_until(lambda: has_at_most(live.pid, before), 5, "no descriptor more than before")
    assert children_of(live.pid, zombies=True) == []
    assert fetch(live.port).status == 200


def test_storm_of_mixed_signals(server: StartServer) -> None:
    """Whatever comes in whatever order: the right number of workers, no zombie, no descriptor lost."""
    live = server("tests.apps.basic", "-w", "3")
    live.wait_log("3 workers serve")
    before = steady_descriptors(live.pid)
    # USR2 would make another server: see the tests of upgrades.
    storm = [signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR1, signal.SIGTTOU, signal.SIGWINCH, signal.SIGCHLD]
    for turn in range(20):
        for number in storm[turn % len(storm) :] + storm[: turn % len(storm)]:
            live.send(number)
        # What is sent at once may merge; what is answered has been seen.
        live.wait_log("SIGUSR1", 5, count=max(1, turn // 2))
    for _ in range(20):
        live.send(signal.SIGTTIN)
        live.send(signal.SIGTTOU)
    # The system delivers signals in the order of their numbers: the last reload must not overtake a TTOU.
    wait_until(lambda: all_delivered(live.pid), 5, "all signals are delivered")
    said = live.log().count("SIGUSR1")
    live.send(signal.SIGUSR1)
    live.wait_log("SIGUSR1", 5, count=said + 1)
    # A reload goes back to the number of workers that the settings name.
    old = set(live.children())
    live.send(signal.SIGHUP)
    wait_until(
        lambda: (
            len(live.children()) == 3
            and old.isdisjoint(live.children())
            and has_at_most(live.pid, before)
            and not children_of(live.pid, zombies=True)
        ),
        15,
        "as many workers and descriptors as before the storm, and no zombie",
    )
    assert "internal error" not in live.log()
    assert fetch(live.port).status == 200
    assert live.stop() == 0


def test_reloads_in_a_burst_are_one(server: StartServer) -> None:
    """(Node 16)"""
    live = server("tests.apps.basic", "-w", "2")
    live.wait_log("2 workers serve")
    os.kill(live.pid, signal.SIGSTOP)
    for _ in range(10):
        live.send(signal.SIGHUP)
    os.kill(live.pid, signal.SIGCONT)
    live.wait_log("Reload complete", 10)
    assert "generation 3" not in live.log()


def test_stop_wins_over_a_reload_of_the_same_moment(server: StartServer) -> None:
    """(Node 68)"""
    live = server("tests.apps.basic", "-w", "2")
    live.wait_log("2 workers serve")
    os.kill(live.pid, signal.SIGSTOP)
    live.send(signal.SIGHUP)
    live.send(signal.SIGTERM)
    os.kill(live.pid, signal.SIGCONT)
    assert live.wait_end(5) == 0
    assert "generation 2" not in live.log()


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_application_that_hangs_in_a_reload(
    server: StartServer, tmp_path: pathlib.Path, extra: tuple[str, ...]
) -> None:
    """The old generation serves; a newer reload takes the place of the one that hangs; TERM ends it all."""
    live = server("app", "-w", "1", "-t", "3", *extra, source=HANGS_WHILE + versioned.good())
    live.wait_log("1 worker serves")
    (tmp_path / "slow").touch()
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted", 5)
    live.wait_log("did not become ready in time", 5)
    assert fetch(live.port).status == 200
    live.send(signal.SIGHUP)
    live.wait_log("SIGHUP: reload", 5, count=2)
    live.send(signal.SIGHUP)
    live.wait_log("Generation 3 superseded by a newer reload", 5)
    (tmp_path / "slow").unlink()
    live.wait_log("Reload complete", 10)
    (tmp_path / "slow").touch()
    live.send(signal.SIGHUP)
    live.wait_log("SIGHUP: reload", 5, count=4)
    assert live.stop(timeout_s=5) == 0
    assert live.members() == []


def test_arbiter_that_stood_still_blames_nobody(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "1", "-t", "1")
    live.wait_log("1 worker serves")
    (worker,) = live.children()
    os.kill(live.pid, signal.SIGSTOP)
    for _ in range(6):
        assert fetch(live.port, "/slow/0.3").status == 200
    os.kill(live.pid, signal.SIGCONT)
    live.send(signal.SIGUSR1)
    live.wait_log("SIGUSR1", 5)
    assert live.children() == [worker]


def test_stopped_worker_does_not_keep_the_server(server: StartServer) -> None:
    """(Node 18)"""
    live = server("tests.apps.basic", "-w", "2", "--graceful-timeout", "0.5")
    live.wait_log("2 workers serve")
    os.kill(live.children()[0], signal.SIGSTOP)
    assert live.stop(timeout_s=5) == 5
    assert "was cut off after graceful_timeout" in live.log()


def test_killed_mold_is_made_anew_when_needed(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--preload")
    live.wait_log("2 workers serve")
    (mold,) = workers_of(live)["mold"]
    os.kill(mold, signal.SIGKILL)
    live.wait_log("Mold .* was killed from outside", 5)
    assert fetch(live.port).status == 200
    os.kill(workers_of(live)["worker"][0], signal.SIGKILL)
    wait_until(lambda: len(workers_of(live)["worker"]) == 2 and len(workers_of(live)["mold"]) == 1, 10)
    live.wait_log("Mold .* is ready", 5, count=2)
    assert live.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_mold_does_not_keep_the_server(server: StartServer, number: signal.Signals) -> None:
    live = server("tests.apps.basic", "-w", "2", "--preload")
    live.wait_log("2 workers serve")
    found = workers_of(live)
    os.kill(found["mold"][0], signal.SIGSTOP)
    os.kill(found["worker"][0], signal.SIGKILL)
    live.wait_log("was killed from outside", 5)
    assert live.stop(number, timeout_s=5) == 0
    assert live.members() == []


def test_stopped_mold_ends_by_force_at_once(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--preload")
    live.wait_log("2 workers serve")
    found = workers_of(live)
    for pid in (found["mold"][0], found["worker"][1]):
        os.kill(pid, signal.SIGSTOP)
    os.kill(found["worker"][0], signal.SIGKILL)
    live.wait_log("was killed from outside", 5)
    live.send(signal.SIGINT)
    live.wait_log("quick stop", 5)
    live.send(signal.SIGINT)
    assert live.wait_end() == 5
    assert live.members() == []


def test_stopped_mold_is_found_and_made_anew(server: StartServer) -> None:
    """A worker that is never born tells on the mold that was to fork it, and its slot does not stay empty."""
    live = server("tests.apps.basic", "-w", "2", "--preload", "-t", "1")
    live.wait_log("2 workers serve")
    found = workers_of(live)
    os.kill(found["mold"][0], signal.SIGSTOP)
    os.kill(found["worker"][0], signal.SIGKILL)
    live.wait_log("Mold .* did not fork the worker that was ordered: timeout of 1.0 s passed", 5)
    live.wait_log("All 2 workers serve again", 10)
    assert fetch(live.port).status == 200
    assert found["mold"][0] not in live.children()
    assert live.stop() == 0
    assert live.members() == []


FORKS_ONCE_IN_VAIN = """
import os, time
if os.path.exists("ill"):
    os.register_at_fork(after_in_child=lambda: os.path.exists("ill") and time.sleep(60))
"""


def test_mold_whose_children_hang_before_they_are_known(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Hooks of the application run in each new process, before anything of ours does."""
    (tmp_path / "ill").touch()
    live = server("app", "-w", "1", "--preload", "-t", "1", source=FORKS_ONCE_IN_VAIN + versioned.good())
    live.wait_log("Mold .* is ready", 10)
    assert live.wait_end(15) == 3
    assert "did not fork the worker" in live.log()


def test_worker_told_to_leave_by_hand(server: StartServer) -> None:
    """It is replaced at once, and nobody takes it for a crash."""
    live = server("tests.apps.basic", "-w", "2")
    live.wait_log("2 workers serve")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 1.2, 5, "the workers are no newcomers any more")
    os.kill(live.children()[0], signal.SIGTERM)
    live.wait_log("Worker . .* exited without a stop request: exit code 0", 5)
    live.wait_log("is ready after", 5, count=3)
    assert "quick death" not in live.log()
    assert "crashed" not in live.log()
    assert fetch(live.port).status == 200


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_a_worker_for_each_request(server: StartServer, extra: tuple[str, ...]) -> None:
    live = server("tests.apps.basic", "-w", "2", "--max-requests", "1", *extra)
    live.wait_log("2 workers serve")
    with Load(live.port, clients=3) as load:
        wait_until(lambda: len(load.pids()) >= 8, 15, "eight workers")
    assert load.losses == []
    assert live.stop() == 0


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_starts_leave_nothing_behind(server: StartServer, tmp_path: pathlib.Path, extra: tuple[str, ...]) -> None:
    def in_memory() -> set[str]:
        return {name for name in os.listdir("/dev/shm") if re.fullmatch(r"wsgicluster-\w{8}", name)}

    before = in_memory()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        live = server(
            "tests.apps.basic", "-w", "2", "-p", "pid", "-b", "unix:socket", *extra, environ={"TMPDIR": str(temporary)}
        )
        live.wait_log("2 workers serve")
        assert fetch(live.port).status == 200
        assert live.stop(number) == 0
        assert live.members() == []
        assert {"pid", "socket"}.isdisjoint(os.listdir(tmp_path))
    assert os.listdir(temporary) == []
    assert in_memory() <= before
