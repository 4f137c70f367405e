"""Metrics that applications count with prometheus_client: joined over all processes that a server has ever had."""

import http.client
import os
import pathlib
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.prometheus import port_of, replaced, scrape, scrapes
from tests.live.test_totals import Reader, ask, connect, workers
from tests.live.test_upgrade import begin_upgrade

pytestmark = pytest.mark.live

APP = """
import os
from prometheus_client import Counter, Gauge, Histogram

LOADED = Counter("shop_loads", "How often the shop was loaded.")
LOADED.inc()
ORDERS = Counter("shop_orders", "Orders.", ["path"])
SIZES = Histogram("shop_order_size", "Sizes of orders.", buckets=(1.0, 10.0))
OPEN = Gauge("shop_workers_that_have_served", "Workers.", multiprocess_mode="livesum")

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/fork":
        child = os.fork()
        if not child:
            ORDERS.labels(path).inc()
            os._exit(0)
        os.waitpid(child, 0)
    else:
        ORDERS.labels(path).inc()
    SIZES.observe(5.0)
    OPEN.set(1.0)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def folders(live: LiveServer) -> list[pathlib.Path]:
    """Those of the metrics of this server, in the order of their making."""
    return sorted(live.folder.glob("wsgicluster-store-*/metrics-*"), key=lambda path: path.stat().st_ctime)


def wait_sample(port: int, name: str, value: float) -> None:
    def is_reached() -> bool:
        try:
            found.append(scrape(port).get(name))
        except (OSError, http.client.HTTPException):
            return False
        return found[-1] == value

    found: list[float | None] = []
    wait_until(is_reached, 20, f"{name} is {value}, not {found[-1:]}")


@pytest.fixture
def start(server: StartServer) -> Callable[..., LiveServer]:
    def begin(*arguments: str, source: str = APP, callable_name: str = "app", admin: bool = True, **others: Any) -> Any:
        # In a folder of the test's own, where no other server makes files.
        every = ("--app-metrics", "--worker-tmp-dir", ".", *(("--admin", "0") if admin else ()), *arguments)
        live = server(f"app:{callable_name}", *every, source=source, **others)
        live.wait_log("Started: ")
        return live

    return begin


@pytest.mark.parametrize(
    ("arguments", "rounds"),
    [
        (["-k", "sync"], 1),
        (["-k", "gthread"], 1),
        (["-k", "gevent"], 1),
        (["-k", "sync", "--preload"], 2),
        (["-k", "gevent", "--preload"], 1),
    ],
    ids=["sync", "gthread", "gevent", "sync-preload", "gevent-preload"],
)
def test_sums_are_exact_over_reloads_kills_and_scaling(
    start: Callable[..., LiveServer], arguments: list[str], rounds: int
) -> None:
    live = start("-w", "2", *arguments)
    port, sent = port_of(live), 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            assert ask(live, "/buy").endswith(b"ok")
        sent += count

    with connect(live) as connection, Reader(scrapes(port)) as scraper:
        for _ in range(rounds):
            send(6)
            connection.call("reload", {"wait": True, "timeout": 60})
            send(6)
            victim = min(workers(connection))
            os.kill(victim, signal.SIGKILL)
            wait_until(replaced(connection, victim, 2), 60, "another worker is ready")
        connection.call("scale", {"workers": 3, "wait": True, "timeout": 60})
        send(9)
        connection.call("scale", {"workers": 1, "wait": True, "timeout": 60})
        send(2)
        wait_sample(port, "shop_orders_total[('path', '/buy')]", sent)
        wait_sample(port, "shop_workers_that_have_served", 1.0)
        wait_until(lambda: scraper.readings > 1, 30, "it has scraped")
    assert scraper.errors == []
    assert scraper.falls == []
    found = scrape(port)
    assert found["shop_order_size_count"] == found["shop_order_size_bucket[('le', '10.0')]"] == sent
    assert found["shop_order_size_sum"] == 5.0 * sent
    preloaded = "--preload" in arguments
    # One for each generation; or two workers at first, and in each round two by the reload and one for that killed.
    loads = 1 + rounds if preloaded else 2 + 3 * rounds + 1
    assert found["shop_loads_total"] == loads
    (folder,) = folders(live)
    writers = {path.stem.rpartition("_")[2] for path in folder.iterdir()}
    # Two for each slot, since one worker replaces the other; and two molds.
    assert len(writers) <= 6 + 2 * preloaded, "not one more for each process"
    live.stop()
    assert not list(live.folder.glob("wsgicluster-store-*"))


def test_processes_that_the_application_forks_count_for_themselves(start: Callable[..., LiveServer]) -> None:
    live = start("-w", "1")
    for path in ("/fork", "/buy", "/fork", "/buy"):
        assert ask(live, path).endswith(b"ok")
    found = scrape(port_of(live))
    assert found["shop_orders_total[('path', '/fork')]"] == 2.0
    assert found["shop_orders_total[('path', '/buy')]"] == 2.0
    assert found["shop_order_size_count"] == 4.0


def test_a_view_of_the_application_can_show_all_of_them(start: Callable[..., LiveServer]) -> None:
    """Without the admin worker, and those of the jobs worker, too."""
    live = start(
        "-w", "2", "--jobs-worker", source=APP + """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from wsgicluster import cluster

JOBS = Counter("shop_jobs", "Jobs.")

@cluster.every(0.1)
def count():
    JOBS.inc()

def view(environ, start_response):
    if environ["PATH_INFO"] != "/metrics":
        return app(environ, start_response)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    body = generate_latest(registry)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
""", callable_name="view", admin=False,
    )  # fmt: skip
    for _ in range(8):
        assert ask(live, "/buy").endswith(b"ok")
    assert b'\nshop_orders_total{path="/buy"} 8.0\n' in ask(live, "/metrics")
    wait_until(lambda: re.search(rb"\nshop_jobs_total [1-9]", ask(live, "/metrics")), 20, "a job has run")


def test_an_upgrade_begins_anew_in_a_folder_of_its_own(start: Callable[..., LiveServer]) -> None:
    live = start("-w", "1")
    port = port_of(live)
    assert ask(live, "/buy").endswith(b"ok")
    (old,) = folders(live)
    new = begin_upgrade(live)
    assert len(folders(live)) == 2
    live.stop()
    wait_until(lambda: old not in folders(live), 20, "the old folder is removed")
    assert ask(live, "/buy").endswith(b"ok")
    wait_sample(port, "shop_orders_total[('path', '/buy')]", 1.0)
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not live.members(), 20, "the new server has exited")
    assert not list(live.folder.glob("wsgicluster-store-*"))


def test_a_folder_that_the_user_has_named_is_left_alone(
    start: Callable[..., LiveServer], tmp_path: pathlib.Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    live = start("-w", "1", environ={"PROMETHEUS_MULTIPROC_DIR": str(mine)})
    assert ask(live, "/buy").endswith(b"ok")
    assert scrape(port_of(live))["shop_orders_total[('path', '/buy')]"] == 1.0
    assert list(mine.iterdir()) == []
    assert f"app_metrics: workers keep their metrics in a folder of the server's, and not in {mine}" in live.whole_log()


def test_damage_is_logged_once_and_hides_nothing_else(start: Callable[..., LiveServer]) -> None:
    live = start("-w", "1", source=APP.replace('"shop_loads"', '"wsgicluster_loads"'))
    assert ask(live, "/buy").endswith(b"ok")
    (folder,) = folders(live)
    (folder / "counter_9-9.db").write_bytes(b"\xff\xff\x00\x00" + b"\x7f" * 60)
    (folder / "notes.db").write_bytes(b"x")
    for _ in range(2):
        found = scrape(port_of(live))
        assert found["shop_orders_total[('path', '/buy')]"] == 1.0
        assert "wsgicluster_loads_total" not in found
        assert found["wsgicluster_workers_wanted"] == 1.0
    log = live.whole_log()
    assert len(re.findall(r"app_metrics: .*counter_9-9\.db is damaged, and its metrics are not shown", log)) == 1
    assert len(re.findall(r"app_metrics: .*notes\.db is damaged", log)) == 1
    assert len(re.findall("app_metrics: the application's metric wsgicluster_loads is not shown", log)) == 1


def test_a_reload_turns_it_on_and_off(server: StartServer, tmp_path: pathlib.Path) -> None:
    conf = tmp_path / "conf.py"
    conf.write_text("app_metrics = False\n")
    live = server("app:app", "-c", "conf.py", "--admin", "0", "--worker-tmp-dir", ".", source=APP)
    live.wait_log("Started: ")
    port = port_of(live)
    with connect(live) as connection:
        for is_on in (True, False, True):
            conf.write_text(f"app_metrics = {is_on}\n")
            connection.call("reload", {"wait": True, "timeout": 60})
            assert ask(live, "/buy").endswith(b"ok")
            wait_until(lambda: ("shop_loads_total" in scrape(port)) == is_on, 20, f"on: {is_on}")  # noqa: B023
    assert scrape(port)["shop_orders_total[('path', '/buy')]"] == 2.0, "those counted while it was on"
