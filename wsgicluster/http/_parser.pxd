# What the compiled ways to receive use of the compiled parser.

cdef struct Head:
    # What a request's head says beside its environ.
    int flags
    long long length
    Py_ssize_t line_size

cdef dict parse_usual(const char *head, Py_ssize_t size, dict template, object limits, Head *found)
cdef dict parse_whole(const char *data, Py_ssize_t size, dict template, object limits, Head *found)
