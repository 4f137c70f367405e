"""The command of the control socket that has a worker trace its memory, and asks it for what it has found."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from wsgicluster.arbiter.control.handlers import child_in, requester_of
from wsgicluster.arbiter.operations import Parts
from wsgicluster.arbiter.plan.child import Child, State
from wsgicluster.control import protocol
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.server import Call, Handler


class MemoryHandlers:
    """``memory`` of one server."""

    def __init__(self, parts: Parts) -> None:
        self._children = parts.children
        self._observation = parts.supervisor.observation
        self._answers = parts.supervisor.messages.memory
        self._clock = parts.clock
        self._log = parts.logs.error
        self._tickets = itertools.count(1)

    def table(self) -> Mapping[str, Handler]:
        """One for each command."""
        return {"memory": self.memory}

    def memory(self, call: Call) -> None:
        """Have a worker begin or end to trace, or say what it has found; answered when its loop has done it."""
        child, action = child_in(self._observation, call.args["slot"]), call.args["action"]
        if not child.ready or child.state is State.KILLED:
            raise ControlError(ErrorCode.REFUSED, f"{child} does not serve")
        if action != "top":
            self._log.info("%s: slot %d: %s tracing memory", requester_of(call).title, child.slot, action)
        ticket, clock, seconds = next(self._tickets), self._clock, call.args["timeout"]
        self._answers[ticket] = None
        call.on_end = lambda: self._answers.pop(ticket, None)
        call.due = until = clock.monotonic() + seconds
        if not self._children.link(child).trace_memory(ticket, action, call.args["top"]):
            raise ControlError(ErrorCode.REFUSED, f"{child} does not read its messages now; try again")

        def poll() -> None:
            found = self._answers[ticket]
            if found is not None and found.refused:
                call.fail(ControlError(ErrorCode.REFUSED, f"{child}: {found.refused}"))
            elif found is not None:
                call.succeed(
                    {
                        "schema": protocol.SCHEMA,
                        "slot": child.slot,
                        "pid": child.pid,
                        "seconds": round(found.seconds, 3),
                        "traced_bytes": found.traced_bytes,
                        "peak_bytes": found.peak_bytes,
                        "largest": [_line(each) for each in found.largest],
                        "grown": [_line(each) for each in found.grown],
                    }
                )
            elif child.state is State.EXITED:
                call.fail(ControlError(ErrorCode.FAILED, f"{child} has exited"))
            elif clock.monotonic() >= until:
                call.fail(ControlError(ErrorCode.TIMED_OUT, self._busy(child, seconds)))

        call.poll = poll

    def _busy(self, child: Child, seconds: float) -> str:
        facts = self._children.link(child).facts()
        request = ""
        if facts is not None and facts.started:
            method, _, rest = facts.request_line.partition(" ")
            request = (
                f", and runs {method} {rest.partition(' ')[0]} for {self._clock.monotonic() - facts.started:.0f} s"
            )
        return (
            f"{child} has not answered within {seconds:g} s{request}; a sync worker answers between two requests: try "
            "again, or wait longer with --timeout"
        )


def _line(found: Sequence[Any]) -> dict[str, Any]:
    file, number, size, count, growth = found
    return {"file": file, "line": number, "bytes": size, "blocks": count, "growth_bytes": growth}
