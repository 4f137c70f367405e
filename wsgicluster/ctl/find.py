"""Which server is meant: the one of a pid file, the one of a name, the one at a socket, or the only one there is."""

import os
from collections.abc import Sequence

from wsgicluster.control import address
from wsgicluster.control.client import ControlConnection, NoServer, OtherUsers
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the operator says which server; all None for the only one."""

    pidfile: str | None = None
    name: str | None = None
    socket: str | None = None


def connect(wanted: Wanted) -> ControlConnection:
    """A connection to the server that is meant. Raises NoServer with what to do."""
    if wanted.socket is not None:
        return ControlConnection(_as_address(wanted.socket))
    if wanted.pidfile is not None:
        return _connect_by_pidfile(wanted.pidfile)
    return ControlConnection(_of_pid(choose(wanted.name, *_reachable()).pid))


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that answers."""

    pid: int
    name: str


def choose(name: str | None, found: Sequence[FoundServer], of_others: Sequence[int]) -> FoundServer:
    """The one of this name or pid, or the only one. Raises NoServer; ``of_others`` are the pids of those not ours."""
    fitting = [each for each in found if name is None or name in (each.name, str(each.pid))]
    if not fitting:
        raise NoServer(_none(name, found, of_others))
    if len(fitting) > 1:
        names = {each.name for each in fitting}
        choice = "-n NAME or -n PID" if len(names) == len(fitting) else "-n PID"
        raise NoServer(f"several servers run here: {_listed(fitting)}; choose one with {choice}")
    return fitting[0]


def _listed(servers: Sequence[FoundServer]) -> str:
    return ", ".join(f"{each.name} (pid {each.pid})" for each in servers)


def _none(name: str | None, found: Sequence[FoundServer], of_others: Sequence[int]) -> str:
    """Why no server fits, and what to do."""
    missing = "no server runs here" if name is None else f"no server is called {name}"
    pids = [str(pid) for pid in of_others]
    if found and name not in pids:
        return f"{missing}; running: {_listed(found)}"
    if pids:
        return (
            f"{missing} that this user may control (another user's: pid {', '.join(pids)}); ask as its user or as root"
        )
    return f"{missing}; start one with wsgicluster, or name its socket with --socket or its pid file with -p"


def _reachable() -> tuple[list[FoundServer], list[int]]:
    """The servers that answer, and the pids of those that answer only other users."""
    found, of_others = [], []
    for pid in address.servers():
        try:
            with ControlConnection(_of_pid(pid)) as connection:
                found.append(FoundServer(pid, str(connection.call("hello")["name"])))
        except OtherUsers:
            of_others.append(pid)
        except ControlError as error:
            if error.code is ErrorCode.NOT_ALLOWED:
                of_others.append(pid)
        except NoServer:
            # It has exited just now.
            continue
    return found, of_others


def _of_pid(pid: int, pidfile: str | None = None) -> str:
    found = address.address_of(pid, pidfile)
    if found is None:
        raise NoServer("this system has no abstract sockets: name the pid file with -p")
    return found


def _as_address(text: str) -> str:
    return f"\0{text[1:]}" if text.startswith("@") else text


def _connect_by_pidfile(path: str) -> ControlConnection:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            pid = int(file.read(32))
    except OSError as error:
        raise NoServer(f"pid file {path}: {error.strerror}; is the server running?") from error
    except ValueError:
        raise NoServer(f"pid file {path}: there is no number in it") from None
    try:
        return ControlConnection(_of_pid(pid, path))
    except NoServer as error:
        if not _is_alive(pid):
            raise NoServer(f"pid file {path}: process {pid} does not run any more") from error
        raise


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
