"""The handlers of all loggers of the process, set by the server or by users: their descriptors and files."""

import contextlib
import logging
from collections.abc import Iterator

from wsgicluster.logs.loggers import LineHandler


def handler_descriptors() -> Iterator[int]:
    """Descriptors of all handlers of all loggers."""
    for handler in all_handlers():
        if isinstance(handler, LineHandler):
            yield handler.file.descriptor
        for owner in (getattr(handler, "stream", None), getattr(handler, "socket", None)):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # none, in memory, or closed
                yield owner.fileno()  # type: ignore[union-attr]


def reopen_file_handlers() -> None:
    """Open the files of all `logging.FileHandler` of all loggers again, as Gunicorn does."""
    for handler in set(all_handlers()):
        if isinstance(handler, logging.FileHandler):
            if handler.stream is not None:
                _reopen(handler)


def _reopen(handler: logging.FileHandler) -> None:
    errors = getattr(handler, "errors", None)
    # To append, whatever its mode: several processes do this, and none may empty the file for the others.
    with contextlib.suppress(OSError):  # then the old one stays in use
        old = handler.setStream(open(handler.baseFilename, "a", encoding=handler.encoding, errors=errors))
        if old is not None:
            old.close()


def all_handlers() -> Iterator[logging.Handler]:
    """The handlers of all loggers."""
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        yield from getattr(logger, "handlers", [])
