# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `response.format_response`.

It writes a head of printable ASCII in names that were seen before, and passes any other to the plain Python function,
which is the only one that refuses anything.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.string cimport memcpy

from wsgicluster.http._text cimport PyUnicode_1BYTE_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, byte
from wsgicluster.http._text cimport is_printable, read_length

from wsgicluster.http import response as _response

cdef object _plain_format_response = _response.format_response
cdef dict _status_lines = _response._status_lines
cdef dict _kinds = _response._kinds
cdef int NO_BODY = _response.NO_BODY
cdef int WANTED_LENGTH = _response._LENGTH


cdef inline bint _append(Block *block, const void *data, Py_ssize_t size) noexcept:
    if block.size + size > BLOCK_BYTES:
        return False
    memcpy(block.data + block.size, data, size)
    block.size += size
    return True


cdef bint format_usual(object status, object headers, Block *block) except -1:
    """Write the block of a usual response head; False when the plain function has to look at it."""
    cdef int kind
    cdef Py_ssize_t size
    cdef const char *value
    cdef PyObject *found
    if not PyUnicode_CheckExact(status) or not PyList_CheckExact(headers):
        return False
    found = PyDict_GetItem(_status_lines, status)
    if found is NULL:
        return False
    block.size = 0
    block.length = -1
    block.info = <object>PyTuple_GET_ITEM(<object>found, 1)
    text = <object>PyTuple_GET_ITEM(<object>found, 0)
    if block.info & NO_BODY or not PyUnicode_IS_COMPACT_ASCII(text):
        return False
    _append(block, PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    for item in <list>headers:
        if not PyTuple_CheckExact(item) or PyTuple_GET_SIZE(item) != 2:
            return False
        name = <object>PyTuple_GET_ITEM(item, 0)
        text = <object>PyTuple_GET_ITEM(item, 1)
        if not PyUnicode_CheckExact(name) or not PyUnicode_CheckExact(text) or not PyUnicode_IS_COMPACT_ASCII(text):
            return False
        found = PyDict_GetItem(_kinds, name)
        size = PyUnicode_GET_LENGTH(text)
        value = <const char *>PyUnicode_1BYTE_DATA(text)
        if found is NULL or not is_printable(<const byte *>value, size):
            return False
        if size and (value[0] == c" " or value[size - 1] == c" "):
            return False
        kind = <object>found
        if kind == WANTED_LENGTH and block.length < 0:
            block.length = read_length(value, size)
            if block.length < 0:
                return False
        elif kind < WANTED_LENGTH:
            block.info |= kind
        else:
            return False
        if not (
            _append(block, PyUnicode_1BYTE_DATA(name), PyUnicode_GET_LENGTH(name)) and _append(block, b": ", 2)
            and _append(block, value, size) and _append(block, b"\r\n", 2)
        ):
            return False
    return True


def format_response(status, headers):
    """The twin of `wsgicluster.http.response.format_response`."""
    cdef Block block
    if format_usual(status, headers, &block):
        return PyBytes_FromStringAndSize(block.data, block.size), block.length, block.info
    return _plain_format_response(status, headers)
