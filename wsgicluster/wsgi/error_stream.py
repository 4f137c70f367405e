"""``wsgi.errors``: writes an application's text to the error log's file, unchanged.

Not through a logger: levels, formats and handlers are the application's own, and its configuration of them must
neither change this text nor silence it. Knows no file and no worker.
"""

import io
import os
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

UNFINISHED_S = 1.0
"""How long the beginning of a line waits for its end, in seconds."""

UNFINISHED_CHARACTERS = 8192
"""A beginning that is longer does not wait."""


class ErrorFile(Protocol):
    """The error log's file, as this stream uses it."""

    def append(self, data: bytes) -> object:
        """Write what can be written now; raises nothing."""

    def fileno(self) -> int:
        """The descriptor that is written to. Raises OSError when there is none."""


class ErrorStream(io.TextIOBase):
    """A text stream for several threads or greenlets, each of which has its own line.

    A line is written when it ends or is flushed, together with the other text of the same call, by one system call
    where the file accepts that. ``unfinished`` holds the beginnings of lines, by thread. Closing it has no effect.
    ``served`` counts requests where one at a time runs: a line that one has begun is not continued by the next one.
    """

    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    mode = "a"
    name = "<wsgi.errors>"

    def __init__(self, file: ErrorFile, served: Callable[[], int] = int) -> None:
        self._file = file
        self._served = served
        self.unfinished: dict[int, tuple[str, float, int]] = {}

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor of the error log, for code that writes to it directly, such as ``subprocess``."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether the file is a terminal."""
        try:
            return os.isatty(self.fileno())
        except OSError:  # there is no descriptor
            return False

    def close(self) -> None:
        """Flush only: later requests write here, too."""
        self.flush()

    def write(self, text: str) -> int:
        """Write the lines that are complete; the rest waits for its end. Raises TypeError for bytes."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        # Not imported by its name: gevent replaces it in the module later.
        owner = threading.get_ident()
        whole, since = text, 0.0
        if self.unfinished and (begun := self.unfinished.pop(owner, None)) is not None:
            if begun[2] == self._served():
                whole, since = begun[0] + text, begun[1]
            else:
                self._put(f"{begun[0]}\n")
        end = whole.rfind("\n") + 1
        if len(whole) - end > UNFINISHED_CHARACTERS:
            end = len(whole)
        if end < len(whole):
            self.unfinished[owner] = whole[end:], since or monotonic(), self._served()
        self._put(whole[:end])
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Write all of them at once."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Write the unfinished line of the calling thread."""
        self._put(self.unfinished.pop(threading.get_ident(), ("", 0.0, 0))[0])

    def settle(self) -> None:
        """End the unfinished line of the calling thread, whose request is over, and older ones of other threads."""
        own, before = threading.get_ident(), monotonic() - UNFINISHED_S
        left = list(self.unfinished.items())
        self._end_lines([owner for owner, (_, since, _served) in left if owner == own or since < before])

    def end_all(self) -> None:
        """End the unfinished lines of all threads: the process exits."""
        self._end_lines(list(self.unfinished))

    def forget(self) -> None:
        """In a forked process: drop unfinished lines, which the parent writes."""
        self.unfinished.clear()

    def _end_lines(self, owners: list[int]) -> None:
        # With a line end, or the next record of another process would be on the same line.
        for owner in owners:
            if (begun := self.unfinished.pop(owner, None)) is not None:
                self._put(f"{begun[0]}\n")

    def _put(self, text: str) -> None:
        if text:
            self._file.append(text.encode(self.encoding, self.errors))
