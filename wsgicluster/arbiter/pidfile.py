"""The pid file: written whole or not at all, refused while a live process holds it, removed at the end."""

import contextlib
import os
import pathlib
import tempfile

from wsgicluster import process
from wsgicluster.errors import ServerError

_CLOCKS_DIFFER_S = 2.0
"""Start times of processes and of files are taken with different clocks."""


class PidFile:
    """A file that names this process."""

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path).absolute()
        self._pid = 0

    def create(self, pid: int) -> None:
        """Write the file; raises ServerError when a live process holds it or when it cannot be written."""
        holder = self._holder()
        if holder not in (None, pid):
            raise ServerError(f"pidfile: {self._path} is held by process {holder}, which is alive")
        try:
            self._write(pid)
        except OSError as error:
            raise ServerError(f"pidfile: cannot write {self._path}: {error.strerror}") from error
        self._pid = pid

    def _holder(self) -> int | None:
        """The live process that the file names; None when there is none, and the file may be taken over."""
        try:
            pid = int(self._path.read_bytes())
            written_at = self._path.stat().st_mtime
        except (OSError, ValueError):
            # No such file, or no number in it; what else is wrong with the path shows when it is written.
            return None
        started_at = process.started_at(pid) if pid > 0 else None
        # Numbers are used again: a process that is younger than the file cannot have written it.
        return pid if started_at is not None and started_at <= written_at + _CLOCKS_DIFFER_S else None

    def _write(self, pid: int) -> None:
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            os.write(descriptor, f"{pid}\n".encode())
            os.fchmod(descriptor, 0o644)
            os.rename(name, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):  # the rename had happened
                os.unlink(name)
            raise
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the file if it still names this process; raises OSError when that is not allowed."""
        try:
            ours = self._pid and int(self._path.read_bytes()) == self._pid
        except (FileNotFoundError, ValueError):
            # Removed, or written anew, by somebody else.
            return
        if ours:
            self._path.unlink(missing_ok=True)
        self._pid = 0
