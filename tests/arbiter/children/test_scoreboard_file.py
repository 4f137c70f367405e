"""Where the scoreboard's file goes."""

import logging
import pathlib

import pytest

from wsgicluster.arbiter.children.scoreboard_file import IN_MEMORY, SHARED_MEMORY, open_scoreboard
from wsgicluster.errors import ServerError
from wsgicluster.system import filesystems

LOG = logging.getLogger("tests.scoreboard_file")


def test_in_memory_where_that_is_shared(caplog: pytest.LogCaptureFixture) -> None:
    if filesystems.file_system(SHARED_MEMORY) not in IN_MEMORY:
        pytest.skip("this system has no shared memory")
    open_scoreboard(None, LOG, 4).close()
    assert caplog.text == ""


def test_in_the_folder_that_is_named(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    open_scoreboard(str(tmp_path), LOG, 4).close()
    kind = filesystems.file_system(str(tmp_path))
    assert ("is on a disk" in caplog.text) is (kind not in ("", *IN_MEMORY))


def test_without_shared_memory(tmp_path: pathlib.Path) -> None:
    open_scoreboard(None, LOG, 4, shared_memory=str(tmp_path / "none")).close()


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServerError, match="worker_tmp_dir"):
        open_scoreboard(str(tmp_path / "none"), LOG, 4)
