"""The part of logging that users configure themselves: a dictionary, a JSON file, or a file of `logging.config`.

A dictionary may be partial: what it leaves out is Gunicorn's default, so that one written for Gunicorn works.
What reads them is imported late: it takes a start several milliseconds, and few servers configure logging.
"""

import json
import logging
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.logs.loggers import ACCESS_LOGGER, DATE_FORMAT, ERROR_LOGGER, FORMAT, GUNICORN_NAMES

if TYPE_CHECKING:
    import configparser

_FORMATTERS = {"generic": {"format": FORMAT, "datefmt": DATE_FORMAT, "class": "logging.Formatter"}}
_HANDLERS = {
    "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
    "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
}
_ROOT = {"level": "INFO", "handlers": ["console"]}
_DEFAULT_HANDLER = {ERROR_LOGGER: "error_console", ACCESS_LOGGER: "console"}

CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": _ROOT,
    "loggers": {
        GUNICORN_NAMES[name]: {"level": "INFO", "handlers": [handler], "propagate": False, "qualname": name}
        for name, handler in _DEFAULT_HANDLER.items()
    },
    "handlers": _HANDLERS,
    "formatters": _FORMATTERS,
}
"""A dictionary that users extend: with all handlers, formatters and loggers that a partial one need not have."""


@dataclass(frozen=True)
class LoggingConfig:
    """What one of the settings wants: ``dictionary``, or else ``text`` in the syntax of `logging.config.fileConfig`.

    ``source`` names the setting, and the file if there is one; ``path`` is that file.
    """

    source: str
    dictionary: Mapping[str, Any] | None = None
    text: str = ""
    path: str = ""

    def apply(self) -> None:
        """Configure the loggers. Raises UsageError."""
        import logging.config

        try:
            if self.dictionary is None:
                logging.config.fileConfig(self._parsed(), disable_existing_loggers=False)
            else:
                logging.config.dictConfig(_completed(self.dictionary))
        except Exception as error:
            # Handlers and formatters are the user's classes, which raise what they like.
            raise UsageError(f"{self.source}: {_cause(error)}") from error
        for name in GUNICORN_NAMES:
            # Records carry the name that was configured, which filters and formatters may look for.
            logging.getLogger(name).name = self._given_name(name) or name

    def names(self, name: str) -> bool:
        """Whether this logger is configured, by one of its two names, with a handler for its lines."""
        return self._given_name(name) is not None and logging.getLogger(name).hasHandlers()

    @property
    def root_takes_all(self) -> bool:
        """Whether the root logger is to get the lines of loggers that are not named."""
        return self.dictionary is not None and "root" in self.dictionary and "loggers" not in self.dictionary

    def formatter(self) -> logging.Formatter | None:
        """The formatter that replaces the usual one of a log which is not named: Gunicorn's default has this name."""
        if self.dictionary is None or "loggers" in self.dictionary:
            return None
        wanted = self.dictionary.get("formatters", {}).get("generic")
        if wanted is None:
            return None
        import logging.config

        configurator: Any = logging.config.DictConfigurator({"version": 1})
        found: logging.Formatter = configurator.configure_formatter(wanted)
        return found

    def _given_name(self, name: str) -> str | None:
        given = self._logger_names()
        return next((each for each in (name, GUNICORN_NAMES[name]) if each in given), None)

    def _logger_names(self) -> Collection[str]:
        if self.dictionary is not None:
            return set(_completed(self.dictionary)["loggers"])
        parser = self._parsed()
        sections = [f"logger_{key.strip()}" for key in parser.get("loggers", "keys").split(",")]
        return {parser.get(section, "qualname", fallback="") for section in sections}

    def _parsed(self) -> "configparser.RawConfigParser":
        import configparser

        parser = configparser.ConfigParser({"__file__": self.path, "here": os.path.dirname(self.path)})
        parser.read_string(self.text, self.path)
        return parser


def read_config(
    dictionary: Mapping[str, Any] | None, json_path: str | None = None, ini_path: str | None = None
) -> LoggingConfig | None:
    """The first that is given of these, its file read; None for none. Raises UsageError."""
    if dictionary:
        return LoggingConfig("logconfig_dict", dictionary)
    if json_path is not None:
        source = f"logconfig_json ({json_path})"
        try:
            found = json.loads(_text(json_path, source))
        except json.JSONDecodeError as error:
            raise UsageError(f"{source}: line {error.lineno} is not JSON: {error.msg}") from error
        if not isinstance(found, dict):
            raise UsageError(f"{source}: expected a JSON object")
        return LoggingConfig(source, found)
    if ini_path is not None:
        source = f"logconfig ({ini_path})"
        return LoggingConfig(source, text=_text(ini_path, source), path=os.path.abspath(ini_path))
    return None


def _text(path: str, source: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: is not UTF-8") from error


def _completed(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary with Gunicorn's defaults for what it leaves out."""
    found = {"version": 1, "disable_existing_loggers": False, "root": _ROOT, **wanted}
    handlers = wanted.get("handlers", {})
    found["formatters"] = {**_FORMATTERS, **wanted.get("formatters", {})}
    found["handlers"] = {**_HANDLERS, **handlers}
    if "loggers" not in wanted:
        # A default handler that is replaced is meant for the log that has it in Gunicorn.
        found["loggers"] = {
            GUNICORN_NAMES[name]: {"level": "INFO", "handlers": [handler], "propagate": False}
            for name, handler in _DEFAULT_HANDLER.items()
            if handler in handlers
        }
    return found


def _cause(error: BaseException) -> str:
    import configparser

    cause = error.__cause__
    text = str(error if cause is None else cause) or type(error).__name__
    if isinstance(error, KeyError | configparser.Error) and cause is None:
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())
