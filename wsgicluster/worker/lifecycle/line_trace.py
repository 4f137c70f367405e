"""For development: prints each line of Python that is executed, to standard error.

Lines of this package, of the import system and of generated code are skipped, since they would hide those that are
looked for. Only imported where it is asked for: tracing slows all code down by far.
"""

import linecache
import os
import sys
import threading
from types import FrameType
from typing import Any, TextIO

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class LineTrace:
    """What is called for each line; `begin` has it called in this thread and in those that start from now on."""

    def __init__(self, stream: TextIO, skipped: str = _OWN_FOLDER) -> None:
        self._stream = stream
        self._skipped = skipped

    def begin(self) -> None:
        """Trace this thread and all later ones."""
        threading.settrace(self)
        sys.settrace(self)

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "LineTrace | None":
        """As `sys.settrace` has it: called at the start of a function, and for each line of one that is traced."""
        path = frame.f_code.co_filename
        if path.startswith((self._skipped, "<")):
            return None
        if event == "line":
            text = linecache.getline(path, frame.f_lineno).rstrip()
            name = frame.f_globals.get("__name__", path)
            self._stream.write(f"{name}:{frame.f_lineno}: {text}\n")
        return self
