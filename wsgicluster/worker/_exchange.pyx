# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of one way through the sync worker: receive, parse, call, format, send.

It serves the usual exchange from end to end: one whole request in one read, and an answer in blocks
of bytes. For everything else it gives back what it has received, or hands what the application did
to the plain `Cycle`. Receiving and sending never block, so that they need not let other threads run.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem, PyDict_SetItem
from cpython.exc cimport PyErr_SetFromErrno
from cpython.list cimport PyList_Append, PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact, PyUnicode_DecodeLatin1
from cpython.buffer cimport PyBUF_READ
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy, memset, strlen

from wsgicluster.http._speedups cimport Block, format_usual, parse_usual
from wsgicluster.worker._gather cimport Gather

import io
import time

from wsgicluster import scoreboard as _scoreboard
from wsgicluster.http import head as _head
from wsgicluster.http import response as _response_head
from wsgicluster.http.connection import Phase
from wsgicluster.worker.ending import State
from wsgicluster.worker.cycle import Outcome
from wsgicluster.errors import ClientGone, ProtocolError
from wsgicluster.wsgi.contact import Contact as _Contact
from wsgicluster.wsgi.files import FileWrapper as _FileWrapper
from wsgicluster.wsgi.response import Framing, Response

cdef extern from "Python.h":
    void *PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    Py_ssize_t Py_REFCNT(PyObject *value)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t send(int descriptor, const void *buffer, size_t size, int flags)
    int MSG_DONTWAIT
    int MSG_PEEK
    int MSG_NOSIGNAL
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC
    int AF_INET
    int AF_INET6
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        unsigned short ss_family
    int accept4(int listener, sockaddr *address, socklen_t *size, int flags)
    int getsockopt(int descriptor, int level, int option, void *value, socklen_t *size)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        pass
    cdef struct in6_addr:
        pass
    cdef struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        unsigned short sin6_port
        unsigned int sin6_flowinfo
        in6_addr sin6_addr
        unsigned int sin6_scope_id
    int IPPROTO_TCP
    unsigned short ntohs(unsigned short number)
    unsigned int ntohl(unsigned int number)

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_INFO
    cdef struct tcp_info:
        unsigned int tcpi_last_data_recv

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, unsigned int size)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char *buffer, size_t size, const char *format, ...)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t haystack_size, const void *needle, size_t needle_size)

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int descriptor, const iovec *parts, int count)

cdef extern from "<unistd.h>" nogil:
    int close(int descriptor)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)

cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    static void keep_memory(int largest, int kept)
    {
        mallopt(M_MMAP_THRESHOLD, largest);
        mallopt(M_TRIM_THRESHOLD, kept);
    }
    #else
    static void keep_memory(int largest, int kept) { (void)largest; (void)kept; }
    #endif
    """
    void keep_memory(int largest, int kept) nogil

DEF RECEIVE_BYTES = 262144
DEF JOIN_BYTES = 16384
DEF OUT_BYTES = 24576
DEF QUICK_S = 0.0001
DEF HOLD_FROM_S = 0.00002
DEF HOLD_TO_S = 0.0005
# What has the callables of a contact that nobody has kept: it, a `Peer` and an environ; and templates.
DEF USUAL_REFERENCES = 3

cdef object _HEAD_PHASE = Phase.HEAD
cdef object _COUNTED_PHASE = Phase.COUNTED_BODY
cdef object _CLOSED = State.CLOSED
cdef object _KEEP = Outcome.KEEP
cdef object _CLOSE = Outcome.CLOSE
cdef object _ABORT = Outcome.ABORT
cdef object _BytesIO = io.BytesIO
cdef object _wall_clock = time.time
cdef object _store_request = _scoreboard.STORE_REQUEST
# What is there at once gets its length, or an honest 500, from the plain cycle.
cdef tuple _WHOLE = (list, tuple, _FileWrapper)
cdef object S_INPUT = "wsgi.input"
cdef object S_ADDRESS = "REMOTE_ADDR"
cdef object S_PORT = "REMOTE_PORT"
cdef object S_SCHEME = "wsgi.url_scheme"
cdef object S_HTTP = "http"
cdef object S_HTTPS = "https"

cdef int KEEP_ALIVE = _head.KEEP_ALIVE
cdef int HTTP_11 = _head.HTTP_11
cdef int IS_HEAD = _head.IS_HEAD
cdef int WANTS_CLOSE = _response_head.WANTS_CLOSE
cdef int OWN_FIELDS = _response_head.HAS_DATE | _response_head.HAS_SERVER

cdef int DEADLINE = _scoreboard.Cell.DEADLINE
cdef int STARTED = _scoreboard.Cell.STARTED
cdef int STATE = _scoreboard.Cell.STATE
cdef int REQUESTS = _scoreboard.Cell.REQUESTS
cdef int BYTES_OUT = _scoreboard.Cell.BYTES_OUT
cdef int HISTOGRAM = _scoreboard.Cell.HISTOGRAM
cdef unsigned long long READY = _scoreboard.WorkerState.READY
cdef int CLIENT_OFFSET = _scoreboard.CLIENT_OFFSET
cdef int CLIENT_BYTES = _scoreboard.CLIENT_BYTES
cdef int LINE_OFFSET = _scoreboard.LINE_OFFSET
cdef int LINE_BYTES = _scoreboard.LINE_BYTES

DEF MOST_BOUNDS = 32
cdef double BOUNDS[MOST_BOUNDS]
cdef int BOUND_COUNT = len(_scoreboard.HISTOGRAM_BOUNDS_S)
for _index in range(BOUND_COUNT):
    BOUNDS[_index] = _scoreboard.HISTOGRAM_BOUNDS_S[_index]


def keep_freed_memory():
    """Have the allocator keep what large bodies give back, up to a bound, for the next ones.

    Without this each body of a megabyte is several hundred page faults, which cost more than receiving it.
    """
    keep_memory(2 * 1024 * 1024, 8 * 1024 * 1024)


cdef inline double _now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + <double>now.tv_nsec * 1e-9


@cython.final
cdef class BodyBuffer:
    """A body of known length in memory: what is received lands where the application will read it.

    A `wsgicluster.http.connection.BodyStore` that saves a large body one copy and all growing.
    """

    cdef bytes memory
    cdef Py_ssize_t size
    cdef Py_ssize_t filled

    def __init__(self, Py_ssize_t size):
        # Not cleared: memory that no byte has come for is never touched, and costs nothing.
        self.memory = PyBytes_FromStringAndSize(NULL, size)
        self.size = size

    def write(self, const unsigned char[::1] piece not None):
        """Take the next piece; one that `Exchange.receive` has put in its place already is only counted."""
        cdef Py_ssize_t size = piece.shape[0]
        cdef char *place = PyBytes_AS_STRING(self.memory) + self.filled
        if size > self.size - self.filled:
            raise ValueError("the body is longer than was said")
        if size and <char *>&piece[0] != place:
            memcpy(place, &piece[0], size)
        self.filled += size

    def finish(self):
        """The body as a file; shares the memory."""
        if self.filled != self.size:
            raise ValueError("the body is not complete")
        memory, self.memory = self.memory, None
        return _BytesIO(memory)

    def discard(self):
        """Forget a body that will never be complete."""
        self.memory = None


cdef bint _is_clean(str line, int quotes) noexcept:
    """Printable ASCII without a backslash, and with just so many quotes; the twin of the check in `LineFormat`."""
    cdef const unsigned char *data
    cdef Py_ssize_t index
    cdef int found = 0, bad = 0
    if not PyUnicode_IS_COMPACT_ASCII(line):
        return False
    data = <const unsigned char *>PyUnicode_1BYTE_DATA(line)
    for index in range(PyUnicode_GET_LENGTH(line)):
        bad |= (data[index] < 0x20) | (data[index] == 0x7F) | (data[index] == c"\\")
        found += data[index] == c'"'
    return not bad and found == quotes


@cython.final
cdef class Peer:
    """What stays the same for all requests of one connection."""

    cdef int descriptor
    cdef dict template
    cdef bytes client
    cdef bint trusted
    cdef object contact
    cdef object hints
    cdef object gone
    cdef Py_ssize_t usual

    def __init__(self, connection, dict template not None):
        self.descriptor = connection.descriptor
        self.template = template
        self.client = connection.client
        self.trusted = connection.trusted
        self.usual = USUAL_REFERENCES + 1
        self.meet(connection.contact)

    def meet(self, contact):
        """From now on this is the contact of the connection."""
        self.contact = contact
        self.hints = contact.early_hints
        self.gone = contact.client_disconnected
        contact.usual_references += 1

    cdef inline bint is_kept(self) noexcept:
        """Whether an application has kept a callable of the contact from an earlier request."""
        return Py_REFCNT(<PyObject *>self.hints) > self.usual or Py_REFCNT(<PyObject *>self.gone) > self.usual


class _Nobody:
    """The transport of a response whose connection is closed."""

    def send(self, data):
        raise ClientGone("the response is over")

    def send_pair(self, head, body):
        raise ClientGone("the response is over")

    def send_file(self, head, region):
        raise ClientGone("the response is over")

    def may_keep(self):
        return False

    def lost_client(self):
        return True


cdef object _NOBODY = _Nobody()


@cython.freelist(4)
cdef class Start:
    """``start_response`` of one request: keeps a usual head as a block, or becomes a plain `Response`."""

    cdef Exchange exchange
    cdef object connection
    cdef int flags
    cdef double started
    cdef bint called
    cdef bint head_sent
    cdef bint chunked
    cdef bint keep
    cdef bint overlong
    cdef bint complete
    cdef long long left
    cdef long long sent_bytes
    cdef Peer peer
    cdef object status
    cdef object headers
    cdef object plain

    def __call__(self, status, headers, exc_info=None):
        if (
            not self.called and self.plain is None and exc_info is None and self.exchange.start is self
            and PyUnicode_CheckExact(status) and PyList_CheckExact(headers)
            and format_usual(status, <list>headers, &self.exchange.block)
        ):
            self.called = True
            self.status = status
            self.headers = headers
            return self.write
        return self.response().start_response(status, headers, exc_info)

    def write(self, data):
        """PEP 3333's write callable."""
        self.response().write(data)

    def send_interim(self, bytes data not None):
        """Send an interim response, unless it is too late or the client knows none. Raises ClientGone."""
        if self.plain is not None:
            self.plain.send_interim(data)
        elif self.exchange.start is self and self.flags & HTTP_11 and not self.head_sent:
            if not self.exchange._put(self, self.peer, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
                raise ClientGone("the client has left")

    def lost_client(self):
        """Whether the client has ended or reset the connection; receives nothing."""
        cdef char first
        cdef ssize_t size
        if self.plain is not None:
            return self.plain.lost_client()
        if self.exchange.start is not self:
            return True
        size = recv(self.peer.descriptor, &first, 1, MSG_PEEK | MSG_DONTWAIT)
        return size == 0 or (size < 0 and errno != EAGAIN and errno != EINTR)

    cdef object response(self):
        """The same response as a plain one; from now on it decides."""
        cdef Block *block = &self.exchange.block
        if self.plain is None:
            cycle = self.exchange.cycle
            cycle.started = self.started
            # Of a response that is over nothing is sent any more, least of all to who is being answered now.
            over = self.exchange.start is not self
            client = _NOBODY if over and self.connection is None else self.exchange._connect(self)
            self.plain = plain = Response(client, self.flags, cycle.stamp(self.started))
            if self.called:
                # As it was then: the application may have changed its list since.
                plain.resume_head(
                    (PyBytes_FromStringAndSize(block.data, block.size), block.length, block.info),
                    self.status, self.headers,
                )
            if self.head_sent:
                if not over:
                    self.exchange._settle(self)
                plain.resume(
                    Framing.CHUNKED if self.chunked else Framing.COUNTED, self.left, self.sent_bytes, self.keep
                )
                plain.overlong = self.overlong
            plain.complete = self.complete
        return self.plain


@cython.final
cdef class Exchange:
    """The exchanges of one worker; ``received_bytes`` counts, ``serving`` is the connection being answered.

    ``arrival`` is the descriptor of a client that is answered and has no connection object, or -1. What has
    waited for ``aged_ms`` (0: for ever), or may have, is given back. ``ids`` names requests, or is None.
    """

    cdef readonly object cycle
    cdef readonly object serving
    cdef public unsigned long long received_bytes
    cdef public unsigned int aged_ms
    cdef public object ids
    cdef object own_fields
    cdef object application
    cdef object access
    cdef object plain_line
    cdef object escaped_line
    cdef int quotes
    cdef list lines
    cdef object limits
    cdef object trust
    cdef list scheme_headers
    cdef int hops
    cdef double keepalive_s
    cdef double slow_s
    cdef double beat_s
    cdef double stamp_due
    cdef bytes stamp
    cdef Start start
    cdef Gather gather
    cdef list held
    cdef int ahead
    cdef double usual_s
    cdef bint waiting
    cdef object connect
    cdef list templates
    cdef Peer visitor
    cdef sockaddr_storage address
    cdef readonly int arrival
    cdef public object relief
    cdef int index
    cdef int flags
    cdef Py_ssize_t line_size
    cdef object page
    cdef double[::1] floats
    cdef unsigned long long[::1] cells
    cdef unsigned char[::1] raw
    cdef Block block
    cdef char data[RECEIVE_BYTES]
    cdef char out[OUT_BYTES]

    def __init__(self, cycle, limits, trust, double keepalive_s, double slow_s):
        self.arrival = -1
        self.gather = Gather()
        self.held = []
        self.usual_s = 1.0
        self.cycle = cycle
        self.application = cycle.application
        self.access = cycle.access
        if self.access is not None:
            self.plain_line = self.access.line_format.plain
            self.escaped_line = self.access.line_format.escaped
            self.quotes = self.access.line_format.quotes
            self.lines = self.access.lines
        self.beat_s = cycle.beat_s
        self.limits = limits
        self.trust = trust
        self.scheme_headers = list(trust.schemes)
        self.hops = trust.hops
        self.keepalive_s = keepalive_s
        self.slow_s = slow_s
        self.stamp_due = 0.0
        self.page = cycle.page
        self.floats = cycle.page.floats
        self.cells = cycle.page.cells
        self.raw = cycle.page.raw

    def serve_listeners(self, connect, list templates not None):
        """What `answer_arrivals` needs: ``connect(descriptor, index, address, rest)`` makes a Connection,
        ``templates`` are those of the listeners' environs."""
        self.connect = connect
        self.templates = templates
        self.visitor = Peer.__new__(Peer)
        self.visitor.usual = USUAL_REFERENCES + len(templates)
        self._meet_visitors()

    def answer_to(self, contact):
        """The response that is under way to the client of a contact, or None."""
        return self.start if self.start is not None and self.start.peer.contact is contact else None

    cdef int _meet_visitors(self) except -1:
        """Make a contact for those who are answered without a connection of their own."""
        contact = _Contact(self)
        for template in self.templates:
            contact.enter(template)
        self.visitor.meet(contact)
        return 0

    cdef int _renew(self, connection, Peer peer, dict environ) except -1:
        """The application has kept the contact of an earlier request: this one gets another."""
        if peer is not self.visitor:
            connection.renew_contact(environ)
            return 0
        peer.contact.close()
        self._meet_visitors()
        peer.contact.enter(environ)
        return 0

    def accept(self, int listener):
        """The descriptor of the next connection and its peer's address, or None when nobody waits.

        The address is a tuple as ``socket.accept`` has it, or ``""`` for a Unix socket. Raises OSError.
        """
        cdef int descriptor = self._accept(listener)
        return None if descriptor < 0 else (descriptor, self._address())

    def answer_arrivals(self, int listener, int index, double ends, int most):
        """Accept connections of listener ``index``, and answer each whose request is there, until ``ends``.

        One that is closed behind its response never becomes a `Connection`. Returns when nobody waits, the time
        is over, or so many (``most``) stay open whose requests take their time. Raises OSError.
        """
        cdef int descriptor
        cdef Py_ssize_t size
        while True:
            descriptor = self._accept(listener)
            if descriptor < 0:
                return
            size = recv(descriptor, self.data, RECEIVE_BYTES, MSG_DONTWAIT)
            if size > 0 or (size < 0 and errno == EAGAIN):
                connection = self._answer_arrival(descriptor, index, size)
                if connection is not None and connection.state is not _CLOSED:
                    most -= 1
            else:
                close(descriptor)  # the client has gone already
            # The wake-up was for this worker alone: it takes one at least, even when it has just been asked to go.
            if (most <= 0 and self.usual_s > QUICK_S) or _now() >= ends or self.cells[STATE] != READY:
                return

    cdef object _answer_arrival(self, int descriptor, int index, Py_ssize_t size):
        """Answer what a new connection has sent (``size`` below 0: nothing yet); the `Connection`, if it is one now."""
        cdef dict environ = None
        cdef Peer peer = None
        if size > 0:
            self.received_bytes += size
        if size > 0 and not (self.aged_ms and self._has_waited(descriptor)):
            environ = self._read(size, self.templates[index])
            if environ is not None:
                peer = self._peer(descriptor, environ)
        if peer is not None and not self.flags & KEEP_ALIVE:
            self.arrival = descriptor
            self.index = index
            self._serve(None, peer, environ)
            return None
        connection = self.connect(descriptor, index, self._address(), b"")
        if size < 0:
            connection.wait_for_request()
        elif peer is None:
            connection.take(PyBytes_FromStringAndSize(self.data, size))
        else:
            self.serving = connection
            self._serve(connection, peer, environ)
            self.serving = None
        return connection

    def abandon(self):
        """In a process that the application has forked: let go of the client that is being answered."""
        self.gather.abandon()
        if self.visitor is not None:
            self.visitor.contact.close()
        if self.arrival >= 0:
            close(self.arrival)
            self.arrival = -1

    cdef int _accept(self, int listener) except -2:
        """The next connection's descriptor, or -1; its peer stands in ``address``."""
        cdef socklen_t size = sizeof(self.address)
        cdef int descriptor = accept4(listener, <sockaddr *>&self.address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if descriptor < 0:
            if errno == EAGAIN or errno == EINTR:
                return -1
            PyErr_SetFromErrno(OSError)
        return descriptor

    cdef object _address(self):
        cdef char text[64]
        cdef sockaddr_in *four = <sockaddr_in *>&self.address
        cdef sockaddr_in6 *six = <sockaddr_in6 *>&self.address
        if self.address.ss_family == AF_INET and inet_ntop(AF_INET, &four.sin_addr, text, 64) is not NULL:
            return text.decode("ascii"), ntohs(four.sin_port)
        if self.address.ss_family == AF_INET6 and inet_ntop(AF_INET6, &six.sin6_addr, text, 64) is not NULL:
            return text.decode("ascii"), ntohs(six.sin6_port), ntohl(six.sin6_flowinfo), six.sin6_scope_id
        return ""

    cdef Peer _peer(self, int descriptor, dict environ):
        """Complete the environ of an arrival; None when its headers contradict each other, or for rare addresses."""
        cdef char text[80]
        cdef Py_ssize_t host_size
        cdef int size
        cdef sockaddr_in *four = <sockaddr_in *>&self.address
        cdef Peer peer
        if self.address.ss_family != AF_INET or inet_ntop(AF_INET, &four.sin_addr, text, 64) is NULL:
            return None
        host_size = strlen(text)
        size = snprintf(text + host_size, 16, b":%u", <unsigned int>ntohs(four.sin_port))
        host = PyUnicode_DecodeLatin1(text, host_size, NULL)
        PyDict_SetItem(environ, S_ADDRESS, host)
        PyDict_SetItem(environ, S_PORT, PyUnicode_DecodeLatin1(text + host_size + 1, size - 1, NULL))
        peer = self.visitor
        peer.descriptor = descriptor
        peer.client = PyBytes_FromStringAndSize(text, host_size + size)
        peer.trusted = self.trust.trusts(host)
        if peer.trusted and not self._set_scheme(environ):
            return None
        return peer

    cdef object _connect(self, Start start):
        """The connection of a response; an arrival becomes one now."""
        if start.connection is None:
            start.connection = self.connect(self.arrival, self.index, self._address(), b"")
            self.arrival = -1
            if self.ids is not None:
                start.connection.own_fields = self.own_fields
        return start.connection

    def receive(self, connection, Peer peer not None):
        """Receive; None when a request came and was answered, else the bytes (empty at the end of the stream),
        which for the rest of a body are a view of memory that the next call uses again.

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        cdef ssize_t size
        cdef dict environ = None
        cdef char *place = self.data
        cdef Py_ssize_t room = RECEIVE_BYTES
        cdef BodyBuffer buffer = None
        cdef iovec parts[2]
        self.ahead -= 1
        reader = connection.reader
        phase = reader.phase
        if phase is _COUNTED_PHASE:
            store = reader.store
            if type(store) is BodyBuffer:
                buffer = <BodyBuffer>store
                place = PyBytes_AS_STRING(buffer.memory) + buffer.filled
                room = buffer.size - buffer.filled
        parts[0].iov_base = place
        parts[0].iov_len = room
        parts[1].iov_base = self.data
        parts[1].iov_len = RECEIVE_BYTES
        while True:
            # What comes behind a body must be seen: closing over unread bytes would reset the connection.
            size = recv(peer.descriptor, place, room, MSG_DONTWAIT) if buffer is None else readv(peer.descriptor, parts, 2)
            if size >= 0 or errno != EINTR:
                break
        if size < 0:
            PyErr_SetFromErrno(OSError)
        self.received_bytes += size
        if size == 0:
            return b""
        if phase is not _HEAD_PHASE:
            if size > room:
                return PyBytes_FromStringAndSize(place, room) + PyBytes_FromStringAndSize(self.data, size - room)
            return PyMemoryView_FromMemory(place, size, PyBUF_READ)
        if not reader.rest and not (self.aged_ms and self._has_waited(peer.descriptor)):
            environ = self._read(size, peer.template)
        if environ is None or (peer.trusted and not self._set_scheme(environ)):
            return PyBytes_FromStringAndSize(self.data, size)
        self.serving = connection
        self._serve(connection, peer, environ)
        self.serving = None
        return None

    cdef bint _has_waited(self, int descriptor) noexcept:
        """Whether what was received last has come a while ago, or that cannot be told."""
        cdef tcp_info info
        cdef socklen_t size = sizeof(info)
        if getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) < 0:
            return True
        return info.tcpi_last_data_recv >= self.aged_ms

    cdef dict _read(self, Py_ssize_t size, dict template):
        """The environ when what was received is one whole usual request and no more; else None."""
        cdef long long length = 0
        cdef dict environ
        cdef char *end = <char *>memmem(self.data, size, b"\r\n\r\n", 4)
        if end is NULL:
            return None
        self.flags = 0
        environ = parse_usual(
            self.data, end - self.data, template, self.limits, &self.flags, &length, &self.line_size
        )
        end += 4
        if environ is None or end + length != self.data + size or self.flags & IS_HEAD:
            return None
        PyDict_SetItem(
            environ, S_INPUT, _BytesIO(PyBytes_FromStringAndSize(end, length)) if length else _BytesIO()
        )
        return environ

    cdef int _set_scheme(self, dict environ) except -1:
        """0 when the headers contradict each other."""
        cdef PyObject *value
        if self.hops:
            try:
                self.trust.set_scheme(environ)
            except ProtocolError:
                return 0
            return 1
        cdef int said = 0, scheme
        for item in self.scheme_headers:
            value = PyDict_GetItem(environ, <object>PyTuple_GET_ITEM(item, 0))
            if value is not NULL:
                scheme = 2 if <object>value == <object>PyTuple_GET_ITEM(item, 1) else 1
                if said and said != scheme:
                    return 0
                said = scheme
        if said:
            PyDict_SetItem(environ, S_SCHEME, S_HTTPS if said == 2 else S_HTTP)
        return 1

    cdef int _serve(self, connection, Peer peer, dict environ) except -1:
        """Answer a request; ``connection`` is None for an arrival that need not become one."""
        cdef double started = _now()
        cdef int flags = self.flags
        cdef Start start
        self._begin(peer, started, self.line_size)
        if self.ids is not None:
            self._identify(connection, peer, environ)
        if peer.is_kept():
            self._renew(connection, peer, environ)
        snapshot = environ.copy() if self.access is not None else None
        start = Start.__new__(Start)
        start.exchange = self
        start.connection = connection
        start.peer = peer
        start.flags = flags
        start.started = started
        self.start = start
        self.waiting = False
        try:
            result = self.application(environ, start)
        except BaseException as error:
            self._hand_over(start, snapshot, error, None)
            return 0
        if self.cycle.abandoned:
            self.cycle.end_stray()
        body = self._whole(start, result)
        if body is not None:
            start.sent_bytes = PyBytes_GET_SIZE(body)
            outcome = self._send(start, peer, <bytes>body, started)
            start.complete = True
        elif start.called and start.plain is None and type(result) not in _WHOLE:
            try:
                outcome = self._stream(start, peer, result)
            except BaseException as error:
                self._hand_over(start, snapshot, error, None)
                return 0
        else:
            self._hand_over(start, snapshot, None, result)
            return 0
        if self.cycle.abandoned:
            self.cycle.end_stray()
        if start.overlong:
            self.cycle.warn_overlong(self._line())
        self._end(start.sent_bytes, started)
        if snapshot is not None:
            self._log(start, snapshot, _now() - started)
        self.start = None
        connection = start.connection
        if connection is None:
            close(self.arrival)
            self.arrival = -1
            return 0
        if outcome is not _KEEP:
            connection.reader.flags = flags
        connection.served(outcome)
        return 0

    cdef int _identify(self, connection, Peer peer, dict environ) except -1:
        """Name a request, on the worker's page, too."""
        line = PyBytes_FromStringAndSize(self.data, self.line_size)
        self.own_fields, line = self.ids.identify(environ, peer.trusted, line)
        _store_request(self.page.raw, CLIENT_OFFSET, peer.client, line)
        if connection is not None:
            connection.own_fields = self.own_fields
        return 0

    cdef int _log(self, Start start, dict snapshot, double duration_s) except -1:
        """The twin of `AccessLog.record`."""
        now = _wall_clock()
        if start.plain is not None:
            start.status, start.headers = start.plain.status, start.plain.headers
        line = self.plain_line(snapshot, start.status, start.headers, start.sent_bytes, duration_s, now)
        if not _is_clean(line, self.quotes):
            line = self.escaped_line(snapshot, start.status, start.headers, start.sent_bytes, duration_s, now)
        PyList_Append(self.lines, line)
        return 0

    cdef void _begin(self, Peer peer, double started, Py_ssize_t line_size) noexcept:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(peer.client)
        cdef unsigned char *raw = &self.raw[0]
        if self.beat_s:
            self.floats[DEADLINE] = started + self.beat_s
        self.floats[STARTED] = started
        size = size if size < CLIENT_BYTES else CLIENT_BYTES
        memcpy(raw + CLIENT_OFFSET, PyBytes_AS_STRING(peer.client), size)
        memset(raw + CLIENT_OFFSET + size, 0, CLIENT_BYTES - size)
        size = line_size if line_size < LINE_BYTES else LINE_BYTES
        memcpy(raw + LINE_OFFSET, self.data, size)
        memset(raw + LINE_OFFSET + size, 0, LINE_BYTES - size)

    def holds(self, connection):
        """Whether the response on a connection is still to be sent at the end of the batch."""
        return connection in self.held

    cdef int _end(self, Py_ssize_t sent_bytes, double started) except -1:
        cdef double took = _now() - started
        cdef int bucket = 0
        self.usual_s += (took - self.usual_s) * 0.125
        if self.relief is None:
            self.floats[STARTED] = 0.0
        else:
            self.relief.over()
        self.cells[REQUESTS] += 1
        self.cells[BYTES_OUT] += sent_bytes
        while bucket < BOUND_COUNT and BOUNDS[bucket] < took:
            bucket += 1
        self.cells[HISTOGRAM + bucket] += 1
        return 0

    cdef object _whole(self, Start start, object result):
        """The body, if it is one block of bytes that fits the usual head; else None."""
        cdef object body
        if start.plain is not None or not start.called:
            return None
        if PyList_CheckExact(result):
            if PyList_GET_SIZE(result) != 1:
                return None
            body = <object>PyList_GET_ITEM(result, 0)
        elif PyTuple_CheckExact(result):
            if PyTuple_GET_SIZE(result) != 1:
                return None
            body = <object>PyTuple_GET_ITEM(result, 0)
        else:
            return None
        if not PyBytes_CheckExact(body) or PyBytes_GET_SIZE(body) > JOIN_BYTES:
            return None
        if self.block.length >= 0 and self.block.length != PyBytes_GET_SIZE(body):
            return None
        return body

    cdef object _send(self, Start start, Peer peer, bytes body, double started):
        """Send head and body; the outcome."""
        cdef Py_ssize_t size
        if self.block.length < 0:
            self.block.length = PyBytes_GET_SIZE(body)
            size = self._head(start, started, b"Content-Length: %d\r\n" % PyBytes_GET_SIZE(body))
        else:
            size = self._head(start, started, None)
        size = self._add(size, body)
        if not self._put_whole(start, peer, size):
            return _ABORT
        return _KEEP if start.keep else _CLOSE

    cdef Py_ssize_t _head(self, Start start, double started, bytes framing) except -1:
        """Write the whole head into ``out``, and decide whether the connection is kept."""
        cdef Py_ssize_t size = self.block.size
        start.keep = (
            start.flags & KEEP_ALIVE and not self.block.info & WANTS_CLOSE and self.keepalive_s > 0
            and self.cells[STATE] == READY and _now() - started < self.slow_s
        )
        memcpy(self.out, self.block.data, size)
        if self.block.info & OWN_FIELDS:
            size = self._add(size, self.cycle.stamp(started).missing(self.block.info))
        else:
            size = self._add(size, self._stamp(started))
        if framing is not None:
            size = self._add(size, framing)
        if not start.keep:
            size = self._add(size, b"Connection: close\r\n")
        return self._add(size, b"\r\n")

    def begin_batch(self, int count):
        """So many connections are ready; `receive` is now called for each of them, and then `end_batch`."""
        self.ahead = count

    def end_batch(self):
        """Send the responses that were held until all that was ready had been answered."""
        self.ahead = 0
        if not self.held:
            return
        for index, left in self.gather.release():
            connection = self.held[index]
            if connection.state is _CLOSED:
                continue
            if left is None:
                connection.abort()
            else:
                connection.store(left)
                connection.finished(_KEEP)
        self.held.clear()

    cdef int _put_whole(self, Start start, Peer peer, Py_ssize_t size) except -1:
        """`_put` for a whole response in ``out``, which may be held while others are made; 0: the client is gone."""
        # An application that takes its time is not worth it: nobody waits for it without need.
        if (
            self.ahead > 0 and start.keep and HOLD_FROM_S < self.usual_s < HOLD_TO_S and start.connection is not None
            and not self.waiting and self.gather.hold(peer.descriptor, self.out, size)
        ):
            self.held.append(start.connection)
            return 1
        return self._put(start, peer, self.out, size)

    cdef int _put(self, Start start, Peer peer, const char *data, Py_ssize_t size) except -1:
        """Send, or keep what the socket does not take; 0 when the client is gone."""
        cdef ssize_t sent = 0
        if not self.waiting:
            sent = send(peer.descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return 1
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    return 0
                sent = 0
        connection = self._connect(start)
        try:
            connection.send(PyBytes_FromStringAndSize(data + sent, size - sent))
        except ClientGone:
            return 0
        self.waiting = connection.sends_later
        return 1

    cdef object _stream(self, Start start, Peer peer, result):
        """Send the blocks of an iterable, each at once; the outcome. Raises what the application raises."""
        try:
            for block in result:
                if start.plain is not None or type(block) is not bytes:
                    # start_response or write was called once more, or the block is odd: no usual response any more.
                    start.response().write(block)
                elif block and not self._block(start, peer, <bytes>block):
                    return _ABORT
            return self._finish(start, peer)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    cdef int _block(self, Start start, Peer peer, bytes block) except -1:
        """Frame and send one block; 0 when the client is gone."""
        cdef Py_ssize_t size = 0, length = PyBytes_GET_SIZE(block)
        if not start.head_sent:
            start.chunked = self.block.length < 0
            start.left = self.block.length
            size = self._head(start, start.started, b"Transfer-Encoding: chunked\r\n" if start.chunked else None)
            start.head_sent = True
        elif not self.waiting and self.gather.is_quick(_now()) and (start.chunked or length <= start.left):
            return self._gather(start, block)
        elif self.gather.begun and not self._settle(start):
            return 0
        if not start.chunked and length > start.left:
            start.overlong = True
            length = start.left
        if start.chunked:
            size += snprintf(self.out + size, 24, b"%zx\r\n", length)
        else:
            start.left -= length
        start.sent_bytes += length
        if size + length > OUT_BYTES - 2:
            if size and not self._put(start, peer, self.out, size):
                return 0
            if not self._put(start, peer, PyBytes_AS_STRING(block), length):
                return 0
            size = 0
        else:
            memcpy(self.out + size, PyBytes_AS_STRING(block), length)
            size += length
        if start.chunked:
            memcpy(self.out + size, b"\r\n", 2)
            size += 2
        elif not start.left and start.sent_bytes == length:
            return self._put_whole(start, peer, size)
        if size and not self._put(start, peer, self.out, size):
            return 0
        self.gather.last = _now()
        return 1

    cdef int _gather(self, Start start, bytes block) except -1:
        """Keep a block for a moment, since others follow quickly; 0 when the client is gone."""
        if not self.gather.add(start.peer.descriptor, block, start.chunked):
            if not self._settle(start):
                return 0
            if self.waiting or not self.gather.add(start.peer.descriptor, block, start.chunked):
                framed = b"%x\r\n%b\r\n" % (len(block), block) if start.chunked else block
                try:
                    self._connect(start).send(framed)
                except ClientGone:
                    return 0
                self.waiting = start.connection.sends_later
        if not start.chunked:
            start.left -= PyBytes_GET_SIZE(block)
        start.sent_bytes += PyBytes_GET_SIZE(block)
        self.gather.last = _now()
        return 1

    cdef int _settle(self, Start start) except -1:
        """Send what has been gathered, or give it to the connection to be sent later; 0 when the client is gone."""
        cdef int state = self.gather.flush()
        if state == 0:
            connection = self._connect(start)
            for left in self.gather.leftovers():
                connection.store(left)
            self.waiting = connection.sends_later
        return state != 2

    cdef object _finish(self, Start start, Peer peer):
        """End a streamed body; the outcome. Raises ValueError when fewer bytes came than were declared."""
        if start.plain is not None or not start.head_sent:
            response = start.response()
            response.finish()
            start.sent_bytes = response.sent_bytes
            start.overlong = response.overlong
            return _KEEP if response.keep else _CLOSE
        if start.chunked:
            if self.gather.begun and self.gather.end(start.peer.descriptor):
                if not self._settle(start):
                    return _ABORT
            elif not self._settle(start) or not self._put(start, peer, b"0\r\n\r\n", 5):
                return _ABORT
        elif not self._settle(start):
            return _ABORT
        elif start.left:
            start.keep = False
            raise ValueError(
                f"the application declared Content-Length {self.block.length} but gave only {start.sent_bytes} bytes"
            )
        start.complete = True
        return _KEEP if start.keep else _CLOSE

    cdef bytes _line(self):
        return PyBytes_FromStringAndSize(<char *>&self.raw[LINE_OFFSET], LINE_BYTES).rstrip(b"\0")

    cdef inline Py_ssize_t _add(self, Py_ssize_t size, bytes data) noexcept:
        memcpy(self.out + size, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return size + PyBytes_GET_SIZE(data)

    cdef bytes _stamp(self, double now):
        if now >= self.stamp_due:
            self.stamp = self.cycle.stamp(now).both
            self.stamp_due = self.cycle.stamp_due
        return self.stamp

    cdef int _hand_over(self, Start start, snapshot, error, result) except -1:
        """Let the plain cycle end what is not usual: an exception, a stream, a file, a large or odd body."""
        line = self._line()
        cycle = self.cycle
        response = start.response()
        connection = start.connection
        self.start = None
        if error is not None:
            outcome = cycle.fail(response, connection, line, error)
        else:
            start.peer.contact.answer = response
            outcome = cycle.deliver(response, connection, line, result)
            start.peer.contact.answer = None
        cycle.record(response, snapshot, line)
        connection.reader.flags = start.flags
        connection.served(outcome)
        return 0
