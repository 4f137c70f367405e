"""Requests that are refused: what either log says of them, and how often."""

import math

import pytest

from tests.worker.own_worker import OwnWorker
from wsgicluster.errors import Overloaded, ProtocolError
from wsgicluster.worker.hosting import refusals
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.sync import worker as sync

KINDS = pytest.mark.parametrize("kind", [sync.PARTS, gthread.PARTS], ids=["sync", "gthread"])
NONSENSE = b"nonsense\r\n\r\n"


def refused(own: OwnWorker, sent: bytes) -> bytes:
    """The answer to something that is refused, by a connection of its own."""
    client = own.connect()
    own.ask(client, sent)
    answer = own.answer(client, b"\n")
    client.close()
    own.turn_until(lambda: not own.context.connections)
    return answer


@KINDS
def test_both_logs_name_it(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        assert b" 400 " in refused(own, NONSENSE)
        assert "refused with 400: " in own.said
        assert 'in "nonsense"' in own.said
        own.turn_until(lambda: own.logs.access_lines)
        assert own.logs.access_lines[0].endswith(" 400")


@KINDS
def test_a_body_that_is_broken_is_named_by_its_request_line(kind: KindParts) -> None:
    head = b"POST /form?x=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with OwnWorker(kind) as own:
        client = own.connect()
        own.ask(client, head)
        own.turn_until(lambda: any(not each.reader.idle for each in own.context.connections))
        own.ask(client, b"not a size\r\n")
        assert b" 400 " in own.answer(client, b"\n")
        assert 'in "POST /form?x=1 HTTP/1.1"' in own.said
        own.turn_until(lambda: own.logs.access_lines)
        assert own.logs.access_lines == ['"POST /form?x=1 HTTP/1.1" 400']


@KINDS
def test_another_protocol_is_named_and_its_bytes_are_not_shown(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        refused(own, bytes((22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3)) + bytes(100))
        assert "TLS" in own.said
        assert "\\x" not in own.said


@KINDS
def test_a_long_line_is_cut(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        refused(own, b"GET /" + b"a" * 1000 + b" HTTP/3.7\r\n\r\n")
        (line,) = (line for line in own.said.splitlines() if "refused with" in line)
        assert 'aaa..."' in line
        assert len(line) < 400


@KINDS
def test_those_of_a_kind_are_summed_up_once_there_are_many(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        for _ in range(refusals.MOST + 3):
            refused(own, NONSENSE)
        own.turn_until(lambda: len(own.logs.access_lines) == refusals.MOST + 3)
        own.parts.refusals.sum_up(math.inf)
        lines = own.said.splitlines()
        assert len([line for line in lines if line.startswith("WARNING") and "refused with 400: " in line]) == 5
        assert lines[-1] == "WARNING worker 1: 3 more requests were refused with 400 within 10 s"


def test_without_an_access_log_the_error_log_alone_has_it() -> None:
    with OwnWorker(sync.PARTS) as own:
        subject = refusals.Refusals(7, own.logs.error, None, own.loop)
        own.connect()
        own.turn_until(lambda: own.context.connections)
        (connection,) = own.context.connections
        subject.add(connection, ProtocolError(500, "our fault"), 0)
        subject.add(connection, ProtocolError(501, "not ours"), 0)
        subject.add(connection, Overloaded("too many", 1), 0)
        subject.tell_closed(connection.client, "without a header", "no PROXY header")
        said = own.said
    assert [line.split()[0] for line in said.splitlines()] == ["ERROR", "WARNING", "WARNING", "WARNING"]
    assert said.endswith("no PROXY header: closed")
