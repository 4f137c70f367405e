# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of `head.parse_head`.

It parses the usual head in C and passes any other, before it has had any effect, to the plain Python function, which
is the only one that refuses anything. Nothing is read beyond the end that the caller gives: every loop is bounded by it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem, PyDict_SetItem
from cpython.object cimport PyObject
from libc.string cimport memchr, memcmp, memcpy

from wsgicluster.http._text cimport PyUnicode_1BYTE_DATA, PyUnicode_GET_LENGTH, PyUnicode_New, byte, is_printable
from wsgicluster.http._text cimport memmem, place, read_length

import io
import random

from wsgicluster.errors import ProtocolError
from wsgicluster.http import head as _head

cdef enum:
    LONGEST_NAME = 64
    NAME_SLOTS = 2048
    MOST_NAMES = 1024

# What a field name means to the parser itself.
cdef enum:
    ORDINARY, HOST, LENGTH, CONNECTION, REMARKABLE

cdef dict KINDS = {
    "HTTP_HOST": HOST, "CONTENT_LENGTH": LENGTH, "HTTP_CONNECTION": CONNECTION,
    "HTTP_TRANSFER_ENCODING": REMARKABLE, "HTTP_EXPECT": REMARKABLE,
}
cdef tuple METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE")
cdef object S_INPUT = "wsgi.input"
cdef object S_EMPTY = ""
cdef object _BytesIO = io.BytesIO
cdef object _apply_script_name = _head.apply_script_name
cdef set _hosts = _head._hosts
cdef object _is_plain_host = _head._is_plain_host
cdef object _python_parse_head = _head.parse_head
cdef int KEEP_ALIVE = _head.KEEP_ALIVE
cdef int HTTP_11 = _head.HTTP_11
cdef int IS_HEAD = _head.IS_HEAD

# Which bytes may stand in a field name (a name with an underscore is left to the plain parser), and in a target.
cdef byte NAME_BYTE[256]
cdef byte TARGET_BYTE[256]
for _code in range(256):
    NAME_BYTE[_code] = _code in _head._TOKEN_BYTES and chr(_code) != "_"
    TARGET_BYTE[_code] = 0x21 <= _code <= 0x7E and chr(_code) != "#"


cdef struct Name:
    # A field name as it was sent; `key` is owned by _keys. `next` is what came behind it when it was seen last.
    unsigned int digest
    int size
    int kind
    PyObject *key
    Name *next
    char text[LONGEST_NAME]

cdef Name NAMES[NAME_SLOTS]
cdef Name FIRST
cdef list _keys = []
# Not known to clients, so that they cannot choose names that all fall into one slot.
cdef unsigned int SEED = random.getrandbits(32)


cdef inline object _ascii(const char *data, Py_ssize_t size):
    """A str of bytes that are known to be ASCII."""
    if size == 0:
        return S_EMPTY
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), data, size)
    return text


cdef Name *_find_name(const char *text, Py_ssize_t size, unsigned int digest) except? NULL:
    """A name in the table, which has it from now on; NULL when there are too many already."""
    cdef unsigned int slot = digest & (NAME_SLOTS - 1)
    cdef Name *name = &NAMES[slot]
    while name.key is not NULL:
        if name.digest == digest and name.size == size and memcmp(name.text, text, size) == 0:
            return name
        slot = (slot + 1) & (NAME_SLOTS - 1)
        name = &NAMES[slot]
    if len(_keys) >= MOST_NAMES:
        return NULL
    key = _head._key_of(text[:size].decode("ascii"))
    _keys.append(key)
    memcpy(name.text, text, size)
    name.kind = KINDS.get(key, ORDINARY)
    name.size = <int>size
    name.digest = digest
    name.key = <PyObject *>key
    return name


cdef inline const char *_read_name(const char *at, const char *end, unsigned int *digest) noexcept:
    """The end of a field name that starts at ``at``."""
    cdef unsigned int mixed = SEED
    while at < end and NAME_BYTE[<byte>at[0]]:
        mixed = (mixed ^ <byte>at[0]) * 16777619
        at += 1
    digest[0] = mixed
    return at


cdef int _learn_usual_names() except -1:
    """Store the names that browsers and proxies send, before a client can fill the table with others."""
    cdef unsigned int digest
    cdef bytes name
    for key in list(_head._keys):
        name = key.strip("\n:").encode()
        _read_name(name, <const char *>name + len(name), &digest)
        _find_name(name, len(name), digest)
    return 0


_learn_usual_names()


cdef inline object _method(const char *data, Py_ssize_t size):
    for method in METHODS:
        if PyUnicode_GET_LENGTH(method) == size and memcmp(PyUnicode_1BYTE_DATA(method), data, size) == 0:
            return method
    return None


cdef inline bint _read_line(const char *line, const char *end, dict environ, int *flags) except -1:
    """Write the request line's variables; False when the line is not a usual one."""
    cdef const char *space = <const char *>memchr(line, c" ", end - line)
    cdef place target, at, query = NULL
    cdef bint quoted = False
    method = None if space is NULL else _method(line, space - line)
    if method is None:
        return False
    if line[0] == c"H":
        flags[0] |= IS_HEAD
    target = space + 1
    at = target
    while at < end and TARGET_BYTE[<byte>at[0]]:
        if at[0] == c"?" and query is NULL:
            query = at
        elif at[0] == c"%" and query is NULL:
            quoted = True
        at += 1
    if at == target or target[0] != c"/" or end - at != 9 or memcmp(at, b" HTTP/1.1", 9) != 0:
        return False
    uri = path = _ascii(target, at - target)
    environ["REQUEST_METHOD"] = method
    environ["RAW_URI"] = uri
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    if query is NULL:
        environ["QUERY_STRING"] = S_EMPTY
    else:
        environ["QUERY_STRING"] = _ascii(query + 1, at - query - 1)
        path = _ascii(target, query - target)
    environ["PATH_INFO"] = _head.unquote_to_bytes(path).decode("latin-1") if quoted else path
    return True


cdef bint _read_fields(const char *at, const char *end, dict environ, object limits, Head *found) except -1:
    """Write the fields' variables; False when there is anything but usual fields, none of them twice."""
    cdef place name_end, value, last
    cdef unsigned int digest
    cdef Name *name
    cdef Name *before = &FIRST
    cdef Py_ssize_t size = len(environ), count = 0
    cdef bint has_host = False
    while at < end:
        # `at` stands on the CRLF before a field.
        if end - at < 3 or at[0] != c"\r" or at[1] != c"\n":
            return False
        at += 2
        # A client sends its fields in one order: to compare with the name of last time costs a quarter of a search.
        name = before.next
        if name is not NULL and end - at > name.size and at[name.size] == c":" and not memcmp(at, name.text, name.size):
            name_end = at + name.size
        else:
            name_end = _read_name(at, end, &digest)
            if name_end == end or name_end[0] != c":" or name_end == at or name_end - at > LONGEST_NAME:
                return False
            name = _find_name(at, name_end - at, digest)
            if name is NULL:
                return False
            before.next = name
        before = name
        value = name_end + 1
        last = at = <const char *>memchr(value, c"\r", end - value)
        if at is NULL:
            last = at = end
        while value < last and (value[0] == c" " or value[0] == c"\t"):
            value += 1
        while last > value and ((last - 1)[0] == c" " or (last - 1)[0] == c"\t"):
            last -= 1
        if name.kind == REMARKABLE or not is_printable(<const byte *>value, last - value):
            return False
        text = _ascii(value, last - value)
        if name.kind == HOST:
            has_host = text in _hosts or _is_plain_host(text)
        elif name.kind == LENGTH:
            found.length = read_length(value, last - value)
            if found.length < 0:
                return False
        elif name.kind == CONNECTION:
            option = text.lower()
            if option == "close":
                found.flags &= ~KEEP_ALIVE
            elif option != "keep-alive":
                return False
        PyDict_SetItem(environ, <object>name.key, text)
        count += 1
    return has_host and count <= <Py_ssize_t>limits.fields and len(environ) == size + count


cdef dict parse_usual(const char *head, Py_ssize_t size, dict template, object limits, Head *found):
    """The environ of a usual head, or None; ``head`` ends before its last two CRLF."""
    cdef const char *line_end
    cdef dict environ
    cdef PyObject *script
    if not 0 < size <= <Py_ssize_t>limits.plain_bytes:
        return None
    line_end = <const char *>memchr(head, c"\r", size)
    if line_end is NULL:
        line_end = head + size
    found.line_size = line_end - head
    found.flags = HTTP_11 | KEEP_ALIVE
    found.length = 0
    environ = template.copy()
    if not (
        _read_line(head, line_end, environ, &found.flags)
        and _read_fields(line_end, head + size, environ, limits, found)
    ):
        return None
    script = PyDict_GetItem(template, "SCRIPT_NAME")
    if script is not NULL and <object>script is not S_EMPTY:
        try:
            _apply_script_name(environ)
        except ProtocolError:
            return None
    if found.length and 0 < <long long>limits.body_bytes < found.length:
        return None
    return environ


cdef dict parse_whole(const char *data, Py_ssize_t size, dict template, object limits, Head *found):
    """The environ, body and all, of bytes that are one whole usual request and no more; else None."""
    cdef const char *end = data + size - 4
    cdef dict environ = None
    # Without a body the head ends here: the parser takes none with an empty line in it, so that there is nothing to search.
    if size > 4 and memcmp(end, b"\r\n\r\n", 4) == 0:
        environ = parse_usual(data, end - data, template, limits, found)
    if environ is None:
        end = <const char *>memmem(data, size, b"\r\n\r\n", 4)
        if end is not NULL:
            environ = parse_usual(data, end - data, template, limits, found)
    if environ is None or end + 4 + found.length != data + size:
        return None
    PyDict_SetItem(
        environ, S_INPUT, _BytesIO(PyBytes_FromStringAndSize(end + 4, found.length)) if found.length else _BytesIO()
    )
    return environ


def parse_head(bytes data not None, Py_ssize_t start, Py_ssize_t end, dict template not None, object limits not None):
    """The twin of `wsgicluster.http.head.parse_head`."""
    cdef Head found
    cdef dict environ = None
    if 0 <= start < end <= PyBytes_GET_SIZE(data):
        environ = parse_usual(PyBytes_AS_STRING(data) + start, end - start, template, limits, &found)
    if environ is None:
        return _python_parse_head(data, start, end, template, limits)
    return environ, found.length, found.flags
