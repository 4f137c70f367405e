"""The facts that the checks decide on: plain values, gathered elsewhere.

Sizes are in bytes, durations in seconds, dates in seconds since the epoch.
"""

import dataclasses
import json
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Trace:
    """An effect of loading the application, and the line that caused it, where that is known."""

    what: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.place})" if self.place else self.what


Traces = tuple[Trace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """The application as it is once it has been loaded; ``failure`` says why it was not, in one line."""

    failure: str = ""
    opened: Traces = ()
    """Connections, listeners, pipes and databases."""
    loops: Traces = ()
    threads: Traces = ()
    locks: Traces = ()
    children: Traces = ()
    handlers: Traces = ()
    """Signal handlers; `Trace.what` begins with the signal's name."""
    debug: tuple[str, ...] = ()
    blocking_drivers: tuple[str, ...] = ()
    """Modules whose waits gevent cannot see."""
    patched: bool = False
    """Whether gevent has patched the standard library."""
    resident_bytes: int = 0
    load_s: float = 0.0

    def to_json(self) -> str:
        """A text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Inspected":
        """The facts that another process has written. Raises ValueError for anything else."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("opened", "loops", "threads", "locks", "children", "handlers"):
            fields[name] = tuple(Trace(**trace) for trace in fields[name])
        for name in ("debug", "blocking_drivers"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that the server writes to: for which setting, how much is free, and how much should be."""

    setting: str
    path: str
    free_bytes: int
    wanted_bytes: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """The period in which a certificate is valid."""

    path: str
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The machine, container or service in which the server would run."""

    user: int = 1000
    processors: int = 1
    machine_processors: int = 1
    memory_limit_bytes: int = 1 << 33
    backlog_limit: int | None = None
    heartbeat_folder: str = "/dev/shm"
    heartbeat_disk: str = ""
    """Type of that folder's file system, where it is not in memory."""
    metrics_folder: str = ""
    """What the environment says where prometheus_client keeps an application's metrics."""
    descriptors: int = 1 << 16
    disks: tuple[Disk, ...] = ()
    init_command: str = ""
    """Command line of process 1."""
    parent_command: str = ""
    manager: str = ""
    """The unit or program that starts and stops this process."""
    manager_stop_s: float | None = None
    plain_modules: tuple[str, ...] = ()
    """Compiled modules that are not in use."""
    plain_wanted: bool = False
    certificate: Certificate | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything; ``settings`` with plain numbers for what depends on the machine."""

    settings: Settings
    surroundings: Surroundings
    application: Inspected
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its remedy; ``topic`` is the name of a setting where there is one."""

    topic: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return " ".join(f"{self.topic}: {self.what}; {self.remedy}".split())
