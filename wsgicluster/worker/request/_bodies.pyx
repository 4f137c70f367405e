# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The memory of request bodies: where they are received, and what the allocator does with it behind them."""

cimport cython
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.string cimport memcpy
from posix.uio cimport iovec, readv

import io

cdef extern from *:
    """
    #if defined(__GLIBC__)
    #include <malloc.h>
    static void keep_memory(int largest, int kept)
    {
        mallopt(M_MMAP_THRESHOLD, largest);
        mallopt(M_TRIM_THRESHOLD, kept);
    }
    static void give_back(void) { malloc_trim(0); }
    #else
    static void keep_memory(int largest, int kept) { (void)largest; (void)kept; }
    static void give_back(void) {}
    #endif
    """
    void keep_memory(int largest, int kept) nogil
    void give_back() nogil


def keep_freed_memory():
    """Have the allocator keep what is freed of large bodies, up to a bound, for the next ones.

    Without this each body of a megabyte is several hundred page faults, which cost more than receiving it. The bound
    is the size of several dozen bodies: one of 8 MiB was passed, and all of it freed, as soon as eight clients sent one.
    """
    keep_memory(2 * 1024 * 1024, 64 * 1024 * 1024)


def give_back_freed_memory():
    """Give the system all that is kept, which is not to be called while there is something to do."""
    with nogil:
        give_back()


@cython.final
cdef class BodyBuffer:
    """A body of known length in memory: what is received lands where the application will read it.

    A `wsgicluster.http.connection.BodyStore` that saves a large body one copy and all growing.
    """

    def __init__(self, Py_ssize_t size):
        # Not cleared: memory that no byte has come for is never touched, and costs nothing.
        self.memory = PyBytes_FromStringAndSize(NULL, size)
        self.size = size

    cdef object receive(self, int descriptor, char *rest, Py_ssize_t rest_bytes, unsigned long long *received_bytes):
        """Receive the body in its place, of which a view is returned, for `write`. Raises OSError as ``readv`` does.

        What comes behind it is received in ``rest`` first; then all is returned as bytes.
        """
        cdef iovec parts[2]
        cdef ssize_t size
        cdef Py_ssize_t room = self.size - self.filled
        parts[0].iov_base = PyBytes_AS_STRING(self.memory) + self.filled
        parts[0].iov_len = room
        parts[1].iov_base = rest
        parts[1].iov_len = rest_bytes
        # What comes behind a body must be seen: closing over unread bytes would reset the connection.
        size = readv(descriptor, parts, 2)
        if size < 0:
            PyErr_SetFromErrno(OSError)
        received_bytes[0] += size
        if size > room:
            return PyBytes_FromStringAndSize(<char *>parts[0].iov_base, room) + rest[:size - room]
        return PyMemoryView_FromMemory(<char *>parts[0].iov_base, size, PyBUF_READ) if size else b""

    def write(self, const unsigned char[::1] piece not None):
        """Take the next piece; one that `receive` has put in its place already is only counted."""
        cdef Py_ssize_t size = piece.shape[0]
        cdef char *place = PyBytes_AS_STRING(self.memory) + self.filled
        if size > self.size - self.filled:
            raise ValueError("the body is longer than was said")
        if size and <char *>&piece[0] != place:
            memcpy(place, &piece[0], size)
        self.filled += size

    def finish(self):
        """The body as a file; shares the memory."""
        if self.filled != self.size:
            raise ValueError("the body is not complete")
        memory, self.memory = self.memory, None
        return io.BytesIO(memory)

    def discard(self):
        """Forget a body that will never be complete."""
        self.memory = None
