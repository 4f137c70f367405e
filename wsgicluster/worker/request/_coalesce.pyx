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
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset
from posix.signal cimport sigfillset, sigset_t
from posix.uio cimport iovec

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
    FRAME_BYTES = 32
    STACK_BYTES = 131072
    MOST_STREAMS = 256  # of one process at a time; blocks of others are sent one by one
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

# What a look at a stream may find.
cdef enum:
    NOTHING, STUCK, MOVING

cdef struct Held:
    int descriptor, state
    char *data
    Py_ssize_t size

# One process has one of these. Where both are needed the mutex of a stream is taken behind this one's; `registry`
# is only held for a moment, so that no request waits for what the thread is sending.
cdef struct Shared:
    pthread_mutex_t registry
    Stream *streams  # all there are; the memory of one is never given back, and used again before any other
    Stream *unused
    int made, started
    unsigned int forks  # how often this process is a fork of the one that began
    pthread_mutex_t mutex  # for everything below
    pthread_cond_t wake
    int parked
    Held held[MOST_HELD]
    char held_arena[HELD_BYTES]
    int held_count, held_waiting
    Py_ssize_t held_used
    double held_since

cdef Shared shared


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


cdef void _send(Stream *stream) noexcept nogil:
    """Send what waits, as far as the socket takes it; with the stream's mutex held."""
    cdef msghdr message
    cdef ssize_t sent
    cdef iovec *part
    while stream.first < stream.count:
        memset(&message, 0, sizeof(message))
        message.msg_iov = &stream.parts[stream.first]
        message.msg_iovlen = stream.count - stream.first
        sent = sendmsg(stream.descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                stream.full = 1
            else:
                stream.failure = errno
            return
        stream.waiting_bytes -= sent
        while stream.first < stream.count and <size_t>sent >= stream.parts[stream.first].iov_len:
            sent -= <ssize_t>stream.parts[stream.first].iov_len
            stream.first += 1
        if stream.first < stream.count:
            part = &stream.parts[stream.first]
            part.iov_base = <char *>part.iov_base + sent
            part.iov_len -= sent
    stream.full = 0


cdef int _look(bint sends) noexcept nogil:
    """Look at all streams, and send what waits there if so wanted; the most that was found at any."""
    cdef Stream *stream
    cdef int found = NOTHING, one
    cdef size_t before
    pthread_mutex_lock(&shared.registry)
    stream = shared.streams
    pthread_mutex_unlock(&shared.registry)
    while stream is not NULL:
        pthread_mutex_lock(&stream.mutex)
        if stream.first < stream.count and not stream.failure:
            one = STUCK if stream.full else MOVING
            if sends:
                before = stream.waiting_bytes
                _send(stream)
                if stream.waiting_bytes != before:
                    one = MOVING
            found = max(found, one)
        pthread_mutex_unlock(&stream.mutex)
        stream = stream.next
    return found


cdef void _park(int pause_ms) noexcept nogil:
    """Sleep until somebody gathers, or, unless ``pause_ms`` is 0, for so long; with the mutex held."""
    cdef timespec until
    if not pause_ms:
        while shared.parked:
            pthread_cond_wait(&shared.wake, &shared.mutex)
        return
    clock_gettime(CLOCK_MONOTONIC, &until)
    until.tv_nsec += pause_ms * 1000000
    if until.tv_nsec >= 1000000000:
        until.tv_nsec -= 1000000000
        until.tv_sec += 1
    pthread_cond_timedwait(&shared.wake, &shared.mutex, &until)
    shared.parked = 0


cdef void *_run(void *_argument) noexcept nogil:
    """The thread: gives the kernel what has waited for a tick, and sleeps while nobody gathers."""
    cdef timespec tick
    cdef int idle = 0, pause_ms = 1, found
    name_thread(_THREAD_NAME)
    tick.tv_sec = 0
    tick.tv_nsec = TICK_NS
    while True:
        nanosleep(&tick, NULL)
        found = _look(True)
        pthread_mutex_lock(&shared.mutex)
        if found == MOVING or shared.held_waiting:
            idle = 0
            pause_ms = 1
        else:
            idle += 1
        if shared.held_waiting and now() - shared.held_since >= HOLD_S:
            _send_held()
        if idle > IDLE_TICKS:
            # In this order: who gathers from now on sees that it sleeps, and what was gathered before is seen here.
            shared.parked = 1
            found = _look(False)
            if found == MOVING:
                shared.parked = 0
            elif found == STUCK:
                # A client that reads slowly, and an application that says nothing more: no need for ticks.
                _park(pause_ms)
                pause_ms = min(2 * pause_ms, FULL_MS)
            else:
                _park(0)
                idle = 0
        pthread_mutex_unlock(&shared.mutex)
    return NULL


cdef void _begin_anew() noexcept nogil:
    """In a forked process: the thread was left behind, perhaps with a mutex held, and what waits is the parent's."""
    shared.forks += 1
    pthread_mutex_init(&shared.registry, NULL)
    pthread_mutex_init(&shared.mutex, NULL)
    shared.started = shared.made = shared.parked = 0
    shared.streams = shared.unused = NULL
    shared.held_count = shared.held_waiting = 0
    shared.held_used = 0


cdef bint _start_thread() noexcept nogil:
    """False when the system has no room for one."""
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef pthread_condattr_t clock
    cdef sigset_t every, before
    cdef bint failed
    pthread_condattr_init(&clock)
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC)
    pthread_cond_init(&shared.wake, &clock)
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, STACK_BYTES)
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED)
    # Signals are for the thread that runs Python.
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    failed = pthread_create(&thread, &attributes, _run, NULL)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if not shared.forks:  # else it is inherited
        pthread_atfork(NULL, NULL, _begin_anew)
    return not failed


cdef void _unpark() noexcept nogil:
    """Have the thread look at what was gathered; with no mutex held."""
    if shared.parked:
        pthread_mutex_lock(&shared.mutex)
        if shared.parked:
            shared.parked = 0
            pthread_cond_signal(&shared.wake)
        pthread_mutex_unlock(&shared.mutex)


cdef Stream *_take_stream(int descriptor) noexcept nogil:
    """One that nobody uses, or NULL when there are too many."""
    cdef Stream *stream
    pthread_mutex_lock(&shared.registry)
    stream = shared.unused
    if stream is not NULL:
        shared.unused = stream.next_unused
    elif shared.made < MOST_STREAMS:
        # Its pages take memory when they are written to.
        stream = <Stream *>malloc(sizeof(Stream))
        if stream is not NULL:
            pthread_mutex_init(&stream.mutex, NULL)
            _forget(stream)
            stream.next = shared.streams
            shared.streams = stream
            shared.made += 1
    if stream is not NULL:
        stream.descriptor = descriptor
    pthread_mutex_unlock(&shared.registry)
    return stream


cdef void _leave_stream(Stream *stream) noexcept nogil:
    """Let others use it; nothing waits there any more."""
    pthread_mutex_lock(&shared.registry)
    stream.next_unused = shared.unused
    shared.unused = stream
    pthread_mutex_unlock(&shared.registry)


cdef void _forget(Stream *stream) noexcept nogil:
    stream.first = stream.count = stream.used = 0
    stream.waiting_bytes = 0
    stream.failure = stream.full = 0


cdef void _add_part(Stream *stream, const char *data, Py_ssize_t size, bint copied) noexcept nogil:
    """Let bytes wait, if they are to be copied in the arena, behind the last part if that ends there."""
    cdef iovec *last = &stream.parts[stream.count - 1]
    if copied:
        data = <const char *>memcpy(&stream.arena[stream.used], data, size)
        stream.used += <int>size
    stream.waiting_bytes += size
    if copied and stream.count > stream.first and <char *>last.iov_base + last.iov_len == data:
        last.iov_len += size
        return
    stream.parts[stream.count].iov_base = <void *>data
    stream.parts[stream.count].iov_len = size
    stream.count += 1


@cython.final
cdef class Coalescer:
    """The blocks of the present response that wait for a tick, for more of them, or for the response's end.

    Each that runs requests has its own. ``page`` is that of the worker, ``beat_s`` how long the application may take
    for each block as the page says it (0: that is not said there).
    ``usable`` is off where there can be no thread; ``last`` is when the last block had been dealt with (monotonic).
    ``room`` is how much of a counted body is left, or below 0 for one in chunks. ``stream`` is where blocks wait, if any
    do; ``gathered_blocks`` are those of them that the response does not count yet.
    """

    def __init__(self, page, double beat_s):
        self.floats = page.floats
        self.beat_s = beat_s
        self.usable = True
        self.forks = shared.forks
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
            if self.stream is not NULL and self.room < 0 and self._add(b""):  # which makes the last chunk
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
            self._take_back()  # nothing, unless the above was interrupted
            response.on_block = self.on_block
            self.response = self.connection = self.on_block = None

    def settle(self):
        """Send what has been gathered, or give it to the connection to be sent later. Raises ClientGone."""
        self.quick = False
        if self.stream is not NULL:
            left = self._take_back()
            self.response.count(self.gathered_bytes, self.gathered_blocks)
            self.gathered_bytes = self.gathered_blocks = 0
            if left is None:
                raise ClientGone("the client has left")
            for part in left:
                self.connection.store(part)
        if self.on_block is not None:
            self.on_block()

    cdef list _take_back(self):
        """Send what has been gathered; what is left of it, or None when the client is gone."""
        cdef int index
        cdef bint failed
        cdef iovec *part
        cdef Stream *stream = self.stream
        # Another thread of the application may write meanwhile: what it gathers is kept apart.
        cdef list kept = self.kept
        self.stream = NULL
        if kept:
            self.kept = []
        left = []
        if stream is NULL or self.forks != shared.forks:
            return left
        with nogil:
            pthread_mutex_lock(&stream.mutex)
            if not stream.failure:
                _send(stream)
            pthread_mutex_unlock(&stream.mutex)
        pthread_mutex_lock(&stream.mutex)
        failed = stream.failure != 0
        for index in range(stream.count - 1, stream.first - 1, -1):
            part = &stream.parts[index]
            if stream.arena <= <char *>part.iov_base < stream.arena + ARENA_BYTES:
                left.append((<char *>part.iov_base)[:part.iov_len])
            else:
                left.append(memoryview(kept.pop())[-<Py_ssize_t>part.iov_len:])
        left.reverse()
        _forget(stream)
        pthread_mutex_unlock(&stream.mutex)
        _leave_stream(stream)
        return None if failed else left

    cdef bint _gather(self, bytes block) except -1:
        """Keep a block for a moment, since others follow quickly; False when it is none of those."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        if (
            not 0 < size <= GATHERED_BYTES or 0 <= self.room < size or not self._start()
            # Behind what waits already it is sent soonest from there.
            or (now() - self.last >= QUICK_S and (self.stream is NULL or self.stream.first == self.stream.count))
        ):
            return False
        if not self._add(block):
            if self.stream is NULL:
                return False  # there are too many
            if not self._is_read_quickly() or not self._add(block):
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

    cdef bint _is_read_quickly(self) except -1:
        """Send all that waits, as long as a client that has taken a lot takes more."""
        cdef Stream *stream = self.stream
        cdef Py_ssize_t given = self.gathered_bytes + <Py_ssize_t>self.response.sent_bytes
        while self.stream is stream and not stream.failure:
            with nogil:
                pthread_mutex_lock(&stream.mutex)
                _send(stream)
                pthread_mutex_unlock(&stream.mutex)
            if not stream.full:
                return True
            if given < GATHERED_BYTES + <Py_ssize_t>stream.waiting_bytes or not self.connection.makes_room():
                break
        return False

    cdef bint _add(self, bytes block) except -1:
        """Take a block, framed as a chunk (RFC 9112, section 7.1) if wanted; False when it has to wait for `settle`."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        cdef bint small = size <= SMALL_BYTES, taken
        cdef char head[FRAME_BYTES]
        cdef Stream *stream = self.stream
        if stream is NULL:
            stream = self.stream = _take_stream(self.descriptor)
            if stream is NULL:
                return False
        pthread_mutex_lock(&stream.mutex)
        if stream.first == stream.count and not stream.full and not stream.failure:
            # The thread has sent all of it; the blocks are not needed any more.
            stream.first = stream.count = stream.used = 0
            self.kept.clear()
        taken = (
            not stream.full and not stream.failure and stream.count + 3 <= MOST_PARTS
            and stream.used + (size if small else 0) + 2 * FRAME_BYTES <= ARENA_BYTES
            and stream.waiting_bytes < GATHERED_BYTES
        )
        if taken:
            if self.room < 0:
                _add_part(stream, head, snprintf(head, FRAME_BYTES, b"%zx\r\n", size), True)
            if not small:
                self.kept.append(block)
            _add_part(stream, PyBytes_AS_STRING(block), size, small)
            if self.room < 0:
                _add_part(stream, b"\r\n", 2, True)
        pthread_mutex_unlock(&stream.mutex)
        if taken:
            _unpark()
        return taken

    cdef bint _start(self) noexcept:
        """Whether the thread runs, in the process whose requests these are."""
        if self.forks != shared.forks:
            return False
        if not shared.started and self.usable:
            self.usable = shared.started = _start_thread()
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
        pthread_mutex_unlock(&shared.mutex)
        _unpark()
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
