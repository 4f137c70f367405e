# What the compiled fast path uses of this.

cdef class Coalescer:
    cdef object response, connection, on_block
    cdef int descriptor
    cdef long long room
    cdef bint quick, usable, begun
    cdef Py_ssize_t gathered_bytes, gathered_blocks
    cdef double beat_s, last
    cdef double[::1] floats
    cdef list kept

    cdef bint _gather(self, bytes block) except -1
    cdef bint _add(self, bytes block) except -1
    cdef bint _start(self) noexcept
    cdef bint hold(self, int descriptor, const char *data, Py_ssize_t size) noexcept
    cdef list release(self)
    cdef void abandon(self) noexcept
