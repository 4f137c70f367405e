"""The life of a connection as a table: which state each input leads to.

Pure. What is done in a state, and who notices an input, is the business of `wsgicluster.worker.connection.connection`.
"""

import enum


class ConnectionState(enum.Enum):
    """What a connection is doing."""

    OPENING = "opening"
    """What comes before the first request: a PROXY protocol header, a TLS handshake."""
    READING = "reading"
    """Waiting for a request, or for the rest of one; also while the fast path runs one from within `receive`."""
    RUNNING = "running"
    """The worker has its request."""
    RESUMING = "resuming"
    """Its next request has been received with the last one and is read soon; nothing is received until then."""
    SENDING = "sending"
    """The request is over, and the rest of its response waits for the client."""
    LINGERING = "lingering"
    """The response has been sent; what the client still sends is dropped, so that it can read to the end."""
    CLOSED = "closed"

    # The one of Enum is written in Python, and takes half of the time of a look-up.
    __hash__ = object.__hash__


class ConnectionInput(enum.Enum):
    """What happens to a connection."""

    PREAMBLE = "a preamble is expected"
    OPENED = "the preamble is complete"
    REQUEST = "a request is to run"
    RESUMED = "received bytes are looked at"
    KEPT = "the response is complete and the connection is kept"
    KEPT_WITH_MORE = "the response is complete and more has been received"
    LEFTOVERS = "the rest of the response has to wait"
    END_SENT = "the end has been sent"
    HANDED_OVER = "the socket goes to another process"
    CLOSED = "the socket is closed"

    __hash__ = object.__hash__


_S, _I = ConnectionState, ConnectionInput
LIFE: dict[tuple[ConnectionState, ConnectionInput], ConnectionState] = {
    (_S.OPENING, _I.OPENED): _S.READING,
    # An error response to a client that speaks plain HTTP where TLS is expected.
    (_S.OPENING, _I.LEFTOVERS): _S.SENDING,
    (_S.OPENING, _I.END_SENT): _S.LINGERING,
    # A sibling's, as its PROXY header says; what is encrypted has not begun yet.
    (_S.OPENING, _I.HANDED_OVER): _S.CLOSED,
    (_S.OPENING, _I.CLOSED): _S.CLOSED,
    (_S.READING, _I.PREAMBLE): _S.OPENING,
    (_S.READING, _I.REQUEST): _S.RUNNING,
    # One that a sibling has given away comes with bytes that were received there.
    (_S.READING, _I.RESUMED): _S.READING,
    # The fast path runs a request from within `receive`: for the loop the connection has never stopped reading.
    (_S.READING, _I.KEPT): _S.READING,
    (_S.READING, _I.KEPT_WITH_MORE): _S.RESUMING,
    (_S.READING, _I.LEFTOVERS): _S.SENDING,
    (_S.READING, _I.END_SENT): _S.LINGERING,
    (_S.READING, _I.HANDED_OVER): _S.CLOSED,
    (_S.READING, _I.CLOSED): _S.CLOSED,
    (_S.RUNNING, _I.KEPT): _S.READING,
    (_S.RUNNING, _I.KEPT_WITH_MORE): _S.RESUMING,
    (_S.RUNNING, _I.LEFTOVERS): _S.SENDING,
    (_S.RUNNING, _I.END_SENT): _S.LINGERING,
    (_S.RUNNING, _I.CLOSED): _S.CLOSED,
    (_S.RESUMING, _I.RESUMED): _S.READING,
    (_S.RESUMING, _I.HANDED_OVER): _S.CLOSED,
    (_S.RESUMING, _I.CLOSED): _S.CLOSED,
    (_S.SENDING, _I.KEPT): _S.READING,
    (_S.SENDING, _I.KEPT_WITH_MORE): _S.RESUMING,
    (_S.SENDING, _I.END_SENT): _S.LINGERING,
    (_S.SENDING, _I.CLOSED): _S.CLOSED,
    (_S.LINGERING, _I.CLOSED): _S.CLOSED,
}
"""State and input to the next state; a pair that is not here is a fault of ours."""


class Transitions(dict[ConnectionState, ConnectionState]):
    """The column of the table for one input. Raises LookupError for a state in which that is impossible.

    A subscript costs no call of ours. So the two transitions of each request take it instead of `after`.
    """

    def __init__(self, given: ConnectionInput) -> None:
        super().__init__({state: found for (state, each), found in LIFE.items() if each is given})
        self._given = given

    def __missing__(self, state: ConnectionState) -> ConnectionState:
        raise LookupError(f"{self._given.value}: impossible for a connection that is {state.value}")


_COLUMNS = {given: Transitions(given) for given in ConnectionInput}
ON_REQUEST, ON_KEPT = _COLUMNS[ConnectionInput.REQUEST], _COLUMNS[ConnectionInput.KEPT]


def after(state: ConnectionState, given: ConnectionInput) -> ConnectionState:
    """The next state. Raises LookupError for a pair that the table does not have."""
    return _COLUMNS[given][state]
