"""What the arbiter logs about its children: pure formatting, one record for one event.

Texts that a client has chosen are shown escaped: no request can write log lines.
"""

import signal

from wsgicluster.arbiter.plan.backoff import BUDGET, BUDGET_S, Wait
from wsgicluster.arbiter.plan.child import Child, End, Role
from wsgicluster.arbiter.plan.memory_rule import Size
from wsgicluster.arbiter.postmortem.diagnosis import Death, InFlight, in_flight
from wsgicluster.counting import count_of
from wsgicluster.ipc.scoreboard import PageSnapshot

_SHOWN_CHARACTERS = 200

_UNASKED = {
    End.CRASHED: "crashed",
    End.OUT_OF_MEMORY: "was killed by the kernel: out of memory",
    End.KILLED_FROM_OUTSIDE: "was killed from outside",
    End.LEFT: "exited without a stop request",
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
    """The one record of an unexpected end."""
    headline = _hang(found) if found.end is End.TIMED_OUT else _unasked(found)
    life = f"{'up' if found.was_ready else 'while booting for'} {duration(found.up_s)}"
    parts = [headline, life]
    if found.requests is not None and found.was_ready and found.role is Role.WORKER:
        parts.append(f"{count_of(found.requests, 'request')} served")
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
        what = f"hung in its smoke test, {request(found.request)}"
    elif not found.was_ready:
        what = "did not become ready in time"
    elif found.role is Role.MOLD:
        what = "did not fork the worker that was ordered"
    elif found.request is not None:
        what = f"hung {request(found.request)}"
    else:
        what = "hung between requests"
    doing = f"was {_STATES[found.state_letter]} and " if found.state_letter in _STATES else ""
    how = " by KILL" if found.exit.signal_number == signal.SIGKILL else ""
    return f"{found.name} {what}: timeout of {duration(found.timeout_s)} passed, it {doing}was ended{how}"


def _where(found: Death) -> str:
    if found.end is End.TIMED_OUT:
        return found.stacks or "(no stacks: the process could not write them)"
    return found.stacks


def cannot_boot(child: Child, summary: str, trace: str, before: int) -> str:
    """A child has reported why it cannot boot, as ``before`` times before."""
    if before and trace:
        return f"{child} cannot boot: {summary} (the same traceback as before, {times(before)})"
    return f"{child} cannot boot: {summary}" + (f"\n{trace.rstrip()}" if trace else "")


def times(count: int) -> str:
    """``once``, ``2 times``."""
    return "once" if count == 1 else f"{count} times"


def paused(child: Child, stopped: bool) -> str:
    """A child was stopped by a signal, or continued."""
    if stopped and child.role is not Role.WORKER:
        return f"{child} was stopped by a signal"
    if stopped:
        return f"{child} was stopped by a signal; other workers serve until it is continued"
    return f"{child} was continued by a signal"


def unkillable(child: Child) -> str:
    """A child that was killed and is there yet."""
    return f"{child} is still alive after SIGKILL: the kernel holds it, maybe for a disk or a network drive"


def cut(child: Child, facts: PageSnapshot | None, now: float, graceful_s: float) -> str:
    """A child that had not finished when its time to drain was over."""
    doing = f", {request(in_flight(facts, now))}" if facts is not None else ""
    return f"{child} was cut off after graceful_timeout of {duration(graceful_s)}{doing}"


def memory_needed(child: Child, size: Size, limit_bytes: int, raised_bytes: int) -> str:
    """``max_memory`` is less than the application needs."""
    if size.at_ready_bytes > limit_bytes:
        when = f"had {mebibytes(size.at_ready_bytes)} resident when it was ready"
    else:
        served = count_of(size.requests, "request")
        when = f"has {mebibytes(size.resident_bytes)} resident after {served}, as the one before it had"
    return (
        f"max_memory ({mebibytes(limit_bytes)}) is less than the application needs: {child} {when}, and a replacement "
        f"would be as large; until a reload no worker is replaced for its memory unless it has more than "
        f"{mebibytes(raised_bytes)}; raise max_memory"
    )


def _next(wait: Wait, ready: int, wanted: int) -> str:
    when = f"next try in {wait.wait_s:.3g} s" if wait.wait_s else "next try now"
    serve = count_of(wanted, "worker serves", "workers serve")
    return f"{when}; {'degraded: ' if ready < wanted else ''}{ready} of {serve}"


def _name(slot: int) -> str:
    return f"Worker {slot}" if slot else "Mold"


def waiting(wait: Wait, ready: int, wanted: int) -> str:
    """A slot whose workers die quickly, or too many with others, and when it gets the next one."""
    if not wait.deaths:
        return (
            f"{_name(wait.slot)}: more than {count_of(BUDGET, 'worker has', 'workers have')} died in requests within "
            f"{BUDGET_S:g} s, {_next(wait, ready, wanted)}"
        )
    times = count_of(wait.deaths, "quick death", "quick deaths in a row")
    return f"{_name(wait.slot)}: {times}, {_next(wait, ready, wanted)}"


def not_started(wait: Wait, reason: str, ready: int, wanted: int) -> str:
    """A slot for whose worker the system has no room, and when it is tried again."""
    return f"{_name(wait.slot)} could not be started ({reason}), {_next(wait, ready, wanted)}"
