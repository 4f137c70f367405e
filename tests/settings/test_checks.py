"""What is computed from the settings and the machine."""

import dataclasses
import os
import pathlib
import pwd
import re
import sys

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Loaded, Settings, load, resolve
from wsgicluster.settings.diff import changed
from wsgicluster.settings.types.values import Automatic, FdAddress, MemoryShare, WorkerRange

SOMEBODY = next(entry for entry in pwd.getpwall() if entry.pw_uid != os.geteuid() and entry.pw_gid != os.getegid())
UNKNOWN = next(str(uid) for uid in range(54321, 60000) if uid not in {entry.pw_uid for entry in pwd.getpwall()})


def test_plain_numbers_stay() -> None:
    settings = Settings(workers=3, max_memory=5)
    assert resolve(settings, 8, 1 << 30) == settings


def test_automatic_workers() -> None:
    resolved = resolve(Settings(workers=Automatic()), 8, 1 << 30)
    assert resolved.workers == 8
    assert type(resolved.workers) is int


def test_share_of_memory_is_divided_by_the_workers() -> None:
    settings = Settings(workers=Automatic(), max_memory=MemoryShare(80), max_memory_jitter=7)
    resolved = resolve(settings, 4, 1000)
    assert resolved.max_memory == 200
    assert type(resolved.max_memory) is int
    assert dataclasses.replace(resolved, workers=settings.workers, max_memory=settings.max_memory) == settings
    assert resolve(Settings(workers=Automatic()), 4096, 1).workers == 500


def test_a_range_of_workers_counts_as_its_upper_bound_where_all_of_them_may_be_there() -> None:
    settings = Settings(workers=WorkerRange(2, 16), max_memory=MemoryShare(80))
    resolved = resolve(settings, 4, 1000)
    assert resolved.workers == WorkerRange(2, 16)
    assert resolved.max_memory == 50
    assert (resolved.workers_most, resolved.has_worker_range, resolved.workers + 1) == (16, True, 3)
    assert (Settings(workers=4).workers_most, Settings(workers=4).has_worker_range) == (4, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-w", "8..2"), "workers: '8..2'; expected a number from 1 to 500, a range such as 2..16, or auto"),
        (("-w", "2..4", "--min-ready", "3"), "min_ready: 3; expected at most the number of workers, which is 2"),
        (("-w", "2..4", "--weights", "3,2"), "weights: 3,2; expected one for each of 4 workers"),
    ],
)
def test_what_does_not_go_with_a_range(tmp_path: pathlib.Path, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        loaded(tmp_path, *arguments)


def test_a_range_from_any_source(tmp_path: pathlib.Path) -> None:
    assert loaded(tmp_path, "-w", "2..4", "--weights", "3,2,1,1").settings.weights == (3, 2, 1, 1)
    assert load(["app"], {"WEB_CONCURRENCY": "2..4"}, str(tmp_path)).settings.workers == WorkerRange(2, 4)
    (tmp_path / "wsgicluster.conf.py").write_text('workers = "3..5"\n')
    found = loaded(tmp_path).settings
    assert found.workers == WorkerRange(3, 5)
    assert changed(Settings(workers=3), found)["workers"] == "3 -> 3..5"
    assert "workers" not in changed(found, dataclasses.replace(found, workers=WorkerRange(3, 5)))


def loaded(folder: pathlib.Path, *arguments: str) -> Loaded:
    return load(["app", *arguments], {}, str(folder))


def test_a_user_comes_with_the_own_group(tmp_path: pathlib.Path) -> None:
    for name in (SOMEBODY.pw_name, str(SOMEBODY.pw_uid)):
        found = loaded(tmp_path, "-u", name)
        assert (found.settings.user, found.settings.group) == (SOMEBODY.pw_uid, SOMEBODY.pw_gid)
        assert found.sources["group"] == "the user's own group"
    assert loaded(tmp_path, "-u", SOMEBODY.pw_name, "-g", "54321").settings.group == 54321
    assert loaded(tmp_path, "-u", UNKNOWN, "-g", "54321").settings.group == 54321
    (tmp_path / "wsgicluster.conf.py").write_text(f"user = {SOMEBODY.pw_name!r}\n")
    assert loaded(tmp_path).settings.group == SOMEBODY.pw_gid


def test_without_another_user_the_group_is_the_current_one(tmp_path: pathlib.Path) -> None:
    for arguments in ([], ["-u", str(os.geteuid())]):
        found = loaded(tmp_path, *arguments)
        assert (found.settings.group, found.sources["group"]) == (os.getegid(), "default")


def test_a_user_without_a_group(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=f"^command line --user: group: not set; expected a group: user {UNKNOWN}"):
        loaded(tmp_path, "-u", UNKNOWN)


@pytest.mark.skipif(os.geteuid() != 0, reason="for others initgroups has no effect")
def test_groups_of_a_user_without_a_name(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match=r"^command line --initgroups: initgroups: true; expected a user with a name"):
        loaded(tmp_path, "-u", UNKNOWN, "-g", "54321", "--initgroups")
    assert loaded(tmp_path, "-u", SOMEBODY.pw_name, "--initgroups").settings.group == SOMEBODY.pw_gid


def test_reload_loads_in_each_worker(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, "--reload", "--preload")
    assert (found.settings.reload, found.settings.preload_app) == (True, False)
    assert found.sources["preload_app"] == "command line --reload (reload)"
    assert found.remarks == ("preload_app: turned off, because with reload each worker loads the application itself",)
    assert loaded(tmp_path, "--preload").settings.preload_app
    assert loaded(tmp_path, "--reload").remarks == ()


def test_threads_make_a_sync_worker_a_gthread_one(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, "--threads", "4")
    assert found.settings.worker_class == "gthread"
    assert found.sources["worker_class"] == "command line --threads (threads)"
    assert loaded(tmp_path, "--threads", "1").settings.worker_class == "sync"
    assert loaded(tmp_path, "--threads", "4", "-k", "gevent").settings.worker_class == "gevent"


def test_a_daemon_does_not_take_over_what_it_closes(tmp_path: pathlib.Path) -> None:
    assert loaded(tmp_path, "-D", "-b", "fd://3").settings.bind == (FdAddress(3),)
    assert loaded(tmp_path, "-b", "fd://0").settings.bind == (FdAddress(0),)
    for fd in range(3):
        with pytest.raises(UsageError, match="expected a descriptor above 2: a daemon"):
            loaded(tmp_path, "-D", "-b", f"fd://{fd}")


def test_what_may_be_stored_of_a_response_goes_beyond_what_waits_in_memory(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, "--response-buffer", "64K", "--response-spool", "64K").settings
    assert (found.response_buffer, found.response_spool) == (65536, 65536)
    assert loaded(tmp_path, "--response-spool", "0").settings.response_spool == 0
    with pytest.raises(UsageError, match=r"response_spool: 64M; expected response_buffer \(65M\) or more, or 0"):
        loaded(tmp_path, "--response-buffer", "65M")


def test_airflow_takes_each_child_for_a_worker(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "airflow" / "www").mkdir(parents=True)
    (tmp_path / "airflow" / "www" / "gunicorn_config.py").write_text("workers = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("airflow", "airflow.www", "airflow.www.gunicorn_config"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = loaded(tmp_path, "--preload", "-c", "python:airflow.www.gunicorn_config")
    assert not found.settings.preload_app
    assert found.sources["preload_app"] == "command line --config (config)"
    (remark,) = found.remarks
    assert remark.startswith("preload_app: turned off, because Airflow 2 takes each child of the server for a worker")
