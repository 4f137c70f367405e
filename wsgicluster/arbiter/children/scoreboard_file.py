"""Where the scoreboard file goes: into memory if there is room, else to a disk, and then with a warning."""

import logging
import os
import tempfile

from wsgicluster.errors import ServerError
from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.system import filesystems

SHARED_MEMORY = "/dev/shm"
IN_MEMORY = frozenset({"tmpfs", "ramfs", "shm"})


def open_scoreboard(
    folder: str | None, log: logging.Logger, children: int, shared_memory: str = SHARED_MEMORY
) -> Scoreboard:
    """The scoreboard in ``folder``, if the settings name one, or else where it is best.

    Memory is best where it has room for as many ``children`` as there are when all workers are replaced at once.
    Raises ServerError when there is no room in the named folder, or nowhere.
    """
    if folder is None and filesystems.file_system(shared_memory) in IN_MEMORY and os.access(shared_memory, os.W_OK):
        try:
            return Scoreboard(shared_memory, children)
        except ServerError as error:
            log.warning("%s; the folder for temporary files is used instead", error)
    try:
        place = folder or tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ServerError("worker_tmp_dir: there is no folder to write to; name one that is in memory") from error
    kind = filesystems.file_system(place)
    if kind and kind not in IN_MEMORY:
        log.warning(
            "worker_tmp_dir: %s is on a disk (%s), where a worker may be held up and look hung; name one in memory",
            place,
            kind,
        )
    return Scoreboard(folder)
