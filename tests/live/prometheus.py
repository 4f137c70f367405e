"""A server as those see it who scrape it: a client without a pause, and a real Prometheus, over reloads and kills."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import LiveServer, find_free_ports, wait_until
from tests.live.test_totals import APP, Reader, Sender, connect, workers

_RISING = re.compile(r".*_(total|bucket|count|sum)")


def scrape(port: int) -> dict[str, float]:
    """All samples by name and labels; OSError or HTTPException while the admin worker is replaced."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode()
    if response.status != 200:
        raise OSError(text)
    return {
        f"{each.name}{sorted(each.labels.items()) or ''}": each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def scrapes(port: int) -> Iterator[dict[str, float] | None]:
    """The counters of one scrape after the other; None while the admin worker is replaced."""
    while True:
        try:
            found = scrape(port)
        except (OSError, http.client.HTTPException):
            yield None
        else:
            yield {name: value for name, value in found.items() if _RISING.fullmatch(name.partition("[")[0])}


def port_of(live: LiveServer) -> int:
    live.wait_log(r"Admin worker \(pid \d+, generation \d+\) is ready")
    return int(re.findall(r"Admin worker at: http://127\.0\.0\.1:(\d+)", live.whole_log())[-1])


def replaced(connection: Any, victim: int, count: int) -> Callable[[], bool]:
    def is_done() -> bool:
        now = workers(connection)
        return victim not in now and list(now.values()) == ["ready"] * count

    return is_done


class Prometheus:
    """One that runs; ``url`` is where it answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=20) as response:
            found: bytes = response.read()
            return found

    def is_ready(self) -> bool:
        try:
            return bool(self.get("/-/ready"))
        except (urllib.error.URLError, OSError):
            return False

    def wait_for(self, text: str, values: Mapping[str, float]) -> None:
        """Wait until the values of a query are these. Raises AssertionError with what they are instead, and why."""
        try:
            wait_until(lambda: self.query(text) == values, 30, text)
        except AssertionError:
            [target] = json.loads(self.get("/api/v1/targets"))["data"]["activeTargets"]
            found, error = self.query(text), target["lastError"]
            raise AssertionError(f"{text} is {found}, not {dict(values)}; last error: {error!r}") from None

    def query(self, text: str) -> dict[str, float]:
        """The values of a query by their labels, joined."""
        body: Any = json.loads(self.get(f"/api/v1/query?{urllib.parse.urlencode({'query': text})}"))
        return {" ".join(each["metric"].values()): float(each["value"][1]) for each in body["data"]["result"]}


@contextlib.contextmanager
def prometheus(folder: pathlib.Path, target: str) -> Iterator[Prometheus]:
    """One with a folder and a port of its own, which scrapes this address twice a second."""
    folder.mkdir()
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [{"job_name": "wsgicluster", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    (port,) = find_free_ports(1)
    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            found = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: found.is_ready() or process.poll() is not None, 60, "Prometheus is ready")
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            yield found
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


ARGUMENTS = ("app:app", "-w", "2", "--admin", "0", "--app-metrics")
COUNTING = (
    APP.replace("def app(", "def inner(")
    + """
from prometheus_client import Counter
SEEN = Counter("shop_requests", "Requests that the application has seen.")
def app(environ, start_response):
    SEEN.inc()
    return inner(environ, start_response)
"""
)
RISING = (
    "wsgicluster_requests_total", "wsgicluster_request_duration_seconds_count", "wsgicluster_worker_exits_total",
    "wsgicluster_worker_cpu_seconds_total", "shop_requests_total",
)  # fmt: skip


def sums_of(sender: Sender, rounds: int) -> dict[str, float]:
    """What queries have to result in."""
    total = float(sender.sent.total())
    return {
        "sum(wsgicluster_request_duration_seconds_count)": total,
        "sum(wsgicluster_application_duration_seconds_count)": total,
        "sum(wsgicluster_request_queue_seconds_count)": total,
        "sum(shop_requests_total)": total,
        'sum(wsgicluster_request_failures_total{reason=~"exception|bad_iterable"})': float(sender.failed),
        'sum(wsgicluster_worker_exits_total{reason=~"killed_from_outside|out_of_memory"})': float(rounds),
        'sum(wsgicluster_reloads_total{result="complete"})': float(rounds),
    }


def go_through(live: LiveServer, rounds: int) -> Sender:
    """So many reloads and kills, with requests before and behind each; who has sent them."""
    with connect(live) as connection:
        sender = Sender(live, connection)
        for _ in range(rounds):
            sender.send(1)
            connection.call("reload", {"wait": True, "timeout": 60})
            sender.send(1)
            victim = min(workers(connection))
            os.kill(victim, signal.SIGKILL)
            wait_until(replaced(connection, victim, 2), 60, "another worker is ready")
        sender.send(1)
    return sender


def check_sums(live: LiveServer, folder: pathlib.Path, rounds: int) -> str:
    """So many reloads and kills of a server with `ARGUMENTS` and `COUNTING`; what was sent and read, in words.

    Raises AssertionError where a sum is another one than what was sent, or has fallen for a reader.
    """
    live.wait_log("2 workers serve")
    port = port_of(live)
    with prometheus(folder, f"127.0.0.1:{port}") as observer:
        wait_until(lambda: observer.query("up") and all(observer.query("up").values()), 60, "the first scrape")
        with Reader(scrapes(port)) as scraper:
            sender = go_through(live, rounds)
        observer.wait_for("sum by (code) (wsgicluster_requests_total > 0)", dict(sender.sent))
        for query, value in sums_of(sender, rounds).items():
            observer.wait_for(query, {"": value})
        # What a counter that falls would make of rates.
        for name in RISING:
            found = observer.query(f"sum(resets({name}[1h]))")
            assert found == {"": 0.0}, f"resets of {name}: {found}"
    assert not scraper.errors + scraper.falls, f"a reader has seen {scraper.errors}, and fall: {scraper.falls}"
    assert scraper.readings > rounds, f"{scraper.readings} scrapes"
    return f"{sender.sent.total()} requests, {scraper.readings} scrapes without a pause, no value that falls"
