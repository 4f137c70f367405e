# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `wsgicluster.worker.kinds.sync.slow_request_watch`: it waits without Python's global lock.

So the thread that serves requests never waits for this one.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

from wsgicluster.ipc import scoreboard as _scoreboard
from wsgicluster.worker.intake import policy as _policy

cdef extern from "<sys/epoll.h>" nogil:
    cdef struct epoll_event:
        pass
    int epoll_wait(int descriptor, epoll_event *events, int most, int timeout)

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *items, unsigned long count, int timeout)
    short POLLIN

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *now)
    int nanosleep(const timespec *duration, timespec *left)

cdef enum:
    MOST_EVENTS = 64
    LOOKS_ALONE = 100

cdef int STARTED = _scoreboard.Cell.STARTED
cdef int REQUESTS = _scoreboard.Cell.REQUESTS
cdef double LONGEST_LOOK_S = _policy.LONGEST_LOOK_S

ctypedef unsigned long long Count


cdef double _wait(
    int overflow, int inputs, volatile double *started, volatile Count *requests, double slow_s, int wait_ms
) noexcept nogil:
    """As `python_wait_for_slow`, with its `LookPlan`; below 0 when ``errno`` says why not."""
    cdef epoll_event events[MOST_EVENTS]
    cdef pollfd item
    cdef timespec moment
    cdef Count ended
    cdef Count before = requests[0]
    cdef double begun
    cdef double now_s
    cdef double pause_s
    cdef double next_s = slow_s
    cdef double looked_s = 0.0
    cdef int alone = 0
    cdef bint idle
    while True:
        if epoll_wait(overflow, events, MOST_EVENTS, wait_ms) < 0:
            if errno == EINTR:
                continue
            return -1.0
        wait_ms = -1
        idle = False
        while True:
            begun = started[0]
            ended = requests[0]
            item.fd = inputs
            item.events = POLLIN
            if begun != 0.0 or poll(&item, 1, 0) > 0:
                idle = False
            elif idle and ended == before:
                break
            else:
                idle = True
            clock_gettime(CLOCK_MONOTONIC, &moment)
            now_s = <double>moment.tv_sec + <double>moment.tv_nsec * 1e-9
            pause_s = slow_s if begun == 0.0 else begun + slow_s - now_s
            if pause_s <= 0.0:
                return begun
            # Something waits, and nothing runs: if that stays so the loop may have been closed.
            alone = alone + 1 if begun == 0.0 and ended == before else 0
            if alone > LOOKS_ALONE:
                return 0.0
            if <double>(ended - before) * slow_s >= now_s - looked_s:
                pause_s = next_s
                next_s = min(2.0 * next_s, LONGEST_LOOK_S)
            else:
                next_s = slow_s
            before = ended
            looked_s = now_s
            moment.tv_sec = <long>pause_s
            moment.tv_nsec = <long>((pause_s - <double>moment.tv_sec) * 1e9)
            nanosleep(&moment, NULL)


def wait_for_slow(overflow, loop, page, double slow_s, wait_s):
    """As `python_wait_for_slow`."""
    cdef double[::1] floats = page.floats
    cdef Count[::1] cells = page.cells
    cdef int watched = overflow.fileno()
    cdef int inputs = loop.fileno()
    cdef int wait_ms = -1 if wait_s is None else <int>(wait_s * 1000 + 0.999)
    cdef double found
    with nogil:
        found = _wait(
            watched, inputs, <volatile double *>&floats[STARTED], <volatile Count *>&cells[REQUESTS], slow_s, wait_ms
        )
    if found < 0.0:
        PyErr_SetFromErrno(OSError)
    return found
