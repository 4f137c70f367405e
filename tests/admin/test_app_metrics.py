"""The application's metrics among those of the server: joined, and whatever is wrong with them in their place."""

import json
import logging
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

from tests.admin.test_metrics import OWN, status, values, worker
from wsgicluster.admin.app_metrics import AppMetrics
from wsgicluster.admin.exposition import expose

LOG = logging.getLogger("test")


def write(path: pathlib.Path, *series: tuple[str, str, dict[str, str], float]) -> None:
    """A file as prometheus_client makes it: for each series names of metric and sample, labels and value."""
    body = b""
    for metric, name, labels, value in series:
        key = json.dumps([metric, name, labels, "Of the application."]).encode()
        body += struct.pack("i", len(key)) + key + b" " * (8 - (len(key) + 4) % 8) + struct.pack("dd", value, 0.0)
    path.write_bytes(struct.pack("ii", 8 + len(body), 0) + body + bytes(1000))


def shown(folder: pathlib.Path, accept: str = "") -> str:
    _, body, _ = expose(status(worker(1)), OWN, accept, "", AppMetrics(str(folder), LOG))
    return body.decode()


def of_application(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("#", "wsgicluster_"))]


def test_they_are_the_sums_of_all_files(tmp_path: pathlib.Path) -> None:
    for name, value in (("1-1", 2.0), ("1-3", 3.0), ("2-2", 4.0)):
        write(tmp_path / f"counter_{name}.db", ("sold", "sold_total", {"what": "tea"}, value))
        write(tmp_path / f"gauge_livemax_{name}.db", ("queue", "queue", {}, value))
    assert of_application(shown(tmp_path)) == ['sold_total{what="tea"} 9.0', "queue 4.0"]
    assert len(values(status(worker(1)))) > 50, "beside the server's own"


def test_openmetrics_has_them_too(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "counter_1-1.db", ("sold", "sold_total", {}, 2.0))
    text = shown(tmp_path, "application/openmetrics-text")
    assert "\nsold_total 2.0\n" in text
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_what_is_damaged_is_left_out_and_logged_once(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    write(tmp_path / "counter_1-1.db", ("sold", "sold_total", {}, 2.0))
    (tmp_path / "counter_1-2.db").write_bytes(b"\x10")
    (tmp_path / "counter_1-3.db").write_bytes(struct.pack("ii", 900, 0) + b"\x7f" * 900)
    (tmp_path / "gauge.db").write_bytes(bytes(900))
    (tmp_path / "counter_1-4.db").write_bytes(b"")  # just made
    (tmp_path / "notes.txt").write_bytes(b"x")
    app = AppMetrics(str(tmp_path), LOG)
    for _ in range(2):
        _, body, _ = expose(status(worker(1)), OWN, accept, "", app)
        assert "\nsold_total 2.0\n" in body.decode()
        assert "wsgicluster_generation 2.0" in body.decode()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(set(told)) == 2
    assert {re.findall(r"[^/]*\.db", each)[0] for each in told} == {"counter_1-2.db", "counter_1-3.db"}
    assert all("is damaged, and its metrics are not shown" in each for each in told)


def test_names_of_the_servers_are_its_own(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    write(
        tmp_path / "counter_1-1.db",
        ("wsgicluster_reloads", "wsgicluster_reloads_total", {}, 2.0),
        ("b", "b_total", {}, 1.0),
    )
    text = shown(tmp_path)
    assert of_application(text) == ["b_total 1.0"]
    assert text.count("# TYPE wsgicluster_reloads_total counter") == 1
    (record,) = caplog.records
    assert "the application's metric wsgicluster_reloads is not shown: names with wsgicluster_" in record.getMessage()


def test_what_a_format_cannot_say_does_not_hide_the_servers(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    # OpenMetrics knows no counter whose sample is not called so.
    write(tmp_path / "counter_1-1.db", ("sold", "sold_twice", {}, 2.0))
    assert "sold_twice 2.0" in shown(tmp_path)
    text = shown(tmp_path, "application/openmetrics-text")
    assert "wsgicluster_generation 2.0" in text or "sold_twice" in text
    assert text.endswith("# EOF\n")


def test_a_folder_that_is_gone_is_logged(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    assert of_application(shown(tmp_path / "gone")) == []
    (record,) = caplog.records
    assert record.getMessage() == f"app_metrics: {tmp_path}/gone cannot be read: No such file or directory"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing(tmp_path: pathlib.Path) -> None:
    for name in ("1-1", "2-2"):
        write(tmp_path / f"counter_{name}.db", ("sold", "sold_total", {"what": "tea"}, 2.0))
        write(tmp_path / f"gauge_all_{name}.db", ("open_tills", "open_tills", {}, 1.0))
        write(
            tmp_path / f"histogram_{name}.db",
            *(("wait_seconds", "wait_seconds_bucket", {"le": bound}, 1.0) for bound in ("0.5", "+Inf")),
            ("wait_seconds", "wait_seconds_sum", {}, 3.5),
        )
    text = shown(tmp_path)
    assert 'wait_seconds_bucket{le="+Inf"} 4.0' in text
    assert 'open_tills{pid="2-2"} 1.0' in text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
