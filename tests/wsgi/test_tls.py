"""Names in certificates as text."""

import pytest

from wsgicluster.wsgi.tls import Name, distinguished_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("organizationName", "A, B"),), (("commonName", "x"),)), "CN=x,O=A\\, B,C=DE"),
        (((("commonName", "a"), ("userId", "b")),), "CN=a+UID=b"),
        (((("commonName", "#1 "),),), "CN=\\#1\\ "),
        (((("commonName", ' "<\\>;+'),),), 'CN=\\ \\"\\<\\\\\\>\\;\\+'),
        (((("pseudonym", "p\0"),),), "pseudonym=p\\00"),
    ],
)
def test_distinguished_name(name: Name, text: str) -> None:
    """RFC 4514, section 2: the last part first, and what has a meaning is escaped."""
    assert distinguished_name(name) == text
