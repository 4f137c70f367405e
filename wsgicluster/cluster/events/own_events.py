"""Events of the own process, for an application that has registered functions for them.

A worker's state is on its page, which its signal handlers and its loop write; this looks at it from a thread of its own
(with gevent a greenlet), so that neither of them has to know whether the application wants to hear of it.
"""

import atexit
import logging
import threading
import time
from typing import Any

from wsgicluster.cluster.events.subscriptions import subscriptions
from wsgicluster.ipc import membership
from wsgicluster.ipc.events import DisconnectEvent, DrainingEvent, Event, ReadyEvent
from wsgicluster.ipc.membership import Membership
from wsgicluster.ipc.scoreboard import Cell, WorkerState

BOOT_LOOK_S = 0.05
LOOK_S = 0.25
_log = logging.getLogger("wsgicluster.error")


class OwnEvents:
    """Those of one process, each at most once."""

    def __init__(self, member: Membership) -> None:
        self.member = member
        self._began = time.monotonic()
        self._happened: set[str] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Look from now on, until the process drains; the rest happens when it exits."""
        atexit.register(self._leave)
        threading.Thread(target=self._run, name="wsgicluster-own-events", daemon=True).start()

    def _run(self) -> None:
        while (state := self.member.page.cells[Cell.STATE]) != WorkerState.DRAINING:
            if state != WorkerState.BOOTING:
                self._ready()
            time.sleep(LOOK_S if self._happened else BOOT_LOOK_S)
        self._draining()

    def _common(self) -> dict[str, Any]:
        member = self.member
        return {
            "at": time.time(),
            "role": member.role,
            "slot": member.slot,
            "generation": member.generation,
            "pid": member.pid,
        }

    def _ready(self) -> None:
        self._happen(ReadyEvent(boot_s=time.monotonic() - self._began, **self._common()))

    def _draining(self) -> None:
        self._ready()
        self._happen(DrainingEvent(asked=True, reason="stop requested", **self._common()))

    def _leave(self) -> None:
        if membership.current() is not self.member:
            return  # a process that the application has forked
        self._draining()
        self._happen(DisconnectEvent(asked=True, **self._common()))

    def _happen(self, event: Event) -> None:
        with self._lock:
            if event.name in self._happened:
                return
            self._happened.add(event.name)
            for subscription in subscriptions():
                if subscription.takes(event):
                    self._call(subscription.function, event)

    def _call(self, function: Any, event: Event) -> None:
        try:
            function(event)
        except BaseException:  # noqa: BLE001
            # The boundary to the application: whatever it raises, the next function is still called.
            _log.exception("the handler %s failed (event %s)", getattr(function, "__qualname__", function), event.name)


_own: OwnEvents | None = None


def watch() -> None:
    """Call the application's functions from now on, in a worker or the jobs worker."""
    global _own
    member = membership.current()
    if member is None or member.role == "steward" or not subscriptions():
        return
    if _own is None or _own.member is not member:
        _own = OwnEvents(member)
        _own.start()


membership.on_join(watch)
