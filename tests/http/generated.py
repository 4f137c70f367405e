"""Request heads made at random, most of them nearly right."""

from hypothesis import strategies as st

PIECES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x1c", b"\x7f", b"\x85", b"\xa0", b"\xb2", b"\xff"]
PIECES += [
    b":",
    b": ",
    b";",
    b",",
    b'"',
    b"\\",
    b"/",
    b"*",
    b"?",
    b"#",
    b"%",
    b"%00",
    b"%0d%0a",
    b"_",
    b"@",
    b"[",
    b"0",
]

LINES = [
    b"GET / HTTP/1.1",
    b"GET /a%20b?c=d HTTP/1.1",
    b"POST /p HTTP/1.1",
    b"HEAD / HTTP/1.0",
    b"POST / HTTP/1.0",
    b"OPTIONS * HTTP/1.1",
    b"GET http://h:80/x HTTP/1.1",
    b"GET / HTTP/1.2",
    b"get / HTTP/1.1",
    b"CONNECT h:1 HTTP/1.1",
]
FIELDS = [
    b"Host: h",
    b"host: example.com:8000",
    b"Host: [::1]:80",
    b"Accept: */*",
    b"accept:a/b",
    b"Cookie: a=b",
    b"X-A: v",
    b"X-a:  w\t",
    b"X_A: v",
    b"X-High: \xe9\xff",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: 05",
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Type: text/plain",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: x, Close",
    b"Expect: 100-continue",
    b"Upgrade: x",
    b" folded",
    b"NoColon",
    b": empty",
]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head with its final empty line, which stands nowhere else in it."""
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=5))
    if draw(st.booleans()):
        fields.insert(0, b"Host: h")
    line = draw(st.sampled_from(LINES))
    raw = b"\r\n".join([line, *fields])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=1)))
        raw = raw[:at] + piece + raw[at + draw(st.integers(0, 2)) :]
    whole = raw + b"\r\n\r\n"
    return whole[: whole.index(b"\r\n\r\n") + 4]
