# What the compiled exchange uses of the gathering of blocks.

cdef class Gather:
    cdef bint usable
    cdef bint begun
    cdef double last
    cdef list kept

    cdef bint is_quick(self, double now) noexcept
    cdef int add(self, int descriptor, bytes block, bint chunked) except -1
    cdef int end(self, int descriptor) except -1
    cdef int flush(self) except -1
    cdef list leftovers(self)
    cdef bint hold(self, int descriptor, const char *data, Py_ssize_t size) noexcept
    cdef list release(self)
    cdef bint _ensure_thread(self) noexcept
    cdef void _unpark(self) noexcept nogil
    cdef void abandon(self) noexcept
    cdef bint _begin(self, int descriptor) noexcept
    cdef void _forget(self) noexcept nogil
    cdef bint _has_room(self, Py_ssize_t size) noexcept nogil
    cdef void _add_part(self, char *data, Py_ssize_t size) noexcept nogil
    cdef void _copy(self, const char *data, Py_ssize_t size) noexcept nogil
