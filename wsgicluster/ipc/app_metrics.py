"""Where the processes of a server keep the metrics that an application counts with prometheus_client, and for how long.

The package keeps them in files of a folder, for each process one for each type, which are named after the process. With
its pid there would be more of them after each exit, and sums would fall when they are removed. So the name is that of
the process's page on the scoreboard, which belongs to one living process, and to one slot as long as the server runs:
the next one in it opens the files of the last one and continues to count.

Nothing here knows what is in the files.
"""

import contextlib
import logging
import os
import shutil

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import ServerError
from wsgicluster.ipc.shared_files import SharedFiles, give_files
from wsgicluster.system import forks

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""What prometheus_client takes the folder from."""
_OF_LIVING = "gauge_live"
"""How the files of gauges begin that have a value for living processes only."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def writer_name(slot: int, page: int) -> str:
    """What the files of a process are named after: never a number alone, which could be the pid of another one."""
    return f"{slot}-{page}"


class AppMetricsFolder:
    """The arbiter's hold on the folder: made when it is first wanted, and removed in the end.

    It is in the folder of the shared files, which is removed if the server is killed. Each server has its own, in an
    upgrade, too, as each begins to count at 0 and has pages of its own.
    """

    def __init__(self, files: SharedFiles, log: logging.Logger) -> None:
        self.path = os.path.join(files.folder, f"metrics-{files.instance}")
        self._log = log
        self._descriptor: int | None = None

    def prepare(self, uid: int, gid: int) -> None:
        """Before processes of this user write to it. Raises ServerError where there is no room."""
        try:
            if self._descriptor is None:
                os.mkdir(self.path, 0o700)
                self._descriptor = os.open(self.path, _FOLDER)
                self._note_variable()
            if os.geteuid() == 0:
                give_files(self._descriptor, uid, gid)
        except OSError as error:
            raise ServerError(
                f"app_metrics: cannot make the folder {self.path}: {error.strerror}; "
                "name a writable folder with room in worker_tmp_dir"
            ) from error

    def _note_variable(self) -> None:
        given = os.environ.get(VARIABLE)
        if given:
            self._log.warning(
                "app_metrics: workers keep their metrics in a folder of the server's, and not in %s, which %s names",
                given, VARIABLE,
            )  # fmt: skip

    def forget_living(self, slot: int, page: int) -> None:
        """The process that has this page has exited: it has no value any more in gauges of living processes."""
        if self._descriptor is None:
            return
        name = writer_name(slot, page)
        with contextlib.suppress(OSError):  # the application may do what it likes with the folder
            for found in os.listdir(self._descriptor):
                if found.startswith(_OF_LIVING) and _is_file_of(found, name):
                    os.unlink(found, dir_fd=self._descriptor)

    def close(self) -> None:
        """Remove it with all that is in it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            shutil.rmtree(self.path, ignore_errors=True)


def _is_file_of(file: str, name: str) -> bool:
    """Whether a process of this name has written the file, or one that the application has forked from it."""
    writer = file.removesuffix(".db").rpartition("_")[2]
    return writer == name or writer.startswith(f"{name}-")


@dataclass(slots=True)
class _Writer:
    """What this process is to the folder."""

    folder: str = ""
    """Empty in a process that keeps no such metrics."""
    name: str = ""
    is_forked: bool = False
    """Whether the application has forked it, from the process of that name."""


_writer = _Writer()


def begin(folder: str, slot: int, page: int) -> None:
    """In a child, before the application is loaded or continues: keep its metrics in this folder from now on."""
    os.environ[VARIABLE] = folder
    _writer.folder, _writer.name, _writer.is_forked = folder, writer_name(slot, page), False
    forks.on_fork(_note_fork)


def _note_fork() -> None:
    _writer.is_forked = True


def folder() -> str:
    """The folder of this process, empty where it keeps no such metrics."""
    return _writer.folder


def process_name() -> str:
    """What the files of this process are named after now; no other living process has the same name."""
    return f"{_writer.name}-{os.getpid()}" if _writer.is_forked else _writer.name
