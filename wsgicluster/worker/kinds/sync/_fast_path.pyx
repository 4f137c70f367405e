# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled way through the sync worker: receive, parse, call, format, send.

It serves one whole request in one read whose response is one block of bytes, on a connection that exists or on one that
has just come. For everything else it gives back what it has received, or hands what the application did to the plain
`Cycle`. Receiving and sending never block, so that they need not let other threads run.
"""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.exc cimport PyErr_SetFromErrno
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.errno cimport EAGAIN, EINTR, errno
from libc.limits cimport INT_MAX
from libc.stdio cimport snprintf
from posix.unistd cimport close

from wsgicluster.http._parser cimport Head, parse_whole
from wsgicluster.system._calls cimport AF_INET, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, getpeername, now
from wsgicluster.system._calls cimport ntohs, receive_descriptor, recv, send_descriptor, sockaddr, sockaddr_in
from wsgicluster.system._calls cimport sockaddr_storage, socklen_t
from wsgicluster.worker.request._bodies cimport BodyBuffer
from wsgicluster.worker.request._coalesce cimport Coalescer
from wsgicluster.worker.request._leaves cimport DEADLINE, IS_HEAD, JOIN_BYTES, KEEP_ALIVE, LINE_BYTES, LINE_OFFSET
from wsgicluster.worker.request._leaves cimport STARTED, STATE, WANTS_CLOSE, PageCounters, WholeResponse, _ABORT
from wsgicluster.worker.request._leaves cimport _COUNTED_PHASE, _HEAD_PHASE, _KEEP, class_of, new_response, send_whole
from wsgicluster.worker.request._leaves cimport set_scheme, write_whole

from wsgicluster.errors import ClientGone
from wsgicluster.http.connection import Phase
from wsgicluster.ipc import reasons as _reasons
from wsgicluster.ipc import scoreboard as _scoreboard
from wsgicluster.system.network.addresses import read_address
from wsgicluster.worker.connection.states import ConnectionState
from wsgicluster.wsgi.begun import BegunIterable
from wsgicluster.wsgi.client_callables import ClientCallables
from wsgicluster.wsgi.files import FileWrapper

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *value)

cdef enum:
    RECEIVE_BYTES = 262144
    FIRST_BYTES = 81920  # what comes of a large body behind it is received in its place, and not copied

cdef double QUICK_S = 0.0001
cdef double HOLD_FROM_S = 0.00002
cdef double HOLD_TO_S = 0.0005

cdef object _CLOSED = ConnectionState.CLOSED
# What is there at once gets its length, or an honest 500, from the plain cycle.
cdef tuple _WHOLE = (list, tuple, FileWrapper)
cdef unsigned long long READY = _scoreboard.WorkerState.READY
cdef int ACCEPTED = _scoreboard.Cell.ACCEPTED, TAKEN = _scoreboard.Cell.HAND_OFFS + _reasons.HandOffResult.TAKEN
cdef int CLOSED_BY_CLIENT = _scoreboard.Cell.CLOSED + _reasons.CloseReason.CLIENT
cdef int CLOSED_BY_RESPONSE = _scoreboard.Cell.CLOSED + _reasons.CloseReason.RESPONSE
cdef int GIVEN = _scoreboard.Cell.CLOSED + _reasons.CloseReason.HANDED_OVER


@cython.final
cdef class Peer:
    """What stays the same for all requests of one connection."""

    cdef int descriptor
    cdef dict template
    cdef bytes client
    cdef bint trusted
    cdef object contact, hints, gone, extend
    cdef Py_ssize_t templates, usual

    def __init__(self, connection, dict template not None):
        self.descriptor = connection.descriptor
        self.template = template
        self.client = connection.client
        self.trusted = connection.trusted
        self.templates = 1
        self.meet(connection.contact)

    def meet(self, contact):
        """From now on this is the contact of the connection."""
        self.contact = contact
        self.hints = contact.early_hints
        self.gone = contact.client_disconnected
        self.extend = contact.extend_deadline
        contact.baseline_refcount += self.templates  # this, and the templates beyond the first
        self.usual = contact.baseline_refcount - 1  # a `getrefcount` counts its argument

    cdef inline bint is_kept(self) noexcept:
        """Whether an application has kept a callable of the contact from an earlier request."""
        return (
            Py_REFCNT(<PyObject *>self.hints) > self.usual or Py_REFCNT(<PyObject *>self.gone) > self.usual
            or Py_REFCNT(<PyObject *>self.extend) > self.usual
        )


@cython.final
cdef class CompiledFastPath:
    """The exchanges of one worker; ``received_bytes`` counts, ``serving`` is the connection being answered.

    ``arrival`` is the descriptor of a client that is answered and has no connection object, or -1; ``last_passed`` the
    last one that another worker has passed on. ``choose``, unless it is None, returns the mailbox that the next
    connection is to go to, or -1.
    """

    cdef readonly object cycle, serving
    cdef readonly int arrival
    cdef public unsigned long long received_bytes
    cdef public int mark, last_passed
    cdef public object on_finished, choose, application
    cdef object __weakref__
    cdef object access, limits, trust, connect
    cdef list schemes, held, templates, packets
    cdef double keepalive_s, slow_s, beat_s, stamp_due, usual_s, batch_at
    cdef int ahead, index
    cdef bytes stamp
    cdef WholeResponse start
    cdef Peer peer, visitor
    cdef Coalescer coalescer
    cdef PageCounters page
    cdef sockaddr_storage address
    cdef Head head
    cdef char *data

    def __cinit__(self):
        # Not a part of the object, which would be cleared as a whole: most of it is never used, and then takes no memory.
        self.data = <char *>PyMem_RawMalloc(RECEIVE_BYTES)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_RawFree(self.data)

    def __init__(self, cycle, Coalescer coalescer not None, limits, trust, double keepalive_s, double slow_s):
        self.arrival = -1
        self.coalescer = coalescer
        self.held = []
        self.usual_s = 1.0
        self.mark = INT_MAX
        self.cycle = cycle
        self.application = cycle.application
        cycle.add_runner(self)
        self.access = cycle.access
        self.beat_s = cycle.beat_s
        self.limits = limits
        self.trust = trust
        self.schemes = trust.schemes
        self.keepalive_s = keepalive_s
        self.slow_s = slow_s
        self.page = PageCounters(cycle.page)

    def serve_listeners(self, connect, list templates not None, list packets not None):
        """What `answer_arrivals` needs: ``connect(descriptor, index, address, rest)`` makes a Connection,
        ``templates`` are those of the listeners' environs, ``packets`` go with connections that are passed on.
        """
        self.connect = connect
        self.templates = templates
        self.packets = packets
        self.visitor = Peer.__new__(Peer)
        self.visitor.templates = len(templates)
        self._meet_visitors()

    def answer_to(self, contact):
        """The response that is under way to the client of a contact, or None."""
        return self.start if self.start is not None and self.peer.contact is contact else None

    cdef object _meet_visitors(self):
        """Make a contact for those who are answered without a connection of their own."""
        contact = ClientCallables(self)
        for template in self.templates:
            contact.enter(template)
        self.visitor.meet(contact)
        return contact

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
        while True:
            descriptor = self._accept(listener)
            if descriptor < 0:
                return
            if self.choose is not None and self._pass_on(descriptor, index):
                connection = None
            else:
                connection = self._answer_arrival(descriptor, index)
            if connection is not None and connection.state is not _CLOSED:
                most -= 1
            # The wake-up was for this worker alone: it takes one at least, even when it has just been asked to go.
            # Where descriptors are scarce the caller looks whether there may be more.
            if descriptor >= self.mark or self.page.cells[STATE] != READY:
                return
            if (most <= 0 and self.usual_s > QUICK_S) or now() >= ends:
                return

    cdef bint _pass_on(self, int descriptor, int index) except -1:
        """Give a new connection to the worker that a policy chooses; False when it is to be served here."""
        cdef int mailbox = self.choose()
        cdef bytes packet = self.packets[index]
        if mailbox < 0 or send_descriptor(mailbox, packet, PyBytes_GET_SIZE(packet), descriptor) < 0:
            return False
        self.page.cells[GIVEN] += 1
        close(descriptor)
        return True

    def answer_passed(self, int mailbox, int most):
        """Answer so many connections (``most``) that other workers have accepted and passed on unread; then None.

        Returns the first packet of another kind and its descriptor, or -1; an empty one where none is left.
        """
        cdef socklen_t address_size
        cdef ssize_t size
        cdef int descriptor
        while most > 0:
            most -= 1
            size = receive_descriptor(mailbox, self.data, RECEIVE_BYTES, &descriptor)
            if size < 0:
                return b"", -1
            packet = PyBytes_FromStringAndSize(self.data, size)
            if descriptor < 0 or packet not in self.packets:
                return packet, descriptor
            self.last_passed = descriptor
            self.page.cells[TAKEN] += 1
            address_size = sizeof(self.address)
            if getpeername(descriptor, <sockaddr *>&self.address, &address_size) < 0:
                self.page.cells[CLOSED_BY_CLIENT] += 1
                close(descriptor)  # the client left while the connection was under way
            else:
                self._answer_arrival(descriptor, self.packets.index(packet))
        return None

    cdef object _answer_arrival(self, int descriptor, int index):
        """Answer what a new connection has sent, whose peer stands in ``address``; the `Connection`, if it is one now."""
        cdef Py_ssize_t size = recv(descriptor, self.data, RECEIVE_BYTES, MSG_DONTWAIT)
        cdef dict environ = None
        cdef Peer peer = None
        if size == 0 or (size < 0 and errno != EAGAIN):
            self.page.cells[CLOSED_BY_CLIENT] += 1
            close(descriptor)  # the client has gone already
            return None
        if size > 0:
            self.received_bytes += size
            environ = self._read(size, self.templates[index])
        if environ is not None:
            peer = self._peer(descriptor, environ)
        if peer is not None and not self.head.flags & KEEP_ALIVE:
            self.arrival = descriptor
            self.index = index
            self._serve(None, peer, environ)
            self.serving = None
            return None
        connection = self.connect(descriptor, index, self._address(), b"")
        if size < 0:
            connection.reading.wait()
        elif peer is None:
            connection.reading.take(PyBytes_FromStringAndSize(self.data, size))
        else:
            self.serving = connection
            self._serve(connection, peer, environ)
            self.serving = None
        return connection

    def abandon(self):
        """In a process that the application has forked: close the connection that is being answered; returns what its
        descriptor was, or -1. It may still be sent to."""
        cdef int descriptor = self.arrival
        if self.visitor is not None:
            self.visitor.contact.close()
        if descriptor >= 0:
            close(descriptor)
            self.arrival = -1
        return descriptor

    cdef int _accept(self, int listener) except -2:
        """The next connection's descriptor, or -1; its peer stands in ``address``."""
        cdef socklen_t size = sizeof(self.address)
        cdef int descriptor = accept4(listener, <sockaddr *>&self.address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if descriptor < 0 and errno != EAGAIN and errno != EINTR:
            PyErr_SetFromErrno(OSError)
        if descriptor >= 0:
            self.page.cells[ACCEPTED] += 1
        return descriptor

    cdef object _address(self):
        return read_address(PyBytes_FromStringAndSize(<char *>&self.address, 28))

    cdef Peer _peer(self, int descriptor, dict environ):
        """Complete the environ of an arrival; None when its headers contradict each other, or for rare addresses."""
        cdef char text[32]
        cdef sockaddr_in *address = <sockaddr_in *>&self.address
        cdef unsigned char *part = <unsigned char *>&address.sin_addr
        cdef Py_ssize_t host_size, size
        cdef Peer peer = self.visitor
        if self.address.ss_family != AF_INET:
            return None
        host_size = snprintf(text, 32, b"%u.%u.%u.%u", <int>part[0], <int>part[1], <int>part[2], <int>part[3])
        size = host_size + snprintf(text + host_size, 8, b":%u", <int>ntohs(address.sin_port))
        host = PyUnicode_DecodeLatin1(text, host_size, NULL)
        environ["REMOTE_ADDR"] = host
        environ["REMOTE_PORT"] = PyUnicode_DecodeLatin1(text + host_size + 1, size - host_size - 1, NULL)
        peer.descriptor = descriptor
        peer.client = PyBytes_FromStringAndSize(text, size)
        peer.trusted = self.trust.trusts(host)
        return None if peer.trusted and not set_scheme(self.schemes, environ) else peer

    def open_arrival(self):
        """The client that is being answered without a connection gets one now: that."""
        connection = self.connect(self.arrival, self.index, self._address(), b"")
        self.arrival = -1
        self.serving = connection
        return connection

    def receive(self, connection, Peer peer not None):
        """Receive; None when a request came and was answered, else the bytes (empty at the end of the stream),
        which for the rest of a body are a view of memory that the next call uses again.

        Raises BlockingIOError and other OSErrors as ``socket.recv`` does. For a connection that reads.
        """
        cdef ssize_t size
        cdef dict environ = None
        self.ahead -= 1
        reader = connection.reader
        phase = reader.phase
        if phase is _COUNTED_PHASE and type(reader.store) is BodyBuffer:
            return (<BodyBuffer>reader.store).receive(peer.descriptor, self.data, RECEIVE_BYTES, &self.received_bytes)
        size = recv(peer.descriptor, self.data, FIRST_BYTES if phase is _HEAD_PHASE else RECEIVE_BYTES, MSG_DONTWAIT)
        if size < 0:
            PyErr_SetFromErrno(OSError)
        self.received_bytes += size
        if size == 0:
            return b""
        if phase is not _HEAD_PHASE:
            return PyMemoryView_FromMemory(self.data, size, PyBUF_READ)
        if not reader.rest:
            environ = self._read(size, peer.template)
        if environ is None or (peer.trusted and not set_scheme(self.schemes, environ)):
            return PyBytes_FromStringAndSize(self.data, size)
        self.serving = connection
        self._serve(connection, peer, environ)
        self.serving = None
        return None

    cdef dict _read(self, Py_ssize_t size, dict template):
        """The environ when what was received is one whole usual request that has a body in its response; else None."""
        environ = parse_whole(self.data, size, template, self.limits, &self.head)
        return None if self.head.flags & IS_HEAD else environ

    cdef int _serve(self, connection, Peer peer, dict environ) except -1:
        """Answer a request, in a context of its own; ``connection`` is None for an arrival that need not become one."""
        context = PyContext_CopyCurrent()
        PyContext_Enter(context)
        try:
            self._answer(connection, peer, environ)
        finally:
            PyContext_Exit(context)
        return 0

    cdef int _answer(self, connection, Peer peer, dict environ) except -1:
        cdef double started = now(), called, sent, took
        cdef WholeResponse start
        cdef bytes body
        begun = None
        if self.beat_s:
            self.page.floats[DEADLINE] = started + self.beat_s
        self.page.show(started, peer.client, self.data, self.head.line_size)
        if peer.is_kept():
            self._renew(connection, peer, environ)
        snapshot = environ.copy() if self.access is not None else None
        start = new_response(self.cycle, connection, self.head.flags, started)
        start.arrivals = self
        # One that was found alone is run at once.
        start.queue_s = started - self.batch_at if self.batch_at else 0.0
        self.start = start
        self.peer = peer
        body = start.call(self.application, environ)
        if (
            body is None and start.called and start.plain is None and start.result is not None
            and start.block.length > 0 and type(start.result) not in _WHOLE
        ):
            start.result = begun = BegunIterable(start.result)
            first = begun.first
            if type(first) is bytes and len(<bytes>first) == start.block.length <= JOIN_BYTES:
                body = first
        if body is None or start.plain is not None:
            return self._give_back(start, snapshot)
        if begun is not None:
            begun.first = None
        called = now()
        outcome = self._send(start, peer, body, called)
        if begun is not None:
            sent = now()
            if self.beat_s:
                self.cycle.put_off()
            if outcome is _ABORT:
                begun.fail(ClientGone("the client has left"))
            if outcome is _ABORT or not begun.is_over() or start.plain is not None:
                if start.connection in self.held:
                    # The cycle may close it: nothing of it must be left here.
                    self._release(start.connection)
                return self._give_back(start, snapshot)
            called += now() - sent
        if self.cycle.abandoned:
            self.cycle.end_stray()
        start.over = True
        start.result = self.start = None
        took = now() - started
        self.usual_s += (took - self.usual_s) * 0.125
        if self.on_finished is None:
            self.page.floats[STARTED] = 0.0
        else:
            self.on_finished()
        if outcome is _ABORT:
            self.page.add_client_left()
        self.page.count(class_of(start.status), PyBytes_GET_SIZE(body), took, called - started, start.queue_s)
        if snapshot is not None:
            self.cycle.log(snapshot, start.status, start.headers, PyBytes_GET_SIZE(body), took)
        connection = start.connection
        if connection is None:
            self.page.cells[CLOSED_BY_RESPONSE] += 1
            close(self.arrival)
            self.arrival = -1
            return 0
        if outcome is _KEEP and connection.kept and connection.outbox is None:
            connection.deadline = started + took + self.keepalive_s  # what `served` comes to for most
            return 0
        connection.reader.flags = start.flags
        connection.served(outcome)
        return 0

    cdef int _renew(self, connection, Peer peer, dict environ) except -1:
        """The application has kept the contact of an earlier request: this one gets another."""
        if peer is not self.visitor:
            connection.renew_contact(environ)
        else:
            peer.contact.close()
            self._meet_visitors().enter(environ)
        return 0

    cdef int _give_back(self, WholeResponse start, snapshot) except -1:
        """Let the cycle end what is not a whole response: an exception, a stream, a file, a large or odd body."""
        contact = self.peer.contact
        line = PyBytes_FromStringAndSize(<char *>&self.page.raw[LINE_OFFSET], LINE_BYTES).rstrip(b"\0")
        contact.answer = start.response()
        self.start = None
        connection = start.connection
        outcome = start.end_in_cycle(snapshot, line)
        contact.answer = None
        connection.reader.flags = start.flags
        connection.served(outcome)
        return 0

    cdef object _send(self, WholeResponse start, Peer peer, bytes body, double called):
        """Send head and body, which may wait until others have been made; the outcome. ``called`` is when they were there."""
        cdef Py_ssize_t size
        cdef const char *out
        cdef double started = start.started
        cdef bint keep = (
            start.flags & KEEP_ALIVE and not start.block.info & WANTS_CLOSE and self.keepalive_s > 0
            and self.page.cells[STATE] == READY and called - started < self.slow_s
        )
        if started >= self.stamp_due:
            self.stamp = self.cycle.stamp(started).both
            self.stamp_due = self.cycle.stamp_due
        # An application that takes its time is not worth it: nobody waits for it without need.
        if self.ahead > 0 and keep and HOLD_FROM_S < self.usual_s < HOLD_TO_S and start.connection is not None:
            out = write_whole(start, self.stamp, keep, body, &size)
            if self.coalescer.hold(peer.descriptor, out, size):
                self.held.append(start.connection)
                return _KEEP
        return send_whole(start, peer.descriptor, self.stamp, keep, body)

    def holds(self, connection):
        """Whether the response on a connection is still to be sent at the end of the batch."""
        return connection in self.held

    def begin_batch(self, int count):
        """So many connections are ready; `receive` is now called for each of them, and then `end_batch`."""
        self.ahead = count
        self.batch_at = now()

    def end_batch(self):
        """Send the responses that were held until all that was ready had been answered."""
        self.ahead = 0
        self.batch_at = 0.0
        if self.held:
            self._release(None)

    cdef int _release(self, running) except -1:
        """Send the responses that are held; the request on the connection ``running`` is not over yet."""
        held, self.held = self.held, []
        for index, left in self.coalescer.release():
            connection = held[index]
            if connection.state is _CLOSED:
                continue
            if left is not None:
                connection.store(left)
                if connection is not running:
                    connection.finished(_KEEP)
            elif connection is not running:
                connection.abort()
        return 0
