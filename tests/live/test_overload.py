"""Requests that wait for longer than ``queue_timeout``: answered 503 and not run, in every kind of worker."""

import pathlib
import re
import time
from collections.abc import Callable

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import Connection, Patron, Response, fetch

pytestmark = pytest.mark.live

SOURCE = """
import os, time

def application(environ, start_response):
    path = environ["PATH_INFO"]
    environ["wsgi.errors"].write(f"running {path}\\n")
    while path.startswith("/hold") and not os.path.exists("release"):
        time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [path.encode()]
"""


def refused(response: Response) -> bool:
    return response.status == 503 and response.closes and response.headers["retry-after"] in ("1", "2")


def not_run(live: LiveServer) -> int:
    return sum(int(count) for count in re.findall(r"worker 1: overloaded: (\d+) request", live.log()))


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_busy_sync_worker(server: StartServer, tmp_path: pathlib.Path, pure: str) -> None:
    live = server(
        "app", "--queue-timeout", "1", "--log-level", "debug", source=SOURCE, environ={"WSGICLUSTER_PURE": pure}
    )
    live.wait_log("is ready")
    with Connection(live.port) as busy, Patron(lambda: Connection(live.port)) as patron, Connection(live.port) as new:
        assert patron.exchange("/kept")[0].status == 200
        kept = patron.connection
        busy.ask("/hold")
        live.wait_log("running /hold")
        kept.ask("/late-kept")
        new.ask("/late-new", extra="Connection: close\r\n")
        with Connection(live.port) as leaving:
            leaving.ask("/left")
        wait_until(after(1.1), 5)
        (tmp_path / "release").touch()
        assert busy.response().status == 200
        assert refused(kept.response())
        assert refused(new.response())
    wait_until(lambda: not_run(live) == 3, 5)
    live.wait_log(r"requests? not run after having waited for more than 1 s \(queue_timeout\)")
    live.wait_log("has left while its request waited")
    for path in ("/late-kept", "/late-new", "/left"):
        assert not live.said(f"running {path}")
    assert fetch(live.port, "/again").status == 200


def test_a_full_pool_of_threads(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("app", "--threads", "2", "--queue-timeout", "1", "--request-id", "make", source=SOURCE)
    live.wait_log("is ready")
    with Connection(live.port) as one, Connection(live.port) as other, Connection(live.port) as late:
        one.ask("/hold/1")
        other.ask("/hold/2")
        live.wait_log("running /hold", count=2)
        with Connection(live.port) as leaving:
            leaving.ask("/left")
        late.ask("/late")
        # It need not wait for a thread to hear that it waits in vain.
        answer = late.response()
        assert refused(answer)
        assert len(answer.headers["x-request-id"]) == 32
        (tmp_path / "release").touch()
        assert one.response().status == other.response().status == 200
        assert one.exchange("/again").status == 200
    wait_until(lambda: not_run(live) == 2, 5)
    assert not live.said("running /l")


def test_greenlets_wait_for_nobody(server: StartServer, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("gevent")
    live: LiveServer = server("app", "-k", "gevent", "--queue-timeout", "1", source=SOURCE)
    live.wait_log("is ready")
    with Connection(live.port) as one, Connection(live.port) as other:
        one.ask("/hold")
        live.wait_log("running /hold")
        assert other.exchange("/quick").status == 200
        (tmp_path / "release").touch()
        assert one.response().status == 200
