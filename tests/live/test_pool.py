"""The number of workers, and workers that end: killed, hung, grown or worn out."""

import os
import pathlib
import re
import signal
import time

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, wait_until
from tests.live.client import BrokenResponse, Connection, Load, fetch

pytestmark = pytest.mark.live


def test_one_more_and_one_less(server: StartServer) -> None:
    live = server("app", "-w", "1", source=versioned.good())
    live.wait_workers(1)
    with Load(live.port) as load:
        live.send(signal.SIGTTIN)
        live.wait_children(2)
        live.send(signal.SIGTTIN)
        live.wait_children(3)
        live.send(signal.SIGTTOU)
        live.wait_children(2)
        live.send(signal.SIGTTOU)
        live.wait_children(1)
        live.send(signal.SIGTTOU)
        count = len(load.answers)
        wait_until(lambda: len(load.answers) > count + 20, 5, "the last worker stays")
        assert len(live.children()) == 1
    assert load.losses == []


def test_killed_worker_is_replaced_and_recorded(server: StartServer) -> None:
    live = server("app", "-w", "2", source=versioned.good())
    victim = live.wait_workers(2)[0]
    assert fetch(live.port).status == 200
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in live.children() and len(live.children()) == 2, 5, "a replacement")
    live.wait_log("SIGKILL")
    record = [line for line in live.log().splitlines() if "SIGKILL" in line]
    assert len(record) == 1
    assert str(victim) in record[0]


def test_record_names_the_request(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2")
    with Connection(live.port) as connection:
        connection.ask("/exit/7")
        with pytest.raises((BrokenResponse, ConnectionResetError)):
            connection.response()
    live.wait_log("/exit/7")
    assert re.search(r"\b7\b", live.log())
    assert fetch(live.port).status == 200


@pytest.mark.parametrize("path", ["/hang", "/spin"])
def test_hung_worker_is_reported_and_replaced(server: StartServer, path: str) -> None:
    live = server("tests.apps.basic", "-w", "2", "--timeout", "2")
    live.wait_children(2)
    with Connection(live.port, 30) as connection:
        connection.ask(path, "POST", b"x")
        live.wait_log("(?i)timeout", 8)
        live.wait_log(r"basic\.py", 3)  # the stack, down to the application's line
        with pytest.raises((BrokenResponse, ConnectionResetError)):
            connection.response()
    report = live.log()
    assert f"POST {path}" in report
    assert "in application" in report
    live.wait_children(2)
    for _ in range(4):
        assert fetch(live.port).status == 200


def test_others_are_served_while_one_hangs(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--timeout", "2")
    live.wait_children(2)
    with Connection(live.port, 20) as connection, Load(live.port, paths=("/",)) as load:
        connection.ask("/hang")
        with pytest.raises((BrokenResponse, ConnectionResetError)):
            connection.response()
        count = len(load.answers)
        wait_until(lambda: len(load.answers) > count + 20, 5)
    assert load.losses == []


def test_hang_while_booting_is_reported(server: StartServer) -> None:
    live = server("app", "--timeout", "1", source=versioned.good(boot_s=3600))
    live.wait_log("(?i)timeout", 8)
    live.wait_log(r"app\.py", 3)
    live.stop(signal.SIGINT, 8)


def test_max_requests_loses_nothing(server: StartServer) -> None:
    live = server("app", "-w", "2", "--max-requests", "30", "--max-requests-jitter", "10", source=versioned.good())
    with Load(live.port) as load:
        wait_until(lambda: len(load.pids()) >= 6, 20, "six different workers")
        wait_until(lambda: len(live.children()) >= 2, 5)
    assert load.losses == []
    assert live.stop() == 0


def test_max_memory_loses_nothing(server: StartServer) -> None:
    live = server("tests.apps.basic", "-w", "2", "--max-memory", "150M")
    live.wait_children(2)
    with Load(live.port, paths=("/", "/keep/5", "/")) as load:
        wait_until(lambda: len(load.pids()) >= 4, 30, "grown workers are replaced")
    assert load.losses == []
    live.wait_log("(?i)memory")
    assert live.stop() == 0


NEEDS = """
from tests.apps.basic import application as basic
kept = []


def application(environ, start_response):
    if not kept and environ["PATH_INFO"] == "/lazy":
        kept.append(b"x" * (60 << 20))
    return basic(environ, start_response)
"""


@pytest.mark.parametrize(
    ("arguments", "path", "source", "replaced"),
    [
        (("-k", "sync", "--max-memory", "90M"), "/", "held = b'x' * (100 << 20)\n", 0),
        (("-k", "sync", "--max-memory", "90M", "--preload"), "/", "held = b'x' * (100 << 20)\n", 0),
        (("-k", "gthread", "--max-memory", "90M"), "/", "held = b'x' * (100 << 20)\n", 0),
        (("-k", "gevent", "--max-memory", "90000K"), "/", "held = b'x' * (100 << 20)\n", 0),
        (("-k", "sync", "--max-memory", "60M", "--max-memory-jitter", "1M"), "/lazy", "", 2),
        (("-k", "gthread", "--max-memory", "60M"), "/lazy", "", 2),
    ],
)
def test_max_memory_that_is_less_than_the_application_needs(
    server: StartServer, arguments: tuple[str, ...], path: str, source: str, replaced: int
) -> None:
    """It is said once, with the figures, and workers are no longer replaced for that; a reload tries again."""
    live = server("app", "-w", "2", *arguments, source=source + NEEDS)
    live.wait_log("2 workers serve")
    says = r"WARNING\] max_memory \(\d+\.\d MiB\) is less than the application needs: Worker .* MiB resident"
    with Load(live.port, paths=(path,)) as load:
        live.wait_log(says, 20)
        seen = len(load.answers)
        wait_until(lambda: len(load.answers) > seen + 150, 20, "workers that go on")
    assert load.losses == []
    assert len(re.findall("will be replaced", live.log())) <= replaced
    assert len(re.findall("is less than the application needs", live.log())) == 1
    if not replaced:
        live.send(signal.SIGHUP)
        live.wait_log("Reload complete")
        live.wait_log(says, count=2)
    assert live.stop() == 0


def test_slots_are_stable(server: StartServer) -> None:
    live = server("app", "-w", "3", source=versioned.good())
    workers = live.wait_workers(3)
    assert fetch(live.port).status == 200
    os.kill(workers[1], signal.SIGKILL)
    wait_until(lambda: workers[1] not in live.children() and len(live.children()) == 3, 5)
    titles = [
        pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
        for pid in (live.pid, *live.children())
    ]
    assert titles[0].startswith("wsgicluster: arbiter")
    wait_until(
        lambda: (
            sorted(
                int(found[1])
                for pid in live.children()
                if (found := re.match(rb"wsgicluster: worker (\d+)", pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()))
            )
            == [1, 2, 3]
        ),
        5,
        "slots 1 to 3",
    )


def test_idle_processes_sleep(server: StartServer) -> None:
    """An idle worker never wakes, an idle arbiter at most once in five seconds."""
    # Without a control socket: a wsgiclusterctl that looks for its server asks every one of this user.
    live = server("app", "-w", "2", "--no-control-socket", source=versioned.good())
    workers = live.wait_workers(2)
    assert fetch(live.port).status == 200

    def switches(pid: int) -> int:
        found = re.search(
            r"^voluntary_ctxt_switches:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
        )
        assert found
        return int(found[1])

    quiet_since = time.monotonic()
    last = [switches(pid) for pid in workers]

    def settled() -> bool:
        nonlocal last, quiet_since
        now = [switches(pid) for pid in workers]
        if now != last:
            last, quiet_since = now, time.monotonic()
        return time.monotonic() - quiet_since > 3

    wait_until(settled, 15, "idle workers stop waking")

    def sleeps() -> bool:
        # To wait for a lock of the kernel counts, too, and happens where other processes keep the machine busy.
        before, began = switches(live.pid), time.monotonic()
        wait_until(lambda: time.monotonic() - began > 6, 10)
        return switches(live.pid) - before <= 2

    assert any(sleeps() for _ in range(3))
    assert [switches(pid) for pid in workers] == last
