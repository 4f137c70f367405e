"""Request lines: methods, the forms of a target, versions, and where the application is mounted."""

from collections.abc import Iterator

from tests.corpus.head_case import KEPT, Head, environ, get, without_host
from wsgicluster.http.head import IS_HEAD


def _targets() -> Iterator[Head]:
    for name, uri, path, query in (
        ("root", "/", "/", ""),
        ("query", "/a?b=c", "/a", "b=c"),
        ("query-empty", "/a?", "/a", ""),
        ("query-two-marks", "/a?b?c", "/a", "b?c"),
        ("query-raw", "/?a=%20&b=%C3%A9+c", "/", "a=%20&b=%C3%A9+c"),
        ("percent", "/a%20b%2Fc", "/a b/c", ""),
        ("percent-lower", "/%c3%a9%2e%7a", "/\xc3\xa9.z", ""),
        ("percent-high", "/%FF%80", "/\xff\x80", ""),
        ("percent-percent", "/a%25b", "/a%b", ""),
        ("percent-hash", "/a%23b", "/a#b", ""),
        ("percent-nul", "/a%00b", "/a\0b", ""),
        ("percent-short", "/a%4", "/a%4", ""),
        ("percent-alone", "/a%", "/a%", ""),
        ("percent-word", "/a%zz%41", "/a%zzA", ""),
        ("sub-delims", "/!$&'()*,:=@~-._+;", "/!$&'()*,:=@~-._+;", ""),
        ("backslash", '/a\\b|<>"^`{}', '/a\\b|<>"^`{}', ""),
        ("slashes", "//evil/x//", "//evil/x//", ""),
        ("dots", "/a/../b", "/a/../b", ""),
        ("colon", "/http://x", "/http://x", ""),
    ):
        yield Head(f"target-{name}", get(line=f"GET {uri} HTTP/1.1".encode()), added=environ(uri, path, query))
    for name, uri, path, query, host in (
        ("plain", "http://real.example/a?b", "/a", "b", "real.example"),
        ("port", "http://h:8080/a", "/a", "", "h:8080"),
        ("port-empty", "http://h:/a", "/a", "", "h:"),
        ("https", "https://h2/a", "/a", "", "h2"),
        ("case", "HtTp://H/a", "/a", "", "H"),
        ("no-path", "http://h", "/", "", "h"),
        ("no-path-query", "http://h?a=b", "/", "a=b", "h"),
        ("ipv6", "http://[::1]:80/a", "/a", "", "[::1]:80"),
        ("percent", "http://h/%41", "/A", "", "h"),
        ("in-query", "http://h/a?u=http://x/", "/a", "u=http://x/", "h"),
    ):
        raw = get(line=f"GET {uri} HTTP/1.1".encode(), host=b"Host: other")
        yield Head(f"absolute-{name}", raw, added=environ(uri, path, query, HTTP_HOST=host))
    added = environ("http://h/p", "/p", SERVER_PROTOCOL="HTTP/1.0")
    yield Head("absolute-10", get(line=b"GET http://h/p HTTP/1.0", host=None), added=added, flags=0)
    yield Head("asterisk", get(line=b"OPTIONS * HTTP/1.1"), added=environ("*", "*", method="OPTIONS"))
    for name, line in (
        ("relative", b"GET p HTTP/1.1"),
        ("empty", b"GET  HTTP/1.1"),
        ("no-scheme", b"GET ://h/p HTTP/1.1"),
        ("other-scheme", b"GET ftp://h/p HTTP/1.1"),
        ("one-slash", b"GET http:/h/p HTTP/1.1"),
        ("asterisk-get", b"GET * HTTP/1.1"),
        ("asterisk-tail", b"OPTIONS *x HTTP/1.1"),
        ("authority-get", b"GET h:80 HTTP/1.1"),
        ("fragment", b"GET /p#x HTTP/1.1"),
        ("fragment-query", b"GET /p?a#x HTTP/1.1"),
        ("fragment-absolute", b"GET http://h/p#x HTTP/1.1"),
        ("control", b"GET /a\x01b HTTP/1.1"),
        ("tab", b"GET /a\tb HTTP/1.1"),
        ("vt", b"GET /a\x0bb HTTP/1.1"),
        ("nul", b"GET /a\x00b HTTP/1.1"),
        ("del", b"GET /a\x7fb HTTP/1.1"),
        ("high", b"GET /caf\xe9 HTTP/1.1"),
        ("utf8", b"GET /caf\xc3\xa9 HTTP/1.1"),
        ("no-host", b"GET http:///p HTTP/1.1"),
        ("no-host-port", b"GET http://:80/p HTTP/1.1"),
        ("bad-port", b"GET http://h:abc/p HTTP/1.1"),
        ("two-ports", b"GET http://h:80:80/p HTTP/1.1"),
        ("userinfo", b"GET http://me@h/p HTTP/1.1"),
        ("userinfo-empty", b"GET http://@h/p HTTP/1.1"),
        ("bracket", b"GET http://[::1/p HTTP/1.1"),
        ("bracket-tail", b"GET http://[::1]x/p HTTP/1.1"),
        ("backslash-host", b"GET http://h\\@evil/p HTTP/1.1"),
        ("connect-path", b"CONNECT /p HTTP/1.1"),
        ("connect-no-port", b"CONNECT h HTTP/1.1"),
        ("connect-empty-port", b"CONNECT h: HTTP/1.1"),
        ("connect-no-host", b"CONNECT :443 HTTP/1.1"),
        ("connect-absolute", b"CONNECT http://h:443/ HTTP/1.1"),
    ):
        yield Head(f"target-bad-{name}", get(line=line), refused=400)
    yield Head("connect", get(line=b"CONNECT h:443 HTTP/1.1"), refused=501)
    yield Head("connect-ipv6", get(line=b"CONNECT [::1]:443 HTTP/1.1"), refused=501)


def _lines() -> Iterator[Head]:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "get", "X", "!#$%&'*+-.^_`|~09Az"):
        yield Head(f"method-{method}", get(line=f"{method} /p HTTP/1.1".encode()), added=environ(method=method))
    yield Head("method-HEAD", get(line=b"HEAD /p HTTP/1.1"), added=environ(method="HEAD"), flags=KEPT | IS_HEAD)
    old = {"SERVER_PROTOCOL": "HTTP/1.0"}
    yield Head("version-10", get(line=b"GET /p HTTP/1.0"), added=environ(**old), flags=0)
    yield Head("version-10-no-host", get(line=b"GET /p HTTP/1.0", host=None), added=without_host(**old), flags=0)
    yield Head("version-12", get(line=b"GET /p HTTP/1.2"), added=environ())
    yield Head("version-19", get(line=b"GET /p HTTP/1.9"), added=environ())
    for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3.1", b"HTTP/9.9"):
        yield Head(f"version-{version[5:].decode()}", get(line=b"GET /p " + version), refused=505)
    yield Head("http2-preface", b"PRI * HTTP/2.0\r\n\r\n", refused=505)
    for number, line in enumerate(
        (
            b"GET,POST /p HTTP/1.1",
            b"GE@T /p HTTP/1.1",
            b"GE(T /p HTTP/1.1",
            b"GET\x00 /p HTTP/1.1",
            b"GE\x7fT /p HTTP/1.1",
            b"G\xc3\x89T /p HTTP/1.1",
            b"\x16\x03\x01\x02 /p HTTP/1.1",
            b" GET /p HTTP/1.1",
            b"GET",
            b"GET /p",
            b"GET /p ",
            b"GET /p x HTTP/1.1",
            b"GET /p HTTP/1.1 x",
            b"GET /p HTTP/1.1 ",
            b"GET  /p HTTP/1.1",
            b"GET /p  HTTP/1.1",
            b"GET\t/p HTTP/1.1",
            b"GET /p\tHTTP/1.1",
            b"GET\xa0/p HTTP/1.1",
            b" /p HTTP/1.1",
            b"GET /p http/1.1",
            b"GET /p HTTP/1",
            b"GET /p HTTP/1.",
            b"GET /p HTTP/.1",
            b"GET /p HTTP/1.1.1",
            b"GET /p HTTP/1.32",
            b"GET /p HTTP/11.1",
            b"GET /p HTTP/01.1",
            b"GET /p HTTP/1.1x",
            b"GET /p HTTP/+1.1",
            b"GET /p HTTP/1.-1",
            b"GET /p HTTP/1,1",
            b"GET /p HTTP/ 1.1",
            b"GET /p HTTP/1.\xb2",
            b"GET /p HTCPCP/1.1",
            b"GET /p HTTP/1.1\r",
            b"GET /p HTTP/1.1\rX-A: b",
            b"GET /p\r HTTP/1.1",
            b"GET /p\nX: HTTP/1.1",
            b"GET /p HTTP/1.1\nX-A: b",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80",
            b"",
        )
    ):
        yield Head(f"line-bad-{number}", get(line=line), refused=400)


def _script_names() -> Iterator[Head]:
    for uri, path, script_name in (
        ("/app", "", "/app"),
        ("/app/", "/", "/app"),
        ("/app/x", "/x", "/app"),
        ("/%61pp/x", "/x", "/app"),
        ("/app?a=/app", "", "/app"),
        ("/app/app", "/app", "/app"),
    ):
        raw = get(line=f"GET {uri} HTTP/1.1".encode())
        query = uri.partition("?")[2]
        yield Head(f"script-{uri}", raw, added=environ(uri, path, query, SCRIPT_NAME=script_name), script_name="/app")
    for uri in ("/apple", "/other", "/", "/ap", "/APP", "http://h/other", "/x/app"):
        yield Head(f"script-not-{uri}", get(line=f"GET {uri} HTTP/1.1".encode()), refused=500, script_name="/app")
    added = environ("*", "*", method="OPTIONS", SCRIPT_NAME="/app")
    yield Head("script-asterisk", get(line=b"OPTIONS * HTTP/1.1"), added=added, script_name="/app")
    added = environ("http://h/app/x?y", "/x", "y", SCRIPT_NAME="/app")
    yield Head("script-absolute", get(line=b"GET http://h/app/x?y HTTP/1.1"), added=added, script_name="/app")


REQUEST_LINES = [*_targets(), *_lines(), *_script_names()]
