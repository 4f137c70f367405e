"""Reads the period in which a certificate is valid.

Python's ``ssl`` only reports that of a peer's certificates, so the fields are parsed here: a certificate is nested
values, each of them a tag, a length and a content (X.690; the fields in RFC 5280, section 4.1).
"""

import calendar
import re
import ssl
import time

from wsgicluster.pattern import pattern

_CERTIFICATE = pattern(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_BEFORE_VALIDITY = 3
"""Serial number, algorithm and issuer."""
_UTC_TIME = 0x17


def validity(pem: str) -> tuple[float, float]:
    """Begin and end of the first certificate in a text, in seconds since the epoch. Raises ValueError."""
    found = _CERTIFICATE.search(pem)
    if found is None:
        raise ValueError("no certificate")
    whole, _ = _value(ssl.PEM_cert_to_DER_cert(found[0]))
    fields, _ = _value(whole)
    if fields[:1] == bytes([_VERSION]):
        fields = _value(fields)[1]
    for _ in range(_BEFORE_VALIDITY):
        fields = _value(fields)[1]
    times, _ = _value(fields)
    begin, rest = _value(times)
    end, _ = _value(rest)
    return _seconds(times[0], begin), _seconds(rest[0], end)


def _value(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first value, and what follows it."""
    if len(data) < 2:
        raise ValueError("cut off")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut off")
    return data[start : start + length], data[start + length :]


def _seconds(tag: int, text: bytes) -> float:
    # UTCTime has two digits for the year, of which 50 and above belong to the last century (RFC 5280, 4.1.2.5.1).
    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return float(calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ")))
