# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""What is sent in quick succession leaves together, and nothing of it late: blocks of one response, and the
responses to requests that were ready at the same time.

PEP 3333 ("Buffering and Streaming") lets a server keep a block only if it goes on transmitting "in a
different thread" while the application makes the next one. This is that thread: whatever the application
does, and whether or not it holds the interpreter, a gathered block is given to the kernel within `TICK_NS`.
The thread is written in C and touches no Python object; it is started by the first response that needs it.

A thousand blocks of 16 bytes then are two packets instead of a thousand, blocks of 64 KiB wake a client that
reads them once for a dozen, and so do responses: waking somebody who sleeps costs as much as twenty requests' parsing,
and an application that runs between two system calls finds the processor's caches cold.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset
from posix.signal cimport sigfillset, sigset_t
from posix.uio cimport iovec
from posix.unistd cimport getpid

from wsgicluster.system._calls cimport *

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/prctl.h>
    #define name_thread(name) prctl(PR_SET_NAME, name, 0, 0, 0)
    #else
    #define name_thread(name) 0
    #endif
    """
    int name_thread(const char *name) nogil

from contextlib import suppress

from wsgicluster.errors import ClientGone
from wsgicluster.ipc import scoreboard as _scoreboard
from wsgicluster.system import threads as _threads
from wsgicluster.worker.request.cycle import send_blocks
from wsgicluster.wsgi.response import Framing

cdef enum:
    TICK_NS = 1000000
    IDLE_TICKS = 10
    FULL_MS = 20
    GATHERED_BYTES = 1048576  # larger blocks, and more than so much at a time, are not gathered
    MOST_PARTS = 128
    ARENA_BYTES = 65536
    SMALL_BYTES = 4096
    FRAME_BYTES = 32
    STACK_BYTES = 131072
    MOST_HELD = 64
    HELD_BYTES = 131072

cdef object _CHUNKED = Framing.CHUNKED
cdef object _COUNTED = Framing.COUNTED
cdef int DEADLINE = _scoreboard.Cell.DEADLINE
cdef bytes _name = _threads.ASLEEP.encode()
cdef const char *_THREAD_NAME = _name

cdef double QUICK_S = 0.0002
cdef double HOLD_S = 0.0005

# What became of a response that was held.
cdef enum:
    WAITING, SENT, FULL, GONE

cdef struct Held:
    int descriptor, state
    char *data
    Py_ssize_t size

# One process has one of these: a worker that gathers does so for one response at a time.
cdef struct Shared:
    # Everything below is only touched with the mutex held.
    pthread_mutex_t mutex
    pthread_cond_t wake
    iovec parts[MOST_PARTS]
    char arena[ARENA_BYTES]
    int first, count, used, descriptor, failure, full, parked
    size_t waiting_bytes
    Held held[MOST_HELD]
    char held_arena[HELD_BYTES]
    int held_count, held_waiting
    Py_ssize_t held_used
    double held_since

cdef Shared shared
cdef bint _started = False
cdef int _process = 0  # that the thread is in


cdef void _send_held() noexcept nogil:
    """Send the responses that wait, as far as their sockets take them; with the mutex held."""
    cdef Held *item
    cdef ssize_t sent
    cdef int index
    for index in range(shared.held_count - shared.held_waiting, shared.held_count):
        item = &shared.held[index]
        sent = send(item.descriptor, item.data, item.size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent == item.size:
            item.state = SENT
        elif sent >= 0 or errno == EAGAIN or errno == EINTR:
            item.state = FULL
            if sent > 0:
                item.data += sent
                item.size -= sent
        else:
            item.state = GONE
    shared.held_waiting = 0


cdef void _send() noexcept nogil:
    """Send what waits, as far as the socket takes it; with the mutex held."""
    cdef msghdr message
    cdef ssize_t sent
    cdef iovec *part
    while shared.first < shared.count:
        memset(&message, 0, sizeof(message))
        message.msg_iov = &shared.parts[shared.first]
        message.msg_iovlen = shared.count - shared.first
        sent = sendmsg(shared.descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                shared.full = 1
            else:
                shared.failure = errno
            return
        shared.waiting_bytes -= sent
        while shared.first < shared.count and <size_t>sent >= shared.parts[shared.first].iov_len:
            sent -= <ssize_t>shared.parts[shared.first].iov_len
            shared.first += 1
        if shared.first < shared.count:
            part = &shared.parts[shared.first]
            part.iov_base = <char *>part.iov_base + sent
            part.iov_len -= sent
    shared.full = 0


cdef void *_run(void *_argument) noexcept nogil:
    """The thread: gives the kernel what has waited for a tick, and sleeps while nobody gathers."""
    cdef timespec tick
    cdef pollfd item
    cdef int idle = 0
    name_thread(_THREAD_NAME)
    tick.tv_sec = 0
    tick.tv_nsec = TICK_NS
    pthread_mutex_lock(&shared.mutex)
    while True:
        if (shared.first == shared.count or shared.failure) and not shared.held_waiting:
            idle += 1
            if idle > IDLE_TICKS:
                shared.parked = 1
                while shared.parked:
                    pthread_cond_wait(&shared.wake, &shared.mutex)
                idle = 0
        else:
            idle = 0
        if shared.full and shared.first < shared.count:
            # A client that reads slowly, and an application that says nothing more: no need for ticks.
            item.fd = shared.descriptor
            item.events = POLLOUT
            pthread_mutex_unlock(&shared.mutex)
            poll(&item, 1, FULL_MS)
        else:
            pthread_mutex_unlock(&shared.mutex)
            nanosleep(&tick, NULL)
        pthread_mutex_lock(&shared.mutex)
        if shared.first < shared.count and not shared.failure:
            _send()
        if shared.held_waiting and now() - shared.held_since >= HOLD_S:
            _send_held()
    return NULL


cdef bint _start_thread() noexcept nogil:
    """False when the system has no room for one."""
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef sigset_t every, before
    cdef bint failed
    pthread_mutex_init(&shared.mutex, NULL)
    pthread_cond_init(&shared.wake, NULL)
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, STACK_BYTES)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    # Signals are for the thread that runs Python.
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    failed = pthread_create(&thread, &attributes, _run, NULL)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    return not failed


cdef void _unpark() noexcept nogil:
    if shared.parked:
        shared.parked = 0
        pthread_cond_signal(&shared.wake)


cdef void _forget() noexcept nogil:
    shared.first = shared.count = shared.used = 0
    shared.waiting_bytes = 0
    shared.failure = shared.full = 0


cdef void _leave_behind() noexcept nogil:
    """Forget the thread of the process that has forked this one, as a worker does from which a mold was forked."""
    global _started
    if _started and _process != getpid():
        _started = False
        _forget()
        shared.parked = shared.held_waiting = shared.held_count = 0
        shared.held_used = 0


cdef void _add_part(const char *data, Py_ssize_t size, bint copied) noexcept nogil:
    """Let bytes wait, if they are to be copied in the arena, behind the last part if that ends there."""
    cdef iovec *last = &shared.parts[shared.count - 1]
    if copied:
        data = <const char *>memcpy(&shared.arena[shared.used], data, size)
        shared.used += <int>size
    shared.waiting_bytes += size
    if copied and shared.count > shared.first and <char *>last.iov_base + last.iov_len == data:
        last.iov_len += size
        return
    shared.parts[shared.count].iov_base = <void *>data
    shared.parts[shared.count].iov_len = size
    shared.count += 1


@cython.final
cdef class Coalescer:
    """The blocks of the present response that wait for a tick, for more of them, or for the response's end.

    ``page`` is that of the worker, ``beat_s`` how long the application may take for each block (0: without limit).
    ``usable`` is off where there can be no thread; ``last`` is when the last block had been dealt with (monotonic).
    ``room`` is how much of a counted body is left, or below 0 for one in chunks.
    """

    def __init__(self, page, double beat_s):
        self.floats = page.floats
        self.beat_s = beat_s
        _leave_behind()
        self.usable = True
        self.kept = []

    def send(self, response, connection, blocks):
        """Send what an iterable gives as the body of a response, whose head may be sent or not, and its end.

        What does not follow quickly is the response's own business. As `send_blocks` of the cycle. Raises what that and the application raise.
        """
        if self.response is not None or connection.transport.record_bytes:
            send_blocks(response, connection, blocks)
            return
        self.response, self.connection = response, connection
        self.descriptor = connection.descriptor
        self.on_block, response.on_block = response.on_block, self.settle
        self.quick = False
        try:
            for block in blocks:
                if not (self.quick and type(block) is bytes and self._gather(<bytes>block)):
                    response.write(block)
                    # One that follows now may be gathered.
                    framing = response.framing
                    self.room = -1 if framing is _CHUNKED else response.left if framing is _COUNTED else 0
                    self.quick = self.room != 0 and not connection.sends_later
                    self.last = now()
            if self.begun and self.room < 0 and self._add(b""):  # which makes the last chunk
                self.settle()
                response.complete = True
            else:
                self.settle()
                response.finish()
        except BaseException:
            # What the application gave before it failed; nobody is left to whom more could be said.
            with suppress(ClientGone):
                self.settle()
            raise
        finally:
            response.on_block = self.on_block
            self.response = self.connection = self.on_block = None

    def settle(self):
        """Send what has been gathered, or give it to the connection to be sent later. Raises ClientGone."""
        cdef int index, failure
        self.quick = False
        if self.begun:
            self.response.count(self.gathered_bytes, self.gathered_blocks)
            self.gathered_bytes = self.gathered_blocks = 0
            with nogil:
                pthread_mutex_lock(&shared.mutex)
                if not shared.failure:
                    _send()
                pthread_mutex_unlock(&shared.mutex)
            left = []
            pthread_mutex_lock(&shared.mutex)
            failure = shared.failure
            for index in range(shared.first, shared.count):
                left.append((<char *>shared.parts[index].iov_base)[:shared.parts[index].iov_len])
            _forget()
            pthread_mutex_unlock(&shared.mutex)
            self.kept.clear()
            self.begun = False
            if failure:
                raise ClientGone("the client has left")
            for part in left:
                self.connection.store(part)
        if self.on_block is not None:
            self.on_block()

    cdef bint _gather(self, bytes block) except -1:
        """Keep a block for a moment, since others follow quickly; False when it is none of those."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        if (
            not 0 < size <= GATHERED_BYTES or 0 <= self.room < size
            or now() - self.last >= QUICK_S or not self._start()
        ):
            return False
        if not self._add(block):
            self.settle()
            if self.connection.sends_later or not self._add(block):
                return False
            self.quick = True
        self.gathered_bytes += size
        self.gathered_blocks += 1
        if self.room > 0:
            self.room -= size
        self.last = now()
        # As `Cycle.put_off`.
        if self.beat_s and 0.0 < self.floats[DEADLINE] < self.last + self.beat_s:
            self.floats[DEADLINE] = self.last + self.beat_s
        return True

    cdef bint _add(self, bytes block) except -1:
        """Take a block, framed as a chunk (RFC 9112, section 7.1) if wanted; False when it has to wait for `settle`."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        cdef bint small = size <= SMALL_BYTES, taken
        cdef char head[FRAME_BYTES]
        pthread_mutex_lock(&shared.mutex)
        if not self.begun:
            self.begun = True
            shared.descriptor = self.descriptor
            _forget()
        elif shared.first == shared.count and not shared.full and not shared.failure:
            # The thread has sent all of it; the blocks are not needed any more.
            shared.first = shared.count = shared.used = 0
            self.kept.clear()
        taken = (
            not shared.full and not shared.failure and shared.count + 3 <= MOST_PARTS
            and shared.used + (size if small else 0) + 2 * FRAME_BYTES <= ARENA_BYTES
            and shared.waiting_bytes < GATHERED_BYTES
        )
        if taken:
            if self.room < 0:
                _add_part(head, snprintf(head, FRAME_BYTES, b"%zx\r\n", size), True)
            if not small:
                self.kept.append(block)
            _add_part(PyBytes_AS_STRING(block), size, small)
            if self.room < 0:
                _add_part(b"\r\n", 2, True)
            _unpark()
        pthread_mutex_unlock(&shared.mutex)
        return taken

    cdef bint _start(self) noexcept:
        """Whether the thread runs."""
        global _started, _process
        if not _started and self.usable:
            self.usable = _started = _start_thread()
            _process = getpid()
        return self.usable

    cdef bint hold(self, int descriptor, const char *data, Py_ssize_t size) noexcept:
        """Keep a whole response until `release`, at most for `HOLD_S`; False when there is no room for it."""
        cdef Held *item
        if not self._start():
            return False
        pthread_mutex_lock(&shared.mutex)
        if shared.held_count == MOST_HELD or shared.held_used + size > HELD_BYTES:
            pthread_mutex_unlock(&shared.mutex)
            return False
        if not shared.held_waiting:
            shared.held_since = now()
        item = &shared.held[shared.held_count]
        item.descriptor = descriptor
        item.state = WAITING
        item.data = <char *>memcpy(&shared.held_arena[shared.held_used], data, size)
        item.size = size
        shared.held_used += size
        shared.held_count += 1
        shared.held_waiting += 1
        _unpark()
        pthread_mutex_unlock(&shared.mutex)
        return True

    cdef list release(self):
        """Send what is held. The index, in order of `hold`, of each response that is not sent to its end, and
        what is left of it, or None when the client is gone."""
        cdef Held *item
        cdef int index
        found = []
        pthread_mutex_lock(&shared.mutex)
        _send_held()
        for index in range(shared.held_count):
            item = &shared.held[index]
            if item.state == FULL:
                found.append((index, item.data[:item.size]))
            elif item.state == GONE:
                found.append((index, None))
        shared.held_count = 0
        shared.held_used = 0
        pthread_mutex_unlock(&shared.mutex)
        return found

    cdef void abandon(self) noexcept:
        """In a forked process: the thread was left behind, perhaps with the mutex held."""
        self.usable = False
        self.begun = False
