"""What a service manager hears of this server: the protocol of sd_notify(3).

`Announcer` decides what to say and when, from plain values; `Notifier` sends it. News
are sent without waiting and nothing here ever fails the server: a service manager
that does not listen is its own trouble.
"""

import contextlib
import dataclasses
import math
import socket
from collections.abc import Callable

from wsgicluster.arbiter.pool import Pool

PETS = 2
"""How often the watchdog hears of us in the time that it waits, as sd_watchdog_enabled(3) advises."""

LEAST_S = 0.05
"""It does not hear of us more often than that, however short a time it has been given: nothing else would be done."""


class Notifier:
    """Sends datagrams to ``path``, abstract with ``@`` first; to nobody when it is empty."""

    def __init__(self, path: str) -> None:
        self._target = "\0" + path[1:] if path.startswith("@") else path
        self._sock: socket.socket | None = None

    def send(self, text: str) -> None:
        """Send one datagram, or nothing when it is not taken at once."""
        if not self._target:
            return
        with contextlib.suppress(OSError, ValueError):  # nobody there, not allowed, full, or no path at all
            if self._sock is None:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._sock.setblocking(False)
            self._sock.sendto(text.encode(), self._target)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """How a server stands: workers ready and wanted, which generation serves, and what is under way."""

    ready: int
    wanted: int
    generation: int
    enough: bool
    """So many are ready that the server counts as started."""
    rolling: bool = False
    """A reload is not over yet."""
    degraded: bool = False
    """Workers are missing because they die, or cannot be made."""
    leaving: bool = False
    """It serves as before, but is about to stop."""
    stopping: bool = False

    @property
    def serving(self) -> bool:
        """Are there workers, and will there be?"""
        return self.ready > 0 and self.wanted > 0 and not self.stopping

    def __str__(self) -> str:
        text = f"{self.ready} of {self.wanted} workers ready, generation {self.generation}"
        if self.stopping:
            return f"stopping, {text}"
        if self.leaving:
            return f"about to stop, {text}"
        return text + (", degraded" if self.degraded else "") + (", reloading" if self.rolling else "")


def standing(pool: Pool, needed: int, now: float, leaving: bool = False) -> Standing:
    """How the workers of ``pool`` stand, when ``needed`` of them are enough to have started.

    ``leaving`` says that the server is about to stop.
    """
    rollout = pool.rollout
    serving = rollout.serving.number if rollout.serving is not None else 0
    ready, wanted = pool.ready_slots(), rollout.workers
    behind = any(child.ready and child.generation < serving for child in pool.workers())
    return Standing(
        ready=ready,
        wanted=wanted,
        generation=serving,
        enough=0 < min(needed, wanted) <= ready,
        rolling=serving > 0 and (rollout.trial is not None or behind),
        degraded=ready < wanted and pool.backoff.next_due(now) is not None,
        leaving=leaving,
        stopping=bool(pool.stopping),
    )


class Announcer:
    """Says what has changed; times in seconds of the monotonic clock. Silent until `begin`."""

    def __init__(self, send: Callable[[str], object], watchdog_s: float = 0.0) -> None:
        self._send = send
        self._every_s = max(watchdog_s / PETS, LEAST_S) if watchdog_s > 0 else 0.0
        self._pet_at = math.inf
        self._active = False
        self._ready_said = False
        self._reloading_said = False
        self._stopping_said = False
        self._status = ""

    def begin(self, now: float, main_pid: int | None = None) -> None:
        """From now on this process speaks for the service; ``main_pid`` when another one has done so before."""
        if self._active:
            return
        self._active = True
        if main_pid is not None:
            self._send(f"MAINPID={main_pid}")
        if self._every_s > 0:
            self._pet_at = now

    def hand_over(self, main_pid: int) -> None:
        """Another process speaks for the service from now on."""
        if self._active:
            self._send(f"MAINPID={main_pid}")
        self._active = False
        self._pet_at = math.inf

    def reload_begins(self, now: float) -> None:
        """A reload was asked for."""
        if self._active and self._ready_said and not self._stopping_said:
            self._reloading_said = True
            self._send(f"RELOADING=1\nMONOTONIC_USEC={int(now * 1e6)}")

    def update(self, standing: Standing, now: float) -> None:
        """Say what is new."""
        if not self._active:
            return
        lines = []
        if (standing.stopping or standing.leaving) and not self._stopping_said:
            self._stopping_said = True
            lines.append("STOPPING=1")
        elif not self._stopping_said and self._is_ready_now(standing):
            self._ready_said, self._reloading_said = True, False
            lines.append("READY=1")
        if str(standing) != self._status:
            self._status = str(standing)
            lines.append(f"STATUS={self._status}")
        if now >= self._pet_at:
            self._pet_at = now + self._every_s
            lines.append("WATCHDOG=1")
        if lines:
            self._send("\n".join(lines))

    def _is_ready_now(self, standing: Standing) -> bool:
        if self._ready_said:
            return self._reloading_said and not standing.rolling
        return standing.enough

    def next_due(self) -> float:
        """When the watchdog has to hear of us next, whatever happens; infinite if never."""
        return self._pet_at
