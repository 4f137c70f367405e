"""A real Prometheus that scrapes a server: what it sums up is what was sent, over reloads and kills."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartServer, find_free_ports, wait_until
from tests.live.test_totals import APP, Sender, connect, workers

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]


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


def test_sums_are_what_was_sent_over_reloads_and_kills(server: StartServer, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("prometheus_client", reason="--admin needs prometheus-client")
    live = server("app:app", "-w", "2", "--admin", "0", source=APP)
    live.wait_log("2 workers serve")
    live.wait_log(r"Admin worker at: http://")
    target = re.findall(r"Admin worker at: http://(127\.0\.0\.1:\d+)", live.log())[-1]
    with prometheus(tmp_path / "prometheus", target) as observer, connect(live) as connection:
        sender, rounds = Sender(live, connection), 3
        wait_until(lambda: observer.query("up") and all(observer.query("up").values()), 60, "the first scrape")
        for _ in range(rounds):
            sender.send(1)
            connection.call("reload", {"wait": True, "timeout": 60})
            sender.send(1)
            victim = min(workers(connection))
            os.kill(victim, signal.SIGKILL)
            wait_until(
                lambda: victim not in (now := workers(connection)) and list(now.values()) == ["ready"] * 2,  # noqa: B023
                60,
                "another worker is ready",
            )
        sender.send(1)

        def sums() -> dict[str, float]:
            found = observer.query("sum by (code) (wsgicluster_requests_total)")
            return {code: value for code, value in found.items() if value}

        wait_until(lambda: sums() == dict(sender.sent), 60, f"{sender.sent} requests are counted")
        total = float(sender.sent.total())
        for query, value in {
            "sum(wsgicluster_request_duration_seconds_count)": total,
            "sum(wsgicluster_application_duration_seconds_count)": total,
            "sum(wsgicluster_request_queue_seconds_count)": total,
            'sum(wsgicluster_request_failures_total{reason=~"exception|bad_iterable"})': float(sender.failed),
            'sum(wsgicluster_worker_exits_total{reason=~"killed_from_outside|out_of_memory"})': float(rounds),
            'sum(wsgicluster_reloads_total{result="complete"})': float(rounds),
        }.items():
            wait_until(lambda: observer.query(query) == {"": value}, 60, f"{query} is {value}")  # noqa: B023
        # What a counter that falls would make of rates.
        for name in (
            "requests_total",
            "request_duration_seconds_count",
            "worker_exits_total",
            "worker_cpu_seconds_total",
        ):
            assert observer.query(f"sum(resets(wsgicluster_{name}[1h]))") == {"": 0.0}, name
