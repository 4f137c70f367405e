"""The folder of an application's metrics: private, its user's, and who is in it under what name."""

import logging
import os
import pathlib
from collections.abc import Iterator

import pytest

from wsgicluster.errors import ServerError
from wsgicluster.ipc import app_metrics
from wsgicluster.ipc.app_metrics import AppMetricsFolder, writer_name
from wsgicluster.ipc.shared_files import SharedFilesOwner

LOG = logging.getLogger("test")


@pytest.fixture
def shared(tmp_path: pathlib.Path) -> Iterator[SharedFilesOwner]:
    owner = SharedFilesOwner.create(str(tmp_path))
    yield owner
    owner.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(shared: SharedFilesOwner) -> Iterator[AppMetricsFolder]:
    found = AppMetricsFolder(shared.files, LOG)
    yield found
    found.close()


def prepare(folder: AppMetricsFolder) -> pathlib.Path:
    folder.prepare(os.geteuid(), os.getegid())
    return pathlib.Path(folder.path)


def test_it_is_made_when_it_is_wanted_and_is_private(folder: AppMetricsFolder) -> None:
    assert not os.path.exists(folder.path)
    made = prepare(folder)
    assert made.stat().st_mode & 0o777 == 0o700
    (made / "counter_1-1.db").write_bytes(b"x")
    prepare(folder)
    assert (made / "counter_1-1.db").exists(), "a reload keeps what is in it"
    folder.close()
    assert not made.exists()
    folder.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_user_gets_it_with_the_files_of_the_one_before(folder: AppMetricsFolder) -> None:
    made = prepare(folder)
    (made / "counter_1-1.db").write_bytes(b"x")
    (made / "link").symlink_to("/etc/hostname")
    folder.prepare(65534, 65534)
    assert {made.stat().st_uid, (made / "counter_1-1.db").stat().st_uid} == {65534}
    assert os.stat("/etc/hostname").st_uid == 0


def test_only_gauges_of_the_living_end_with_a_process(folder: AppMetricsFolder) -> None:
    folder.forget_living(1, 1)  # before there is anything
    made = prepare(folder)
    kept = [
        "counter_1-1.db",
        "gauge_sum_1-1.db",
        "gauge_livesum_1-11.db",
        "gauge_livesum_11-1.db",
        "gauge_liveall_2-1.db",
    ]
    for name in (*kept, "gauge_livesum_1-1.db", "gauge_liveall_1-1.db", "gauge_livemax_1-1-4711.db"):
        (made / name).write_bytes(b"x")
    folder.forget_living(1, 1)
    assert sorted(path.name for path in made.iterdir()) == sorted(kept)


def test_a_folder_that_cannot_be_made_is_an_error_with_its_remedy(folder: AppMetricsFolder) -> None:
    folder.path = "/proc/none/metrics"
    with pytest.raises(ServerError, match=r"app_metrics: cannot make the folder /proc/none/metrics: .*worker_tmp_dir"):
        prepare(folder)


def test_a_folder_of_the_users_is_named_once(
    folder: AppMetricsFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(app_metrics.VARIABLE, "/mine")
    for _ in range(2):
        prepare(folder)
    (record,) = caplog.records
    assert record.getMessage() == (
        "app_metrics: workers keep their metrics in a folder of the server's, and not in /mine, which "
        "PROMETHEUS_MULTIPROC_DIR names"
    )


def test_a_name_is_no_pid_and_has_no_underscore() -> None:
    assert not writer_name(3, 7).isdecimal(), "a program that a worker starts names its files after its pid"
    assert "_" not in writer_name(3, 7), "prometheus_client splits names of files there"
    assert writer_name(1, 11) != writer_name(11, 1)
