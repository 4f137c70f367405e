"""The commands of the control protocol: a row each, with what they take. The server, the client and the documentation
derive theirs from it.
"""

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.dataclass import dataclass

MOST_WORKERS = 500
MOST_WAIT_S = 86400.0
MOST_EVENTS = 1000
MOST_PROFILE_S = 600.0
MOST_LINES = 50
"""Of each list about memory: they have to fit a packet of the worker's channel."""


class ParameterKind(enum.Enum):
    """What a parameter may be; the text is for people."""

    SLOT = "the number of a slot, from 1"
    SLOTS = "a slot, several (1,3 or 1-3), or all"
    WORKERS = "a number from 1 to 500, or a change such as +1 or -2"
    SWITCH = "true or false"
    SECONDS = "a number of seconds"
    LINES = "a number from 0 to 50"
    TRACE_ACTION = "one of start, stop, top"
    PROFILE_SECONDS = "a number of seconds, 600 at most"
    COUNT = "a number from 0 to 1000"
    TEXT = "a text"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a command; ``default`` counts where ``required`` is False."""

    name: str
    kind: ParameterKind
    summary: str
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command; ``changes`` says that it does more than look."""

    name: str
    summary: str
    changes: bool = False
    parameters: tuple[Parameter, ...] = ()


_WAIT = Parameter("wait", ParameterKind.SWITCH, "answer when it is done, not when it has begun", default=False)
_LIMIT = Parameter("timeout", ParameterKind.SECONDS, "longest wait", default=MOST_WAIT_S)

COMMANDS: dict[str, CommandRow] = {
    each.name: each
    for each in (
        CommandRow("hello", "Versions of the server and of the protocol."),
        CommandRow("status", "The server and all of its processes."),
        CommandRow(
            "show",
            "One slot: its worker, its last ends, its settings.",
            parameters=(Parameter("slot", ParameterKind.SLOT, "which", required=True),),
        ),
        CommandRow(
            "events",
            "The last events, and with follow those that come.",
            parameters=(
                Parameter("last", ParameterKind.COUNT, "how many of the past", default=15),
                Parameter("follow", ParameterKind.SWITCH, "go on with those that come", default=False),
            ),
        ),
        CommandRow(
            "stacks",
            "The stacks of all threads and greenlets of a slot's worker.",
            parameters=(Parameter("slot", ParameterKind.SLOT, "whose", required=True),),
        ),
        CommandRow(
            "profile",
            "Where a client finds what a slot's worker writes of its stacks, and the signal that it writes them on.",
            parameters=(
                Parameter("slot", ParameterKind.SLOT, "whose", required=True),
                Parameter("seconds", ParameterKind.PROFILE_SECONDS, "how long at most", default=10.0),
            ),
        ),
        CommandRow(
            "memory",
            "Have a slot's worker trace where its memory was allocated, and what it has found.",
            changes=True,
            parameters=(
                Parameter("slot", ParameterKind.SLOT, "whose", required=True),
                Parameter("action", ParameterKind.TRACE_ACTION, "start or stop tracing, or only look", default="top"),
                Parameter("top", ParameterKind.LINES, "how many of each list", default=20),
                Parameter("timeout", ParameterKind.SECONDS, "longest wait for the worker", default=10.0),
            ),
        ),
        CommandRow("launch", "How the server was started, as which user, and where its error log is."),
        CommandRow(
            "get",
            "The settings in force, and when a change of them applies.",
            parameters=(Parameter("name", ParameterKind.TEXT, "of one setting"),),
        ),
        CommandRow(
            "set",
            "Change a setting that changes live.",
            changes=True,
            parameters=(
                Parameter("name", ParameterKind.TEXT, "which setting", required=True),
                Parameter("value", ParameterKind.TEXT, "as on the command line", required=True),
            ),
        ),
        CommandRow(
            "scale",
            "Want another number of workers.",
            changes=True,
            parameters=(
                Parameter("workers", ParameterKind.WORKERS, "how many", required=True),
                _WAIT,
                _LIMIT,
            ),
        ),
        CommandRow(
            "reload",
            "Read settings and code again, and replace the workers.",
            changes=True,
            parameters=(
                Parameter("smoke", ParameterKind.TEXT, "paths to try first, as the setting smoke"),
                Parameter("canary", ParameterKind.SECONDS, "probation of the first new worker, 0 as set", default=0.0),
                _WAIT,
                _LIMIT,
            ),
        ),
        CommandRow(
            "restart",
            "Replace workers, each once another one is ready.",
            changes=True,
            parameters=(Parameter("slots", ParameterKind.SLOTS, "whose", required=True), _WAIT, _LIMIT),
        ),
        CommandRow(
            "stop",
            "Stop the server.",
            changes=True,
            parameters=(Parameter("quick", ParameterKind.SWITCH, "abort requests in progress", default=False),),
        ),
        CommandRow("upgrade", "Start a new server beside this one, on its listeners.", True, (_WAIT, _LIMIT)),
        CommandRow("reopen-logs", "Open the log files anew, in all processes.", changes=True),
    )
}


def check(command: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a command in their final form, with its defaults. Raises ControlError."""
    row = COMMANDS.get(command)
    if row is None:
        known = ", ".join(COMMANDS)
        raise ControlError(ErrorCode.UNKNOWN_COMMAND, f"there is no command {command!r}; there are {known}")
    names = {each.name for each in row.parameters}
    for name in args:
        if name not in names:
            takes = f"takes {', '.join(sorted(names))}" if names else "takes no argument"
            raise ControlError(ErrorCode.INVALID, f"{command} has no argument {name!r}; it {takes}")
    found = {}
    for each in row.parameters:
        value = args.get(each.name)
        if value is None:
            if each.required:
                raise ControlError(ErrorCode.INVALID, f"{command} needs {each.name}: {each.kind.value}")
            found[each.name] = each.default
            continue
        try:
            found[each.name] = _CHECKS[each.kind](value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ControlError(ErrorCode.INVALID, f"{each.name}: {value!r} is not {each.kind.value}") from error
    return found


def _whole(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(value)
    number = int(value)
    if not least <= number <= most:
        raise ValueError(value)
    return number


def _slot(value: object) -> int:
    return _whole(value, 1, MOST_WORKERS)


def _slots(value: object) -> frozenset[int] | None:
    """Slots as a set; None for all."""
    if isinstance(value, int) and not isinstance(value, bool):
        return frozenset({_slot(value)})
    if not isinstance(value, str):
        raise TypeError(value)
    if value == "all":
        return None
    found: set[int] = set()
    for part in value.split(","):
        first, dash, last = part.strip().partition("-")
        begin = _slot(first)
        end = _slot(last) if dash else begin
        if end < begin:
            raise ValueError(value)
        found.update(range(begin, end + 1))
    return frozenset(found)


def _workers(value: object) -> int | str:
    """A number, or a change with its sign as a text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]\d{1,3}", value):
        return value
    return _whole(value, 1, MOST_WORKERS)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _count(value: object) -> int:
    return _whole(value, 0, MOST_EVENTS)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    if not 0 <= value <= MOST_WAIT_S:
        raise ValueError(value)
    return float(value)


def _profile_seconds(value: object) -> float:
    found = _seconds(value)
    if not 0 < found <= MOST_PROFILE_S:
        raise ValueError(value)
    return found


def _lines(value: object) -> int:
    return _whole(value, 0, MOST_LINES)


def _trace_action(value: object) -> str:
    if value not in ("start", "stop", "top"):
        raise ValueError(value)
    return str(value)


_CHECKS: dict[ParameterKind, Callable[[object], object]] = {
    ParameterKind.SLOT: _slot,
    ParameterKind.SLOTS: _slots,
    ParameterKind.WORKERS: _workers,
    ParameterKind.SWITCH: _switch,
    ParameterKind.SECONDS: _seconds,
    ParameterKind.LINES: _lines,
    ParameterKind.TRACE_ACTION: _trace_action,
    ParameterKind.PROFILE_SECONDS: _profile_seconds,
    ParameterKind.COUNT: _count,
    ParameterKind.TEXT: _text,
}
