# What the compiled ways through a worker share.

from wsgicluster.http._writer cimport Block

cdef int KEEP_ALIVE, IS_HEAD, WANTS_CLOSE, DEADLINE, STARTED, STATE, LINE_OFFSET, LINE_BYTES
cdef Py_ssize_t JOIN_BYTES
cdef object _HEAD_PHASE, _COUNTED_PHASE, _KEEP, _ABORT

cdef class WholeResponse:
    cdef object cycle, arrivals, connection, status, headers, plain, result, error
    cdef int flags
    cdef double started, queue_s
    cdef bint called, sent, keep, over
    cdef Py_ssize_t sent_bytes
    cdef Block block

    cdef object client(self)
    cdef object response(self)
    cdef bytes call(self, application, dict environ)
    cdef object end_in_cycle(self, snapshot, bytes line)

cdef WholeResponse new_response(cycle, connection, int flags, double started)
cdef int class_of(status) noexcept
cdef const char *write_whole(WholeResponse start, bytes fields, bint keep, bytes body, Py_ssize_t *size)
cdef object send_whole(WholeResponse start, int descriptor, bytes fields, bint keep, bytes body)
cdef bint set_scheme(list schemes, dict environ) except -1

cdef class PageCounters:
    cdef double[::1] floats
    cdef unsigned long long[::1] cells
    cdef unsigned char[::1] raw

    cpdef count(self, int status_class, long long sent_bytes, double duration_s, double application_s, double queue_s)
    cdef void add_client_left(self) noexcept
    cdef void show(self, double started, bytes client, const char *line, Py_ssize_t line_size) noexcept
