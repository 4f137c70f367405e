"""Workers whose arbiter was killed: they notice at once, finish, and leave the address to the next server."""

import pathlib
import signal
import time

import pytest

from tests.apps import versioned
from tests.conftest import StartServer, wait_until
from tests.live.client import Connection, fetch

pytestmark = pytest.mark.live

KINDS = pytest.mark.parametrize(
    "kind",
    [("-k", "sync"), ("-k", "sync", "--preload"), ("-k", "gthread", "--threads", "2"), ("-k", "gevent")],
    ids=["sync", "preload", "gthread", "gevent"],
)


@KINDS
def test_requests_are_finished_and_the_address_is_free(
    server: StartServer, tmp_path: pathlib.Path, kind: tuple[str, ...]
) -> None:
    """A request that never ends is cut at the end of graceful_timeout, although nobody is there to do it."""
    live = server("tests.apps.basic", "-w", "2", "--graceful-timeout", "4", *kind)
    live.wait_log("2 workers serve")
    quick, endless = tmp_path / "quick", tmp_path / "endless"
    with Connection(live.port) as first, Connection(live.port) as second, Connection(live.port) as idle:
        assert idle.exchange("/").status == 200
        first.ask(f"/hold{quick}")
        wait_until(quick.exists, 5)
        second.ask(f"/mark/{endless}/60")
        wait_until(endless.exists, 5)
        live.send(signal.SIGKILL)
        live.wait_end()
        noticed = time.monotonic() + 0.5
        wait_until(lambda: time.monotonic() > noticed, 5, "the workers had time to notice")
        pathlib.Path(f"{quick}.go").touch()
        response = first.response()
        assert response.status == 200
        assert response.closes
        wait_until(lambda: live.members() == [], 10, "all have left")
    again = server("tests.apps.basic", "-w", "1", *kind, bind=f"127.0.0.1:{live.port}")
    again.wait_log("1 worker serves")
    assert fetch(again.port).status == 200
    assert again.stop() == 0


@pytest.mark.parametrize("extra", [(), ("--preload",)], ids=["each", "preload"])
def test_those_that_boot_leave_at_once(server: StartServer, extra: tuple[str, ...]) -> None:
    live = server("app", "-w", "2", *extra, source="open('begun', 'w').close()\n" + versioned.good(boot_s=60))
    wait_until((live.folder / "begun").exists, 10, "the import has begun")
    live.send(signal.SIGKILL)
    live.wait_end()
    wait_until(lambda: live.members() == [], 5, "all have left")
