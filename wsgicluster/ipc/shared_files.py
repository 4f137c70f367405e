"""The files that hold the cluster's shared state: counters, locks, and the folder of the store.

The arbiter makes them once, before it forks; its children inherit the descriptors, and a server that is started beside
this one takes them over, so that what is in them outlives workers, reloads and upgrades. What is written in them is
decided in `wsgicluster.cluster`.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError

FORMAT = 1
"""One more with each change of what is in the files: a server of another version begins with files of its own."""

FOLDER_PREFIX = "wsgicluster-store-"
_UNNAMED_PREFIX = ".wsgicluster-new-"


@dataclass(frozen=True, slots=True)
class SharedFiles:
    """What each child has of the files; ``instance`` is different for each start of a server, upgrades included.

    ``locks_fd`` is a file of its own and must never be duplicated: to close any descriptor of it, in any part of a
    process, gives up all record locks that the process has (fcntl(2)).
    """

    counters_fd: int
    locks_fd: int
    folder: str
    instance: str

    def descriptors(self) -> set[int]:
        """Those that a child keeps."""
        return {self.counters_fd, self.locks_fd}

    def close(self) -> None:
        """Close them, in a process that is not to use them."""
        for number in self.descriptors():
            with contextlib.suppress(OSError):  # closed by the application
                os.close(number)


@dataclass(frozen=True, slots=True)
class PassedFiles:
    """Shared files as one server passes them to the next: descriptors and a path; ``lease_fd`` keeps the folder."""

    counters_fd: int
    locks_fd: int
    lease_fd: int
    folder: str
    format: int = FORMAT

    def descriptors(self) -> set[int]:
        """All of them."""
        return {self.counters_fd, self.locks_fd, self.lease_fd}


class SharedFilesOwner:
    """One server's hold on the files; the last of the servers that share them removes the folder.

    Each server has a shared lock (flock(2)) on the folder, so that a folder without one is known to be left over from
    a server that was killed, and the next server removes it.
    """

    def __init__(self, files: SharedFiles, lease_fd: int) -> None:
        self.files = files
        self._lease_fd = lease_fd

    @classmethod
    def create(cls, place: str) -> "SharedFilesOwner":
        """New, empty files; the folder is made in ``place``. Raises ServerError when there is no room."""
        try:
            _remove_left_over(place)
            with contextlib.ExitStack() as undo:
                folder, lease_fd = _new_folder(place)
                undo.callback(os.close, lease_fd)
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
                counters_fd = _unnamed_file("wsgicluster-counters", folder)
                undo.callback(os.close, counters_fd)
                files = SharedFiles(
                    counters_fd, _unnamed_file("wsgicluster-locks", folder), folder, os.urandom(16).hex()
                )
                undo.pop_all()
        except OSError as error:
            raise ServerError(
                f"worker_tmp_dir: cannot make the files of the shared state in {place}: {error.strerror}; "
                "name a writable folder with room"
            ) from error
        return cls(files, lease_fd)

    @classmethod
    def adopt(cls, passed: PassedFiles | None, place: str) -> "SharedFilesOwner":
        """Those of the server before this one where they can be used, else new ones. Raises ServerError."""
        if passed is None:
            return cls.create(place)
        if passed.format != FORMAT or not os.path.isdir(passed.folder):
            for number in passed.descriptors():
                os.close(number)
            return cls.create(place)
        for number in passed.descriptors():
            os.set_inheritable(number, False)
        files = SharedFiles(passed.counters_fd, passed.locks_fd, passed.folder, os.urandom(16).hex())
        return cls(files, passed.lease_fd)

    @contextlib.contextmanager
    def passed(self) -> Iterator[PassedFiles]:
        """The files for a server that is forked within this context; it holds the folder from then on."""
        # Opened anew: a lock goes with what was opened, and what is inherited would be one with this server's.
        lease_fd = _hold(self.files.folder)
        try:
            yield PassedFiles(self.files.counters_fd, self.files.locks_fd, lease_fd, self.files.folder)
        finally:
            os.close(lease_fd)

    def give_to(self, uid: int, gid: int) -> None:
        """Have the store belong to the user that workers run as. Only root can, and needs to; raises OSError."""
        if os.geteuid() == 0:
            give_files(self._lease_fd, uid, gid)

    def close(self) -> None:
        """Close all descriptors; the last server removes the folder."""
        # Given up first and asked for then: of two servers that end together, the later one removes it.
        fcntl.flock(self._lease_fd, fcntl.LOCK_UN)
        _remove_unheld(self._lease_fd, self.files.folder)
        os.close(self._lease_fd)
        self.files.close()


def give_files(folder_fd: int, uid: int, gid: int) -> None:
    """Have a folder and the files in it belong to a user. Only root can; raises OSError where the folder cannot."""
    os.fchown(folder_fd, uid, gid)
    for name in os.listdir(folder_fd):
        # The folder is its user's: what is in it may be a link to something else by now, which is not opened.
        with contextlib.suppress(OSError):
            found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
            try:
                about = os.fstat(found)
                if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
                    os.fchown(found, uid, gid)
            finally:
                os.close(found)


def _new_folder(place: str) -> tuple[str, int]:
    """A private folder and the descriptor that holds it; it has its name only once it is held."""
    unnamed = tempfile.mkdtemp(prefix=_UNNAMED_PREFIX, dir=place)
    folder = os.path.join(os.path.abspath(place), FOLDER_PREFIX + os.path.basename(unnamed)[len(_UNNAMED_PREFIX) :])
    lease_fd = _hold(unnamed)
    os.rename(unnamed, folder)
    return folder, lease_fd


def _hold(folder: str) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _remove_left_over(place: str) -> None:
    """Remove folders that a killed server has left."""
    for name in os.listdir(place):
        if not name.startswith(FOLDER_PREFIX):
            continue
        folder = os.path.join(place, name)
        with contextlib.suppress(OSError):  # another user's, or removed since
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _remove_unheld(descriptor, folder)
            finally:
                os.close(descriptor)


def _remove_unheld(descriptor: int, folder: str) -> None:
    with contextlib.suppress(BlockingIOError):  # another server holds it
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


def _unnamed_file(name: str, folder: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())
