"""What the kernel's log says about processes: whom it killed for want of memory, and who touched what is not theirs.

Readable for root, and in the machine's own name space of processes only: elsewhere numbers mean other processes.
"""

import collections
import contextlib
import os

from wsgicluster.pattern import pattern

_LOG = "/dev/kmsg"
_NAME_SPACE = "/proc/self/ns/pid"
_MACHINE = "pid:[4026531836]"
"""The name space of the machine itself (PROC_PID_INIT_INO)."""

_RECORD_BYTES = 8192
_KEPT = 100
_ABOUT = pattern(r"Killed process (\d+) |\[(\d+)\]:? (?:segfault|general protection|trap) ")


class KernelLog:
    """The log from now on; to be closed by who opened it. It says nothing where it cannot be read."""

    def __init__(self, path: str = _LOG, name_space: str = _NAME_SPACE) -> None:
        self._found: collections.deque[tuple[int, str]] = collections.deque(maxlen=_KEPT)
        self._descriptor = -1
        # Another user's kernel log, none in this container, or no Linux: then the other evidence has to do.
        with contextlib.suppress(OSError):
            if os.readlink(name_space) == _MACHINE:
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.lseek(self._descriptor, 0, os.SEEK_END)

    def about(self, pid: int) -> str:
        """The last line about a process; empty when there is none."""
        self._read()
        return next((text for number, text in reversed(self._found) if number == pid), "")

    def _read(self) -> None:
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # lines were overwritten before they were read; the next read finds the oldest left
            except OSError:
                return  # nothing new
            if not data:
                return
            for line in data.decode("utf-8", "replace").splitlines():
                _, _, text = line.partition(";")
                named = _ABOUT.search(text)
                if named is not None:
                    self._found.append((int(named[1] or named[2]), text))

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
