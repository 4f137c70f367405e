"""The files of the shared state: private, handed from server to server, and removed by the last of them."""

import os
import pathlib
import subprocess
import sys

import pytest

from wsgicluster.errors import ServerError
from wsgicluster.ipc.shared_files import FOLDER_PREFIX, PassedFiles, SharedFilesOwner


def folders(place: pathlib.Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_the_folder_is_private_and_removed_at_the_end(tmp_path: pathlib.Path) -> None:
    owner = SharedFilesOwner.create(str(tmp_path))
    folder = pathlib.Path(owner.files.folder)
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "store.db").write_bytes(b"x")
    owner.close()
    assert folders(tmp_path) == []


@pytest.mark.usefixtures("no_collection")
def test_every_descriptor_is_closed_at_the_end(tmp_path: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        owner = SharedFilesOwner.create(str(tmp_path))
        with owner.passed():
            pass
        owner.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServerError, match="worker_tmp_dir: cannot make the files of the shared state"):
        SharedFilesOwner.create(str(tmp_path / "none"))


def _taken_over(passed: PassedFiles) -> SharedFilesOwner:
    """What a new server makes of it, with descriptors of its own."""
    counters_fd, locks_fd, lease_fd = map(os.dup, (passed.counters_fd, passed.locks_fd, passed.lease_fd))
    return SharedFilesOwner.adopt(
        PassedFiles(counters_fd, locks_fd, lease_fd, passed.folder, passed.format),
        str(pathlib.Path(passed.folder).parent),
    )


@pytest.mark.parametrize("first", ["old", "new"])
def test_the_last_of_two_servers_removes_the_folder(tmp_path: pathlib.Path, first: str) -> None:
    old = SharedFilesOwner.create(str(tmp_path))
    with old.passed() as passed:
        new = _taken_over(passed)
    assert new.files.folder == old.files.folder
    assert new.files.instance != old.files.instance
    order = [old, new] if first == "old" else [new, old]
    order[0].close()
    assert len(folders(tmp_path)) == 1
    order[1].close()
    assert folders(tmp_path) == []


def test_files_of_another_format_are_left_alone(tmp_path: pathlib.Path) -> None:
    old = SharedFilesOwner.create(str(tmp_path))
    with old.passed() as passed:
        other = PassedFiles(passed.counters_fd, passed.locks_fd, passed.lease_fd, passed.folder, format=0)
        new = _taken_over(other)
    assert new.files.folder != old.files.folder
    new.close()
    assert folders(tmp_path) == [pathlib.Path(old.files.folder).name]
    old.close()


def test_what_a_killed_server_has_left_is_removed_by_the_next_and_what_is_in_use_stays(tmp_path: pathlib.Path) -> None:
    code = (
        "import os, signal, sys\nfrom wsgicluster.ipc.shared_files import SharedFilesOwner\n"
        "SharedFilesOwner.create(sys.argv[1])\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    [left] = folders(tmp_path)
    assert left.startswith(FOLDER_PREFIX)
    (tmp_path / f"{FOLDER_PREFIX}file").write_text("not a folder")
    one = SharedFilesOwner.create(str(tmp_path))
    assert left not in folders(tmp_path)
    other = SharedFilesOwner.create(str(tmp_path))
    assert os.path.isdir(one.files.folder)
    for owner in (one, other):
        owner.close()
    assert folders(tmp_path) == [f"{FOLDER_PREFIX}file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_store_belongs_to_the_user_of_the_workers(tmp_path: pathlib.Path) -> None:
    owner = SharedFilesOwner.create(str(tmp_path))
    folder = pathlib.Path(owner.files.folder)
    target = tmp_path / "of root"
    target.write_text("x")
    (folder / "store.db").write_text("x")
    (folder / "link").symlink_to(target)
    (folder / "hard").hardlink_to(target)
    owner.give_to(65534, 65534)
    assert folder.stat().st_uid == (folder / "store.db").stat().st_uid == 65534
    assert target.stat().st_uid == 0
    owner.close()
