"""Records which line of the application has opened a connection, or started a thread or a process.

Python's audit events report these at the moment they happen, whatever code causes them.
"""

import os
import sys
import sysconfig
import threading
import types
from typing import Any

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_THREAD_EVENTS = frozenset({"_thread.start_new_thread", "_thread.start_joinable_thread"})


class Watch:
    """Watches this process from now on, until it exits: an audit hook cannot be removed."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        self._library = tuple({paths["stdlib"] + os.sep, paths["platstdlib"] + os.sep})
        self._installed = tuple({paths["purelib"] + os.sep, paths["platlib"] + os.sep})
        self._here = os.getcwd() + os.sep
        self._places: dict[tuple[str, object], str] = {}
        sys.addaudithook(self._heard)
        if sys.version_info < (3, 12):  # before which threads have no event
            self._hear_threads()

    def of_descriptor(self, number: int) -> str:
        """Where the socket with this descriptor was connected or bound last; empty if unknown."""
        return self._places.get(("socket", _inode(number)), "")

    def of_database(self, path: str) -> str:
        """Where SQLite opened this file."""
        return self._places.get(("database", path), "")

    def of_thread(self, thread: object) -> str:
        """Where a `threading.Thread` was started."""
        return self._places.get(("thread", id(thread)), "")

    def of_child(self, command: str) -> str:
        """Where a process with this command line was started, or the last one was forked."""
        return self._places.get(("command", command), "") or self._places.get(("fork", None), "")

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        # An exception of an audit hook is raised in the code that caused the event, so nothing here raises.
        key: tuple[str, object]
        if event in ("socket.connect", "socket.bind"):
            # Numbers of descriptors are reused, and not every library raises events.
            key = ("socket", _inode(arguments[0].fileno()))
        elif event in _THREAD_EVENTS:
            key = ("thread", id(getattr(arguments[0], "__self__", None)))
        elif event == "sqlite3.connect" and isinstance(arguments[0], str | bytes | os.PathLike):
            key = ("database", os.path.realpath(os.fsdecode(arguments[0])))
        elif event == "subprocess.Popen":
            words = arguments[1]
            # A command of one text is a program's name.
            key = ("command", words if isinstance(words, str) else " ".join(map(_text, words)))
        elif event == "os.fork":
            key = ("fork", None)
        else:
            return
        self._places[key] = self._place(sys._getframe(1))

    def _hear_threads(self) -> None:
        start = threading.Thread.start

        def started(thread: threading.Thread) -> None:
            self._places[("thread", id(thread))] = self._place(sys._getframe(1))
            start(thread)

        threading.Thread.start = started  # type: ignore[assignment, method-assign]

    def _place(self, frame: types.FrameType | None) -> str:
        """The innermost line of the application's own, else the innermost of an installed package."""
        second_best = ""
        while frame is not None:
            file = frame.f_code.co_filename
            if not file.startswith(("<", _PACKAGE)):
                if file.startswith(self._installed):
                    second_best = second_best or self.location(file, frame.f_lineno)
                elif not file.startswith(self._library):
                    return self.location(file, frame.f_lineno)
            frame = frame.f_back
        return second_best

    def location(self, file: str, line: int) -> str:
        """The position of a line; the path is relative where it is below the folder of the start."""
        return f"{file.removeprefix(self._here)}:{line}"


def _inode(number: int) -> int:
    try:
        return os.fstat(number).st_ino
    except OSError:  # the socket is closed already, as its owner will notice
        return -1


def _text(word: object) -> str:
    return os.fsdecode(word) if isinstance(word, bytes | os.PathLike) else str(word)
