"""What a stop has cut off: requests that were not over, workers that had to be killed. Pure."""

from wsgicluster.arbiter.plan.child import Ask, Child, End, Role
from wsgicluster.arbiter.postmortem.report import shown
from wsgicluster.counting import count_of
from wsgicluster.ipc.scoreboard import PageSnapshot

_SHOWN = 5


class ForcedStopReport:
    """Collected while a server stops; true as soon as there was anything."""

    def __init__(self) -> None:
        self.requests = 0
        self.killed = 0
        self._lines: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.requests or self.killed)

    def note(self, child: Child, end: End, facts: PageSnapshot | None) -> None:
        """A worker has exited during the stop; one that exited at once, as requested, is not counted."""
        if child.role is not Role.WORKER:
            return
        killed = child.asked is Ask.KILL or end in (End.CUT, End.TIMED_OUT)
        self.killed += killed
        if facts is None or not (killed or facts.cut):
            return
        running = bool(facts.started)
        self.requests += max(facts.cut, running)
        if running:
            self._lines.append(shown(" ".join(facts.request_line.partition("?")[0].split()[:2])))

    def __str__(self) -> str:
        parts = []
        if self.requests:
            named = ", ".join(self._lines[:_SHOWN])
            more = self.requests - len(self._lines[:_SHOWN])
            rest = f"{more} more" if named else ""
            listed = f" ({named}{f' and {rest}' if more else ''})" if named else ""
            parts.append(f"{count_of(self.requests, 'request was', 'requests were')} cut off{listed}")
        if self.killed:
            parts.append(f"{count_of(self.killed, 'worker')} had to be killed")
        return ", ".join(parts)
