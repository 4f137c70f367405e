# What the compiled leaves of the cycle use of the compiled writer.

cdef enum:
    BLOCK_BYTES = 4096

cdef struct Block:
    # The block of a response head, as `format_response` gives it.
    char data[BLOCK_BYTES]
    Py_ssize_t size
    long long length
    int info

cdef bint format_usual(object status, object headers, Block *block) except -1
