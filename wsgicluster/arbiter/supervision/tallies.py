"""How often what has happened to the workers of one server since it was started: exits, boots, reloads, scalings.

Each is a counter by a word of a fixed list, and there from the start with 0. It takes in events, and knows no process.
"""

from wsgicluster.arbiter.plan.autoscaling import Reason
from wsgicluster.arbiter.plan.child import End, Role
from wsgicluster.arbiter.plan.requester import AUTOSCALING
from wsgicluster.ipc.events import Event, ExitEvent, ReadyEvent, ReloadEvent, ScaleEvent

EXIT_WORDS = {end.value: end.name.lower() for end in End}
"""The reason of an exit as a word, by the text that an event has."""

REQUESTED = "requested"
"""By an operator or by code."""
BOOTS = ("ready", "failed", "timed_out", "called_off")
SCALINGS = {
    "up": (Reason.BUSY, Reason.QUEUE, Reason.WAIT, REQUESTED),
    "down": (Reason.IDLE, REQUESTED),
}
"""Why there were to be more or fewer workers, by the direction."""
RELOADS = ("complete", "refused", "aborted", "superseded")


class Tallies:
    """Those of one server.

    ``exits`` are by reason. ``boots`` are by result: ``called_off`` are workers that were to stop before they were
    ready. ``reloads`` are by result, too: ``aborted`` are those whose new code failed. ``scalings`` are by
    direction and reason.
    """

    def __init__(self) -> None:
        self.exits = dict.fromkeys(EXIT_WORDS.values(), 0)
        self.boots = dict.fromkeys(BOOTS, 0)
        self.reloads = dict.fromkeys(RELOADS, 0)
        self.scalings = {direction: dict.fromkeys(reasons, 0) for direction, reasons in SCALINGS.items()}
        self._ready: set[int] = set()
        """The pids of workers that have been ready."""

    def note(self, event: Event) -> None:
        """An event has happened."""
        if isinstance(event, ReloadEvent):
            if event.result in self.reloads:
                self.reloads[event.result] += 1
        elif isinstance(event, ScaleEvent):
            # The policy gives its reason as a word, with the numbers behind it.
            reason = event.reason.partition(":")[0] if event.by == AUTOSCALING else REQUESTED
            self.scalings["up" if event.workers > event.before else "down"][reason] += 1
        elif isinstance(event, ReadyEvent) and event.role == Role.WORKER.value:
            self.boots["ready"] += 1
            self._ready.add(event.pid)
        elif isinstance(event, ExitEvent) and event.role == Role.WORKER.value:
            self.exits[EXIT_WORDS[event.reason]] += 1
            if event.pid not in self._ready:
                self.boots[_failed_boot(event)] += 1
            self._ready.discard(event.pid)


def _failed_boot(event: ExitEvent) -> str:
    if event.reason == End.TIMED_OUT.value:
        return "timed_out"
    return "called_off" if event.asked else "failed"
