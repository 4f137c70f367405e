"""Logs on real files, pipes, sockets and devices: what is written, and that nothing fails or waits."""

import contextlib
import logging
import os
import pathlib
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from wsgicluster.errors import ServerError, UsageError
from wsgicluster.logs import ACCESS_LOGGER, ERROR_LOGGER, LogFile, LogOptions, Logs

ROOT = pathlib.Path(__file__).parent.parent
LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[([A-Z]+)\] (.*)")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Leave Python's own registry of loggers as it was."""
    yield
    for name in (ERROR_LOGGER, ACCESS_LOGGER):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


def request(logs: Logs, path: str) -> None:
    assert logs.access is not None
    logs.access.record({"REMOTE_ADDR": path}, "200 OK", [], 0, 0.0, 0.0)


def read_all(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            found += piece
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Reading and writing end of a pipe."""
    ends = os.pipe()
    yield ends
    for descriptor in ends:
        with contextlib.suppress(OSError):
            os.close(descriptor)


class TestErrorLog:
    """The error log of a process."""

    def test_lines(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "error.log"
        logs = Logs(LogOptions(errorlog=str(path)))
        logs.error.info("hello %s", "é\udcff")
        logs.error.debug("not at this level")
        logs.error.error("wrong arguments %d", "x")
        try:
            raise KeyError("cause")
        except KeyError:
            logs.error.exception("failed")
        lines = path.read_text().splitlines()
        found = [LINE.fullmatch(line) for line in lines]
        assert [match.groups() for match in found if match] == [
            (str(os.getpid()), "INFO", "hello é\\udcff"),
            (str(os.getpid()), "ERROR", "'wrong arguments %d'"),
            (str(os.getpid()), "ERROR", "failed"),
        ]
        assert lines[-1] == "KeyError: 'cause'"
        assert logs.access is None

    def test_level_and_appending(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "error.log"
        path.write_text("before\n")
        logs = Logs(LogOptions(errorlog=str(path), loglevel="error"))
        logs.error.warning("no")
        logs.error.critical("yes")
        assert len(path.read_text().splitlines()) == 2
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0

    @pytest.mark.parametrize("name", ["none/error.log", ""])
    def test_that_cannot_be_opened(self, tmp_path: pathlib.Path, name: str) -> None:
        with pytest.raises(ServerError, match=r"cannot open the log .*: (No such file|Is a directory)"):
            Logs(LogOptions(errorlog=str(tmp_path / name) if name else str(tmp_path)))

    def test_fifo_without_a_reader(self, tmp_path: pathlib.Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(ServerError, match="fifo"):
            Logs(LogOptions(errorlog=str(tmp_path / "fifo")))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_owner_of_new_files(self, tmp_path: pathlib.Path) -> None:
        Logs(LogOptions(errorlog=str(tmp_path / "new"), owner=(12345, 23456)))
        assert ((tmp_path / "new").stat().st_uid, (tmp_path / "new").stat().st_gid) == (12345, 23456)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_owner_of_a_file_that_was_rotated(self, tmp_path: pathlib.Path) -> None:
        """What rotates logs makes the new file for root, and the arbiter opens it before any worker does."""
        path = tmp_path / "error.log"
        logs = Logs(LogOptions(errorlog=str(path), owner=(12345, 23456)))
        path.rename(tmp_path / "error.log.1")
        path.touch()
        os.chown(path, 0, 4)
        logs.reopen()
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 4)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_links_are_not_given_away(self, tmp_path: pathlib.Path, link: str) -> None:
        """Whoever may write in the folder of the logs must not be given other files by it."""
        (tmp_path / "secret").touch()
        getattr(tmp_path / "error.log", link)(tmp_path / "secret")
        Logs(LogOptions(errorlog=str(tmp_path / "error.log"), owner=(12345, 23456)))
        assert (tmp_path / "secret").stat().st_uid == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_devices_are_not_given_away(self) -> None:
        Logs(LogOptions(errorlog="/dev/null", owner=(12345, 23456)))
        assert os.stat("/dev/null").st_uid == 0


class TestReopen:
    """USR1 and HUP."""

    def options(self, folder: pathlib.Path) -> LogOptions:
        return LogOptions(errorlog=str(folder / "error.log"), accesslog=str(folder / "access.log"))

    def test_after_renaming(self, tmp_path: pathlib.Path) -> None:
        logs = Logs(self.options(tmp_path))
        descriptors = logs.descriptors()
        request(logs, "first")
        for name in ("error", "access"):
            (tmp_path / f"{name}.log").rename(tmp_path / f"{name}.old")
        logs.reopen()
        logs.error.info("new")
        request(logs, "second")
        assert logs.access is not None
        logs.access.flush()
        assert (tmp_path / "access.old").read_text() == "first\n", "what was noted before goes where it belongs"
        assert (tmp_path / "access.log").read_text() == "second\n"
        assert "new" in (tmp_path / "error.log").read_text()
        assert logs.descriptors() == descriptors

    def test_that_is_not_possible(self, tmp_path: pathlib.Path) -> None:
        folder = tmp_path / "logs"
        folder.mkdir()
        logs = Logs(self.options(folder))
        folder.rename(tmp_path / "moved")
        logs.reopen()
        logs.reopen()
        logs.error.info("still here")
        lines = (tmp_path / "moved" / "error.log").read_text().splitlines()
        assert len([line for line in lines if "error.log: No such file or directory; the old one goes on" in line]) == 1
        assert len([line for line in lines if "access.log: No such file" in line]) == 1
        assert "still here" in lines[-1]
        folder.mkdir()
        logs.reopen()
        logs.error.info("back")
        assert "back" in (folder / "error.log").read_text()

    def test_relative_paths_do_not_follow_the_current_folder(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        logs = Logs(LogOptions(errorlog="error.log"))
        monkeypatch.chdir("/")
        (tmp_path / "error.log").unlink()
        logs.reopen()
        assert (tmp_path / "error.log").exists()

    def test_other_options(self, tmp_path: pathlib.Path) -> None:
        logs = Logs(LogOptions(errorlog=str(tmp_path / "a")))
        logs.apply(LogOptions(str(tmp_path / "b"), "debug", str(tmp_path / "c"), "%(s)s"))
        logs.error.debug("now in b")
        request(logs, "x")
        logs.apply(LogOptions(str(tmp_path / "b"), "info", None))
        assert logs.access is None
        assert (tmp_path / "a").read_text() == ""
        assert "now in b" in (tmp_path / "b").read_text()
        assert (tmp_path / "c").read_text() == "200\n"
        assert len(logs.error.handlers) == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"errorlog": "/none/x"},
            {"accesslog": "/none/x"},
            {"access_log_format": "%(z)s"},
            {"logconfig_dict": {"version": 1, "handlers": {"a": {"class": "no.such.Handler"}}}},
            {"logconfig_dict": {"version": 2}},
            {"logconfig_dict": {"loggers": 5}},
        ],
    )
    def test_wrong_options_change_nothing(self, tmp_path: pathlib.Path, changes: dict[str, object]) -> None:
        logs = Logs(self.options(tmp_path))
        descriptors, open_before = logs.descriptors(), len(os.listdir("/proc/self/fd"))
        with pytest.raises(ServerError):
            logs.apply(LogOptions(**{"errorlog": str(tmp_path / "other"), **changes}))  # type: ignore[arg-type]
        assert logs.descriptors() == descriptors
        assert len(os.listdir("/proc/self/fd")) <= open_before
        logs.error.info("as before")
        assert "as before" in (tmp_path / "error.log").read_text()


class TestTrouble:
    """Whatever happens to a log, it neither raises nor waits."""

    def test_full_disk(self) -> None:
        logs = Logs(LogOptions(errorlog="/dev/full", accesslog="/dev/full"))
        logs.error.error("lost")
        request(logs, "lost")
        assert logs.access is not None
        logs.access.flush()
        logs.reopen()

    def test_closed_pipe(self, pipe: tuple[int, int]) -> None:
        file = _stream(pipe[1])
        os.close(pipe[0])
        file.write(b"lost\n")
        file.close()

    @pytest.mark.parametrize("descriptors", ["/proc/self/fd", "/none"], ids=["own", "shared"])
    def test_pipe_that_nobody_reads(self, pipe: tuple[int, int], descriptors: str) -> None:
        reader, writer = pipe
        # Where a pipe cannot be opened once more, it is asked before each write.
        file = LogFile("-", writer, None, descriptors)
        told: list[int] = []

        def tell(count: int) -> bool:
            told.append(count)
            return file.put(b"told\n")

        file.tell_dropped = tell
        line = b"x" * 999 + b"\n"
        for _ in range(100):
            file.write(line)
        assert os.get_blocking(writer), "others who share the pipe are not affected"
        kept = read_all(reader)
        whole = kept.count(line)
        assert 50 < whole < 100
        file.write(b"again\n")
        assert read_all(reader).endswith(b"again\ntold\n")
        assert told == [100 - whole]
        file.write(b"and on\n")
        assert read_all(reader) == b"and on\n"
        assert len(told) == 1
        file.close()

    def test_a_torn_line_does_not_spoil_the_next(self, pipe: tuple[int, int]) -> None:
        reader, writer = pipe
        file = _stream(writer)
        file.write(b"y" * 200_000 + b"\n")
        kept = read_all(reader)
        assert 0 < len(kept) < 200_000
        file.write(b"next\n")
        assert read_all(reader).startswith(b"\nnext\n")
        file.close()

    def test_batches_larger_than_a_piece_arrive_whole(self, pipe: tuple[int, int]) -> None:
        file = _stream(pipe[1])
        lines = b"".join(b"%06d %s\n" % (number, b"z" * (number % 500)) for number in range(200))
        assert len(lines) < 60_000
        file.write(lines)
        assert read_all(pipe[0]) == lines
        file.close()

    def test_socket_that_nobody_reads(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            file = _stream(ours.fileno())
            for number in range(20_000):
                file.write(b"%099d\n" % number)
            assert ours.gettimeout() is None
            received = read_all(theirs.fileno())
            assert received.startswith(b"%099d\n" % 0)
            file.write(b"again\n")
            assert read_all(theirs.fileno()).endswith(b"again\n")
            file.close()

    def test_dropped_lines_are_told_in_the_error_log(self, tmp_path: pathlib.Path) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            logs = Logs(LogOptions(errorlog=str(fifo), accesslog=str(fifo)))
            for _ in range(200):
                logs.error.info("x" * 1000)
            kept = read_all(reader).count(b"\n")
            logs.error.info("again")
            text = read_all(reader).decode()
            assert f"[WARNING] {200 - kept} lines could not be written to this log and are lost" in text
            assert logs.access is not None
            for number in range(2000):
                request(logs, f"{number:0>100}")
                logs.access.flush()
            read_all(reader)
            request(logs, "again")
            logs.access.flush()
            assert re.search(rf"again\n.*\[WARNING\] \d+ lines could not be written to the access log \({fifo}\)",
                             read_all(reader).decode())  # fmt: skip
        finally:
            os.close(reader)

    def test_several_writers_of_one_full_pipe(self, pipe: tuple[int, int]) -> None:
        # Between asking and writing another one may take the last room; nobody may wait for it.
        files = [_stream(pipe[1]) for _ in range(4)]
        threads = [threading.Thread(target=_write_often, args=(file,), daemon=True) for file in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        for file in files:
            file.close()


def _write_often(file: LogFile) -> None:
    for _ in range(2000):
        file.write(b"w" * 99 + b"\n")


def _stream(descriptor: int) -> LogFile:
    """A log on a descriptor, as on a standard stream."""
    return LogFile("-", descriptor)


RUN = """
import os, sys
from wsgicluster.logs import LogOptions, Logs
"""


class TestStandardStreams:
    """In a process of its own: standard output and error as logs, and what is printed."""

    def run(self, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", RUN + source, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=True,
        )

    def test_dash_is_stderr_for_errors_and_stdout_for_requests(self) -> None:
        done = self.run(
            "logs = Logs(LogOptions(accesslog='-'))\n"
            "logs.error.info('event')\n"
            "logs.access.record({'REMOTE_ADDR': 'me'}, '200 OK', [], 0, 0.0, 0.0)\n"
            "logs.access.flush()\n"
        )
        assert done.stdout == "me\n"
        assert LINE.fullmatch(done.stderr.strip())

    def test_devices_are_the_streams(self) -> None:
        done = self.run("Logs(LogOptions(errorlog='/dev/stdout')).error.info('event')\n")
        assert "event" in done.stdout

    def test_a_daemon_lets_go_of_its_terminal(self) -> None:
        done = self.run(
            "logs = Logs(LogOptions())\n"
            "null = os.open(os.devnull, os.O_RDWR)\n"
            "os.dup2(null, 2)\n"
            "logs.error.info('unseen')\n"
            "kept = [os.readlink(f'/proc/self/fd/{number}') for number in logs.descriptors()]\n"
            "print(kept)\n"
        )
        assert done.stderr == ""
        assert done.stdout == "['/dev/null']\n"

    def test_without_stderr(self) -> None:
        done = self.run(
            "os.close(2)\nlogs = Logs(LogOptions())\nlogs.error.info('unseen')\nlogs.reopen()\nprint('ok')\n"
        )
        assert done.stdout == "ok\n"

    def test_capture_output(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "error.log"
        done = self.run(
            "logs = Logs(LogOptions(errorlog=sys.argv[1], capture_output=True))\n"
            "print('printed')\n"
            "os.system('echo from a child')\n"
            "os.rename(sys.argv[1], sys.argv[1] + '.old')\n"
            "logs.reopen()\n"
            "print('printed later')\n",
            str(path),
        )
        assert done.stdout == done.stderr == ""
        assert (tmp_path / "error.log.old").read_text() == "printed\nfrom a child\n"
        assert path.read_text() == "printed later\n"


class TestDictConfig:
    """logconfig_dict."""

    def handler(self, path: pathlib.Path) -> dict[str, object]:
        return {"class": "logging.FileHandler", "filename": str(path), "formatter": "plain"}

    def config(self, tmp_path: pathlib.Path, **more: object) -> dict[str, object]:
        return {
            "version": 1,
            "formatters": {"plain": {"format": "%(name)s %(message)s"}},
            "handlers": {"file": self.handler(tmp_path / "dict.log")},
            **more,
        }

    @pytest.fixture(autouse=True)
    def closed_handlers(self) -> Iterator[None]:
        root = list(logging.root.handlers)
        yield
        for name in (None, ERROR_LOGGER, ACCESS_LOGGER):
            for handler in logging.getLogger(name).handlers:
                if isinstance(handler, logging.FileHandler):
                    handler.close()
        logging.root.handlers[:] = root

    @pytest.mark.parametrize("prefix", ["wsgicluster", "gunicorn"])
    def test_both_logs(self, tmp_path: pathlib.Path, prefix: str) -> None:
        loggers = {f"{prefix}.{kind}": {"handlers": ["file"], "level": "INFO"} for kind in ("error", "access")}
        logs = Logs(LogOptions(str(tmp_path / "e"), logconfig_dict=self.config(tmp_path, loggers=loggers)))
        logs.error.info("event")
        request(logs, "me")
        assert logs.access is not None
        logs.access.flush()
        assert (tmp_path / "dict.log").read_text() == "wsgicluster.error event\nwsgicluster.access me\n"
        assert (tmp_path / "e").read_text() == ""
        opened = {os.readlink(f"/proc/self/fd/{number}") for number in logs.descriptors()}
        assert str(tmp_path / "dict.log") in opened

        logs.apply(LogOptions(str(tmp_path / "e")))
        logs.error.info("without it")
        assert "without it" in (tmp_path / "e").read_text()
        assert "without it" not in (tmp_path / "dict.log").read_text()

    def test_other_loggers_alone(self, tmp_path: pathlib.Path) -> None:
        loggers = {"shop": {"handlers": ["file"], "level": "INFO", "propagate": False}}
        logs = Logs(LogOptions(str(tmp_path / "e"), logconfig_dict=self.config(tmp_path, loggers=loggers)))
        logging.getLogger("shop").info("sold")
        logs.error.info("event")
        assert (tmp_path / "dict.log").read_text() == "shop sold\n"
        assert "event" in (tmp_path / "e").read_text()
        assert logs.access is None
        logging.getLogger("shop").handlers[0].close()
        logging.getLogger("shop").handlers.clear()

    def test_root(self, tmp_path: pathlib.Path) -> None:
        root = {"handlers": ["file"], "level": "INFO"}
        logs = Logs(LogOptions(str(tmp_path / "e"), logconfig_dict=self.config(tmp_path, root=root)))
        logs.error.info("event")
        assert (tmp_path / "dict.log").read_text() == "wsgicluster.error event\n"
        assert "event" in (tmp_path / "e").read_text()

    def test_wrong(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(UsageError, match=r"logconfig_dict: .*no\.such"):
            Logs(LogOptions(logconfig_dict={"version": 1, "handlers": {"a": {"class": "no.such.Handler"}}}))
