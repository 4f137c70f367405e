"""How a service manager is notified of this server's state: the protocol of sd_notify(3).

`Announcer` decides what to send and when, from values; `Notifier` sends it. Datagrams
are sent without waiting and nothing here ever fails the server: a service manager
that does not listen is not this server's problem.
"""

import contextlib
import math
import socket
from collections.abc import Callable

from wsgicluster.arbiter.plan.status import ServiceStatus

WATCHDOG_PINGS_PER_PERIOD = 2
"""How often the watchdog is notified in the time that it waits, as sd_watchdog_enabled(3) advises."""

LEAST_S = 0.05
"""It is not notified more often than that, however short its time: the arbiter would do nothing else."""


class Notifier:
    """Sends datagrams to ``path``, abstract with ``@`` first; nowhere when it is empty."""

    def __init__(self, path: str) -> None:
        self._target = "\0" + path[1:] if path.startswith("@") else path
        self._sock: socket.socket | None = None

    def send(self, text: str) -> None:
        """Send one datagram, or nothing when it is not taken at once."""
        if not self._target:
            return
        with contextlib.suppress(OSError, ValueError):  # no listener, not allowed, full, or no path at all
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sock.setblocking(False)
            self._sock.sendto(text.encode(), self._target)

    def close(self) -> None:
        """Close the descriptor."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Announcer:
    """Sends what has changed; times in seconds of the monotonic clock. Silent until `begin`."""

    def __init__(self, send: Callable[[str], object], watchdog_s: float = 0.0) -> None:
        self._send = send
        self._every_s = max(watchdog_s / WATCHDOG_PINGS_PER_PERIOD, LEAST_S) if watchdog_s > 0 else 0.0
        self._ping_at = math.inf
        self._active = False
        self._ready_said = False
        self._reloading_said = False
        self._stopping_said = False
        self._status = ""

    def begin(self, now: float, main_pid: int | None = None) -> None:
        """From now on this process sends for the service; ``main_pid`` when another one has done so before."""
        if self._active:
            return
        self._active = True
        if main_pid is not None:
            self._send(f"MAINPID={main_pid}")
        if self._every_s > 0:
            self._ping_at = now

    def hand_over(self, main_pid: int) -> None:
        """Another process sends for the service from now on."""
        if self._active:
            self._send(f"MAINPID={main_pid}")
        self._active = False
        self._ping_at = math.inf

    def reload_begins(self, now: float) -> None:
        """A reload was asked for."""
        if self._active and self._ready_said and not self._stopping_said:
            self._reloading_said = True
            self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}")

    def update(self, status: ServiceStatus, now: float) -> None:
        """Send what is new."""
        if not self._active:
            return
        lines = []
        if (status.stopping or status.leaving) and not self._stopping_said:
            self._stopping_said = True
            lines.append("STOPPING=1")
        elif not self._stopping_said and self._is_ready_now(status):
            self._ready_said, self._reloading_said = True, False
            lines.append("READY=1")
        if str(status) != self._status:
            self._status = str(status)
            lines.append(f"STATUS={self._status}")
        if now >= self._ping_at:
            self._ping_at = now + self._every_s
            lines.append("WATCHDOG=1")
        if lines:
            self._send("\n".join(lines))

    def _is_ready_now(self, status: ServiceStatus) -> bool:
        if self._ready_said:
            return self._reloading_said and not status.rolling
        return status.enough

    def next_due(self) -> float:
        """When the watchdog has to be notified next, whatever happens; infinite if never."""
        return self._ping_at
