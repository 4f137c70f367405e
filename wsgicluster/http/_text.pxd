# What the compiled parser and the compiled writer share: bytes and texts as they lie in memory.

ctypedef unsigned char byte
ctypedef const char *place

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t haystack_size, const void *needle, size_t needle_size)


cdef inline bint is_printable(const byte *data, Py_ssize_t size) noexcept:
    """Whether bytes are ASCII without a control character; without a branch, so that a compiler can do many at once."""
    cdef byte bad = 0
    cdef Py_ssize_t index
    for index in range(size):
        bad |= (data[index] < 0x20) | (data[index] >= 0x7F)
    return not bad


cdef inline long long read_length(const char *at, Py_ssize_t size) noexcept:
    """A Content-Length, or -1 when the plain code has to look at it."""
    cdef long long length = 0
    cdef Py_ssize_t index
    if not 1 <= size <= 18 or (at[0] == c"0" and size > 1):
        return -1
    for index in range(size):
        if not c"0" <= at[index] <= c"9":
            return -1
        length = length * 10 + (at[index] - c"0")
    return length
