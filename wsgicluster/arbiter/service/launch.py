"""What this process was started with: the command to start it again, and what its starter has passed on.

A service manager passes sockets, a socket to notify and a watchdog; a server
that is upgraded passes its listeners. All of it is announced by environment
variables, which are taken out of the environment: they are meant for this process
and for none of its children.
"""

import dataclasses
import json
from collections.abc import Mapping, MutableMapping
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.shared_files import PassedFiles
from wsgicluster.pattern import pattern

UPGRADE_VARIABLE = "WSGICLUSTER_UPGRADE"
FIRST_FD = 3
"""Where the sockets begin that a service manager passes, ``SD_LISTEN_FDS_START``."""

_LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_NOTIFY_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MOST_FDS = 1 << 16
# No more digits than any of them could have: int() refuses thousands.
_NUMBER = pattern("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Passed:
    """A listening socket that was open before this process began to run.

    ``place`` is the address it was opened for, as `canonical_address` in `wsgicluster.arbiter.listeners.matching`
    writes it.
    ``activated`` says that it is a service manager's, ``name`` how that calls it. ``made`` is device and inode
    of the socket file that a server has made for it, and is to remove. ``number`` is what the workers of a server call
    it, and those of the next one, too.
    """

    fd: int
    place: str = ""
    name: str = ""
    activated: bool = False
    made: tuple[int, int] | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True)
class HandOff:
    """The hand-off socket of a server as descriptors; ``kind`` says what the packets on it look like, and mean.

    ``retained`` is the file of its retained values and ``turns`` that of its turns, -1 where it has none.
    """

    receive: int
    send: int
    kind: str
    retained: int = -1
    turns: int = -1


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The server that has started this one beside itself; ``channel`` is the descriptor of the upgrade channel.

    ``workers`` is with how many workers this one would serve as well as that, 0 where it does not say.
    """

    pid: int
    channel: int
    hand_off: HandOff
    workers: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """How a service manager hears of this process: the path of its socket (``@`` first: abstract), or empty.

    With ``watchdog_s`` above 0 it wants to hear that often.
    """

    notify_socket: str = ""
    watchdog_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """All of it; ``command`` is empty where it is not known."""

    command: tuple[str, ...] = ()
    directory: str = ""
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    passed: tuple[Passed, ...] = ()
    predecessor: Predecessor | None = None
    service: Service = Service()
    shared_files: PassedFiles | None = None
    passed_admin: tuple[Passed, ...] = ()
    """The listeners of the admin worker, which are not among ``passed``."""


def take(environ: MutableMapping[str, str], pid: int) -> Origin:
    """Take what was passed on to ``pid`` out of its environment.

    What is addressed to another process, or is invalid, is taken out and not used.
    """
    found = {name: environ.pop(name, "") for name in (*_LISTEN_VARIABLES, *_NOTIFY_VARIABLES, UPGRADE_VARIABLE)}
    service = Service(found["NOTIFY_SOCKET"], _watchdog_s(found["WATCHDOG_USEC"], found["WATCHDOG_PID"], pid))
    try:
        return dataclasses.replace(_upgraded(found[UPGRADE_VARIABLE], pid), service=service)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        # No server before this one, or one with another format: then the addresses are opened as always.
        return Origin(passed=_activated(found, pid), service=service)


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def _watchdog_s(microseconds: str, for_pid: str, pid: int) -> float:
    return _number(microseconds) / 1e6 if for_pid in ("", str(pid)) else 0.0


def _activated(found: Mapping[str, str], pid: int) -> tuple[Passed, ...]:
    """The sockets of a service manager, as sd_listen_fds_with_names(3) has them."""
    if found["LISTEN_PID"] != str(pid):
        return ()
    names = found["LISTEN_FDNAMES"].split(":") if found["LISTEN_FDNAMES"] else []
    count = min(_number(found["LISTEN_FDS"]), _MOST_FDS)
    names += [""] * (count - len(names))
    return tuple(Passed(FIRST_FD + i, name=names[i], activated=True) for i in range(count))


def announce(
    pid: int,
    predecessor: Predecessor,
    passed: tuple[Passed, ...],
    shared_files: PassedFiles | None = None,
    passed_admin: tuple[Passed, ...] = (),
) -> str:
    """The value of `UPGRADE_VARIABLE` for the process ``pid``, which is about to become a new server."""
    return json.dumps(
        {
            "for": pid,
            "predecessor": {
                "pid": predecessor.pid,
                # As servers of earlier versions call it: one of them may be on either side.
                "bond": predecessor.channel,
                "hand_off": dataclasses.asdict(predecessor.hand_off),
                "workers": predecessor.workers,
            },
            "listeners": [dataclasses.asdict(each) for each in passed],
            "shared_files": dataclasses.asdict(shared_files) if shared_files is not None else None,
            "admin_listeners": [dataclasses.asdict(each) for each in passed_admin],
        }
    )


def _upgraded(text: str, pid: int) -> Origin:
    """What `announce` has written; raises what `take` expects for anything else."""
    fields = json.loads(text)
    if fields["for"] != pid:
        raise ValueError
    before = fields["predecessor"]
    # One from before their number could be passed says nothing of it.
    workers = int(before.get("workers", 0))
    predecessor = Predecessor(before["pid"], before["bond"], HandOff(**before["hand_off"]), workers)
    listeners = tuple(_listener(each) for each in fields["listeners"])
    # A server from before there was shared state, or an admin worker, passes none.
    files, admin = fields.get("shared_files"), fields.get("admin_listeners", [])
    return Origin(
        passed=listeners,
        predecessor=predecessor,
        shared_files=PassedFiles(**files) if files else None,
        passed_admin=tuple(_listener(each) for each in admin),
    )


def _listener(fields: dict[str, Any]) -> Passed:
    made = fields.pop("made")
    return Passed(**fields, made=(made[0], made[1]) if made else None)


def service_variables(service: Service, pid: int) -> dict[str, str]:
    """The variables of a service manager, passed on to the process ``pid``."""
    variables = {}
    if service.notify_socket:
        variables["NOTIFY_SOCKET"] = service.notify_socket
    if service.watchdog_s:
        variables["WATCHDOG_USEC"] = str(round(service.watchdog_s * 1e6))
        variables["WATCHDOG_PID"] = str(pid)
    return variables
