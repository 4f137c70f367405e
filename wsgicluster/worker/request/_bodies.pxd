# What the compiled ways to receive use of this.

cdef class BodyBuffer:
    cdef bytes memory
    cdef Py_ssize_t size, filled

    cdef object receive(self, int descriptor, char *rest, Py_ssize_t rest_bytes, unsigned long long *received_bytes)
