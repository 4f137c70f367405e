"""Where values of metrics are kept, that there is room for them, and what happens without."""

import errno
import os
import pathlib
import sys
from typing import Any
from unittest import mock

import pytest
from prometheus_client import Counter, Gauge, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import CollectorRegistry

from wsgicluster.errors import BootError
from wsgicluster.ipc import app_metrics as standing
from wsgicluster.worker.lifecycle import app_metrics


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A process without such metrics until the test begins them, and again behind it."""
    monkeypatch.setenv(standing.VARIABLE, "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(standing, "_writer", type(standing._writer)())
    return tmp_path


def become(folder: pathlib.Path | str, slot: int, page: int) -> None:
    app_metrics.begin(mock.Mock(app_metrics=str(folder), slot=slot, page=mock.Mock(index=page)))


def joined(folder: pathlib.Path) -> dict[str, float]:
    families = MultiProcessCollector.merge([str(path) for path in folder.iterdir()])  # type: ignore[no-untyped-call]
    return {sample.name: sample.value for family in families for sample in family.samples}


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_without_the_setting_nothing_changes(folder: pathlib.Path) -> None:
    before = values.ValueClass
    become("", 1, 1)
    app_metrics.install()
    assert values.ValueClass is before
    assert list(folder.iterdir()) == []


def test_the_next_process_of_a_page_continues_to_count(folder: pathlib.Path) -> None:
    for count in (1, 2):
        become(folder, 1, 3)
        app_metrics.install()
        Counter("sold", "Sold.", registry=CollectorRegistry()).inc(2)
        assert joined(folder) == {"sold_total": 2.0 * count}
    assert [path.name for path in folder.iterdir()] == ["counter_1-3.db"]


def test_what_a_mold_has_made_is_counted_in_the_files_of_each_worker(folder: pathlib.Path) -> None:
    become(folder, 0, 1)
    app_metrics.install()
    counter = Counter("sold", "Sold.", registry=CollectorRegistry())
    counter.inc()
    for page in (2, 3):
        become(folder, page - 1, page)
        counter.inc()
    assert joined(folder) == {"sold_total": 3.0}
    assert sorted(path.name for path in folder.iterdir()) == ["counter_0-1.db", "counter_1-2.db", "counter_2-3.db"]


def test_a_process_that_the_application_has_forked_is_another_one(folder: pathlib.Path) -> None:
    become(folder, 1, 2)
    assert standing.process_name() == "1-2"
    standing._note_fork()
    assert standing.process_name() == f"1-2-{os.getpid()}"


def test_all_that_is_used_of_a_file_has_been_reserved(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = [0]
    reserve = os.posix_fallocate

    def noted(descriptor: int, offset: int, size: int) -> None:
        reserve(descriptor, offset, size)
        reserved.append(offset + size)

    monkeypatch.setattr(os, "posix_fallocate", noted)
    become(folder, 1, 2)
    app_metrics.install()
    counter = Counter("sold", "x" * 300, ["what"], registry=CollectorRegistry())
    path = folder / "counter_1-2.db"
    for number in range(500):
        counter.labels(f"thing {number}").inc()
        with path.open("rb") as file:
            used = int.from_bytes(file.read(4), sys.byteorder)
        assert used <= max(reserved) <= path.stat().st_size
    assert joined(folder) == {"sold_total": 1.0}
    assert used > 150_000, "the file has grown more than once"


def test_without_room_a_value_is_the_processs_own_and_the_log_says_so_once(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = mock.Mock()
    monkeypatch.setattr(app_metrics, "_log", log)
    become(folder, 1, 2)
    app_metrics.install()
    shown = Counter("sold", "Sold.", registry=CollectorRegistry())
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    hidden: list[Any] = [Gauge(f"new{number}", "New.", registry=CollectorRegistry()) for number in range(2)]
    shown.inc()
    for gauge in hidden:
        gauge.set(5)
        assert gauge._value.get() == 5
    assert joined(folder) == {"sold_total": 1.0}
    ((text, *values),) = (call.args for call in log.error.call_args_list)
    assert text % tuple(values) == (
        f"app_metrics: no room in {folder}: No space left on device; new metrics of pid {os.getpid()} are not shown; "
        "name a folder with room in worker_tmp_dir"
    )


def test_a_worker_of_a_mold_boots_only_with_room_for_what_that_has_made(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(folder, 0, 1)
    app_metrics.install()
    Counter("sold", "Sold.", registry=CollectorRegistry())
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(BootError, match=r"app_metrics: no room in .*: No space left on device; name a folder"):
        become(folder, 1, 2)
