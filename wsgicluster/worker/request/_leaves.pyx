# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Compiled twins of what each request costs: receiving it, and answering it whole.

A request that has come whole is received and taken apart in one step, and a response of one small block is sent in
one. Everything else is given to the plain twins, `wsgicluster.worker.request.cycle.Cycle` above all, before it has
had any effect. Receiving and sending never block, so that they need not let other threads run.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_READ_CHAR
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy, memset

from wsgicluster.http._parser cimport Head, parse_whole
from wsgicluster.http._writer cimport BLOCK_BYTES, Block, format_usual
from wsgicluster.system._calls cimport MSG_DONTWAIT, MSG_NOSIGNAL, now, recv, send
from wsgicluster.worker.request._bodies cimport BodyBuffer

from collections import OrderedDict

from wsgicluster.errors import ClientGone
from wsgicluster.http import head as _head
from wsgicluster.http import response as _response
from wsgicluster.http.connection import Phase
from wsgicluster.ipc import scoreboard as _page
from wsgicluster.worker.request.outcome import Outcome
from wsgicluster.wsgi.response import JOIN_BYTES as _JOIN_BYTES
from wsgicluster.wsgi.response import Framing, Response

cdef enum:
    OUT_BYTES = 24576
    MOST_BOUNDS = 32

# For one response at a time: nothing runs between its first byte and its last, and no greenlet's stack has to hold it.
cdef char OUT[OUT_BYTES]
cdef Py_ssize_t JOIN_BYTES = min(_JOIN_BYTES, OUT_BYTES - BLOCK_BYTES - 512)

cdef object _HEAD_PHASE = Phase.HEAD, _COUNTED_PHASE = Phase.COUNTED_BODY
cdef object _KEEP = Outcome.KEEP, _CLOSE = Outcome.CLOSE, _ABORT = Outcome.ABORT
cdef int KEEP_ALIVE = _head.KEEP_ALIVE, HTTP_11 = _head.HTTP_11, IS_HEAD = _head.IS_HEAD
cdef int WANTS_CLOSE = _response.WANTS_CLOSE, OWN_FIELDS = _response.HAS_DATE | _response.HAS_SERVER
cdef int STARTED = _page.Cell.STARTED, DEADLINE = _page.Cell.DEADLINE, STATE = _page.Cell.STATE
cdef int REQUESTS = _page.Cell.REQUESTS, RESPONSES = _page.Cell.RESPONSES, BYTES_OUT = _page.Cell.BYTES_OUT
cdef int DURATION = _page.Cell.DURATION_NS, HISTOGRAM = _page.Cell.HISTOGRAM
cdef int APPLICATION = _page.Cell.APPLICATION_NS, APPLICATION_HISTOGRAM = _page.Cell.APPLICATION_HISTOGRAM
cdef int QUEUE = _page.Cell.QUEUE_NS, QUEUE_HISTOGRAM = _page.Cell.QUEUE_HISTOGRAM
cdef int CLIENT_LEFT = _page.Cell.CLIENT_LEFT
cdef int RUNNING = _page.Cell.RUNNING
cdef int CLIENT_OFFSET = _page.CLIENT_OFFSET, CLIENT_BYTES = _page.CLIENT_BYTES
cdef int LINE_OFFSET = _page.LINE_OFFSET, LINE_BYTES = _page.LINE_BYTES

cdef double BOUNDS[MOST_BOUNDS]
cdef int BOUND_COUNT = len(_page.HISTOGRAM_BOUNDS_S)
for _index in range(BOUND_COUNT):
    BOUNDS[_index] = _page.HISTOGRAM_BOUNDS_S[_index]


cdef bint set_scheme(list schemes, dict environ) except -1:
    """The twin of `wsgicluster.wsgi.trust.Trust.set_scheme` without hops; False when headers contradict each other."""
    cdef PyObject *value
    said = None
    for name, secure in schemes:
        value = PyDict_GetItem(environ, name)
        if value is not NULL:
            scheme = "https" if <object>value == secure else "http"
            if said is not None and said is not scheme:
                return False
            said = scheme
    if said is not None:
        environ["wsgi.url_scheme"] = said
    return True


@cython.final
cdef class Receiver:
    """Receives for the connections of one worker (a `wsgicluster.worker.connection.host.FastPath`).

    A request that has come whole goes to ``on_request`` at once, its environ complete as far as ``schemes``, those of a
    `wsgicluster.wsgi.trust.Trust`, tell, and makes its connection one that is ``running``; ``receive_bytes`` is the most
    that is received in one go, ``received_bytes`` counts.
    """

    cdef readonly object cycle, serving  # None: no request is answered here
    cdef public unsigned long long received_bytes
    cdef object on_request, running
    cdef list schemes
    cdef Py_ssize_t receive_bytes
    cdef bytes memory

    def __init__(self, cycle, on_request, running, Py_ssize_t receive_bytes, schemes):
        self.schemes = list(schemes)
        self.cycle = cycle
        self.on_request = on_request
        self.running = running
        self.receive_bytes = receive_bytes
        self.memory = PyBytes_FromStringAndSize(NULL, receive_bytes)

    def answer_to(self, contact):
        """None: each contact is told of its response."""
        return None

    def holds(self, connection):
        """False: no response waits for others."""
        return False

    def meet(self, contact):
        """A connection has got another contact, which is of no concern here."""

    def receive(self, connection, peer):
        """Receive; None when a whole request came and was handed on, else the bytes (empty at the end of the stream),
        which for the rest of a body may be a view of it.

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        cdef Head found
        cdef dict environ = None
        cdef BodyBuffer store
        cdef char *data = PyBytes_AS_STRING(self.memory)
        cdef ssize_t size
        reader = connection.reader
        phase = reader.phase
        if phase is _COUNTED_PHASE and type(reader.store) is BodyBuffer:
            store = <BodyBuffer>reader.store
            return store.receive(connection.descriptor, data, self.receive_bytes, &self.received_bytes)
        size = recv(connection.descriptor, data, self.receive_bytes, MSG_DONTWAIT)
        if size < 0:
            PyErr_SetFromErrno(OSError)
        self.received_bytes += size
        if peer is None:
            connection.peer = self
        if phase is _HEAD_PHASE and not reader.rest:
            environ = parse_whole(data, size, reader.template, reader.limits, &found)
        if environ is None or (connection.trusted and not set_scheme(self.schemes, environ)):
            return PyBytes_FromStringAndSize(data, size)
        reader.environ = environ
        reader.flags = found.flags
        reader.line = PyBytes_FromStringAndSize(data, found.line_size)
        reader.body = None
        connection.state = self.running
        self.on_request(connection)
        return None


@cython.final
@cython.freelist(8)
cdef class WholeResponse:
    """``start_response`` of one request: keeps a usual head as a block, or becomes a plain `Response`.

    A client that is answered without a connection gets one of ``arrivals`` when more is needed.
    """

    def __call__(self, status, headers, exc_info=None):
        if (
            not self.called and self.plain is None and exc_info is None and not self.over
            and format_usual(status, headers, &self.block)
        ):
            self.called = True
            self.status = status
            self.headers = headers
            return self.write
        return self.response().start_response(status, headers, exc_info)

    def write(self, data):
        """PEP 3333's write callable."""
        self.response().write(data)

    def send_interim(self, data):
        """Send an interim response, unless it is too late or the client knows none. Raises ClientGone."""
        self.response().send_interim(data)

    def lost_client(self):
        """Whether the client has ended or reset the connection; receives nothing."""
        return self.client().lost_client()

    cdef object client(self):
        """The connection."""
        if self.connection is None and not self.over:
            self.connection = self.arrivals.open_arrival()
        return self.connection

    cdef object response(self):
        """The same response as a plain one; from now on it decides."""
        cdef Block *block = &self.block
        if self.plain is None:
            cycle = self.cycle
            client = self.client()
            self.plain = plain = Response(client, self.flags, cycle.stamp(self.started), cycle.on_block)
            if self.called:
                # As it was then: the application may have changed its list since.
                plain.resume_head(
                    (PyBytes_FromStringAndSize(block.data, block.size), block.length, block.info),
                    self.status, self.headers,
                )
            if self.sent:
                plain.resume(Framing.COUNTED, 0, self.sent_bytes, self.keep)
            if self.over:
                plain.complete = True
                return plain
            cycle.started = self.started
            cycle.queue_s = self.queue_s
            cycle.ended = 0.0
            if client.contact.answer is self:
                client.contact.answer = plain
        return self.plain

    cdef bytes call(self, application, dict environ):
        """Call the application; the body, when the response is whole. Else what was returned or raised is kept."""
        try:
            self.result = application(environ, self)
        except BaseException as error:
            # The application's boundary: whatever it raises, even SystemExit, ends its request and no more.
            self.error = error
        if self.cycle.abandoned:
            self.cycle.end_stray()
        if self.error is not None or not self.called or self.plain is not None:
            return None
        return whole_body(self.result, self.block.length)

    cdef object end_in_cycle(self, snapshot, bytes line):
        """Let the cycle send what was returned, or answer that it has raised; what becomes of the connection."""
        cycle = self.cycle
        connection = self.client()
        response = self.response()
        result, self.result = self.result, None
        error, self.error = self.error, None
        if error is not None:
            outcome = cycle.fail(response, connection, line, error)
        else:
            outcome = cycle.deliver(response, connection, line, result)
        if cycle.abandoned:
            cycle.end_stray()
        cycle.record(response, snapshot, line)
        return outcome


cdef WholeResponse new_response(cycle, connection, int flags, double started):
    cdef WholeResponse start = WholeResponse.__new__(WholeResponse)
    start.cycle = cycle
    start.connection = connection
    start.flags = flags
    start.started = started
    return start


cdef inline int class_of(status) noexcept:
    """As `wsgicluster.worker.request.page_counters.class_of`, of a status that `format_usual` has taken."""
    cdef int digit = <int>PyUnicode_READ_CHAR(status, 0) - 48
    return min(digit, 5)


cdef bytes whole_body(object result, long long length):
    """The body when it is one block of bytes that is worth joining, and as long as was said (-1: nothing); else None."""
    if type(result) is list:
        if len(<list>result) != 1:
            return None
        body = (<list>result)[0]
    elif type(result) is tuple and len(<tuple>result) == 1:
        body = (<tuple>result)[0]
    else:
        return None
    if not PyBytes_CheckExact(body) or PyBytes_GET_SIZE(body) > JOIN_BYTES:
        return None
    return <bytes>body if length < 0 or length == PyBytes_GET_SIZE(body) else None


cdef inline Py_ssize_t _add(Py_ssize_t size, bytes data) noexcept:
    memcpy(OUT + size, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return size + PyBytes_GET_SIZE(data)


cdef const char *write_whole(WholeResponse start, bytes fields, bint keep, bytes body, Py_ssize_t *size):
    """Head and body one behind the other, until the next call; ``fields`` are Server and Date, if both are wanted."""
    cdef Py_ssize_t end = start.block.size
    if start.block.info & OWN_FIELDS:
        fields = start.cycle.stamp(start.started).missing(start.block.info)
    # From here on no Python code runs.
    memcpy(OUT, start.block.data, end)
    end = _add(end, fields)
    if start.block.length < 0:
        end = _add(end, b"Content-Length: %d\r\n" % PyBytes_GET_SIZE(body))
    if not keep:
        end = _add(end, b"Connection: close\r\n")
    size[0] = _add(_add(end, b"\r\n"), body)
    start.keep = keep
    start.sent = True
    start.sent_bytes = PyBytes_GET_SIZE(body)
    return OUT


cdef object send_whole(WholeResponse start, int descriptor, bytes fields, bint keep, bytes body):
    """Send head and body, by way of the connection if there is no ``descriptor``; what becomes of the connection."""
    cdef Py_ssize_t size
    cdef ssize_t sent = 0
    cdef const char *out = write_whole(start, fields, keep, body, &size)
    if descriptor >= 0:
        sent = send(descriptor, out, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                return _ABORT
            sent = 0
    if sent < size:
        left = PyBytes_FromStringAndSize(out + sent, size - sent)
        try:
            start.client().send(left)
        except ClientGone:
            return _ABORT
    return _KEEP if keep else _CLOSE


cdef inline int _bucket(double duration_s) noexcept:
    cdef int bucket = 0
    while bucket < BOUND_COUNT and BOUNDS[bucket] < duration_s:
        bucket += 1
    return bucket


@cython.final
cdef class PageCounters:
    """The twin of `wsgicluster.worker.request.page_counters.PageCounters`; needs no lock."""

    def __init__(self, page):
        self.floats = page.floats
        self.cells = page.cells
        self.raw = page.raw

    cpdef count(self, int status_class, long long sent_bytes, double duration_s, double application_s, double queue_s):
        """Add a request to what stands on the page."""
        self.cells[REQUESTS] += 1
        self.cells[RESPONSES + status_class] += 1
        self.cells[BYTES_OUT] += sent_bytes
        self.cells[DURATION] += <unsigned long long>(duration_s * 1e9)
        self.cells[HISTOGRAM + _bucket(duration_s)] += 1
        self.cells[APPLICATION] += <unsigned long long>(application_s * 1e9)
        self.cells[APPLICATION_HISTOGRAM + _bucket(application_s)] += 1
        self.cells[QUEUE] += <unsigned long long>(queue_s * 1e9)
        self.cells[QUEUE_HISTOGRAM + _bucket(queue_s)] += 1

    cdef void add_client_left(self) noexcept:
        """A client has left before it had its response."""
        self.cells[CLIENT_LEFT] += 1

    cdef void show(self, double started, bytes client, const char *line, Py_ssize_t line_size) noexcept:
        """Say which request runs; as ``STORE_REQUEST`` of the scoreboard."""
        cdef char *place = <char *>&self.raw[0]
        cdef Py_ssize_t size = min(PyBytes_GET_SIZE(client), CLIENT_BYTES)
        self.floats[STARTED] = started
        memcpy(place + CLIENT_OFFSET, PyBytes_AS_STRING(client), size)
        memset(place + CLIENT_OFFSET + size, 0, CLIENT_BYTES - size)
        size = min(line_size, LINE_BYTES)
        memcpy(place + LINE_OFFSET, line, size)
        memset(place + LINE_OFFSET + size, 0, LINE_BYTES - size)


@cython.final
cdef class RequestsInFlight:
    """The twin of `wsgicluster.worker.request.in_flight.PythonRequestsInFlight`; needs no lock."""

    cdef readonly object seats
    cdef object shown
    cdef PageCounters page

    def __init__(self, page):
        self.page = PageCounters(page)
        self.seats = OrderedDict()

    def __len__(self):
        return len(self.seats)

    def __contains__(self, seat):
        return seat in self.seats

    def __iter__(self):
        return iter(list(self.seats))

    def oldest_at(self):
        """When the oldest request has begun; 0.0 for none."""
        return self.page.floats[STARTED]

    cpdef begin(self, seat):
        """A request begins."""
        self.seats[seat] = None
        self.page.cells[RUNNING] = len(self.seats)
        if self.shown is None:
            self._show(seat)

    cpdef end(self, seat):
        """A request is over."""
        del self.seats[seat]
        self.page.cells[RUNNING] = len(self.seats)
        if self.shown is seat:
            self._show(next(iter(self.seats), None))

    cdef int _show(self, seat) except -1:
        cdef bytes line
        self.shown = seat
        if seat is None:
            self.page.floats[STARTED] = 0.0
        else:
            line = seat.line
            self.page.show(seat.started, seat.client, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
        return 0


def serve(cycle, connection, dict environ not None, int flags, bytes line not None):
    """The twin of `wsgicluster.worker.request.cycle.Cycle.serve`; of a `RequestRunner` it knows how that shows its request."""
    cdef double started = now(), complete_at = connection.complete_at, called, took
    cdef WholeResponse start = new_response(cycle, connection, flags, started)
    cdef RequestsInFlight running = cycle.running
    start.queue_s = max(0.0, started - complete_at)
    cycle.started = started
    if running is None:
        cycle.show(started, connection.client, line)
    else:
        cycle.client = connection.client
        cycle.line = line
        cycle.reported = False
        running.begin(cycle)
    contact = connection.contact
    if contact.is_kept():
        contact = connection.renew_contact(environ)
    snapshot = environ.copy() if cycle.access is not None else None
    cycle.contact = contact
    contact.answer = start
    contact.runner = cycle
    body = start.call(cycle.application, environ)
    called = now()
    outcome = None
    if body is not None and not connection.taken and flags & HTTP_11 and not flags & IS_HEAD:
        try:
            outcome = _send(start, connection, body, running is None)
        except BaseException as error:
            start.error = error
    if outcome is None:
        outcome = start.end_in_cycle(snapshot, line)
        contact.answer = None
        return outcome
    start.over = True
    start.result = contact.answer = None
    if running is None:
        cycle.hide()
        took = now() - started
        cycle.count(class_of(start.status), PyBytes_GET_SIZE(body), took, called - started, start.queue_s)
    else:
        running.end(cycle)
        took = now() - started
        # The same, without objects for its arguments.
        running.page.count(class_of(start.status), PyBytes_GET_SIZE(body), took, called - started, start.queue_s)
    if outcome is _ABORT:
        cycle.add(CLIENT_LEFT)
    if snapshot is not None:
        cycle.log(snapshot, start.status, start.headers, PyBytes_GET_SIZE(body), took)
    return outcome


cdef object _send(WholeResponse start, connection, bytes body, bint inline):
    """Send a response; ``inline`` is for a worker that runs requests in its loop."""
    cdef bint keep = start.flags & KEEP_ALIVE and not start.block.info & WANTS_CLOSE and connection.may_keep()
    cycle = start.cycle
    stamp = cycle.latest if start.started < <double>cycle.stamp_due else cycle.stamp(start.started)
    # A connection that has a peer is received from here, so that it has a socket of the usual kind; only those of the
    # sync worker have one in any case.
    at_once = (
        connection.peer is not None and not connection.sends_later
        and not (inline and connection.transport.record_bytes)
    )
    return send_whole(start, connection.descriptor if at_once else -1, stamp.both, keep, body)
