"""What users configure of Python's logging: by dictionary or file, with our names or Gunicorn's."""

import logging
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.logs.access_log import Atoms
from wsgicluster.logs.config import LoggingConfig, read_config
from wsgicluster.logs.handlers import reopen_file_handlers
from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER, claim_names
from wsgicluster.logs.logs import LogOptions, Logs

ENVIRON: dict[str, object] = {
    "REMOTE_ADDR": "192.0.2.1",
    "REQUEST_METHOD": "GET",
    "RAW_URI": '/a"b?c',
    "PATH_INFO": '/a"b',
    "QUERY_STRING": "c",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_X_ID": "7\nforged",
    "wsgi.url_scheme": "https",
}


class Kept(logging.Handler):
    """Keeps records."""

    kept: ClassVar[list[logging.LogRecord]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


class Failing(logging.Filter):
    """Raises for each record."""

    def filter(self, _record: logging.LogRecord) -> bool:
        raise KeyError("U")


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """Leave Python's own registry of loggers as it was."""
    root, level = logging.root.handlers[:], logging.root.level
    Kept.kept = []
    yield
    logging.root.handlers[:] = root
    logging.root.setLevel(level)
    for name in (ERROR_LOGGER, ACCESS_LOGGER):
        logger = logging.getLogger(name)
        logger.name, logger.propagate = name, True
        logger.setLevel(logging.NOTSET)
        logger.filters.clear()
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()


def logs_with(folder: pathlib.Path, config: LoggingConfig | None, **more: Any) -> Logs:
    return Logs(LogOptions(str(folder / "e"), config=config, **more))


def request(logs: Logs) -> None:
    assert logs.access is not None
    logs.access.record(ENVIRON, "200 OK", [("X-Answer", "42")], 5, 0.25, 0.0)
    logs.access.flush()


def by_dictionary(**wanted: Any) -> LoggingConfig:
    return LoggingConfig("logconfig_dict", wanted)


KEPT = {"handlers": {"kept": {"()": Kept}}}


class TestNames:
    """One logger has two names."""

    def test_both_are_the_logger_that_logs(self, tmp_path: pathlib.Path) -> None:
        logs = logs_with(tmp_path, None)
        for kind in ("error", "access"):
            assert logging.getLogger(f"gunicorn.{kind}") is logging.getLogger(f"wsgicluster.{kind}")
        assert logging.getLogger("gunicorn.error") is logs.error
        assert not logs.error.propagate

    def test_the_idiom_of_flask(self, tmp_path: pathlib.Path) -> None:
        logs_with(tmp_path, None)
        application = logging.getLogger("test_config.shop")
        application.handlers = logging.getLogger("gunicorn.error").handlers
        application.propagate = False
        application.error("sold out")
        assert (tmp_path / "e").read_text().endswith("[ERROR] sold out\n")
        application.handlers = []

    @pytest.mark.parametrize("prefix", ["gunicorn", "wsgicluster"])
    def test_records_have_the_name_that_is_configured(self, tmp_path: pathlib.Path, prefix: str) -> None:
        loggers = {f"{prefix}.{kind}": {"handlers": ["kept"], "level": "INFO"} for kind in ("error", "access")}
        logs = logs_with(tmp_path, by_dictionary(loggers=loggers, **KEPT))
        logs.error.info("event")
        request(logs)
        assert [record.name for record in Kept.kept] == [f"{prefix}.error", f"{prefix}.access"]
        logs.apply(LogOptions(str(tmp_path / "e")))
        assert logs.error.name == "wsgicluster.error"

    def test_a_parent_that_is_created_later(self) -> None:
        claim_names()
        parent = logging.getLogger("gunicorn")
        assert logging.getLogger("gunicorn.error").parent is parent


class TestPartialDictionaries:
    """What they do not name is as in Gunicorn."""

    def test_a_formatter_alone_formats_both_logs(self, tmp_path: pathlib.Path) -> None:
        config = by_dictionary(formatters={"generic": {"format": "%(levelname)s|%(message)s"}})
        logs = logs_with(tmp_path, config, accesslog=str(tmp_path / "a"), access_log_format="%(m)s %(s)s")
        logs.error.info("event")
        request(logs)
        assert (tmp_path / "e").read_text() == "INFO|event\n"
        assert (tmp_path / "a").read_text() == "INFO|GET 200\n"

    def test_a_default_handler_that_is_replaced(self, tmp_path: pathlib.Path) -> None:
        logs = logs_with(tmp_path, by_dictionary(handlers={"error_console": {"()": Kept}}))
        logs.error.info("event")
        assert [record.getMessage() for record in Kept.kept] == ["event"]
        assert (tmp_path / "e").read_text() == ""

    def test_the_error_log_is_not_said_twice(self, tmp_path: pathlib.Path) -> None:
        loggers = {"gunicorn.error": {"handlers": ["kept"], "level": "INFO"}}
        root = {"handlers": ["kept"], "level": "INFO"}
        logs_with(tmp_path, by_dictionary(loggers=loggers, root=root, **KEPT)).error.info("event")
        assert len(Kept.kept) == 1

    def test_root_gets_a_handler(self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        logging.root.handlers[:] = []
        logs_with(tmp_path, by_dictionary(loggers={"test_config.stock": {"level": "INFO"}}))
        logging.getLogger("test_config.stock").info("sold")
        assert re.fullmatch(r"\[.*\] \[\d+\] \[INFO\] sold\n", capsys.readouterr().out)


class TestRecordsOfRequests:
    """Their arguments are the atoms."""

    def logs(self, folder: pathlib.Path, **logger: Any) -> Logs:
        loggers = {"gunicorn.access": {"handlers": ["kept"], "level": "INFO", **logger}}
        return logs_with(folder, by_dictionary(loggers=loggers, **KEPT), access_log_format='%(r)s "%({x-id}i)s"')

    def test_atoms(self, tmp_path: pathlib.Path) -> None:
        request(self.logs(tmp_path))
        (record,) = Kept.kept
        assert record.getMessage() == r'GET /a\"b?c HTTP/1.1 "7\nforged"'
        atoms = record.args
        assert isinstance(atoms, dict)
        assert (atoms["m"], atoms["s"], atoms["B"], atoms["D"], atoms["M"]) == ("GET", "200", 5, 250000, 250)
        assert (atoms["{x-answer}o"], atoms["{wsgi.url_scheme}e"], atoms["{none}i"]) == ("42", "https", "-")
        assert (atoms.get("U"), atoms.get("{none}i", "x"), atoms.get("{x-answer}o")) == (r"/a\"b", "x", "42")
        assert atoms["unknown"] == "-"

    def test_refused(self, tmp_path: pathlib.Path) -> None:
        logs = self.logs(tmp_path)
        assert logs.access is not None
        logs.access.record_refused({"REMOTE_ADDR": "me", "REQUEST_LINE": "GET"}, "400 Bad Request", 3, 0.0)
        logs.access.flush()
        assert Kept.kept[0].getMessage() == 'GET "-"'

    def test_a_filter_that_raises_is_said_once(self, tmp_path: pathlib.Path) -> None:
        logs = self.logs(tmp_path)
        logging.getLogger(ACCESS_LOGGER).addFilter(Failing())
        request(logs)
        request(logs)
        assert (tmp_path / "e").read_text().count("could not be logged") == 1

    def test_atoms_are_those_of_the_format(self) -> None:
        assert set(Atoms(ENVIRON, "200 OK", (), 0, 0.0, 0.0)) == set("hlutrmUqHsBbfaTDMLp")


INI = """
[loggers]
keys = root, gunicorn.error
[handlers]
keys = file
[formatters]
keys = short
[logger_root]
level = INFO
handlers =
[logger_gunicorn.error]
level = DEBUG
handlers = file
propagate = 0
qualname = gunicorn.error
[handler_file]
class = logging.FileHandler
formatter = short
args = ("%(here)s/from-ini.log",)
[formatter_short]
format = %(name)s %(message)s
"""


class TestFiles:
    """logconfig and logconfig_json."""

    def test_ini(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "log.ini").write_text(INI)
        logs = logs_with(tmp_path, read_config(None, None, str(tmp_path / "log.ini")))
        logs.error.debug("event")
        assert (tmp_path / "from-ini.log").read_text() == "gunicorn.error event\n"
        assert (tmp_path / "e").read_text() == ""

    def test_json(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "log.json").write_text('{"formatters": {"generic": {"format": "<%(message)s>"}}}')
        logs = logs_with(tmp_path, read_config(None, str(tmp_path / "log.json"), "not read"))
        logs.error.info("event")
        assert (tmp_path / "e").read_text() == "<event>\n"

    def test_a_change_of_the_file_is_another_configuration(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "log.ini"
        path.write_text(INI)
        before = read_config(None, None, str(path))
        assert before == read_config(None, None, str(path))
        path.write_text(INI + "\n# changed\n")
        assert before != read_config(None, None, str(path))

    @pytest.mark.parametrize(
        ("name", "text", "complaint"),
        [
            ("log.json", None, r"logconfig_json \(.*log\.json\): cannot be read: No such file or directory"),
            ("log.json", "{", r"logconfig_json \(.*\): line 1 is not JSON: .*"),
            ("log.json", "[]", r"logconfig_json \(.*\): expected a JSON object"),
            ("log.json", '{"handlers": {"x": {"class": "no.such"}}}', r"logconfig_json \(.*\): .*no.*"),
            ("log.ini", None, r"logconfig \(.*log\.ini\): cannot be read: No such file or directory"),
            ("log.ini", "words", r"logconfig \(.*\): MissingSectionHeaderError: .*"),
            ("log.ini", "[loggers]\nkeys = root\n", r"logconfig \(.*\): .*formatters.*"),
            ("log.ini", INI.replace("file\n[form", "none\n[form"), r"logconfig \(.*\): .*handler_none.*"),
        ],
    )
    def test_wrong(self, tmp_path: pathlib.Path, name: str, text: str | None, complaint: str) -> None:
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(UsageError) as caught:
            config = read_config(None, *((str(path), None) if name.endswith("json") else (None, str(path))))
            logs_with(tmp_path, config)
        assert re.fullmatch(complaint, str(caught.value)), caught.value

    def test_none(self) -> None:
        assert read_config(None) is None
        assert read_config({}) is None


class TestReopening:
    """Files of users' handlers are opened again, too."""

    @pytest.mark.parametrize("mode", ["a", "w"])
    def test_after_renaming(self, tmp_path: pathlib.Path, mode: str) -> None:
        path = tmp_path / "own.log"
        logger = logging.getLogger("test_config.reopened")
        handler = logging.FileHandler(path, mode)
        logger.addHandler(handler)
        logger.error("one")
        path.rename(tmp_path / "own.old")
        reopen_file_handlers()
        logger.error("two")
        path.with_suffix(".more").touch()
        reopen_file_handlers()
        logger.error("three")
        handler.close()
        logger.handlers.clear()
        assert (tmp_path / "own.old").read_text() == "one\n"
        assert path.read_text() == "two\nthree\n"


def test_stream_handlers_of_the_defaults_use_standard_output() -> None:
    by_dictionary(loggers={"gunicorn.access": {"handlers": ["console"]}}).apply()
    (handler,) = logging.getLogger(ACCESS_LOGGER).handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stdout
