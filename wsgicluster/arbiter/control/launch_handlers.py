"""The command of the control socket that says how this server was started, and where its error log is."""

import grp
import os
import pwd
import resource
from collections.abc import Mapping
from typing import Any

from wsgicluster.arbiter.operations import Parts
from wsgicluster.control import protocol
from wsgicluster.control.server import Call, Handler
from wsgicluster.dataclass import dataclass
from wsgicluster.settings import Settings, UnixAddress


@dataclass(frozen=True, slots=True)
class Launch:
    """The command of the arbiter, the folder that it was started in, and the names of its environment variables."""

    command: tuple[str, ...]
    directory: str
    variables: tuple[str, ...]


class LaunchHandlers:
    """``launch`` of one server."""

    def __init__(self, parts: Parts, launch: Launch) -> None:
        self._parts = parts
        self._launch = launch

    def table(self) -> Mapping[str, Handler]:
        """One for each command."""
        return {"launch": self.launch}

    def launch(self, call: Call) -> None:
        """All of it; of environment variables the names alone."""
        settings = self._parts.supervisor.serving or self._parts.settings
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        call.succeed(
            {
                "schema": protocol.SCHEMA,
                "pid": os.getpid(),
                "command": list(self._launch.command),
                "directory": self._launch.directory,
                "variables": sorted(self._launch.variables),
                "user": _user_name(os.geteuid()),
                "group": _group_name(os.getegid()),
                "worker_user": _user_name(settings.user),
                "daemon": settings.daemon,
                "stop_seconds": settings.drain_delay + settings.graceful_timeout,
                "open_files": {"soft": soft, "hard": hard},
                "error_log": self._error_log(settings),
                "files": _files(settings),
            }
        )

    def _error_log(self, settings: Settings) -> dict[str, Any]:
        """``path`` is null where it is a stream; ``configured`` says that users decide."""
        logs = self._parts.logs
        return {"path": logs.error_path, "descriptor": logs.error_stream, "configured": logs.is_configured}


def _files(settings: Settings) -> list[str]:
    """Paths of the sockets and of the pid file, which have to have a folder before the server starts."""
    found = [address.path for address in settings.bind if isinstance(address, UnixAddress)]
    if isinstance(settings.admin, UnixAddress):
        found.append(settings.admin.path)
    found += [path for path in (settings.pidfile, settings.control_socket) if path]
    return [os.path.abspath(path) for path in found]


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a number without a name is valid, too
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
