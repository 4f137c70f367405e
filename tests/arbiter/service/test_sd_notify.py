"""What a service manager hears, and when."""

import dataclasses
import math
import pathlib
import socket
from collections.abc import Iterator

import pytest

from wsgicluster.arbiter.plan.orders import Stopping
from wsgicluster.arbiter.plan.status import ServiceStatus
from wsgicluster.arbiter.service.sd_notify import LEAST_S, Announcer, Notifier

BOOTING = ServiceStatus(ready=0, wanted=2, generation=1, enough=False)
READY = ServiceStatus(ready=2, wanted=2, generation=1, enough=True)
ROLLING = dataclasses.replace(READY, rolling=True)
STOPPING = dataclasses.replace(READY, stopping=Stopping.GRACEFUL)


def started(watchdog_s: float = 0.0) -> tuple[Announcer, list[str]]:
    said: list[str] = []
    announcer = Announcer(said.append, watchdog_s)
    announcer.begin(100.0)
    return announcer, said


def test_a_life() -> None:
    announcer, said = started()
    announcer.update(BOOTING, 100.0)
    announcer.reload_begins(100.5)  # nothing that could be reloaded is there yet
    announcer.update(READY, 101.0)
    announcer.update(READY, 102.0)
    announcer.reload_begins(103.25)
    announcer.update(ROLLING, 103.25)
    announcer.update(dataclasses.replace(READY, generation=2), 104.0)
    announcer.update(STOPPING, 105.0)
    announcer.reload_begins(105.5)
    announcer.update(dataclasses.replace(STOPPING, ready=0), 106.0)
    assert said == [
        "STATUS=0 of 2 workers ready, generation 1",
        "READY=1\nSTATUS=2 of 2 workers ready, generation 1",
        "RELOADING=1\nMONOTONIC_USEC=103250000",
        "STATUS=2 of 2 workers ready, generation 1, reloading",
        "READY=1\nSTATUS=2 of 2 workers ready, generation 2",
        "STOPPING=1\nSTATUS=stopping, 2 of 2 workers ready, generation 1",
        "STATUS=stopping, 0 of 2 workers ready, generation 1",
    ]
    assert announcer.next_due() == math.inf


def test_a_reload_that_is_aborted_at_once() -> None:
    announcer, said = started()
    announcer.update(READY, 100.0)
    announcer.reload_begins(101.0)
    announcer.update(READY, 101.0)
    announcer.update(READY, 102.0)
    assert said[1:] == ["RELOADING=1\nMONOTONIC_USEC=101000000", "READY=1"]


def test_degraded() -> None:
    announcer, said = started()
    announcer.update(dataclasses.replace(READY, ready=1, degraded=True), 100.0)
    assert said == ["READY=1\nSTATUS=1 of 2 workers ready, generation 1, degraded"]


def test_a_watchdog_in_a_great_hurry_is_not_all_there_is() -> None:
    announcer, _ = started(watchdog_s=1e-6)
    announcer.update(READY, 100.0)
    assert announcer.next_due() >= 100.0 + LEAST_S


def test_the_watchdog_hears_of_us_twice_in_its_time() -> None:
    announcer, said = started(watchdog_s=10.0)
    assert announcer.next_due() == 100.0
    for now in (100.0, 101.0, 104.9, 105.0, 109.0, 110.5):
        announcer.update(BOOTING, now)
    assert [text.splitlines()[-1] for text in said] == ["WATCHDOG=1"] * 3
    assert announcer.next_due() == 115.5


def test_another_server_speaks_first() -> None:
    said: list[str] = []
    announcer = Announcer(said.append, 10.0)
    announcer.update(READY, 100.0)
    announcer.reload_begins(100.0)
    assert (said, announcer.next_due()) == ([], math.inf)
    announcer.begin(101.0, main_pid=42)
    announcer.begin(102.0, main_pid=42)
    announcer.update(READY, 101.0)
    assert said == ["MAINPID=42", "READY=1\nSTATUS=2 of 2 workers ready, generation 1\nWATCHDOG=1"]


def test_another_server_speaks_from_now_on() -> None:
    announcer, said = started(watchdog_s=10.0)
    announcer.update(READY, 100.0)
    announcer.hand_over(43)
    announcer.update(STOPPING, 101.0)
    announcer.hand_over(43)
    assert said[1:] == ["MAINPID=43"]
    assert announcer.next_due() == math.inf


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.settimeout(5)
        yield ear


@pytest.mark.parametrize("abstract", [False, True])
def test_datagrams(manager: socket.socket, tmp_path: pathlib.Path, abstract: bool) -> None:
    path = f"@wsgicluster-test-{id(manager)}" if abstract else str(tmp_path / "notify")
    manager.bind("\0" + path[1:] if abstract else path)
    notifier = Notifier(path)
    notifier.send("READY=1")
    notifier.send("STATUS=fine")
    assert (manager.recv(100), manager.recv(100)) == (b"READY=1", b"STATUS=fine")
    notifier.close()


def test_nobody_listens(tmp_path: pathlib.Path) -> None:
    for path in ("", "@", str(tmp_path / "nobody"), str(tmp_path / ("x" * 200)), "a\0b"):
        notifier = Notifier(path)
        notifier.send("READY=1")
        notifier.close()


def test_a_full_queue_is_not_waited_for(manager: socket.socket, tmp_path: pathlib.Path) -> None:
    manager.bind(str(tmp_path / "notify"))
    notifier = Notifier(str(tmp_path / "notify"))
    for _ in range(2000):
        notifier.send("WATCHDOG=1")
    assert manager.recv(100) == b"WATCHDOG=1"
    notifier.close()
