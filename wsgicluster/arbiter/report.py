"""What the arbiter says about its children: pure formatting, one record for one event.

Texts that a client has chosen are shown escaped: no request can write log lines.
"""

import dataclasses
import signal

from wsgicluster.arbiter.backoff import Wait
from wsgicluster.arbiter.child import Child, End, Role, State
from wsgicluster.scoreboard import Facts

_SHOWN_CHARACTERS = 200
_BIRTH = "wsgicluster/arbiter/spawn.py"


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: exit code, or signal number when it is not 0; ``peak_bytes`` of resident memory."""

    code: int
    signal_number: int
    peak_bytes: int

    def __str__(self) -> str:
        return f"signal {signal_name(self.signal_number)}" if self.signal_number else f"exit code {self.code}"


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def duration(seconds: float) -> str:
    """A time span as people write it."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
    minutes, whole_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole_s} s"


def mebibytes(count_bytes: int) -> str:
    """``45.1 MiB``."""
    return f"{count_bytes / (1 << 20):.1f} MiB"


def shown(text: str) -> str:
    """A text from outside on one line, without control characters, and not too long."""
    escaped = "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)
    return escaped if len(escaped) <= _SHOWN_CHARACTERS else escaped[:_SHOWN_CHARACTERS] + "..."


def request(facts: Facts, now: float) -> str:
    """The request that is in progress, or that there is none."""
    if not facts.started:
        return "no request in progress"
    line = shown(facts.request_line) or "a request"
    client = f" from {shown(facts.client)}" if facts.client else ""
    return f"in {line}{client} for {duration(max(0.0, now - facts.started))}"


def why(child: Child, ended: Exit, oom_killed: bool) -> End:
    """Why a child ended, from what it was asked, how it ended, and whether the kernel counts one more victim."""
    if child.end is not None:
        return child.end
    if child.asked:
        ours = ended.signal_number in (0, signal.SIGTERM, signal.SIGQUIT) and not ended.code
        if ours or child.state is State.KILLED or child.ready_at is None:
            return child.recycle or End.ASKED
    if ended.signal_number == signal.SIGKILL:
        return End.OUT_OF_MEMORY if oom_killed else End.KILLED_FROM_OUTSIDE
    if ended.signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        return End.KILLED_FROM_OUTSIDE
    return End.CRASHED if ended.signal_number or ended.code else End.LEFT


def unasked_end(child: Child, end: End, ended: Exit, facts: Facts | None, now: float) -> str:
    """The one record of a child that ended although nobody here asked it to."""
    texts = {
        End.CRASHED: "crashed",
        End.OUT_OF_MEMORY: "was killed by the kernel: out of memory",
        End.KILLED_FROM_OUTSIDE: "was killed from outside",
        End.LEFT: "left without being asked",
    }
    text = texts[end]
    if end is End.KILLED_FROM_OUTSIDE and ended.signal_number == signal.SIGKILL:
        text += ", or by the kernel when out of memory"
    life = f"{'while booting for' if child.ready_at is None else 'up'} {duration(now - child.forked_at)}"
    parts = [f"{child} {text}: {ended}, {life}"]
    if facts is not None:
        parts.append(f"{facts.requests} requests served")
    parts.append(f"peak memory {mebibytes(ended.peak_bytes)}")
    if facts is not None and child.ready_at is not None:
        parts.append(request(facts, now))
    return ", ".join(parts)


def own_frames(stacks: str) -> str:
    """Stacks without the frames that a child inherited at its birth: they are the arbiter's."""
    kept, inherited = [], False
    for line in stacks.strip("\n").splitlines():
        if not line.startswith("  "):
            inherited = False
        inherited = inherited or _BIRTH in line
        if not inherited:
            kept.append(line)
    return "\n".join(kept)


def hang(child: Child, facts: Facts | None, stacks: str, timeout_s: float, now: float) -> str:
    """The one record of a child that is past its deadline, with the stacks of all its threads."""
    if child.ready_at is None and facts is not None and facts.started:
        what = f"is stuck in its rehearsal, {request(facts, now)}"
    elif child.ready_at is None:
        what = f"is not ready after {duration(now - child.forked_at)} and boots no longer"
    elif child.role is Role.MOLD:
        what = "does not fork the worker that it was ordered to"
    elif facts is not None and facts.started:
        what = f"is stuck {request(facts, now)}"
    else:
        what = "is stuck between requests"
    text = own_frames(stacks) or "(no stacks: the process could not write them)"
    return f"{child} {what}: timeout of {duration(timeout_s)} passed, it is ended\n{text}"


def cut(child: Child, facts: Facts | None, now: float, graceful_s: float) -> str:
    """A child that had not finished when its time to drain was over."""
    doing = f", {request(facts, now)}" if facts is not None else ""
    return f"{child} was cut off after graceful_timeout of {duration(graceful_s)}{doing}"


def _next(wait: Wait, ready: int, wanted: int) -> str:
    when = f"next try in {wait.wait_s:g} s" if wait.wait_s else "next try now"
    return f"{when}; {'degraded: ' if ready < wanted else ''}{ready} of {wanted} workers serve"


def _name(slot: int) -> str:
    return f"Worker {slot}" if slot else "Mold"


def waiting(wait: Wait, ready: int, wanted: int) -> str:
    """A slot whose workers die quickly, and when it gets the next one."""
    times = "1 quick death" if wait.deaths == 1 else f"{wait.deaths} quick deaths in a row"
    return f"{_name(wait.slot)}: {times}, {_next(wait, ready, wanted)}"


def not_made(wait: Wait, reason: str, ready: int, wanted: int) -> str:
    """A slot for whose worker the system has no room, and when it is tried again."""
    return f"{_name(wait.slot)} cannot be made ({reason}), {_next(wait, ready, wanted)}"
