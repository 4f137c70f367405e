"""What the commands of the control socket do: each is a method that calls an operation or reads the observation.

A command that waits checks whether its outcome has come, once in each turn of the arbiter's loop.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.arbiter.plan.child import Child, State
from wsgicluster.arbiter.plan.requester import Requester
from wsgicluster.arbiter.plan.rollout import Result
from wsgicluster.arbiter.plan.status import ServiceStatus
from wsgicluster.arbiter.supervision.observation import BOUNDS_S, Observation, attempt_as_json, rfc3339, state_of
from wsgicluster.arbiter.supervision.supervisor import Supervisor
from wsgicluster.control import protocol
from wsgicluster.control.event_history import EventHistory
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.server import Call, Handler
from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings
from wsgicluster.settings.diff import changed
from wsgicluster.settings.live import smoke_for_reload
from wsgicluster.settings.types.worker import kind_name
from wsgicluster.version import __version__


def requester_of(call: Call) -> Requester:
    """Who has sent a command."""
    return Requester(f"Control socket ({call.peer})")


def child_in(observation: Observation, slot: int) -> Child:
    """The worker of a slot. Raises ControlError."""
    child = observation.child_of(slot)
    if child is None:
        known = sorted({each["slot"] for each in observation.workers()})
        slots = f"the workers have {'slots' if len(known) > 1 else 'slot'} {', '.join(map(str, known))}"
        raise ControlError(
            ErrorCode.NO_SUCH_SLOT, f"no worker has slot {slot}; {slots if known else 'there is no worker'}"
        )
    return child


def wanted_workers(supervisor: Supervisor, given: int | str) -> int:
    """How many workers a number or a change such as ``+1`` stands for. Raises ControlError beyond a range."""
    wanted, most = given if isinstance(given, int) else supervisor.status().wanted + int(given), supervisor.most_workers
    settings = supervisor.serving
    if settings is not None and settings.has_worker_range and wanted > most:
        message = (
            f"{wanted} workers are more than workers = {settings.workers} allows; change that and reload, or use {most}"
        )
        raise ControlError(ErrorCode.REFUSED, message)
    return wanted


class CommandHandlers:
    """The commands of one server."""

    def __init__(self, parts: Parts, operations: Operations, history: EventHistory) -> None:
        self._parts = parts
        self._operations = operations
        self._history = history
        self._supervisor = parts.supervisor
        self._observation = parts.supervisor.observation
        self._started_at = parts.clock.time()

    def table(self) -> Mapping[str, Handler]:
        """One for each command."""
        return {
            "hello": self.hello,
            "status": self.status,
            "show": self.show,
            "events": self._history.answer,
            "scale": self.scale,
            "reload": self.reload,
            "restart": self.restart,
            "stop": self.stop,
            "upgrade": self.upgrade,
            "reopen-logs": self.reopen_logs,
        }

    # Look

    def hello(self, call: Call) -> None:
        """Versions, and who this is."""
        call.succeed(
            {
                "schema": protocol.SCHEMA,
                "version": __version__,
                "python": sys.version.split()[0],
                "name": self._name,
                "pid": os.getpid(),
            }
        )

    @property
    def _name(self) -> str:
        settings = self._supervisor.serving or self._parts.settings
        return settings.proc_name or settings.wsgi_app or "wsgicluster"

    def _status(self) -> ServiceStatus:
        return self._supervisor.status(
            leaving=self._parts.shutdown.is_leaving and self._parts.upgrade.successor is None
        )

    def status(self, call: Call) -> None:
        """The whole server."""
        self._observation.note_processor_times()
        slots, totals = self._observation.counters()
        call.succeed(
            {
                "schema": protocol.SCHEMA,
                "server": {**self._server(), "totals": totals},
                "slots": slots,
                "workers": self._observation.workers(),
                "others": self._observation.others(),
            }
        )

    def _server(self) -> dict[str, Any]:
        status = self._status()
        settings = self._supervisor.serving or self._parts.settings
        return {
            "name": self._name,
            "version": __version__,
            "pid": os.getpid(),
            "started": rfc3339(self._started_at),
            "state": state_of(status),
            "degraded": status.degraded,
            "generation": status.generation,
            "addresses": self._parts.addresses.urls(settings.scheme),
            "listeners": self._parts.addresses.queues(),
            "worker_class": kind_name(settings.worker_class),
            "scheduling": self._parts.children.scheduling.policy,
            "workers": {
                "wanted": status.wanted,
                "ready": status.ready,
                "range": str(settings.workers) if settings.has_worker_range else None,
            },
            "memory_limit_bytes": settings.max_memory or None,
            "last_reload": attempt_as_json(status.last),
            **self._observation.events_counted(),
            "bounds_seconds": BOUNDS_S,
        }

    def show(self, call: Call) -> None:
        """One slot."""
        slot = call.args["slot"]
        child = child_in(self._observation, slot)
        settings = self._observation.settings_of(child)
        self._observation.note_processor_times()
        slots, _ = self._observation.counters()
        call.succeed(
            {
                "schema": protocol.SCHEMA,
                "slots": [each for each in slots if each["slot"] == slot],
                "workers": [each for each in self._observation.workers() if each["slot"] == slot],
                "last_exits": list(self._observation.exits.of(slot).last),
                "settings": {name: text.partition(" -> ")[2] for name, text in changed(Settings(), settings).items()},
            }
        )

    # Change

    def _refuse_while_stopping(self, command: str) -> None:
        if self._operations.is_stopping:
            raise ControlError(ErrorCode.REFUSED, f"{command} is refused: the server is stopping")

    def _wait(self, call: Call, begun: Mapping[str, Any], outcome: Callable[[], object]) -> None:
        """Answer at once with what was begun, or when ``outcome`` is not None any more; it may raise ControlError."""
        if not call.args["wait"]:
            call.succeed(begun)
            return
        clock, timeout_s = self._parts.clock, call.args["timeout"]
        call.due = until = clock.monotonic() + timeout_s

        def poll() -> None:
            try:
                found = outcome()
            except ControlError as error:
                call.fail(error)
                return
            if found is not None:
                call.succeed(found)
            elif clock.monotonic() >= until:
                message = f"{call.command} is not over after {timeout_s:g} s; it continues"
                call.fail(ControlError(ErrorCode.TIMED_OUT, message))

        call.poll = poll

    def scale(self, call: Call) -> None:
        """Another number of workers."""
        self._refuse_while_stopping("scale")
        before = self._status().wanted
        workers = self._operations.scale_to(wanted_workers(self._supervisor, call.args["workers"]), requester_of(call))
        begun = {"workers": workers, "before": before}

        def outcome() -> object:
            status = self._status()
            slots = {each["slot"] for each in self._observation.workers()}
            done = status.ready >= status.wanted and not any(slot > status.wanted for slot in slots)
            return begun if done else None

        self._wait(call, begun, outcome)

    def reload(self, call: Call) -> None:
        """Settings and code anew; of several that are asked for one after another, the last one counts."""
        self._refuse_while_stopping("reload")
        args = call.args
        self._operations.reload(requester_of(call), self._smoke(args["smoke"]), args["canary"])
        began = self._parts.clock.monotonic()

        def outcome() -> object:
            status, last = self._status(), self._status().last
            if self._operations.reload_is_pending or last is None:
                return None
            if last.result in (Result.ABORTED, Result.REFUSED):
                serves = f"generation {status.generation} keeps serving"
                message = f"reload {last.result.value}: {last.reason}; {serves}"
                raise ControlError(ErrorCode.FAILED, message, last.trace)
            if last.result is not Result.TOOK_OVER or status.rolling or status.ready < status.wanted:
                return None
            if any(each["generation"] < last.number for each in self._observation.workers()):
                return None  # it still finishes requests with the old code
            return {
                "generation": last.number,
                "workers": status.ready,
                "seconds": round(self._parts.clock.monotonic() - began, 3),
            }

        self._wait(call, {"reload": "requested"}, outcome)

    def _smoke(self, given: str | None) -> tuple[str, ...] | None:
        """The paths of a smoke test as their setting has them; None where none were given. Raises ControlError."""
        if given is None:
            return None
        if (self._supervisor.serving or self._parts.settings).reload:
            message = "smoke is off with the setting reload, because each worker reports its errors itself"
            raise ControlError(ErrorCode.REFUSED, message)
        try:
            return smoke_for_reload(given)
        except UsageError as error:
            raise ControlError(ErrorCode.INVALID, str(error)) from error

    def restart(self, call: Call) -> None:
        """Replace workers."""
        self._refuse_while_stopping("restart")
        slots = call.args["slots"]
        if slots is None:
            slots = {each["slot"] for each in self._observation.workers()}
        by = requester_of(call)
        children = [child_in(self._observation, slot) for slot in sorted(slots)]
        unready = [str(child.slot) for child in children if not self._operations.replace(child.slot, by)]
        if unready:
            message = f"no worker serves in {'slot' if len(unready) == 1 else 'slots'} {', '.join(unready)} to replace"
            raise ControlError(ErrorCode.REFUSED, message)

        def outcome() -> object:
            status = self._status()
            done = all(child.state is State.EXITED for child in children) and status.ready >= status.wanted
            return begun if done else None

        begun = {"slots": [child.slot for child in children]}
        self._wait(call, begun, outcome)

    def stop(self, call: Call) -> None:
        """Stop; answered when all is over, with the exit code."""
        if call.args["quick"]:
            self._operations.stop_quickly(requester_of(call))
        else:
            self._operations.stop_gracefully(requester_of(call))
        call.at_close = lambda: {"exit_code": self._supervisor.failures.final_exit_code}
        call.poll = lambda: None

    def upgrade(self, call: Call) -> None:
        """A new server beside this one."""
        self._refuse_while_stopping("upgrade")
        upgrade = self._parts.upgrade
        if upgrade.successor is not None:
            message = f"a new server (pid {upgrade.successor}) has been started already"
            raise ControlError(ErrorCode.REFUSED, message)
        self._operations.start_successor(requester_of(call))
        pid = upgrade.successor
        if pid is None:
            raise ControlError(ErrorCode.FAILED, "the new server was not started; the error log says why")

        def outcome() -> object:
            if upgrade.successor != pid:
                raise ControlError(ErrorCode.FAILED, f"the new server (pid {pid}) has exited; its log says why")
            return {"pid": pid} if upgrade.serves_elsewhere else None

        self._wait(call, {"pid": pid}, outcome)

    def reopen_logs(self, call: Call) -> None:
        """Log files anew."""
        self._operations.reopen_logs(requester_of(call))
        call.succeed({"processes": len(self._supervisor.pids())})
