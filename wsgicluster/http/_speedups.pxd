# What the compiled request cycle uses of the compiled parser and writer.

cdef enum:
    BLOCK_BYTES = 4096

cdef struct Block:
    # The block of a response head, as `format_response` gives it.
    char data[BLOCK_BYTES]
    Py_ssize_t size
    long long length
    int info

cdef dict parse_usual(
    const char *head, Py_ssize_t size, dict template, object limits, int *flags, long long *length, Py_ssize_t *line_size
)
cdef int format_usual(object status, list headers, Block *block) except -1
