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

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    cdef struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    ssize_t sendmsg(int descriptor, const msghdr *message, int flags)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *items, unsigned long count, int timeout)
    short POLLOUT

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigset_t:
        pass
    int sigfillset(sigset_t *mask)
    int pthread_sigmask(int how, const sigset_t *wanted, sigset_t *before)
    int SIG_SETMASK

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *) nogil, void *argument)
    int pthread_attr_init(pthread_attr_t *attributes)
    int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
    int pthread_attr_setdetachstate(pthread_attr_t *attributes, int state)
    int PTHREAD_CREATE_DETACHED
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_cond_init(pthread_cond_t *condition, void *attributes)
    int pthread_cond_signal(pthread_cond_t *condition)
    int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)
    int nanosleep(const timespec *duration, timespec *left)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char *buffer, size_t size, const char *format, ...)

DEF TICK_NS = 1000000
DEF QUICK_S = 0.0002
DEF IDLE_TICKS = 10
DEF FULL_MS = 20
DEF MOST_PARTS = 128
DEF ARENA_BYTES = 65536
DEF SMALL_BYTES = 4096
DEF FRAME_BYTES = 32
DEF MOST_BYTES = 1048576
DEF STACK_BYTES = 131072
DEF HOLD_S = 0.0005
DEF MOST_HELD = 64
DEF HELD_BYTES = 131072

# What became of a response that was held.
DEF WAITING = 0
DEF SENT = 1
DEF FULL = 2
DEF GONE = 3

cdef struct Held:
    int descriptor
    int state
    char *data
    Py_ssize_t size

# One process has one of these: a worker that gathers does so for one response at a time.
cdef struct Shared:
    # Everything below is only touched with the mutex held.
    pthread_mutex_t mutex
    pthread_cond_t wake
    iovec parts[MOST_PARTS]
    char arena[ARENA_BYTES]
    int first
    int count
    int used
    size_t waiting_bytes
    int descriptor
    int failure
    int full
    int parked
    Held held[MOST_HELD]
    char held_arena[HELD_BYTES]
    int held_count
    int held_waiting
    Py_ssize_t held_used
    double held_since

cdef Shared shared


cdef inline double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + <double>now.tv_nsec * 1e-9


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
        message = msghdr()
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
        if shared.held_waiting and _now() - shared.held_since >= HOLD_S:
            _send_held()
    return NULL


cdef int _start() noexcept nogil:
    """Start the thread; 0 when the system has no room for one."""
    cdef pthread_t thread
    cdef pthread_attr_t attributes
    cdef sigset_t every, before
    cdef int failed
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


cdef class Gather:
    """The blocks of the present response that wait for a tick, for more of them, or for the response's end.

    ``usable`` is off where there can be no thread; ``last`` is when the last block had been dealt with (monotonic).
    """

    def __cinit__(self):
        self.usable = True
        self.begun = False
        self.last = 0.0
        self.kept = []

    cdef bint is_quick(self, double now) noexcept:
        """Whether a block follows the last one so quickly that it is worth while to wait for another."""
        return self.usable and now - self.last < QUICK_S

    cdef int add(self, int descriptor, bytes block, bint chunked) except -1:
        """Take a block, framed as a chunk (RFC 9112, section 7.1) if wanted; 0 when it has to wait for `flush`."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(block)
        cdef bint small = size <= SMALL_BYTES
        cdef char head[FRAME_BYTES]
        if not self._begin(descriptor):
            return 0
        if not self._has_room(size if small else 0):
            pthread_mutex_unlock(&shared.mutex)
            return 0
        if chunked:
            self._copy(head, snprintf(head, FRAME_BYTES, b"%zx\r\n", size))
        if small:
            self._copy(PyBytes_AS_STRING(block), size)
        else:
            self.kept.append(block)
            self._add_part(PyBytes_AS_STRING(block), size)
        if chunked:
            self._copy(b"\r\n", 2)
        pthread_mutex_unlock(&shared.mutex)
        return 1

    cdef int end(self, int descriptor) except -1:
        """Take the last chunk; 0 when it has to wait for `flush`."""
        if not self._begin(descriptor):
            return 0
        if self._has_room(0):
            self._copy(b"0\r\n\r\n", 5)
            pthread_mutex_unlock(&shared.mutex)
            return 1
        pthread_mutex_unlock(&shared.mutex)
        return 0

    cdef int flush(self) except -1:
        """Send what waits; 1: all of it is sent, 0: the socket is full (see `leftovers`), 2: the client is gone."""
        cdef int state
        if not self.begun:
            return 1
        with nogil:
            pthread_mutex_lock(&shared.mutex)
            if not shared.failure:
                _send()
            state = 2 if shared.failure else shared.first == shared.count
            if state:
                self._forget()
            pthread_mutex_unlock(&shared.mutex)
        if state:
            self.kept.clear()
            self.begun = False
        return state

    cdef list leftovers(self):
        """What is not sent yet, as bytes; it is the caller's from now on."""
        cdef int index
        found = []
        pthread_mutex_lock(&shared.mutex)
        for index in range(shared.first, shared.count):
            found.append(PyBytes_FromStringAndSize(
                <char *>shared.parts[index].iov_base, <Py_ssize_t>shared.parts[index].iov_len
            ))
        self._forget()
        pthread_mutex_unlock(&shared.mutex)
        self.kept.clear()
        self.begun = False
        return found

    cdef bint hold(self, int descriptor, const char *data, Py_ssize_t size) noexcept:
        """Keep a whole response until `release`, at most for `HOLD_S`; False when there is no room for it."""
        cdef Held *item
        if not self._ensure_thread():
            return False
        pthread_mutex_lock(&shared.mutex)
        if shared.held_count == MOST_HELD or shared.held_used + size > HELD_BYTES:
            pthread_mutex_unlock(&shared.mutex)
            return False
        if not shared.held_waiting:
            shared.held_since = _now()
        item = &shared.held[shared.held_count]
        item.descriptor = descriptor
        item.state = WAITING
        item.data = &shared.held_arena[shared.held_used]
        item.size = size
        memcpy(item.data, data, size)
        shared.held_used += size
        shared.held_count += 1
        shared.held_waiting += 1
        self._unpark()
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
                found.append((index, PyBytes_FromStringAndSize(item.data, item.size)))
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

    cdef bint _begin(self, int descriptor) noexcept:
        """Take the mutex for one more part; False, and no mutex, when the socket takes nothing or is no more."""
        if not self._ensure_thread():
            return False
        pthread_mutex_lock(&shared.mutex)
        if not self.begun:
            self.begun = True
            shared.descriptor = descriptor
            self._forget()
        elif shared.full or shared.failure:
            pthread_mutex_unlock(&shared.mutex)
            return False
        elif shared.first == shared.count:
            # The thread has sent all of it; the blocks are not needed any more.
            shared.first = shared.count = shared.used = 0
            self.kept.clear()
        self._unpark()
        return True

    cdef bint _ensure_thread(self) noexcept:
        global _started
        if not _started and self.usable:
            self.usable = _started = _start()
        return self.usable

    cdef void _unpark(self) noexcept nogil:
        if shared.parked:
            shared.parked = 0
            pthread_cond_signal(&shared.wake)

    cdef void _forget(self) noexcept nogil:
        shared.first = shared.count = shared.used = 0
        shared.waiting_bytes = 0
        shared.failure = shared.full = 0

    cdef bint _has_room(self, Py_ssize_t size) noexcept nogil:
        """Whether a block can be taken of which ``size`` bytes are copied."""
        return (
            shared.count + 3 <= MOST_PARTS and shared.used + size + 2 * FRAME_BYTES <= ARENA_BYTES
            and shared.waiting_bytes < MOST_BYTES
        )

    cdef void _add_part(self, char *data, Py_ssize_t size) noexcept nogil:
        shared.parts[shared.count].iov_base = data
        shared.parts[shared.count].iov_len = size
        shared.count += 1
        shared.waiting_bytes += size

    cdef void _copy(self, const char *data, Py_ssize_t size) noexcept nogil:
        """Copy bytes into the arena, behind the last part if that ends there."""
        cdef char *place = &shared.arena[shared.used]
        cdef iovec *last
        memcpy(place, data, size)
        shared.used += <int>size
        if shared.count > shared.first:
            last = &shared.parts[shared.count - 1]
            if <char *>last.iov_base + last.iov_len == place:
                last.iov_len += size
                shared.waiting_bytes += size
                return
        self._add_part(place, size)


cdef bint _started = False
