"""How often what has happened to the workers of one server: exits, boots and reloads, since it was started.

Each is a counter by a word of a fixed list, and there from the start with 0. It takes in events, and knows no process.
"""

from wsgicluster.arbiter.plan.child import End, Role
from wsgicluster.ipc.events import Event, ExitEvent, ReadyEvent, ReloadEvent

EXIT_WORDS = {end.value: end.name.lower() for end in End}
"""The reason of an exit as a word, by the text that an event has."""

BOOTS = ("ready", "failed", "timed_out", "called_off")
RELOADS = ("complete", "refused", "aborted", "superseded")


class Tallies:
    """Those of one server.

    ``exits`` are by reason. ``boots`` are by result: ``called_off`` are workers that were to stop before they were
    ready. ``reloads`` are by result, too: ``aborted`` are those whose new code failed.
    """

    def __init__(self) -> None:
        self.exits = dict.fromkeys(EXIT_WORDS.values(), 0)
        self.boots = dict.fromkeys(BOOTS, 0)
        self.reloads = dict.fromkeys(RELOADS, 0)
        self._ready: set[int] = set()
        """The pids of workers that have been ready."""

    def note(self, event: Event) -> None:
        """An event has happened."""
        if isinstance(event, ReloadEvent):
            if event.result in self.reloads:
                self.reloads[event.result] += 1
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
