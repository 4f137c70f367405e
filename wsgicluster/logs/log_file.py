"""One file, pipe, socket or terminal that lines are appended to, in a way that never fails nor waits.

A full disk, a closed pipe or a full one costs lines, never a process: what cannot be written at once is dropped and
counted. Knows nothing of loggers.
"""

import contextlib
import os
import select
import socket
import stat
from collections.abc import Callable

from wsgicluster.errors import ServerError

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
_PIECE_BYTES = 4096
"""Up to this size a write to a pipe is atomic (``PIPE_BUF``)."""


class LogFile:
    """A file, pipe, socket or terminal that lines are appended to; ``descriptor`` belongs to it alone.

    ``is_terminal`` is whether it is one now: a daemon's stream becomes a file.
    For ``-`` it is the descriptor ``stream``; ``descriptors`` is the folder that lists this process's.
    ``report_dropped`` is called with the number of lost lines when writing is possible again; it returns
    whether they have been reported. Raises ServerError when the file cannot be opened.
    """

    def __init__(
        self, path: str, stream: int, owner: tuple[int, int] | None = None, descriptors: str = "/proc/self/fd"
    ) -> None:
        self._stream = stream if path == "-" else _STREAMS.get(path)
        if self._stream is None:
            self.path = os.path.abspath(path)
        else:
            self.path = {1: "standard output", 2: "standard error"}.get(self._stream, f"descriptor {self._stream}")
        self.report_dropped: Callable[[int], bool] = bool
        self._owner = owner
        self._mode = 0o644 & ~_umask()
        self._descriptors = descriptors
        self._dropped = 0
        self._torn = False
        self._unended = False
        """Whether the last text was written without a line end."""
        self._complained = False
        self._socket: socket.socket | None = None
        try:
            self._use(self._open())
        except OSError as error:
            raise ServerError(f"cannot open the log {self.path}: {error.strerror}") from error

    @property
    def is_file(self) -> bool:
        """Whether it has a path of its own."""
        return self._stream is None

    def close(self) -> None:
        """Close the descriptor."""
        if self._socket is not None:
            self._socket.detach()
        os.close(self.descriptor)

    def reopen(self) -> str | None:
        """Open the path again, in place of the old file; returns why not if the old one is kept, else empty.

        The same error is returned once. A standard stream is opened again only when it has been redirected.
        """
        try:
            if self._stream is None or self._leads_elsewhere():
                self._replace(self._open())
        except OSError as error:
            said, self._complained = self._complained, True
            return None if said else f"cannot open the log {self.path}: {error.strerror}; still writing to the old one"
        self._complained = False
        return None

    def follow(self) -> None:
        """Close a standard stream that was redirected, as by a daemon that leaves its terminal."""
        if self._leads_elsewhere():
            self.reopen()

    def write(self, data: bytes, whole: bool = True) -> None:
        """Append whole lines, or any text if not ``whole``; drop and count what cannot be written now."""
        self.follow()
        if self.put(data, whole) and self._dropped:
            count, self._dropped = self._dropped, 0
            if not self.report_dropped(count):
                self._dropped = count

    def put(self, data: bytes, whole: bool = True) -> bool:
        """The same without a report of lost lines; False when something was lost now."""
        rest = self._put(b"\n" + data if self._torn or (whole and self._unended) else data)
        if not rest:
            self._torn = False
            self._unended = not data.endswith(b"\n")
            return True
        taken = len(data) - len(rest)
        self._torn = data[taken - 1 : taken] != b"\n" if taken > 0 else self._torn
        self._dropped += rest.count(b"\n")
        return False

    def _put(self, data: bytes) -> bytes:
        """Write as much as can be written now; returns the rest."""
        while data:
            piece = data if self._takes_all else _head(data)
            try:
                if self._must_ask and not self._has_room():
                    return data
                if self._socket is not None:
                    count = self._socket.send(piece, socket.MSG_DONTWAIT)
                else:
                    count = os.write(self.descriptor, piece)
            except OSError:
                return data  # a full disk, or a closed or full pipe
            data = data[count:]
        return data

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poll.poll(0))

    def _open(self) -> int:
        if self._stream is not None:
            return self._open_stream(self._stream)
        try:
            descriptor = os.open(self.path, _FLAGS)
        except FileNotFoundError:
            descriptor = os.open(self.path, _FLAGS | os.O_CREAT, self._mode)
            with contextlib.suppress(OSError):  # another process was faster, and has another user
                # The first mode, whichever process opens it again: a worker may have its own umask.
                os.fchmod(descriptor, self._mode)
            owner = self._owner
        else:
            owner = self._owner_of_found(descriptor)
        if owner is not None:
            # Only root can; otherwise all files have one owner. Some file systems have no owners.
            with contextlib.suppress(OSError):
                os.fchown(descriptor, *owner)
        return descriptor

    def _owner_of_found(self, descriptor: int) -> tuple[int, int] | None:
        """The owner that a file which exists gets: programs that rotate logs create the new one as root.

        It keeps its group, whose members may read logs. Links of both kinds keep their owner:
        in a folder that others can write to, one may name a file that must not change hands.
        """
        if self._owner is None:
            return None
        try:
            found, named = os.fstat(descriptor), os.lstat(self.path)
        except OSError:  # renamed meanwhile
            return None
        itself = (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino)
        if not (stat.S_ISREG(found.st_mode) and itself and found.st_nlink == 1) or found.st_uid == self._owner[0]:
            return None
        return self._owner[0], -1

    def _open_stream(self, stream: int) -> int:
        try:
            mode = os.fstat(stream).st_mode
        except OSError:  # started without this stream
            return os.open(os.devnull, _FLAGS)
        if stat.S_ISFIFO(mode) or os.isatty(stream):
            # A second open file can be made non-blocking without affecting other users of the stream.
            with contextlib.suppress(OSError):  # no /proc here; then poll before each write
                return os.open(os.path.join(self._descriptors, str(stream)), _FLAGS)
        return os.dup(stream)

    def _replace(self, descriptor: int) -> None:
        # The number stays the same for code that has stored it.
        os.dup2(descriptor, self.descriptor, inheritable=False)
        os.close(descriptor)
        if self._socket is not None:
            self._socket.detach()
        self._use(self.descriptor)

    def _use(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor
        self._identity = (found.st_dev, found.st_ino)
        self._socket = socket.socket(fileno=descriptor) if stat.S_ISSOCK(found.st_mode) else None
        self.is_terminal = os.isatty(descriptor)
        streams = stat.S_ISFIFO(found.st_mode) or self.is_terminal
        self._takes_all = not streams and self._socket is None
        self._must_ask = streams and os.get_blocking(descriptor)

    def _leads_elsewhere(self) -> bool:
        if self._stream is None:
            return False
        try:
            found = os.fstat(self._stream)
        except OSError:
            return False  # the stream was closed; our descriptor is still valid
        return (found.st_dev, found.st_ino) != self._identity


def _umask() -> int:
    """The umask of this process."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _head(data: bytes) -> bytes:
    """A piece that a pipe accepts as a whole, up to a line end if there is one."""
    if len(data) <= _PIECE_BYTES:
        return data
    return data[: data.rfind(b"\n", 0, _PIECE_BYTES) + 1 or _PIECE_BYTES]
