"""Both logs as JSON and logfmt."""

import json
import logging
import pathlib
import re
import sys

import pytest

from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.logs.structured import StructuredFormatter, StructuredRequests, line_of

ENVIRON: dict[str, object] = {
    "REMOTE_ADDR": "192.0.2.1",
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/a",
    "QUERY_STRING": "b=c",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_USER_AGENT": "curl/8 (x)",
    "wsgicluster.request_id": "r-1",
}
TIME = re.compile(r"2001-09-0\dT\d\d:\d\d:\d\d\.250[+-]\d\d:\d\d")
NOW = 1_000_000_000.25


def line(kind: str, **changes: object) -> str:
    return StructuredRequests(kind)({**ENVIRON, **changes}, "200 OK", [], 5, 0.25, NOW)


def test_a_request_as_json() -> None:
    found = json.loads(line("json"))
    assert TIME.fullmatch(found.pop("time"))
    assert isinstance(found.pop("pid"), int)
    assert found == {
        "level": "info",
        "logger": "wsgicluster.access",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/a",
        "query": "b=c",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 5,
        "duration_us": 250000,
        "user_agent": "curl/8 (x)",
        "request_id": "r-1",
    }


def test_a_request_as_logfmt() -> None:
    assert re.fullmatch(
        r'time="\S+" level="info" logger="wsgicluster.access" pid=\d+ client="192.0.2.1" method="GET" '
        r'path="/a" query="b=c" protocol="HTTP/1.1" status=200 bytes=5 duration_us=250000 '
        r'user_agent="curl/8 \(x\)" request_id="r-1"',
        line("logfmt"),
    )


@pytest.mark.parametrize("value", ['/"', "/\\", "/a\nb", "/\x00", '","status":500,"x":"', "/\x7f", "/{}%s"])
def test_clients_cannot_forge_anything(value: str) -> None:
    text = line("json", PATH_INFO=value)
    assert "\n" not in text
    found = json.loads(text)
    assert (found["path"], found["status"], len(found)) == (value, 200, 14)
    plain = line("logfmt", PATH_INFO=value)
    assert plain.isascii()
    assert plain.isprintable()
    assert re.findall(r"(?<!\S)status=(\d+)", re.sub(r'"(?:[^"\\]|\\.)*"', "", plain)) == ["200"]


def test_texts_are_decoded() -> None:
    assert json.loads(line("json", PATH_INFO="/ä".encode().decode("latin-1")))["path"] == "/ä"
    assert json.loads(line("json", PATH_INFO="/\xe4"))["path"] == "/\xe4"


def test_refused() -> None:
    found = json.loads(StructuredRequests("json").refused({"REMOTE_ADDR": "me"}, "400 Bad Request", (), 3, 0.0, NOW))
    assert (found["client"], found["method"], found["status"], found["bytes"]) == ("me", "", 400, 3)


def test_records() -> None:
    formatter = StructuredFormatter("json")
    try:
        raise KeyError("cause")
    except KeyError:
        record = logging.LogRecord("wsgicluster.error", logging.ERROR, "", 0, "%s\nfailed", ("it",), sys.exc_info())
    record.order = 7
    record.of = object
    found = json.loads(formatter.format(record))
    assert (found["level"], found["logger"], found["message"]) == ("error", "wsgicluster.error", "it\nfailed")
    assert found["exception"].endswith("KeyError: 'cause'")
    assert (found["order"], found["of"]) == (7, "<class 'object'>")


def test_logfmt_quotes_what_needs_it() -> None:
    fields = {"a": "plain", "b": "two words", "c": "", "d": 'q"', "e": 1.5, "f g": "x=y"}
    assert line_of("logfmt", fields) == r'a=plain b="two words" c="" d="q\"" e=1.5 f_g="x=y"'


def test_both_logs(tmp_path: pathlib.Path) -> None:
    logs = Logs(LogOptions(str(tmp_path / "e"), accesslog=str(tmp_path / "a"), structure="json"))
    logs.error.warning("wrong arguments %d", "x")
    assert logs.access is not None
    logs.access.record(ENVIRON, "200 OK", [], 5, 0.25, NOW)
    logs.access.flush()
    assert json.loads((tmp_path / "e").read_text())["message"] == "'wrong arguments %d'"
    assert json.loads((tmp_path / "a").read_text())["path"] == "/a"
    logs.apply(LogOptions(str(tmp_path / "e")))
