"""The control protocol: lines of JSON, a request with an id, and what answers it under the same id.

A request is ``{"id": 1, "command": "scale", "args": {"workers": "4"}}``. What answers it: any number of items,
``{"id": 1, "item": {...}}``, then ``{"id": 1, "ok": true, "result": {...}}`` or
``{"id": 1, "ok": false, "error": {"code": "refused", "message": "..."}}``. Pure: bytes in, values out.
"""

import enum
import json
from typing import Any

from wsgicluster.dataclass import dataclass

SCHEMA = 1
"""Version of the forms of results; raised when a field changes its meaning or is removed, not when one is added."""

REQUEST_BYTES = 65536
"""No request is longer, its line feed included."""


class ErrorCode(str, enum.Enum):
    """Why a command was not carried out."""

    INVALID = "invalid"
    """The request is no JSON, or an argument is wrong."""
    UNKNOWN_COMMAND = "unknown_command"
    NO_SUCH_SLOT = "no_such_slot"
    REFUSED = "refused"
    """Not in this state of the server."""
    FAILED = "failed"
    """It was begun, and did not succeed."""
    TIMED_OUT = "timed_out"
    """What was waited for has not happened in time; it may still."""
    STOPPING = "stopping"
    """The server ended while the command waited."""
    NOT_ALLOWED = "not_allowed"
    """The client's user may not."""
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class ControlError(Exception):
    """A command that is not carried out; ``code`` says why, ``detail`` is more than one line where there is more."""

    def __init__(self, code: ErrorCode, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Request:
    """One command, with its arguments not looked at yet."""

    id: int | str
    command: str
    args: dict[str, Any]


def parse_request(line: bytes) -> Request:
    """The request in a line. Raises ControlError with the code ``invalid``."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(ErrorCode.INVALID, f"not a line of JSON: {error}") from error
    if not isinstance(found, dict):
        raise ControlError(ErrorCode.INVALID, "a request is a JSON object")
    number, command, args = found.get("id", 0), found.get("command"), found.get("args", {})
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise ControlError(ErrorCode.INVALID, "id: expected a number or a text")
    if not isinstance(command, str):
        raise ControlError(ErrorCode.INVALID, "command: expected the name of a command")
    if not isinstance(args, dict):
        raise ControlError(ErrorCode.INVALID, "args: expected an object")
    return Request(number, command, args)


def encode_request(request: Request) -> bytes:
    """The line for a request."""
    return _line({"id": request.id, "command": request.command, "args": request.args})


def encode_item(number: int | str, item: object) -> bytes:
    """The line for one of several items."""
    return _line({"id": number, "item": item})


def encode_result(number: int | str, result: object) -> bytes:
    """The line for success."""
    return _line({"id": number, "ok": True, "result": result})


def encode_error(number: int | str | None, error: ControlError) -> bytes:
    """The line for a failure; without an id where the request had none that could be read."""
    body = {"code": error.code.value, "message": str(error)}
    if error.detail:
        body["detail"] = error.detail
    return _line({"id": number, "ok": False, "error": body})


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def error_in(reply: dict[str, Any]) -> ControlError:
    """The error of a reply that says ``"ok": false``; what a newer server may have added to it is left out."""
    found = reply.get("error")
    body = found if isinstance(found, dict) else {}
    try:
        code = ErrorCode(body.get("code"))
    except ValueError:
        code = ErrorCode.FAILED
    return ControlError(code, str(body.get("message", "no reason given")), str(body.get("detail", "")))
