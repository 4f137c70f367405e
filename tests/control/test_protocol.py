"""The control protocol: lines in, values out, and what is wrong with a line."""

import json

import pytest

from wsgicluster.control import protocol
from wsgicluster.control.protocol import ControlError, ErrorCode, Request


def test_a_request_survives_its_line() -> None:
    request = Request(7, "scale", {"workers": "+1"})
    line = protocol.encode_request(request)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert protocol.parse_request(line) == request


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "not a line of JSON"),
        (b"\xff\xfe", "not a line of JSON"),
        (b"[" * 60000, "not a line of JSON"),
        (b"[1]", "a request is a JSON object"),
        (b'{"id": true, "command": "status"}', "id: expected a number or a text"),
        (b'{"id": null, "command": "status"}', "id: expected a number or a text"),
        (b'{"id": 1}', "command: expected the name of a command"),
        (b'{"id": 1, "command": ["status"]}', "command: expected the name of a command"),
        (b'{"id": 1, "command": "status", "args": [1]}', "args: expected an object"),
    ],
)
def test_what_is_no_request_is_named(line: bytes, complaint: str) -> None:
    with pytest.raises(ControlError, match=complaint) as caught:
        protocol.parse_request(line)
    assert caught.value.code is ErrorCode.INVALID


def test_an_error_survives_its_line() -> None:
    line = protocol.encode_error(3, ControlError(ErrorCode.FAILED, "reload aborted", "Traceback\n  line"))
    reply = json.loads(line)
    assert (reply["id"], reply["ok"]) == (3, False)
    error = protocol.error_in(reply)
    assert (error.code, str(error), error.detail) == (ErrorCode.FAILED, "reload aborted", "Traceback\n  line")


@pytest.mark.parametrize("reply", [{}, {"error": "no"}, {"error": {"code": "of a newer server"}}])
def test_an_error_that_is_not_known_is_a_failure(reply: dict[str, object]) -> None:
    assert protocol.error_in(reply).code is ErrorCode.FAILED
