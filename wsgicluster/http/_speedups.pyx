# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Compiled twins of `head.parse_head` and `response.format_response`.

A twin takes the usual input apart in C and hands everything else, before it has had any
effect, to the plain Python function, which stays the only place that refuses anything.
Nothing is read beyond the end that the caller gives: every loop is bounded by it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Copy, PyDict_GetItem, PyDict_SetItem, PyDict_Size
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

import random

from wsgicluster.http import head as _head
from wsgicluster.http import response as _response

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_1BYTE_DATA(object text)
    bint PyUnicode_CheckExact(object value)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    object PyUnicode_DecodeLatin1(const char *data, Py_ssize_t size, const char *errors)
    object PyUnicode_InternFromString(const char *text)

ctypedef unsigned char byte

DEF LONGEST_NAME = 64
DEF NAME_SLOTS = 2048
DEF MOST_NAMES = 1024

cdef object _plain_parse_head = _head.parse_head
cdef object _plain_format_response = _response.format_response

cdef int KEEP_ALIVE = _head.KEEP_ALIVE
cdef int HTTP_11 = _head.HTTP_11
cdef int IS_HEAD = _head.IS_HEAD

# What a field name means to the parser itself.
DEF ORDINARY = 0
DEF HOST = 1
DEF LENGTH = 2
DEF CONNECTION = 3
DEF REMARKABLE = 4

# Tables of bytes: what may stand in a field name (as it stands in the environ's key), in a target, in a host.
cdef byte KEY_BYTE[256]
cdef byte TARGET_BYTE[256]
cdef byte HOST_BYTE[256]
cdef signed char HEX[256]


cdef void _fill_tables() noexcept:
    cdef int code
    for code in range(256):
        KEY_BYTE[code] = 0
        TARGET_BYTE[code] = 0x21 <= code <= 0x7E and code != c"#"
        HOST_BYTE[code] = 0
        HEX[code] = -1
    for code in b"!#$%&'*+.^`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        KEY_BYTE[code] = code
    for code in b"abcdefghijklmnopqrstuvwxyz":
        KEY_BYTE[code] = code - 32
    KEY_BYTE[c"-"] = c"_"
    for code in b"-._~!$&'()*+,;=0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz":
        HOST_BYTE[code] = 1
    for code in range(10):
        HEX[c"0" + code] = code
    for code in range(6):
        HEX[c"a" + code] = 10 + code
        HEX[c"A" + code] = 10 + code

_fill_tables()


cdef struct Name:
    # A field name as it was sent; `key` is owned by _keys.
    unsigned int digest
    int size
    int kind
    PyObject *key
    char text[LONGEST_NAME]

cdef Name NAMES[NAME_SLOTS]
cdef list _keys = []
# Not known to clients, so that they cannot choose names that all fall into one slot.
cdef unsigned int SEED = random.getrandbits(32)

cdef object S_METHOD = PyUnicode_InternFromString("REQUEST_METHOD")
cdef object S_URI = PyUnicode_InternFromString("RAW_URI")
cdef object S_PATH = PyUnicode_InternFromString("PATH_INFO")
cdef object S_QUERY = PyUnicode_InternFromString("QUERY_STRING")
cdef object S_PROTOCOL = PyUnicode_InternFromString("SERVER_PROTOCOL")
cdef object S_SCRIPT = PyUnicode_InternFromString("SCRIPT_NAME")
cdef object S_HTTP_11 = PyUnicode_InternFromString("HTTP/1.1")
cdef object S_EMPTY = ""
cdef object S_GET = PyUnicode_InternFromString("GET")
cdef object S_POST = PyUnicode_InternFromString("POST")
cdef object S_HEAD = PyUnicode_InternFromString("HEAD")
cdef object S_PUT = PyUnicode_InternFromString("PUT")
cdef object S_DELETE = PyUnicode_InternFromString("DELETE")


cdef inline object _ascii(const char *data, Py_ssize_t size):
    """A str of bytes that are known to be ASCII."""
    cdef object text
    if size == 0:
        return S_EMPTY
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), data, size)
    return text


cdef inline int _same_word(const char *data, Py_ssize_t size, const char *lower, Py_ssize_t length) noexcept:
    """Whether bytes are a word in any case; ``lower`` holds letters and hyphens only."""
    cdef Py_ssize_t index
    if size != length:
        return 0
    for index in range(size):
        if (data[index] | 0x20) != lower[index]:
            return 0
    return 1


cdef Name *_new_name(const char *text, Py_ssize_t size, unsigned int digest) except? NULL:
    """Remember a name; NULL when there are too many already."""
    cdef unsigned int slot = digest & (NAME_SLOTS - 1)
    cdef char upper[LONGEST_NAME]
    cdef Py_ssize_t index
    cdef Name *name
    if len(_keys) >= MOST_NAMES:
        return NULL
    while NAMES[slot].key is not NULL:
        slot = (slot + 1) & (NAME_SLOTS - 1)
    for index in range(size):
        upper[index] = KEY_BYTE[<byte>text[index]]
    key = upper[:size].decode("ascii")
    name = &NAMES[slot]
    name.kind = ORDINARY
    if key == "HOST":
        name.kind = HOST
    elif key == "CONTENT_LENGTH":
        name.kind = LENGTH
    elif key == "CONNECTION":
        name.kind = CONNECTION
    elif key == "TRANSFER_ENCODING" or key == "EXPECT":
        name.kind = REMARKABLE
    if key != "CONTENT_LENGTH" and key != "CONTENT_TYPE":
        key = "HTTP_" + key
    _keys.append(key)
    memcpy(name.text, text, size)
    name.size = <int>size
    name.digest = digest
    name.key = <PyObject *>key
    return name


cdef inline Name *_find_name(const char *text, Py_ssize_t size, unsigned int digest) except? NULL:
    cdef unsigned int slot = digest & (NAME_SLOTS - 1)
    cdef Name *name
    while True:
        name = &NAMES[slot]
        if name.key is NULL:
            return _new_name(text, size, digest)
        if name.digest == digest and name.size == size and memcmp(name.text, text, size) == 0:
            return name
        slot = (slot + 1) & (NAME_SLOTS - 1)


cdef inline const char *_read_name(const char *at, const char *end, unsigned int *digest) noexcept:
    """The end of a field name that starts at ``at``."""
    cdef unsigned int mixed = SEED
    while at < end and KEY_BYTE[<byte>at[0]]:
        mixed = (mixed ^ <byte>at[0]) * 16777619
        at += 1
    digest[0] = mixed
    return at


cdef int _learn_usual_names() except -1:
    """The names that browsers and proxies send are known before anybody can fill the table with others."""
    cdef unsigned int digest
    cdef const char *text
    for key in _head._keys:
        name = key[1:-1].encode()
        text = name
        _read_name(text, text + len(name), &digest)
        _find_name(text, len(name), digest)
    return 0


_learn_usual_names()


cdef inline object _method(const char *data, Py_ssize_t size, int *flags):
    if size == 3:
        if memcmp(data, b"GET", 3) == 0:
            return S_GET
        if memcmp(data, b"PUT", 3) == 0:
            return S_PUT
    elif size == 4:
        if memcmp(data, b"POST", 4) == 0:
            return S_POST
        if memcmp(data, b"HEAD", 4) == 0:
            flags[0] |= IS_HEAD
            return S_HEAD
    elif size == 6 and memcmp(data, b"DELETE", 6) == 0:
        return S_DELETE
    return None


cdef object _unquote(const char *data, Py_ssize_t size):
    """Percent-decoded as latin-1; broken triplets stay (RFC 3986, section 2.1)."""
    cdef bytes decoded = PyBytes_FromStringAndSize(NULL, size)
    cdef char *target = PyBytes_AS_STRING(decoded)
    cdef Py_ssize_t index = 0, length = 0
    while index < size:
        if data[index] == c"%" and index + 2 < size and HEX[<byte>data[index + 1]] >= 0 and HEX[<byte>data[index + 2]] >= 0:
            target[length] = <char>(HEX[<byte>data[index + 1]] * 16 + HEX[<byte>data[index + 2]])
            index += 3
        else:
            target[length] = data[index]
            index += 1
        length += 1
    return PyUnicode_DecodeLatin1(target, length, NULL)


cdef inline int _read_line(const char *line, const char *end, dict environ, int *flags) except -1:
    """Write the request line's variables; 0 when the line is not a usual one."""
    cdef const char *space = <const char *>memchr(line, c" ", end - line)
    cdef const char *target
    cdef const char *at
    cdef const char *query = NULL
    cdef int quoted = 0
    if space is NULL:
        return 0
    method = _method(line, space - line, flags)
    if method is None:
        return 0
    target = space + 1
    at = target
    while at < end and TARGET_BYTE[<byte>at[0]]:
        if at[0] == c"?" and query is NULL:
            query = at
        elif at[0] == c"%" and query is NULL:
            quoted = 1
        at += 1
    if at == target or target[0] != c"/" or end - at != 9 or memcmp(at, b" HTTP/1.1", 9) != 0:
        return 0
    PyDict_SetItem(environ, S_METHOD, method)
    uri = _ascii(target, at - target)
    PyDict_SetItem(environ, S_URI, uri)
    PyDict_SetItem(environ, S_PROTOCOL, S_HTTP_11)
    if query is NULL:
        PyDict_SetItem(environ, S_QUERY, S_EMPTY)
        PyDict_SetItem(environ, S_PATH, _unquote(target, at - target) if quoted else uri)
    else:
        PyDict_SetItem(environ, S_QUERY, _ascii(query + 1, at - query - 1))
        PyDict_SetItem(
            environ, S_PATH, _unquote(target, query - target) if quoted else _ascii(target, query - target)
        )
    return 1


cdef inline int _is_host(const char *value, const char *end) noexcept:
    """A name or an IPv4 address, perhaps with a port; other hosts are left to the plain parser."""
    cdef const char *at = value
    while at < end and HOST_BYTE[<byte>at[0]]:
        at += 1
    if at < end and at[0] == c":":
        at += 1
        while at < end and c"0" <= at[0] <= c"9":
            at += 1
    return at == end


cdef inline long long _length(const char *value, const char *end) noexcept:
    """A body's length, or -1 when the plain parser has to look at it."""
    cdef long long length = 0
    cdef const char *at = value
    if end - value < 1 or end - value > 18 or (value[0] == c"0" and end - value > 1):
        return -1
    while at < end:
        if not c"0" <= at[0] <= c"9":
            return -1
        length = length * 10 + (at[0] - c"0")
        at += 1
    return length


cdef inline object _value(const char *value, Py_ssize_t size):
    """A field's value as str, or None when it has a byte that the plain parser must judge."""
    cdef byte low = 0, high = 0
    cdef Py_ssize_t index
    for index in range(size):
        low |= (<byte>value[index] < 0x20) | (<byte>value[index] == 0x7F)
        high |= <byte>value[index]
    if low or high & 0x80:
        return None
    return _ascii(value, size)


cdef int _read_fields(
    const char *at, const char *end, dict environ, object limits, int *flags, long long *length
) except -1:
    """Write the fields' variables; 0 when there is anything but usual fields, none of them twice."""
    cdef const char *name_end
    cdef const char *value
    cdef const char *line_end
    cdef const char *last
    cdef unsigned int digest
    cdef Name *name
    cdef Py_ssize_t size = PyDict_Size(environ), count = 0
    cdef int has_host = 0
    while at < end:
        # `at` stands on the CRLF before a field.
        if end - at < 3 or at[0] != c"\r" or at[1] != c"\n":
            return 0
        at += 2
        name_end = _read_name(at, end, &digest)
        if name_end == end or name_end[0] != c":" or name_end == at or name_end - at > LONGEST_NAME:
            return 0
        name = _find_name(at, name_end - at, digest)
        if name is NULL or name.kind == REMARKABLE:
            return 0
        value = name_end + 1
        line_end = <const char *>memchr(value, c"\r", end - value)
        if line_end is NULL:
            line_end = end
        at = line_end
        while value < line_end and (value[0] == c" " or value[0] == c"\t"):
            value += 1
        last = line_end
        while last > value and ((last - 1)[0] == c" " or (last - 1)[0] == c"\t"):
            last -= 1
        text = _value(value, last - value)
        if text is None:
            return 0
        if name.kind == HOST:
            has_host = _is_host(value, last)
        elif name.kind == LENGTH:
            length[0] = _length(value, last)
            if length[0] < 0:
                return 0
        elif name.kind == CONNECTION:
            if _same_word(value, last - value, b"close", 5):
                flags[0] &= ~KEEP_ALIVE
            elif not _same_word(value, last - value, b"keep-alive", 10):
                return 0
        PyDict_SetItem(environ, <object>name.key, text)
        count += 1
    return has_host and count <= <Py_ssize_t>limits.fields and PyDict_Size(environ) == size + count


cdef dict parse_usual(
    const char *head, Py_ssize_t size, dict template, object limits, int *flags, long long *length, Py_ssize_t *line_size
):
    """The environ of a usual head, or None; ``head`` ends before its last two CRLF."""
    cdef const char *line_end
    cdef dict environ
    cdef PyObject *script
    if not 0 < size <= <Py_ssize_t>limits.plain_bytes:
        return None
    script = PyDict_GetItem(template, S_SCRIPT)
    if script is not NULL and <object>script is not S_EMPTY:
        return None
    line_end = <const char *>memchr(head, c"\r", size)
    if line_end is NULL:
        line_end = head + size
    line_size[0] = line_end - head
    flags[0] = HTTP_11 | KEEP_ALIVE
    length[0] = 0
    environ = PyDict_Copy(template)
    if not _read_line(head, line_end, environ, flags):
        return None
    if not _read_fields(line_end, head + size, environ, limits, flags, length):
        return None
    if length[0] and 0 < <long long>limits.body_bytes < length[0]:
        return None
    return environ


def parse_head(bytes data not None, Py_ssize_t start, Py_ssize_t end, dict template not None, object limits not None):
    """The twin of `wsgicluster.http.head.parse_head`."""
    cdef int flags = 0
    cdef long long length = 0
    cdef Py_ssize_t line_size = 0
    cdef dict environ = None
    if 0 <= start < end <= PyBytes_GET_SIZE(data):
        environ = parse_usual(PyBytes_AS_STRING(data) + start, end - start, template, limits, &flags, &length, &line_size)
    if environ is None:
        return _plain_parse_head(data, start, end, template, limits)
    return environ, length, flags


cdef dict _status_lines = _response._status_lines
cdef dict _kinds = _response._kinds
cdef int NO_BODY = _response.NO_BODY
cdef int WANTED_LENGTH = _response._LENGTH


cdef inline int _append(Block *block, const void *data, Py_ssize_t size) noexcept:
    if block.size + size > BLOCK_BYTES:
        return 0
    memcpy(block.data + block.size, data, size)
    block.size += size
    return 1


cdef inline int _is_printable(const byte *data, Py_ssize_t size) noexcept:
    cdef byte bad = 0
    cdef Py_ssize_t index
    for index in range(size):
        bad |= (data[index] < 0x20) | (data[index] == 0x7F)
    return not bad


cdef int format_usual(object status, list headers, Block *block) except -1:
    """Write the block of a usual response head; 0 when the plain function has to look at it."""
    cdef Py_ssize_t index
    cdef int kind
    cdef PyObject *known = PyDict_GetItem(_status_lines, status)
    cdef PyObject *found
    if known is NULL:
        return 0
    block.size = 0
    block.length = -1
    block.info = <object>PyTuple_GET_ITEM(<object>known, 1)
    text = <object>PyTuple_GET_ITEM(<object>known, 0)
    if block.info & NO_BODY or not PyUnicode_IS_COMPACT_ASCII(text):
        return 0
    _append(block, PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
    for index in range(PyList_GET_SIZE(headers)):
        item = <object>PyList_GET_ITEM(headers, index)
        if not PyTuple_CheckExact(item) or PyTuple_GET_SIZE(item) != 2:
            return 0
        name = <object>PyTuple_GET_ITEM(item, 0)
        value = <object>PyTuple_GET_ITEM(item, 1)
        if not PyUnicode_CheckExact(name) or not PyUnicode_CheckExact(value):
            return 0
        found = PyDict_GetItem(_kinds, name)
        if found is NULL or not PyUnicode_IS_COMPACT_ASCII(value):
            return 0
        if not _is_printable(<const byte *>PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value)):
            return 0
        kind = <object>found
        if kind:
            if kind == WANTED_LENGTH:
                if block.length >= 0:
                    return 0
                block.length = _length(
                    <const char *>PyUnicode_1BYTE_DATA(value),
                    <const char *>PyUnicode_1BYTE_DATA(value) + PyUnicode_GET_LENGTH(value),
                )
                if block.length < 0:
                    return 0
            elif kind < WANTED_LENGTH:
                block.info |= kind
            else:
                return 0
        if not (
            _append(block, PyUnicode_1BYTE_DATA(name), PyUnicode_GET_LENGTH(name))
            and _append(block, b": ", 2)
            and _append(block, PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value))
            and _append(block, b"\r\n", 2)
        ):
            return 0
    return 1


def format_response(status, headers):
    """The twin of `wsgicluster.http.response.format_response`."""
    cdef Block block
    if PyUnicode_CheckExact(status) and PyList_CheckExact(headers) and format_usual(status, <list>headers, &block):
        return PyBytes_FromStringAndSize(block.data, block.size), block.length, block.info
    return _plain_format_response(status, headers)
