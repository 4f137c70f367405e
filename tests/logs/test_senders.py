"""Syslog and StatsD on real sockets: what is sent, and that a receiver that is absent costs only its lines."""

import logging
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import wait_until
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.logs.lossy_socket import RETRY_S, LossySocket, Target
from wsgicluster.logs.statsd import MOST_BYTES, MeasuredRequests, StatsdClient, StatsdOptions, packed
from wsgicluster.logs.syslog import SyslogHandler, SyslogOptions, severity_of, tag_of


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def closing() -> Iterator[Callable[[socket.socket], socket.socket]]:
    """Close sockets at the end."""
    opened: list[socket.socket] = []

    def add(made: socket.socket) -> socket.socket:
        made.settimeout(15)
        opened.append(made)
        return made

    yield add
    for each in opened:
        each.close()


Closing = Callable[[socket.socket], socket.socket]


@pytest.fixture
def receiver(closing: Closing) -> socket.socket:
    made = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind(("127.0.0.1", 0))
    return made


def target_of(receiver: socket.socket) -> Target:
    return "udp", *receiver.getsockname()


class TestSockets:
    """What a `LossySocket` does."""

    def test_udp(self, receiver: socket.socket) -> None:
        sender = LossySocket(target_of(receiver))
        sender.send(b"one")
        sender.send(b"two")
        assert [receiver.recv(100), receiver.recv(100)] == [b"one", b"two"]
        sender.close()

    @pytest.mark.parametrize("kind", ["unix", "unix-dgram"])
    def test_unix_datagrams(self, tmp_path: pathlib.Path, closing: Closing, kind: str) -> None:
        receiver = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        receiver.bind(str(tmp_path / "log"))
        sender = LossySocket((kind, str(tmp_path / "log"), 0))
        sender.send(b"one")
        assert receiver.recv(100) == b"one"
        sender.close()

    @pytest.mark.parametrize("kind", ["unix", "unix-stream", "tcp"])
    def test_streams(self, tmp_path: pathlib.Path, closing: Closing, kind: str) -> None:
        listener = closing(socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX))
        listener.bind(("127.0.0.1", 0) if kind == "tcp" else str(tmp_path / "log"))
        listener.listen()
        target = ("tcp", *listener.getsockname()) if kind == "tcp" else (kind, str(tmp_path / "log"), 0)
        sender = LossySocket(target)
        sender.send(b"one")
        accepted = closing(listener.accept()[0])
        sender.send(b"two")
        received = b""
        while received.count(b"\n") < 2:
            received += accepted.recv(100)
        assert received == b"one\ntwo\n"
        sender.close()

    def test_one_that_is_not_there_is_tried_again_later(self, tmp_path: pathlib.Path, closing: Closing) -> None:
        clock = Clock()
        sender = LossySocket(("unix-dgram", str(tmp_path / "log"), 0), clock)
        sender.send(b"lost")
        receiver = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        receiver.bind(str(tmp_path / "log"))
        sender.send(b"lost, too")
        clock.now += RETRY_S
        sender.send(b"sent")
        assert receiver.recv(100) == b"sent"
        sender.close()

    def test_one_that_goes_away(self, tmp_path: pathlib.Path, closing: Closing) -> None:
        clock = Clock()
        path = tmp_path / "log"
        first = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        first.bind(str(path))
        sender = LossySocket(("unix", str(path), 0), clock)
        sender.send(b"one")
        first.close()
        path.unlink()
        sender.send(b"lost")
        second = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        second.bind(str(path))
        clock.now += RETRY_S
        sender.send(b"two")
        assert second.recv(100) == b"two"
        sender.close()

    def test_a_stream_that_is_not_read_does_not_wait_nor_grow(self, tmp_path: pathlib.Path, closing: Closing) -> None:
        listener = closing(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "log"))
        listener.listen()
        sender = LossySocket(("unix-stream", str(tmp_path / "log"), 0))
        for number in range(5000):
            sender.send(b"%d " % number + b"x" * 1000)
        accepted = closing(listener.accept()[0])
        accepted.setblocking(False)
        received = bytearray()

        def read() -> bool:
            try:
                received.extend(accepted.recv(1 << 20))
            except BlockingIOError:
                sender.send(b"last")
            return received.endswith(b"\nlast\n")

        wait_until(read, 10)
        assert all(len(line.partition(b" ")[2]) in (0, 1000) for line in received.splitlines()), "no line is torn"
        sender.close()

    def test_a_host_without_an_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_args: object, **_more: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        sender = LossySocket(("udp", "no.such.host", 514))
        assert sender.lookup_error == "no.such.host: Name or service not known"
        sender.send(b"lost")

    def test_a_child_opens_its_own(self, receiver: socket.socket) -> None:
        sender = LossySocket(target_of(receiver))
        sender.send(b"parent")
        first = receiver.recvfrom(100)[1]
        pid = os.fork()
        if pid == 0:
            try:
                sender.send(b"child")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert receiver.recvfrom(100)[1] != first
        sender.close()


class TestSyslog:
    """Lines as they arrive."""

    def test_both_logs(self, tmp_path: pathlib.Path, receiver: socket.socket) -> None:
        syslog = SyslogOptions(target_of(receiver), 16, "shop:app")
        logs = Logs(LogOptions(str(tmp_path / "e"), access_log_format="%(m)s %(s)s", syslog=syslog))
        logs.error.warning("two\nlines")
        pid = os.getpid()
        assert receiver.recv(1000) == b"<132>gunicorn.shop.app.error: [%d] two#012lines" % pid
        assert "two\nlines" in (tmp_path / "e").read_text()
        assert logs.access is not None, "requests are sent although there is no access log"
        logs.access.record({"REQUEST_METHOD": "GET"}, "200 OK", [], 0, 0.0, 0.0)
        logs.access.flush()
        assert receiver.recv(1000) == b"<134>gunicorn.shop.app.access: [%d] GET 200" % pid
        logs.apply(LogOptions(str(tmp_path / "e"), syslog=SyslogOptions(target_of(receiver), 1, "shop", access=False)))
        assert logs.access is None
        logs.apply(LogOptions(str(tmp_path / "e")))
        assert len(logs.error.handlers) == 1

    def test_wrong_arguments(self, receiver: socket.socket) -> None:
        sender = LossySocket(target_of(receiver))
        handler = SyslogHandler(sender, 1, tag_of("a:b", "error"))
        record = logging.LogRecord("x", logging.INFO, "", 0, "%d", ("x",), None)
        handler.handle(record)
        assert receiver.recv(1000).endswith(b"] '%d'")
        sender.close()

    def test_severities(self) -> None:
        levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
        assert [severity_of(getattr(logging, level)) for level in levels] == [7, 6, 4, 3, 2]
        assert severity_of(logging.INFO + 5) == 6


class TestStatsd:
    """Metrics as they arrive."""

    def test_requests(self, receiver: socket.socket) -> None:
        options = StatsdOptions(target_of(receiver), "shop.", "env:live")
        sender = LossySocket(options.target)
        measured = MeasuredRequests(StatsdClient(options, sender), None)
        measured.record({}, "200 OK", [], 0, 0.0125, 0.0)
        measured.record_refused({}, "400 Bad Request", 0, 0.0)
        measured.flush()
        assert receiver.recv(10_000).decode().splitlines() == [
            "shop.gunicorn.request.duration:12.500|ms|#env:live",
            "shop.gunicorn.requests:1|c|@1.0|#env:live",
            "shop.gunicorn.request.status.200:1|c|@1.0|#env:live",
            "shop.gunicorn.request.duration:0.000|ms|#env:live",
            "shop.gunicorn.requests:1|c|@1.0|#env:live",
            "shop.gunicorn.request.status.400:1|c|@1.0|#env:live",
        ]
        sender.close()

    def test_records(self, tmp_path: pathlib.Path, receiver: socket.socket) -> None:
        logs = Logs(LogOptions(str(tmp_path / "e"), statsd=StatsdOptions(target_of(receiver))))
        logs.error.warning("w")
        logs.error.error("e")
        logs.error.critical("c")
        try:
            raise KeyError
        except KeyError:
            logs.error.exception("x")
        for kind in ("gauge", "counter", "histogram", "timer"):
            logs.error.info("", extra={"metric": "stock", "value": 3, "mtype": kind})
        logs.report("2 workers", "gunicorn.workers", 2, "gauge")
        assert [receiver.recv(1000).decode() for _ in range(9)] == [
            *(f"gunicorn.log.{level}:1|c|@1.0" for level in ("warning", "error", "critical", "exception")),
            "stock:3|g", "stock:3|c|@1.0", "stock:3|h", "stock:3|ms", "gunicorn.workers:2|g",
        ]  # fmt: skip
        assert logs.access is not None, "requests are counted although there is no access log"
        assert "[INFO]" not in (tmp_path / "e").read_text(), "a metric without a text is not logged"
        logs.apply(LogOptions(str(tmp_path / "e")))
        assert logs.access is None
        assert not logs.error.filters

    def test_datagrams_are_not_too_large(self) -> None:
        lines = [f"{number}:" + "x" * 100 for number in range(50)] + ["y" * 2000]
        found = packed(lines)
        assert b"\n".join(found).decode().splitlines() == lines
        assert [len(each) > MOST_BYTES for each in found] == [False] * (len(found) - 1) + [True]
        assert packed([]) == []
