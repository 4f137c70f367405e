"""The pid file."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

from wsgicluster.arbiter.service.pidfile import PidFile
from wsgicluster.errors import ServerError


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "server.pid"


def test_written_whole_and_removed(path: pathlib.Path) -> None:
    file = PidFile(str(path))
    file.create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(path.parent) == [path.name]
    file.remove()
    assert not path.exists()
    file.remove()


def test_refused_while_a_live_process_holds_it(path: pathlib.Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(ServerError, match=f"held by process {os.getppid()}, which is alive") as caught:
        PidFile(str(path)).create(os.getpid())
    assert caught.value.exit_code == 1
    assert path.read_text() == f"{os.getppid()}\n"


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("content", ["", "garbage", "-1", "0", "999999999999", "ended", "own"])
def test_stale_ones_are_taken_over(path: pathlib.Path, content: str) -> None:
    path.write_text({"ended": str(ended_pid()), "own": str(os.getpid())}.get(content, content))
    PidFile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_process_younger_than_the_file_did_not_write_it(path: pathlib.Path) -> None:
    """Process numbers are used again, above all after a restart of the machine."""
    path.write_text(f"{os.getppid()}\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    PidFile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["1\n", "garbage"])
def test_somebody_else_s_is_not_removed(path: pathlib.Path, content: str) -> None:
    file = PidFile(str(path))
    file.create(os.getpid())
    path.write_text(content)
    file.remove()
    assert path.read_text() == content


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServerError, match=r"cannot write .*nowhere"):
        PidFile(str(tmp_path / "nowhere" / "server.pid")).create(os.getpid())


def test_a_path_that_is_a_folder(path: pathlib.Path) -> None:
    path.mkdir()
    with pytest.raises(ServerError, match=r"server\.pid is a folder; expected the path of a file$"):
        PidFile(str(path)).create(os.getpid())
    assert os.listdir(path.parent) == [path.name]


def test_a_path_that_is_a_pipe(path: pathlib.Path) -> None:
    """No process writes to it: to read it would wait forever."""
    os.mkfifo(path)
    with pytest.raises(ServerError, match=r"server\.pid is a pipe"):
        PidFile(str(path)).create(os.getpid())
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_path_that_is_a_device(path: pathlib.Path, device: str) -> None:
    path.symlink_to(device)
    with pytest.raises(ServerError, match=r"server\.pid is a device"):
        PidFile(str(path)).create(os.getpid())
    assert os.readlink(path) == device


def test_a_pipe_that_takes_its_place_is_left(path: pathlib.Path) -> None:
    file = PidFile(str(path))
    file.create(os.getpid())
    path.unlink()
    os.mkfifo(path)
    file.remove()
    assert path.exists()


def test_a_huge_file_is_not_read_whole(path: pathlib.Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    PidFile(str(path)).create(os.getpid())
    assert path.read_text() == f"{os.getpid()}\n"


def test_the_name_of_a_predecessor_that_is_gone(tmp_path: pathlib.Path) -> None:
    plain = tmp_path / "pid"
    ours = PidFile(f"{plain}.2")
    ours.create(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        PidFile(str(plain)).create(other.pid)
        with pytest.raises(ServerError, match=f"held by process {other.pid}, which is alive"):
            ours.rename(str(plain), predecessor=1)
        assert (tmp_path / "pid.2").exists()
        # Its death is known before it is complete.
        ours.rename(str(plain), predecessor=other.pid)
        other.kill()
    assert plain.read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "pid.2").exists()
    ours.remove()
    assert not plain.exists()
