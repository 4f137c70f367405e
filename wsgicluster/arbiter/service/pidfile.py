"""The pid file: written whole or not at all, refused while a live process holds it, removed at the end."""

import contextlib
import logging
import os
import pathlib
import stat
import tempfile

from wsgicluster.errors import ServerError
from wsgicluster.system import process

_CLOCKS_DIFFER_S = 2.0
"""Start times of processes and of files are taken with different clocks."""

_READ_BYTES = 32
"""No number of a process is longer."""


class PidFile:
    """A file that names this process."""

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path).absolute()
        self._pid = 0

    def create(self, pid: int) -> None:
        """Write the file; raises ServerError when a live process holds it or when it cannot be written."""
        self._check_free(pid)
        try:
            self._write(pid)
        except OSError as error:
            raise ServerError(f"pidfile: cannot write {self._path}: {error.strerror}") from error
        self._pid = pid

    def rename(self, path: str, predecessor: int) -> None:
        """Give the file the name that ``predecessor`` had for its own: a process that has exited, or is about to.

        Raises ServerError as `create` does, and then keeps the present name.
        """
        final = PidFile(path)
        final._check_free(predecessor)
        try:
            self._path.rename(final._path)
        except OSError as error:
            raise ServerError(f"pidfile: cannot rename {self._path}: {error.strerror}") from error
        self._path = final._path

    def _check_free(self, pid: int) -> None:
        self._check_kind()
        holder = self._holder()
        if holder not in (None, pid):
            raise ServerError(f"pidfile: {self._path} is held by process {holder}, which is alive")

    def _check_kind(self) -> None:
        """Raise ServerError for what is not a file: to read it may wait forever, and to replace it does harm."""
        try:
            mode = self._path.stat().st_mode
        except OSError:
            # Nothing there, as usual; what else is wrong with the path shows when it is written.
            return
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
            raise ServerError(f"pidfile: {self._path} is {what}; expected the path of a file")

    def _read(self) -> int:
        """The number in the file; raises OSError or ValueError when there is none."""
        # Without waiting, should it have become a pipe meanwhile.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, _READ_BYTES))
        finally:
            os.close(descriptor)

    def _holder(self) -> int | None:
        """The live process that the file names; None when there is none, and the file may be taken over."""
        try:
            pid = self._read()
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

    def discard(self, log: logging.Logger) -> None:
        """Remove the file as `remove` does; that it is not allowed is logged."""
        try:
            self.remove()
        except OSError as error:
            log.warning("pidfile: cannot be removed: %s", error.strerror)

    def remove(self) -> None:
        """Remove the file if it still names this process; raises OSError when that is not allowed."""
        try:
            ours = self._pid and self._read() == self._pid
        except (FileNotFoundError, IsADirectoryError, ValueError):
            # Removed, or written anew, by another process.
            return
        if ours:
            self._path.unlink(missing_ok=True)
        self._pid = 0
