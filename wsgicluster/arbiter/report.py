"""What the arbiter says about its children: pure formatting, one record for one event.

Texts that a client has chosen are shown escaped: no request can write log lines.
"""

import signal

from wsgicluster.arbiter.autopsy import Death, InFlight, in_flight
from wsgicluster.arbiter.backoff import Wait
from wsgicluster.arbiter.child import Child, End, Role
from wsgicluster.scoreboard import Facts

_SHOWN_CHARACTERS = 200

_UNASKED = {
    End.CRASHED: "crashed",
    End.OUT_OF_MEMORY: "was killed by the kernel: out of memory",
    End.KILLED_FROM_OUTSIDE: "was killed from outside",
    End.LEFT: "left without being asked",
    End.BOOT_FAILED: "could not boot",
}

_STATES = {
    "R": "busy",
    "S": "waiting",
    "D": "waiting in the kernel for a disk or a network drive",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
}
"""What a process that hangs is doing, by the letter that ``/proc`` shows."""


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


def request(found: InFlight | None) -> str:
    """The request that is in progress, or that there is none."""
    if found is None:
        return "no request in progress"
    line = shown(f"{found.method} {found.path} {found.protocol}".strip()) or "a request"
    client = f" from {shown(found.client)}" if found.client else ""
    return f"in {line}{client} for {duration(found.seconds)}"


def death(found: Death) -> str:
    """The one record of an end that nobody asked for."""
    headline = _hang(found) if found.end is End.TIMED_OUT else _unasked(found)
    life = f"{'up' if found.was_ready else 'while booting for'} {duration(found.up_s)}"
    parts = [headline, life]
    if found.requests is not None and found.was_ready and found.role is Role.WORKER:
        parts.append(f"{found.requests} requests served")
    parts.append(f"peak memory {mebibytes(found.exit.peak_bytes)}")
    parts.append(f"processor time {duration(found.exit.processor_s)}")
    if found.end is not End.TIMED_OUT and found.was_ready and found.role is Role.WORKER:
        parts.append(request(found.request))
    if found.kernel:
        parts.append(f"the kernel says: {shown(found.kernel)}")
    return "\n".join(filter(None, [", ".join(parts), _where(found)]))


def _unasked(found: Death) -> str:
    text = _UNASKED[found.end]
    if found.end is End.KILLED_FROM_OUTSIDE and found.exit.signal_number == signal.SIGKILL and not found.kernel_counts:
        text += ", or by the kernel when out of memory"
    detail = f" ({shown(found.detail)})" if found.detail else ""
    return f"{found.name} {text}: {found.exit}{detail}"


def _hang(found: Death) -> str:
    if not found.was_ready and found.request is not None:
        what = f"is stuck in its rehearsal, {request(found.request)}"
    elif not found.was_ready:
        what = "is not ready and boots no longer"
    elif found.role is Role.MOLD:
        what = "does not fork the worker that it was ordered to"
    elif found.request is not None:
        what = f"is stuck {request(found.request)}"
    else:
        what = "is stuck between requests"
    doing = f"was {_STATES[found.state_letter]} and " if found.state_letter in _STATES else ""
    how = " by KILL" if found.exit.signal_number == signal.SIGKILL else ""
    return f"{found.name} {what}: timeout of {duration(found.timeout_s)} passed, it {doing}was ended{how}"


def _where(found: Death) -> str:
    if found.end is End.TIMED_OUT:
        return found.stacks or "(no stacks: the process could not write them)"
    return found.stacks


def cannot_boot(child: Child, summary: str, trace: str, before: int) -> str:
    """A child that says why it cannot boot; it is the same as ``before`` times before."""
    if before and trace:
        return f"{child} cannot boot: {summary} (the same traceback as before, {times(before)})"
    return f"{child} cannot boot: {summary}" + (f"\n{trace.rstrip()}" if trace else "")


def times(count: int) -> str:
    """``once``, ``2 times``."""
    return "once" if count == 1 else f"{count} times"


def paused(child: Child, stopped: bool) -> str:
    """Somebody has stopped a child, or let it go on."""
    return f"{child} was stopped by a signal; others serve until it goes on" if stopped else f"{child} goes on"


def immortal(child: Child) -> str:
    """A child that was killed and is there yet."""
    return f"{child} was killed and does not end: the kernel holds it, maybe for a disk or a network drive"


def cut(child: Child, facts: Facts | None, now: float, graceful_s: float) -> str:
    """A child that had not finished when its time to drain was over."""
    doing = f", {request(in_flight(facts, now))}" if facts is not None else ""
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
