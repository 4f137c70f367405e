"""The grammar of HTTP/1.1 as named patterns, each beside the RFC section that defines it.

Patterns are for text decoded as latin-1 (one character for one byte) and are meant for
``fullmatch``. Nothing here knows what a match means.
"""

from wsgicluster.pattern import pattern

TCHAR = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
"""RFC 9110, section 5.6.2: the characters of a token, for use in a character class."""

TOKEN = pattern(f"[{TCHAR}]+")

# As registered methods are written, and those of most extensions.
USUAL_METHOD = pattern("[!$%&'*+\\-.^_`|~0-9A-Z]{3,20}")

# RFC 9110, section 5.6.1: a comma-separated list with at least one element and no empty one.
TOKEN_LIST = pattern(f"[{TCHAR}]+(?:[ \t]*,[ \t]*[{TCHAR}]+)*")

# RFC 9110, section 5.5: not allowed in a field's value: control characters other than HTAB.
NOT_IN_VALUE = pattern(r"[\x00-\x08\x0a-\x1f\x7f]")

# RFC 9112, section 3.2 and RFC 3986: visible ASCII, and no fragment. Stricter readings of RFC 3986 would
# also exclude characters such as "<" and "|", which browsers send.
TARGET = pattern(r'[!"$-~]+')

# RFC 9112, section 2.3.
VERSION = pattern(r"HTTP/([0-9])\.([0-9])")

# RFC 3986, section 3.2.2: reg-name (which covers IPv4addresses), written so that it never backtracks.
_REG_NAME_CHARS = r"[A-Za-z0-9\-._~!$&'()*+,;=]*"
_REG_NAME = rf"{_REG_NAME_CHARS}(?:%[0-9A-Fa-f][0-9A-Fa-f]{_REG_NAME_CHARS})*"

_DEC_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_H16 = "[0-9A-Fa-f]{1,4}"
_LS32 = rf"(?:{_H16}:{_H16}|{_DEC_OCTET}(?:\.{_DEC_OCTET}){{3}})"
# All forms but the last two end alike, and to compile that end only once takes a third of the time.
_BEFORE_LS32 = "|".join(
    (
        f"(?:{_H16}:){{6}}",
        f"::(?:{_H16}:){{5}}",
        f"(?:{_H16})?::(?:{_H16}:){{4}}",
        f"(?:(?:{_H16}:){{0,1}}{_H16})?::(?:{_H16}:){{3}}",
        f"(?:(?:{_H16}:){{0,2}}{_H16})?::(?:{_H16}:){{2}}",
        f"(?:(?:{_H16}:){{0,3}}{_H16})?::{_H16}:",
        f"(?:(?:{_H16}:){{0,4}}{_H16})?::",
    )
)
_IPV6 = "|".join(
    (
        f"(?:{_BEFORE_LS32}){_LS32}",
        f"(?:(?:{_H16}:){{0,5}}{_H16})?::{_H16}",
        f"(?:(?:{_H16}:){{0,6}}{_H16})?::",
    )
)
_IP_LITERAL = rf"\[(?:{_IPV6}|[vV][0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\]"

# RFC 9110, section 7.2: Host = uri-host [ ":" port ]; the host and the port may be empty.
# reg-name comes first for speed: nearly every Host is one.
HOST = pattern(rf"(?:{_REG_NAME}|{_IP_LITERAL})(?::[0-9]*)?")

# RFC 9110, section 4.2.1: an http URI with an empty host is invalid.
AUTHORITY = pattern(rf"(?!:)(?!\Z)(?:{_REG_NAME}|{_IP_LITERAL})(?::[0-9]*)?")

# RFC 9112, section 3.2.3: CONNECT names a host and a port.
AUTHORITY_FORM = pattern(rf"(?!:)(?:{_REG_NAME}|{_IP_LITERAL}):[0-9]+")

# RFC 9112, section 3.2.2: absolute-form, for the two schemes that an HTTP server may receive.
ABSOLUTE_FORM = pattern(r"(?:[hH][tT][tT][pP][sS]?)://([^/?]*)([^?]*)(?:\?(.*))?")

# RFC 9112, sections 7.1 and 7.1.1: chunk-size and extensions, without the line end.
_BWS = "[ \t]*"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
CHUNK_LINE = pattern(
    rf"([0-9A-Fa-f]+)(?:{_BWS};{_BWS}[{TCHAR}]+(?:{_BWS}={_BWS}(?:[{TCHAR}]+|{_QUOTED}))?)*".encode("latin-1")
)

# RFC 9112, section 4: status-code and reason-phrase, in one string as in PEP 3333.
STATUS = pattern("[2-9][0-9][0-9](?: [\t -~\x80-\xff]*)?")
