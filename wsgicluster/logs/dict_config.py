"""The setting ``logconfig_dict``: the part of logging that users configure themselves."""

import contextlib
import logging
import logging.config
from collections.abc import Iterator, Mapping
from typing import Any

from wsgicluster.logs.loggers import ACCESS_LOGGER, ERROR_LOGGER


def configure_logging(wanted: Mapping[str, Any]) -> None:
    """Configure the loggers that the dictionary names, as `logging.config.dictConfig` does; raises what that raises."""
    loggers = {_own_name(name): about for name, about in wanted.get("loggers", {}).items()}
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **wanted, "loggers": loggers})


def _own_name(name: str) -> str:
    # A dictionary for Gunicorn configures the same two logs.
    return {"gunicorn.error": ERROR_LOGGER, "gunicorn.access": ACCESS_LOGGER}.get(name, name)


def is_configured(name: str, wanted: Mapping[str, Any] | None) -> bool:
    """Whether the dictionary names this logger, with a handler for its lines."""
    return name in map(_own_name, (wanted or {}).get("loggers", {})) and logging.getLogger(name).hasHandlers()


def handler_descriptors() -> Iterator[int]:
    """Descriptors of all handlers of all loggers."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", []):
            for owner in (getattr(handler, "stream", None), getattr(handler, "socket", None)):
                with contextlib.suppress(AttributeError, OSError, ValueError):  # none, in memory, or closed
                    yield owner.fileno()  # type: ignore[union-attr]
