"""Gathers the facts about the machine, container or service that the server would run in."""

import importlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping

from wsgicluster.arbiter.listeners.sockets import backlog_limit
from wsgicluster.doctor.facts import Certificate, Disk, Surroundings
from wsgicluster.http import core
from wsgicluster.ipc import app_metrics
from wsgicluster.settings import Settings
from wsgicluster.system import cgroup, filesystems, process
from wsgicluster.system.network.certificate import validity

COMPILED = (
    "wsgicluster.http._parser",
    "wsgicluster.http._writer",
    "wsgicluster.worker.request._bodies",
    "wsgicluster.worker.request._leaves",
    "wsgicluster.worker.request._coalesce",
    "wsgicluster.worker.kinds.sync._fast_path",
    "wsgicluster.worker.kinds.sync._slow_request_watch",
)
FILES_BYTES = 100 << 20
"""Less than this is little for logs and for bodies that are stored on disk."""
HEARTBEAT_BYTES = 8 << 20

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|min|s|h|d)")
_SPAN_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_ASK_S = 5


def survey(settings: Settings, environ: Mapping[str, str], root: str = "/") -> Surroundings:
    """The facts as they are now, for these settings; ``root`` stands for ``/`` where files are read."""
    folder, disk = filesystems.in_memory_folder(settings.worker_tmp_dir)
    unit = service_unit(root)
    return Surroundings(
        user=os.geteuid(),
        processors=cgroup.usable_processors(root),
        machine_processors=os.cpu_count() or 1,
        memory_limit_bytes=cgroup.memory_limit_bytes(root),
        backlog_limit=backlog_limit(root),
        heartbeat_folder=folder or tempfile.gettempdir(),
        heartbeat_disk=disk,
        metrics_folder=environ.get(app_metrics.VARIABLE, ""),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        disks=tuple(_disks(settings, folder)),
        init_command=process.title(1),
        parent_command=process.title(os.getppid()),
        manager=unit or ("supervisord" if "SUPERVISOR_ENABLED" in environ else ""),
        manager_stop_s=stop_time(unit) if unit else None,
        plain_modules=tuple(name for name in COMPILED if not _imports(name)),
        plain_wanted=not core.compiled and environ.get("WSGICLUSTER_PURE", "") not in ("", "0"),
        certificate=_certificate(settings),
        now=time.time(),
    )


def service_unit(root: str = "/") -> str:
    """The systemd unit of this process, read from its control group; empty for none."""
    try:
        lines = (pathlib.Path(root) / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux, or a sandbox that hides it
        return ""
    for line in lines:
        name = line.rpartition("/")[2]
        # A user's session is a service too, and runs all that is started by hand.
        if name.endswith(".service") and not name.startswith("user@"):
            return name
    return ""


def stop_time(unit: str) -> float | None:
    """How long systemd waits for a unit to stop before it kills it, in seconds; None where that is unknown."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return None
    command = [systemctl, "show", "--value", "--property=TimeoutStopUSec", unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):  # not installed, or systemd does not respond
        return None
    return read_span(done.stdout)


def read_span(text: str) -> float | None:
    """Seconds of ``1min 30s``; None for ``infinity`` and everything else."""
    words = text.split()
    parts = [_SPAN.fullmatch(word) for word in words]
    if not parts or None in parts:
        return None
    return sum(float(part[1]) * _SPAN_S[part[2]] for part in parts if part is not None)


def _disks(settings: Settings, heartbeat_folder: str | None) -> Iterator[Disk]:
    for name, path in (("errorlog", settings.errorlog), ("accesslog", settings.accesslog)):
        if path not in (None, "-"):
            yield from _disk(name, os.path.dirname(os.path.abspath(path or "")), FILES_BYTES)
    yield from _disk("tmp_upload_dir", settings.tmp_upload_dir or tempfile.gettempdir(), FILES_BYTES)
    yield from _disk("worker_tmp_dir", heartbeat_folder or tempfile.gettempdir(), HEARTBEAT_BYTES)


def _disk(setting: str, path: str, wanted_bytes: int) -> Iterator[Disk]:
    try:
        found = os.statvfs(path)
    except OSError:  # a missing folder is an error of the settings, which are checked elsewhere
        return
    yield Disk(setting, path, found.f_bavail * found.f_frsize, wanted_bytes)


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _certificate(settings: Settings) -> Certificate | None:
    if settings.certfile is None:
        return None
    try:
        begin, end = validity(pathlib.Path(settings.certfile).read_text("latin-1"))
    except (OSError, ValueError):  # whether it is valid was checked with the settings
        return None
    return Certificate(settings.certfile, begin, end)
