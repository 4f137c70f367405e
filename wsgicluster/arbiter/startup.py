"""What a server checks and opens before it has a child, and what it logs about that."""

import logging
import os
import posixpath
import shlex
import sys
from collections.abc import Callable, Sequence

from wsgicluster.arbiter.listeners.admin import AdminAddresses
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.sockets import Backlog, Owner, backlog_limit, open_listeners
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.counting import count_of
from wsgicluster.errors import ServerError
from wsgicluster.ipc.app_metrics import AppMetricsFolder
from wsgicluster.ipc.assignment import HAND_OFF_FORMAT
from wsgicluster.ipc.shared_files import SharedFilesOwner
from wsgicluster.settings import Settings
from wsgicluster.settings.types.values import WorkerRange
from wsgicluster.system import process
from wsgicluster.version import __version__

SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"})


def log_start(settings: Settings, core: str, log: logging.Logger) -> None:
    """Log what starts: version, kind of workers, and what they run on. ``core`` is that of HTTP, in words."""
    log.info("Starting wsgicluster %s (core: %s)", __version__, core)
    # Modules that say it in more detail would take a millisecond of each start.
    name = {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)
    threading = ", free-threaded" if "free-threading" in sys.version else ""
    log.info("Using worker: %s on %s %s%s", workers_in_words(settings), name, sys.version.split()[0], threading)


def workers_in_words(settings: Settings) -> str:
    """Kind and number of the workers, as ``gthread (2 workers with 8 threads each)``."""
    kind = settings.worker_class if isinstance(settings.worker_class, str) else settings.worker_class.__qualname__
    number = count_of(settings.workers, "worker")
    if isinstance(settings.workers, WorkerRange):
        number = f"{int(settings.workers)} to {settings.workers.most} workers"
    threads = f" with {settings.threads} threads each" if settings.threads > 1 else ""
    return f"{kind} ({number}{threads})"


def how_to_stop(settings: Settings, pid: int, has_terminal: bool) -> str:
    """The ways to stop this server, as a log line. Ctrl-C is one where a terminal is at hand."""
    ways = ["Ctrl-C"] if has_terminal and not settings.daemon else []
    if not settings.control_socket_disable:
        which = ["-p", settings.pidfile] if settings.pidfile else ["-n", settings.proc_name or ""]
        ways.append(shlex.join(["wsgiclusterctl", *(which if which[1] else ()), "stop"]))
    ways.append(f"kill -TERM {pid}")
    return f"To stop: {', '.join(ways[:-1])}{' or ' if ways[1:] else ''}{ways[-1]}"


def in_foreground() -> bool:
    """Whether a key typed at a terminal reaches this process."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # another session's terminal
        return False


def warn_about_environment(log: logging.Logger) -> None:
    """Warn about what will do harm later."""
    remark = shell_as_pid1_warning(os.getppid(), process.title(1))
    if remark:
        log.warning("%s", remark)


def shell_as_pid1_warning(parent: int, command_line: str) -> str:
    """A warning about a shell that is process 1 and the server's parent, since it passes no signal on; else empty.

    ``command_line`` is that of process 1, its words separated by spaces.
    """
    words = command_line.split()
    if parent != 1 or not words:
        return ""
    shell = posixpath.basename(words[0]).lstrip("-")
    if shell not in SHELLS:
        return ""
    return (
        f"process 1 is a shell ({shell}) that does not pass SIGTERM on: stopping the container will cut requests off; "
        "begin the last command of its script with exec, or start the server without a shell"
    )


def prepare_process(settings: Settings, shared_files: SharedFilesOwner, app_metrics: AppMetricsFolder) -> None:
    """Before children with these settings: give them files and folders, and adopt the workers that a mold forks.

    Raises ServerError when this process cannot adopt them, and OSError when the store cannot be given away.
    """
    shared_files.give_to(settings.user, settings.group)
    if settings.app_metrics:
        app_metrics.prepare(settings.user, settings.group)
    if not settings.preload_app:
        return
    try:
        process.set_child_subreaper()
    except OSError as error:
        raise ServerError(f"preload_app: {error.strerror or error}") from error


def open_addresses(settings: Settings, addresses: Addresses, passed: Sequence[Passed] = ()) -> list[int]:
    """The numbers of the listeners that these settings ask for, opened or taken over. Raises AddressError."""
    umask = settings.umask or 0
    owner = Owner(settings.user, settings.group, umask) if os.geteuid() == 0 else Owner(umask=umask)
    queue = Backlog(settings.backlog, settings.defer_accept, settings.reuse_port)
    return addresses.open(settings.bind, lambda missing: open_listeners(missing, queue, owner), passed)


def listen(settings: Settings, addresses: Addresses, passed: Sequence[Passed], log: logging.Logger) -> list[int]:
    """Open or take over the first listeners, and say so; their numbers. Raises AddressError."""
    numbers = open_addresses(settings, addresses, passed)
    addresses.say_listening(numbers, settings.scheme)
    limit = backlog_limit()
    if limit is not None and limit < settings.backlog:
        log.warning("backlog: the kernel grants %d, not %d; see net.core.somaxconn", limit, settings.backlog)
    return numbers


def most_children(settings: Settings) -> int:
    """How many children there are at a time, as a rule: two generations of workers and molds, and others once."""
    return 2 * (settings.workers_most + settings.preload_app) + settings.jobs_worker + (settings.admin is not None)


def first_number(pid: int) -> int:
    """Where a server begins to number what it opens: two of them that share a hand-off socket never meet."""
    return pid << 32


def admin_addresses(is_shared: Callable[[Passed], bool], log: logging.Logger) -> AdminAddresses:
    """No listener of the admin worker yet; their numbers are not those of others."""
    return AdminAddresses(log, first_number(os.getpid()) + (1 << 31), is_shared)


def hand_off_kind(settings: Settings) -> str:
    """What the packets on the hand-off socket look like and mean; two servers with the same may share one."""
    return f"{HAND_OFF_FORMAT} {settings.protocol} {'tls' if settings.has_tls else 'plain'}"
