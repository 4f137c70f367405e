"""Every error that has a meaning outside the place it is raised.

An operator's error carries the exit code of the process, a client's error the
HTTP status of the answer, so that whoever catches one decides nothing anew.
"""

from typing import ClassVar


class ServerError(Exception):
    """An error for the operator: its text is one readable line, shown without a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(ServerError):
    """A flag, setting, environment variable or configuration file is wrong."""

    exit_code = 2


class BootError(ServerError):
    """A worker could not be made ready for a reason outside the application."""

    exit_code = 3


class ForcedStop(ServerError):
    """The server has stopped, but had to cut requests off or kill workers; a meaning for an exit code, never raised."""

    exit_code = 5


class AppLoadError(ServerError):
    """The application cannot be loaded; ``trace`` is its own traceback, or empty."""

    exit_code = 4

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class RehearsalError(BootError):
    """The application does not answer as ``smoke`` asks; ``trace`` is the traceback of what it raised, or empty."""

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
    """Lines for the head of the answer, each with its CRLF."""


class Overloaded(ProtocolError):
    """A request that came, or was looked at, too late (503); the client may try again in ``retry_s`` seconds."""

    def __init__(self, detail: str, retry_s: int) -> None:
        super().__init__(503, detail)
        self.fields = f"Retry-After: {retry_s}\r\n"


class ClientGone(ConnectionError):
    """The client left before its response was complete; raised into an application that still writes."""


class BrokenBody(ClientGone):
    """A request's body will never be complete; raised into an application that reads it while it arrives.

    ``refusal`` is what is wrong with it, or None when its client has left.
    """

    def __init__(self, message: str, refusal: ProtocolError | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal
