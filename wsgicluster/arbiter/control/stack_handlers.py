"""The commands of the control socket that read where a worker is: its stacks once, or many times for a profile.

Both have the worker write to its own file for stacks by a signal, which also works while C code holds the interpreter's
lock. A profile's client sends the signals and reads the file by itself; the arbiter keeps the file small meanwhile, and
says when it is over.
"""

import os
from collections.abc import Mapping

from wsgicluster.arbiter.control.handlers import child_in, requester_of
from wsgicluster.arbiter.operations import Parts
from wsgicluster.arbiter.plan.child import Child, State
from wsgicluster.control import protocol
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.server import Call, Handler
from wsgicluster.system import process
from wsgicluster.system.signals import DUMP_STACKS

STACKS_S = 1.0
"""How long a worker may take to write its stacks; one that is stopped or in the kernel never does."""
STACKS_QUIET_S = 0.1
"""After this time without more the stacks are complete."""
STACKS_ASLEEP_S = 0.02
"""The same for a worker that sleeps: one that has not written everything yet is running, or waits for a processor."""
STACKS_LOOK_S = 0.01
PROFILE_LOOK_S = 0.5
PROFILE_FILE_BYTES = 64 * 1024
"""A file that is larger is emptied at the next look; what a crash writes is found behind this much."""
PROFILE_MARGIN_S = 5.0
"""A profile that its client has not ended so long after its time ends by itself."""


class StackHandlers:
    """``stacks`` and ``profile`` of one server."""

    def __init__(self, parts: Parts) -> None:
        self._children = parts.children
        self._observation = parts.supervisor.observation
        self._clock = parts.clock
        self._log = parts.logs.error
        self._profiles: dict[int, tuple[str, float]] = {}
        """By the key of the child: who profiles it, and until when, on the monotonic clock."""

    def table(self) -> Mapping[str, Handler]:
        """One for each command."""
        return {"stacks": self.stacks, "profile": self.profile}

    def _child(self, call: Call) -> Child:
        """The worker of the call's slot, if its file for stacks is free. Raises ControlError."""
        child = child_in(self._observation, call.args["slot"])
        if not child.pid:
            raise ControlError(ErrorCode.REFUSED, f"{child} is not forked yet")
        if child.state is State.KILLED:
            # It is to write why it hangs, for its record.
            raise ControlError(ErrorCode.REFUSED, f"{child} hangs and is being ended; the error log has its stacks")
        if child.key in self._profiles:
            peer, until = self._profiles[child.key]
            left_s = max(1, round(until - self._clock.monotonic()))
            message = f"slot {child.slot} is being profiled, by {peer}; try again in {left_s} s, or end that one"
            raise ControlError(ErrorCode.REFUSED, message)
        return child

    def stacks(self, call: Call) -> None:
        """Have a worker write its stacks, and read them when no more come."""
        child, clock = self._child(call), self._clock
        link = self._children.link(child)
        # The records of a hang or a crash are to show none but their own.
        link.clear_stacks()
        call.on_end = lambda: None if child.state is State.EXITED else link.clear_stacks()
        seen, changed_at, until = "", clock.monotonic(), clock.monotonic() + STACKS_S
        link.signal(DUMP_STACKS)

        def poll() -> None:
            nonlocal seen, changed_at
            now = clock.monotonic()
            if child.state is State.EXITED:
                call.fail(ControlError(ErrorCode.FAILED, f"{child} has exited"))
                return
            found = link.stacks()
            if found != seen:
                seen, changed_at = found, now
            quiet_s = STACKS_ASLEEP_S if process.state_letter(child.pid) == "S" else STACKS_QUIET_S
            if seen and now - changed_at >= quiet_s:
                call.succeed({"slot": child.slot, "pid": child.pid, "stacks": seen.strip()})
            elif now >= until:
                call.fail(ControlError(ErrorCode.TIMED_OUT, f"{child} has written no stacks within {STACKS_S:g} s"))
            else:
                call.due = now + STACKS_LOOK_S

        call.poll = poll
        call.due = clock.monotonic()

    def profile(self, call: Call) -> None:
        """Lend a worker's file for stacks to a client, which has the worker write to it as often as it wants."""
        child, clock, seconds = self._child(call), self._clock, call.args["seconds"]
        if not child.ready:
            raise ControlError(ErrorCode.REFUSED, f"{child} is not ready yet")
        link = self._children.link(child)
        began, key = clock.monotonic(), child.key
        self._profiles[key] = call.peer, began + seconds
        self._log.info("%s: profile of slot %d for %g s", requester_of(call).title, child.slot, seconds)
        link.clear_stacks()
        link.is_profiled = True

        def end() -> None:
            del self._profiles[key]
            link.is_profiled = False
            if child.state not in (State.EXITED, State.KILLED):
                link.clear_stacks()

        def poll() -> None:
            now = clock.monotonic()
            if child.state is State.EXITED:
                call.fail(ControlError(ErrorCode.FAILED, f"{child} has exited"))
            elif child.state is State.KILLED:
                call.fail(ControlError(ErrorCode.FAILED, f"{child} hangs and is being ended"))
            elif now >= began + seconds + PROFILE_MARGIN_S:
                call.succeed({"slot": child.slot, "pid": child.pid})
            else:
                link.limit_stacks(PROFILE_FILE_BYTES)
                call.due = now + PROFILE_LOOK_S

        call.on_end, call.poll, call.due = end, poll, began + PROFILE_LOOK_S
        call.item(
            {
                "schema": protocol.SCHEMA,
                "slot": child.slot,
                "pid": child.pid,
                "arbiter": os.getpid(),
                "descriptor": link.stacks_fd,
                "signal": int(DUMP_STACKS),
            }
        )
