"""All errors with a meaning outside the module that raises them.

An operator's error carries the exit code of the process, a client's error the
status of the response, so that the code that catches one need not decide.
"""

from typing import ClassVar


class ServerError(Exception):
    """An error for the operator: its text is one line, or one for each problem, and is shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(ServerError):
    """A flag, setting, environment variable or configuration file is invalid."""

    exit_code = 2


class BootError(ServerError):
    """A worker could not become ready, for a reason outside the application."""

    exit_code = 3


class ForcedStop(ServerError):
    """The server has stopped, but had to abort requests or kill workers; names an exit code and is never raised."""

    exit_code = 5


class AppLoadError(ServerError):
    """The application cannot be loaded; ``trace`` is its own traceback, or empty."""

    exit_code = 4

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class SmokeTestError(BootError):
    """The smoke test failed; ``trace`` is the traceback of what the application raised, or empty."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class HookError(BootError):
    """A hook of the configuration file failed without which nothing can start; ``trace`` is its traceback."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class AddressError(ServerError):
    """An address cannot be bound or taken over."""


class ProtocolError(Exception):
    """A request that is refused with ``status`` before the application sees it (RFC 9110, section 15)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    fields = ""
    """Further lines for the head of the response, each with its CRLF."""
    after_s = 0.0
    """How long the request had been arriving when it was refused, in seconds, where that matters; else 0."""


class ForeignProtocol(ProtocolError):
    """The bytes received are of another protocol, which has a ``name``."""

    def __init__(self, status: int, name: str, expected: str, advice: str = "") -> None:
        super().__init__(status, f"received {name}, expected {expected}{advice}")
        self.name = name


class Overloaded(ProtocolError):
    """A request that waited or arrived for too long (503); the client may retry in ``retry_s`` seconds.

    ``reason`` is a word of `wsgicluster.ipc.reasons.ShedReason`, in lower case.
    """

    def __init__(self, detail: str, retry_s: int, reason: str = "queue_timeout") -> None:
        super().__init__(503, detail)
        self.reason = reason
        self.fields = f"Retry-After: {retry_s}\r\n"


class ClientGone(ConnectionError):
    """The client disconnected before its response was complete; raised into an application that still writes."""


class BrokenBody(ClientGone):
    """A request's body will never be complete; raised into an application that reads it while it arrives.

    ``refusal`` says what is wrong with it, or is None when its client has disconnected.
    """

    def __init__(self, message: str, refusal: ProtocolError | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal
