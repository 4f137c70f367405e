"""The application's metrics in this process: where prometheus_client keeps their values, and that there is room.

The package maps files into memory and lets them grow without asking the file system: in a full one, the next store
would end the process with SIGBUS, in the middle of a request. So room is reserved before a value is made, and a value
that there is no room for is kept in this process alone. What is made in a mold is opened again by its workers, each in
the files of its slot (`wsgicluster.ipc.app_metrics`), and reserved for them when they are forked.
"""

import logging
import os
import sys
import threading
from typing import Any

from wsgicluster.errors import BootError
from wsgicluster.ipc import app_metrics
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.logs.loggers import ERROR_LOGGER

_log = logging.getLogger(ERROR_LOGGER)

_HEAD_BYTES = 8
"""Before the first value; its first half is how many bytes of the file are used, as the machine writes a number."""
_ENTRY_BYTES = 4 + 8 + 16
"""Of a value besides its key: length of the key, at most so much to fill up, value and moment."""
_BLOCK_BYTES = 4096


def begin(assignment: Assignment) -> None:
    """Keep metrics in the files of this process, if it is to. Raises BootError when there is no room for them."""
    if not assignment.app_metrics:
        return
    before = app_metrics.process_name()
    app_metrics.begin(assignment.app_metrics, assignment.slot, assignment.page.index)
    if before:
        try:
            _reserve_as(before)
        except OSError as error:
            raise BootError(
                f"app_metrics: no room in {assignment.app_metrics}: {error.strerror}; "
                "name a folder with room in worker_tmp_dir"
            ) from error


def install() -> None:
    """Before the application is imported, and after monkey-patching: have prometheus_client use those files."""
    if app_metrics.folder():
        # Late: only processes with such metrics spend memory on it.
        from prometheus_client import values

        values.ValueClass = _ValueMaker(values)


class _ValueMaker:
    """Stands for the class of the values of metrics, which prometheus_client calls to make one."""

    _multiprocess = True
    """As the package's own class for files has it."""

    def __init__(self, package: Any) -> None:
        self._in_file = package.MultiProcessValue(app_metrics.process_name)
        self._in_memory = package.MutexValue
        self._key = package.mmap_key
        # From the look at what is used until that has grown.
        self._lock = threading.Lock()
        self._is_told = False

    def __call__(self, typ: str, *series: Any, **others: Any) -> Any:
        """A value of this type; ``series`` are what names it: two names, names and values of labels, a help text."""
        file = f"gauge_{others.get('multiprocess_mode', '')}" if typ == "gauge" else typ
        with self._lock:
            try:
                key_bytes = len(self._key(*series).encode())
                _reserve(_path(file, app_metrics.process_name()), key_bytes + _ENTRY_BYTES)
            except OSError as error:
                self._tell(error)
                return self._in_memory(typ, *series, **others)
            return self._in_file(typ, *series, **others)

    def _tell(self, error: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            _log.error(
                "app_metrics: no room in %s: %s; new metrics of pid %d are not shown; name a folder with room in "
                "worker_tmp_dir", app_metrics.folder(), error.strerror, os.getpid(),
            )  # fmt: skip


def _path(file: str, name: str) -> str:
    return os.path.join(app_metrics.folder(), f"{file}_{name}.db")


def _reserve(path: str, size: int) -> None:
    """Have room for so many bytes more in a file, which is made if need be. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        used = _used_bytes(descriptor)
        wanted = max(used, _HEAD_BYTES) + size
        try:
            os.posix_fallocate(descriptor, 0, -(-wanted // _BLOCK_BYTES) * _BLOCK_BYTES)
        except OSError:
            if not used:
                os.unlink(path)  # for readers an empty one is damaged
            raise
    finally:
        os.close(descriptor)


def _used_bytes(descriptor: int) -> int:
    return int.from_bytes(os.pread(descriptor, 4, 0), sys.byteorder)


def _reserve_as(name: str) -> None:
    """Have room in the files of this process for all values in those of another one. Raises OSError."""
    ending = f"_{name}.db"
    for found in os.listdir(app_metrics.folder()):
        if found.endswith(ending):
            descriptor = os.open(os.path.join(app_metrics.folder(), found), os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = _used_bytes(descriptor)
            finally:
                os.close(descriptor)
            _reserve(_path(found.removesuffix(ending), app_metrics.process_name()), size)
