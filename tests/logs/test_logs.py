"""Logs on real files, pipes, sockets and devices: what is written, and that nothing fails or waits."""

import io
import logging
import logging.config
import os
import pathlib
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.logs.test_log_file import read_all
from wsgicluster.errors import ServerError, UsageError
from wsgicluster.logs.config import LoggingConfig
from wsgicluster.logs.log_file import LogFile
from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER, LineHandler
from wsgicluster.logs.logs import LogOptions, Logs

FILE_CONFIG = """
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
handlers =
"""
ROOT = pathlib.Path(__file__).parent.parent
LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[([A-Z]+)\] (.*)")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Leave Python's own registry of loggers as it was."""
    root = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = root
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
    def test_links_keep_their_owner(self, tmp_path: pathlib.Path, link: str) -> None:
        """Users who may write in the folder of the logs must not be given other files by it."""
        (tmp_path / "secret").touch()
        getattr(tmp_path / "error.log", link)(tmp_path / "secret")
        Logs(LogOptions(errorlog=str(tmp_path / "error.log"), owner=(12345, 23456)))
        assert (tmp_path / "secret").stat().st_uid == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_devices_keep_their_owner(self) -> None:
        Logs(LogOptions(errorlog="/dev/null", owner=(12345, 23456)))
        assert os.stat("/dev/null").st_uid == 0


class TestSilence:
    """What an application says of Python's logging is not meant for the server's own records."""

    @pytest.mark.parametrize(
        "silence",
        [
            lambda: logging.config.dictConfig({"version": 1}),
            lambda: logging.config.dictConfig({"version": 1, "disable_existing_loggers": True, "root": {}}),
            lambda: logging.config.fileConfig(io.StringIO(FILE_CONFIG)),
            lambda: setattr(logging.getLogger(ERROR_LOGGER), "disabled", True),
            lambda: logging.disable(logging.CRITICAL),
        ],
    )
    def test_is_not_for_the_server(self, tmp_path: pathlib.Path, silence: Callable[[], object]) -> None:
        logs = Logs(LogOptions(errorlog=str(tmp_path / "error.log")))
        try:
            silence()
            logs.error.warning("still said")
            logs.error.debug("below the level")
        finally:
            logging.disable(logging.NOTSET)
        assert re.findall(r"\] (.*)", (tmp_path / "error.log").read_text())[-1].endswith("still said")

    def test_a_logger_that_other_code_created_first(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "error.log"
        logging.getLogger(ERROR_LOGGER).disabled = True
        Logs(LogOptions(errorlog=str(path))).error.warning("said")
        assert "said" in path.read_text()


class TestText:
    """What is not a record: an application's own text."""

    def test_continues_an_unfinished_line_and_records_do_not(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "error.log"
        logs = Logs(LogOptions(errorlog=str(path), loglevel="critical"))
        assert os.fstat(logs.fileno()).st_ino == path.stat().st_ino
        for piece in (b"one\nhalf", b" and half\n", b"left"):
            logs.append(piece)
        logs.error.critical("record")
        logs.append(b"on\n")
        found = path.read_text().splitlines()
        assert [*found[:3], found[4]] == ["one", "half and half", "left", "on"]
        assert LINE.fullmatch(found[3])


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
        kept = "error.log: No such file or directory; still writing to the old one"
        assert len([line for line in lines if kept in line]) == 1
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
            {"access_log_format": "%(h"},
            {"config": {"version": 1, "handlers": {"a": {"class": "no.such.Handler"}}}},
            {"config": {"version": 2}},
            {"config": {"loggers": 5}},
        ],
    )
    def test_wrong_options_change_nothing(self, tmp_path: pathlib.Path, changes: dict[str, object]) -> None:
        logs = Logs(self.options(tmp_path))
        descriptors, open_before = logs.descriptors(), len(os.listdir("/proc/self/fd"))
        if isinstance(changes.get("config"), dict):
            changes = {"config": LoggingConfig("logconfig_dict", changes["config"])}  # type: ignore[arg-type]
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

    def test_dropped_lines_are_reported_in_the_error_log(self, tmp_path: pathlib.Path) -> None:
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


RUN = """
import os, sys
from wsgicluster.logs.logs import LogOptions, Logs
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

    def test_a_daemon_closes_its_terminal(self) -> None:
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

    def config(self, tmp_path: pathlib.Path, **more: object) -> LoggingConfig:
        wanted = {
            "version": 1,
            "formatters": {"plain": {"format": "%(name)s %(message)s"}},
            "handlers": {"file": self.handler(tmp_path / "dict.log")},
            **more,
        }
        return LoggingConfig("logconfig_dict", wanted)

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
        logs = Logs(LogOptions(str(tmp_path / "e"), config=self.config(tmp_path, loggers=loggers)))
        logs.error.info("event")
        request(logs, "me")
        assert logs.access is not None
        logs.access.flush()
        assert (tmp_path / "dict.log").read_text() == f"{prefix}.error event\n{prefix}.access me\n"
        assert (tmp_path / "e").read_text() == ""
        opened = {os.readlink(f"/proc/self/fd/{number}") for number in logs.descriptors()}
        assert str(tmp_path / "dict.log") in opened

        logs.apply(LogOptions(str(tmp_path / "e")))
        logs.error.info("without it")
        assert "without it" in (tmp_path / "e").read_text()
        assert "without it" not in (tmp_path / "dict.log").read_text()
        numbers = os.listdir("/proc/self/fd")
        open_now = {
            os.readlink(f"/proc/self/fd/{number}") for number in numbers if os.path.exists(f"/proc/self/fd/{number}")
        }
        assert str(tmp_path / "dict.log") not in open_now

    def test_other_loggers_alone(self, tmp_path: pathlib.Path) -> None:
        loggers = {"shop": {"handlers": ["file"], "level": "INFO", "propagate": False}}
        logs = Logs(LogOptions(str(tmp_path / "e"), config=self.config(tmp_path, loggers=loggers)))
        logging.getLogger("shop").info("sold")
        logs.error.info("event")
        assert (tmp_path / "dict.log").read_text() == "shop sold\n"
        assert "event" in (tmp_path / "e").read_text()
        assert logs.access is None
        logging.getLogger("shop").handlers[0].close()
        logging.getLogger("shop").handlers.clear()

    def test_root(self, tmp_path: pathlib.Path) -> None:
        root = {"handlers": ["file"], "level": "INFO"}
        logs = Logs(LogOptions(str(tmp_path / "e"), config=self.config(tmp_path, root=root)))
        logs.error.info("event")
        assert (tmp_path / "dict.log").read_text() == "wsgicluster.error event\n"
        assert "event" in (tmp_path / "e").read_text()

    def test_wrong(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(UsageError, match=r"logconfig_dict: .*no\.such"):
            wanted = {"version": 1, "handlers": {"a": {"class": "no.such.Handler"}}}
            Logs(LogOptions(config=LoggingConfig("logconfig_dict", wanted)))


def test_colours_end_where_the_terminal_does(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, stream = os.openpty()
    path = tmp_path / "log"
    try:
        handler = LineHandler(LogFile("-", stream))
        log = logging.Logger("tests.colours")  # noqa: LOG001 - one that nothing else finds
        log.addHandler(handler)
        log.error("at a terminal")
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream)
        log.error("in a file")
        assert b"\x1b[31m[ERROR]\x1b[0m at a terminal" in os.read(ours, 4096)
        assert b" [ERROR] in a file\n" in path.read_bytes()
        handler.file.close()
    finally:
        os.close(ours)
        os.close(stream)
