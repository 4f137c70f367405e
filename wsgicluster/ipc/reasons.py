"""The words of those counters that are kept by reason, in the order of their cells on a page.

Each is the first cell of its counter plus the number of the word; see `wsgicluster.ipc.scoreboard`.
"""

import enum


class CloseReason(enum.IntEnum):
    """Why a worker has one connection less."""

    CLIENT = 0
    """The client has closed or reset it."""
    RESPONSE = 1
    """It ends with a response, which may be a refusal."""
    IDLE = 2
    """No request has come in time."""
    ABORTED = 3
    """It was reset, since its response could not be completed."""
    PREAMBLE = 4
    """What has to come before the first request was wrong: the TLS handshake, or the header of the PROXY protocol."""
    EVICTED = 5
    """It was idle, and made room for others."""
    STOP = 6
    """It was idle, and the worker exits."""
    HANDED_OVER = 7
    """Another worker continues with it."""


class BadRequest(enum.IntEnum):
    """What was wrong with a request that was refused before the application saw it."""

    MALFORMED = 0
    HEAD_TIMEOUT = 1
    BODY_TIMEOUT = 2
    TOO_LARGE = 3
    UNSUPPORTED = 4
    """It asks for what this server does not do: a version, a coding."""
    TLS = 5
    """The handshake failed, or something else than TLS has come."""
    PREAMBLE = 6
    """The header of the PROXY protocol is missing or invalid, or its sender may not send any."""
    INTERNAL = 7
    """The server could not serve it, through no fault of the client."""


class ShedReason(enum.IntEnum):
    """Why a request was not run."""

    QUEUE_TIMEOUT = 0
    CLIENT_LEFT = 1
    STOP = 2
    """The worker had to exit before it could be run."""
    NO_DESCRIPTOR = 3


class HandOffResult(enum.IntEnum):
    """What became of a connection between workers, besides those that are given away (`CloseReason.HANDED_OVER`)."""

    TAKEN = 0
    LOST = 1
    """No descriptor was left for it."""


BAD_REQUEST_OF_STATUS = {
    413: BadRequest.TOO_LARGE,
    414: BadRequest.TOO_LARGE,
    431: BadRequest.TOO_LARGE,
    417: BadRequest.UNSUPPORTED,
    501: BadRequest.UNSUPPORTED,
    505: BadRequest.UNSUPPORTED,
}


def bad_request_of(status: int, in_head: bool, over_tls: bool) -> BadRequest:
    """The word for a refusal: ``in_head`` says that the head had not come to its end, ``over_tls`` TLS is expected."""
    if status == 408:
        return BadRequest.HEAD_TIMEOUT if in_head else BadRequest.BODY_TIMEOUT
    if over_tls:
        return BadRequest.TLS
    if status in BAD_REQUEST_OF_STATUS:
        return BAD_REQUEST_OF_STATUS[status]
    return BadRequest.INTERNAL if status >= 500 else BadRequest.MALFORMED
