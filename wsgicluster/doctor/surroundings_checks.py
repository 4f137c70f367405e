"""Checks of what the machine, container or service lacks for a server with these settings."""

import re
from collections.abc import Iterator

from wsgicluster.counting import count_of
from wsgicluster.doctor.facts import Facts, Finding
from wsgicluster.settings.types.worker import kind_row

SYNC_WORKERS_EACH = 4
"""More sync workers than this for each processor mostly wait for each other."""
SPARE_DESCRIPTORS = 64
"""Descriptors of a worker besides connections: listeners, logs, modules, files on disk."""
CERTIFICATE_S = 21 * 86400
DAY_S = 86400

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"})
_COMMAND_FLAG = re.compile(r"-[a-z]*c")
_LOGIN_FLAG = re.compile(r"-[li]+|--login")


def size(number_bytes: float) -> str:
    """A number of bytes in G or M."""
    unit, name = (1 << 30, "G") if number_bytes >= 1 << 30 else (1 << 20, "M")
    return f"{number_bytes / unit:.3g}{name}"


def backlog(facts: Facts) -> Iterator[Finding]:
    """A backlog above the kernel's limit."""
    limit, wanted = facts.surroundings.backlog_limit, facts.settings.backlog
    if limit is not None and limit < wanted:
        yield Finding(
            "backlog",
            f"the kernel lets {count_of(limit, 'connection')} wait, not {wanted}",
            f"run sysctl -w net.core.somaxconn={wanted} (a container has its own), or use {limit}",
        )


def heartbeat(facts: Facts) -> Iterator[Finding]:
    """A heartbeat file on a disk."""
    disk = facts.surroundings.heartbeat_disk
    if disk:
        yield Finding(
            "worker_tmp_dir",
            f"heartbeats would be written to {facts.surroundings.heartbeat_folder}, which is on a disk ({disk}): while "
            "that is busy, workers seem to hang",
            "name a folder in memory, such as /dev/shm or a mounted tmpfs",
        )


def metrics(facts: Facts) -> Iterator[Finding]:
    """Metrics of the application in files that are never removed."""
    folder = facts.surroundings.metrics_folder
    if folder and not facts.settings.app_metrics:
        yield Finding(
            "app_metrics",
            f"PROMETHEUS_MULTIPROC_DIR has prometheus_client make files in {folder} for each worker that there ever "
            "is: scrapes become slower with each reload, and sums fall when the files are removed",
            "use --app-metrics, which needs no such folder",
        )


def workers(facts: Facts) -> Iterator[Finding]:
    """Too many or too few workers for the processors."""
    settings, processors = facts.settings, facts.surroundings.processors
    usable = f"{count_of(processors, 'processor')} may be used"
    if processors < facts.surroundings.machine_processors:
        usable += f" of {facts.surroundings.machine_processors} (affinity or the container's limit)"
    most = SYNC_WORKERS_EACH * processors + 1
    if settings.workers_most > most:
        yield Finding(
            "workers",
            f"{count_of(settings.workers_most, 'worker')}, but {usable}",
            f"use {most} or fewer; for more requests at a time, threads or gevent take less memory",
        )
    elif settings.workers_most == 1 and processors > 1:
        yield Finding(
            "workers", f"one worker uses one processor only, and {usable}", "use -w auto, or a number that fits"
        )


def memory(facts: Facts) -> Iterator[Finding]:
    """A max_memory above the memory for all workers."""
    settings, limit = facts.settings, facts.surroundings.memory_limit_bytes
    number = settings.workers_most
    if number * settings.max_memory > limit:
        be = "is" if number == 1 else "are"
        yield Finding(
            "max_memory",
            f"{count_of(number, 'worker')} of {size(settings.max_memory)} {be} more than the {size(limit)} "
            "available: the kernel would kill them before they are recycled",
            "use --max-memory 80%, which is divided among them",
        )


def descriptors(facts: Facts) -> Iterator[Finding]:
    """Too few descriptors for the connections."""
    settings, limit = facts.settings, facts.surroundings.descriptors
    kind = kind_row(settings.worker_class)
    if not kind.limits_connections:
        return
    needed = kind.descriptors_each * settings.worker_connections + settings.threads + SPARE_DESCRIPTORS
    if limit < needed:
        connections = count_of(settings.worker_connections, "connection")
        yield Finding(
            "worker_connections",
            f"a {settings.worker_class} worker with {connections} needs about {needed} "
            f"descriptors, and may open {limit}",
            f"raise the limit (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile of Docker) to {_round_up(needed)}",
        )


def _round_up(number: int) -> int:
    return 1 << (number - 1).bit_length()


def shell(facts: Facts) -> Iterator[Finding]:
    """A shell that receives the signals meant for the server."""
    surroundings = facts.surroundings
    remedy = "start the server by exec, or in a container by a CMD or command that is a list"
    if _runs_a_script(surroundings.init_command):
        yield Finding(
            "signals", f"process 1 is a shell ({surroundings.init_command}), which does not forward TERM", remedy
        )
    elif surroundings.manager and _has_command_flag(surroundings.parent_command):
        yield Finding(
            "signals",
            f"{surroundings.manager} runs a shell ({surroundings.parent_command}), which does not forward TERM",
            remedy,
        )


def _is_shell(words: list[str]) -> bool:
    return bool(words) and words[0].rpartition("/")[2].lstrip("-") in _SHELLS


def _runs_a_script(command: str) -> bool:
    words = command.split()
    # Without arguments it is interactive.
    return _is_shell(words) and any(not _LOGIN_FLAG.fullmatch(word) for word in words[1:])


def _has_command_flag(command: str) -> bool:
    words = command.split()
    return _is_shell(words) and any(_COMMAND_FLAG.fullmatch(word) for word in words[1:])


def root(facts: Facts) -> Iterator[Finding]:
    """An application that runs as root."""
    if facts.surroundings.user == 0 and facts.settings.user == 0:
        yield Finding("user", "the application runs as root", "name a user (-u www-data), or start the server as one")


def compiled(facts: Facts) -> Iterator[Finding]:
    """Plain Python instead of the compiled modules."""
    modules = facts.surroundings.plain_modules
    if facts.surroundings.plain_wanted:
        yield Finding("WSGICLUSTER_PURE", "plain Python is selected, which is slower", "unset the variable")
    elif modules:
        yield Finding(
            "installation",
            f"not compiled, and so slower: {', '.join(modules)}",
            "install a C compiler and Python's headers, then pip install --force-reinstall --no-cache-dir wsgicluster",
        )


def disks(facts: Facts) -> Iterator[Finding]:
    """Little free space on a disk."""
    for disk in facts.surroundings.disks:
        if disk.free_bytes < disk.wanted_bytes:
            yield Finding(
                disk.setting,
                f"only {size(disk.free_bytes)} are free in {disk.path}",
                "free some space there, or name another folder",
            )


def certificate(facts: Facts) -> Iterator[Finding]:
    """A certificate that is invalid now or soon."""
    found, now = facts.surroundings.certificate, facts.surroundings.now
    if found is None:
        return
    if now >= found.not_after:
        yield Finding("certfile", f"{found.path} has expired", "renew it, and reload with HUP")
    elif now < found.not_before:
        yield Finding("certfile", f"{found.path} is not valid yet", "check the clock, and the certificate")
    elif found.not_after - now < CERTIFICATE_S:
        days = int((found.not_after - now) / DAY_S)
        yield Finding(
            "certfile", f"{found.path} expires in {count_of(days, 'day')}", "renew it, and reload with HUP"
        )  # fmt: skip


CHECKS = (backlog, heartbeat, metrics, workers, memory, descriptors, shell, root, compiled, disks, certificate)
