# What the compiled fast path uses of this.

from posix.uio cimport iovec

from wsgicluster.system._calls cimport pthread_mutex_t

cdef enum:
    MOST_PARTS = 128
    ARENA_BYTES = 65536
    SMALL_BYTES = 4096

# Blocks of one response that wait. All but the links is only touched with the mutex held, or by nobody else.
cdef struct Stream:
    pthread_mutex_t mutex
    Stream *next
    Stream *next_unused
    int first, count, used, descriptor, failure, full
    size_t waiting_bytes
    iovec parts[MOST_PARTS]
    char arena[ARENA_BYTES]

cdef class Coalescer:
    cdef object response, connection, on_block
    cdef Stream *stream
    cdef int descriptor
    cdef unsigned int forks
    cdef long long room
    cdef bint quick, usable
    cdef readonly Py_ssize_t gathered_blocks
    cdef Py_ssize_t gathered_bytes
    cdef double beat_s, last
    cdef double[::1] floats
    cdef list kept

    cdef list _take_back(self)
    cdef bint _gather(self, bytes block) except -1
    cdef bint _is_read_quickly(self) except -1
    cdef bint _add(self, bytes block) except -1
    cdef bint _start(self) noexcept
    cdef bint hold(self, int descriptor, const char *data, Py_ssize_t size) noexcept
    cdef list release(self)
