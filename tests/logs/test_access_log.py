"""Lines of the access log: every atom, and nothing that a client can forge."""

import base64
import os
import re
import time
from collections.abc import Sequence

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.logs.access_log import AccessLog, compile_format

NOW = 1_795_172_400.75

ENVIRON: dict[str, object] = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a%20b?x=1",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "x=1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
    "HTTP_REFERER": "http://a.example/",
    "HTTP_USER_AGENT": "test/1",
    "HTTP_X_FORWARDED_FOR": "198.51.100.1",
    "CONTENT_TYPE": "text/plain",
    "wsgi.url_scheme": "http",
    "wsgi.version": (1, 0),
}


def line(
    shape: str,
    environ: dict[str, object] = ENVIRON,
    *,
    status: str = "200 OK",
    headers: Sequence[tuple[str, str]] = (),
    sent_bytes: int = 12,
    duration_s: float = 1.25,
) -> str:
    return compile_format(shape)(environ, status, headers, sent_bytes, duration_s, NOW)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("%(h)s", "192.0.2.7"),
        ("%(l)s", "-"),
        ("%(u)s", "-"),
        ("%(r)s", "GET /a%20b?x=1 HTTP/1.1"),
        ("%(m)s", "GET"),
        ("%(U)s", "/a b"),
        ("%(q)s", "x=1"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(B)s", "12"),
        ("%(b)s", "12"),
        ("%(f)s", "http://a.example/"),
        ("%(a)s", "test/1"),
        ("%(T)s", "1"),
        ("%(D)s", "1250000"),
        ("%(M)s", "1250"),
        ("%(L)s", "1.250000"),
        ("%(p)s", "<PID>"),
        ("%({X-Forwarded-For}i)s", "198.51.100.1"),
        ("%({content-type}i)s", "text/plain"),
        ("%({x-other}i)s", "-"),
        ("%({X-Answer}o)s", "42"),
        ("%({x-other}o)s", "-"),
        ("%({remote_addr}e)s", "192.0.2.7"),
        ("%({wsgi.url_scheme}e)s", "http"),
        ("%({wsgi.version}e)s", "(1, 0)"),
        ("%({NONE}e)s", "-"),
        ("100%% %(m)-5s|%(D)010d|%(B)5d", "100% GET  |0001250000|   12"),
        ("no atom", "no atom"),
        ("", ""),
        ('é \\ " %(m)s', 'é \\ " GET'),
    ],
)
def test_atoms(shape: str, text: str) -> None:
    # The pid is not in the table: the names of tests are the same in every process.
    wanted = text.replace("PID", str(os.getpid()))
    assert line(shape, headers=[("Content-Type", "text/html"), ("x-answer", "42")]) == wanted


def test_common_log_format() -> None:
    shape = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    written = line(shape)
    date = re.search(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\]", written)
    assert date
    assert time.mktime(time.strptime(date[1][:20], "%d/%b/%Y:%H:%M:%S")) == int(NOW)
    assert written == (f'192.0.2.7 - - [{date[1]}] "GET /a%20b?x=1 HTTP/1.1" 200 12 "http://a.example/" "test/1"')


def test_the_time_moves_on() -> None:
    format_line = compile_format("%(t)s")
    texts = [format_line(ENVIRON, "200 OK", [], 0, 0.0, NOW + passed_s) for passed_s in (0, 0.1, 0.3, 60)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_missing_values() -> None:
    shape = "%(h)s %(m)s %(U)s [%(q)s] %(H)s %(f)s %(a)s %(s)s %(b)s %(B)s"
    assert line(shape, {}, status="", sent_bytes=0) == "- - - [] - - - - - 0"
    assert line("%(h)s", {"REMOTE_ADDR": ""}) == "-", "the peer of a Unix socket"


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("Basic " + base64.b64encode(b"ann:secret").decode(), "ann"),
        ("basic " + base64.b64encode(b"ann").decode(), "ann"),
        ("Basic " + base64.b64encode(b":secret").decode(), "-"),
        ("Basic " + base64.b64encode(b"a\nb:c").decode(), "a\\nb"),
        ("Basic !", "-"),
        ("Basic \xff", "-"),
        ("Bearer abc", "-"),
        ("", "-"),
    ],
)
def test_user(header: str, user: str) -> None:
    assert line("%(u)s", {"HTTP_AUTHORIZATION": header}) == user


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\nb", "a\\nb"),
        ("a\x1b[31m", "a\\x1b[31m"),
        ("\x7f", "\\x7f"),
        ("\xe9", "\\xe9"),
        ("\u2028", "\\u2028"),
        ('" 200 0 "', '\\" 200 0 \\"'),
        ("plain", "plain"),
    ],
)
def test_clients_cannot_forge(sent: str, written: str) -> None:
    assert line('"%(a)s" %(m)s', {"HTTP_USER_AGENT": sent, "REQUEST_METHOD": "GET"}) == f'"{written}" GET'
    assert line("%({a}i)s\t%({b}o)s", {"HTTP_A": sent}, headers=[("B", sent)]) == f"{written}\t{written}"


def test_unknown_atoms() -> None:
    assert line('%(z)s "%(host)s" %(m)s', {"REQUEST_METHOD": "GET"}) == '- "-" GET'


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("%(h)s %", "'%' in"),
        ("%(h", "'%(h' in"),
        ("%s", "'%s' in"),
        ("%({}i)s", "'%({}i)s' in"),
        ("%({x}z)s", "'%({x}z)s' in"),
        ("%({a b}i)s", "'a b'; expected the name of a header field"),
        ("%(h)d", "access_log_format"),
        ("%(z)d", "access_log_format"),
    ],
)
def test_wrong_formats(shape: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_format(shape)
    assert says in str(caught.value)
    assert str(caught.value).startswith("access_log_format: ")


def test_lines_are_written_together() -> None:
    written: list[list[str]] = []
    log = AccessLog(compile_format("%(U)s"), written.append)
    log.flush()
    assert written == []
    for path in ("/1", "/2"):
        log.record({"PATH_INFO": path}, "200 OK", [], 0, 0.0, NOW)
    log.flush()
    log.flush()
    log.record({"PATH_INFO": "/3"}, "200 OK", [], 0, 0.0, NOW)
    log.flush()
    assert written == [["/1", "/2"], ["/3"]]


def test_a_refused_request_of_which_little_is_known() -> None:
    lines: list[str] = []
    log = AccessLog(
        compile_format('%(h)s %(u)s "%(r)s" %(m)s %(U)s %(H)s %(s)s %(b)s %({x-y}i)s %({x}o)s'), lines.extend
    )
    log.record_refused({"REMOTE_ADDR": "192.0.2.1", "REQUEST_LINE": '\x16\x03\n"\\'}, "400 Bad Request", 7, 0.0)
    log.record_refused({"REMOTE_ADDR": "", "REQUEST_LINE": ""}, "408 Request Timeout", 0, 1.5)
    log.flush()
    assert lines == [
        '192.0.2.1 - "\\x16\\x03\\n\\"\\\\" - - - 400 7 - -',
        '- - "-" - - - 408 - - -',
    ]


def test_a_refused_request_of_which_all_is_known() -> None:
    lines: list[str] = []
    log = AccessLog(compile_format("%(r)s|%(m)s|%(U)s?%(q)s|%(H)s|%(a)s|%(s)s|%(M)s"), lines.extend)
    environ: dict[str, object] = {
        "REQUEST_LINE": "POST /a?b HTTP/1.1", "REQUEST_METHOD": "POST", "PATH_INFO": "/a", "QUERY_STRING": "b",
        "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_USER_AGENT": "curl",
    }  # fmt: skip
    log.record_refused(environ, "413 Content Too Large", 7, 0.25)
    log.flush()
    assert lines == ["POST /a?b HTTP/1.1|POST|/a?b|HTTP/1.1|curl|413|250"]
