"""Exceptions that come late: from an application's signal handlers, timers and other threads, between its requests."""

import contextlib
import os
import re
import signal

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import BrokenResponse, Connection, fetch

pytestmark = pytest.mark.live

SOURCE = """
import ctypes, os, signal, threading, time

class Late(BaseException):
    pass

raised = []

def handler(number, frame):
    raised.append(number)
    raise Late(number)

def begin():
    signal.signal(signal.SIGALRM, handler)
    signal.signal(signal.SIGUSR2, handler)
    signal.signal(signal.SIGVTALRM, lambda number, frame: handler(number, frame))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGWINCH, lambda number, frame: exit(3))
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.signal(signal.SIGALRM, handler) is handler

begin()

def blocks():
    yield b"first"
    time.sleep(5)
    yield b"second"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"%d" % os.getpid()
    if path == "/raised":
        body = b"%d" % len(raised)
    elif path == "/alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    elif path == "/now":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        time.sleep(5)
    elif path == "/stream":
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        start_response("200 OK", [("Content-Length", "11")])
        return blocks()
    elif path == "/asynchronous":
        thread = threading.get_ident()
        def interrupt():
            while not os.path.exists("answered"):
                time.sleep(0.05)
            time.sleep(0.1)
            os.unlink("answered")
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Late))
            open("interrupted", "w").close()
        threading.Thread(target=interrupt).start()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

KINDS = {
    "sync": ("-k", "sync"),
    "plain": ("-k", "sync"),
    "named": ("-k", "sync", "--request-id-header", "X-Request-Id"),
    "preload": ("-k", "sync", "--preload"),
    "gthread": ("-k", "gthread", "--threads", "2"),
    "gevent": ("-k", "gevent"),
}
ONE_THREAD = ("-k", "gthread", "--threads", "1")
SENT = (signal.SIGALRM, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGINT, signal.SIGWINCH)
IGNORED = "raised while none of its code ran"


def start(server: StartServer, kind: str) -> LiveServer:
    """One worker of this kind."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    environ = {"WSGICLUSTER_PURE": "1"} if kind == "plain" else {}
    return server("app", "-w", "1", *KINDS[kind], source=SOURCE, environ=environ)


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_raises_between_requests_ends_nothing(server: StartServer, kind: str) -> None:
    live = start(server, kind)
    with Connection(live.port) as kept, Connection(live.port) as early, Connection(live.port) as body:
        worker = int(kept.exchange().body)
        # What the process that forks workers has of the others, those do not get.
        for number in SENT if kind != "preload" else (signal.SIGALRM, signal.SIGVTALRM):
            os.kill(worker, number)
            live.wait_log(f"{number.name} {IGNORED}")
            # While a head and a body are being received, too.
            early.send(b"GET / HTTP/1.1\r\n")
            body.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345")
            os.kill(worker, number)
            live.wait_log(f"{number.name} {IGNORED}", count=2)
            early.send(b"Host: h\r\n\r\n")
            body.send(b"67890")
            assert [each.response().body for each in (early, body)] == [b"%d" % worker] * 2
            assert kept.exchange().body == b"%d" % worker
    assert live.stop(timeout_s=8) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_alarm_ends_its_request_and_comes_late_for_nobody(server: StartServer, kind: str) -> None:
    live = start(server, kind)
    with Connection(live.port) as kept:
        worker = kept.exchange().body
        if kind not in ("gthread", "gevent"):  # their handlers run elsewhere than the request
            assert fetch(live.port, "/now").status == 500
            with Connection(live.port) as cut, contextlib.suppress(BrokenResponse, ConnectionResetError):
                assert cut.exchange("/stream").body == b"nothing whole"
            for _ in range(2):
                fetch(live.port, "/alarm")
                wait_until(lambda: fetch(live.port, "/raised").body, 2)
            live.wait_log(f"SIGALRM {IGNORED}")
        assert kept.exchange().body == worker
        live.wait_log("workers? serves?")
        assert len(re.findall("Worker .* is ready", live.log())) == 1


@pytest.mark.parametrize("kind", ["sync", "plain", "gthread", "gevent"])
def test_signals_under_load_lose_no_request_but_those_they_hit(server: StartServer, kind: str) -> None:
    live = start(server, kind)
    worker = int(fetch(live.port).body)
    statuses = set()
    with Connection(live.port) as connection:
        for turn in range(300):
            connection.ask()
            os.kill(worker, (signal.SIGUSR2, signal.SIGALRM)[turn % 2])
            response = connection.response()
            statuses.add(response.status)
            if response.closes:
                connection.close()
                connection.__init__(live.port)  # type: ignore[misc]
    assert 200 in statuses
    assert statuses <= {200, 500}
    assert fetch(live.port).body == b"%d" % worker
    assert live.stop(timeout_s=8) == 0


def test_an_exception_from_another_thread_that_comes_late(server: StartServer) -> None:
    # With a second thread the interrupted one may not run again, and would not meet the exception.
    live = server("app", "-w", "1", *ONE_THREAD, source=SOURCE)
    worker = fetch(live.port).body
    for turn in range(4):
        assert fetch(live.port, "/asynchronous").body == worker
        (live.folder / "answered").touch()
        interrupted = live.folder / "interrupted"
        wait_until(interrupted.exists, 5)
        interrupted.unlink()
        assert [fetch(live.port).body for _ in range(4)] == [worker] * 4
        live.wait_log("outside of its request", count=turn + 1)
    assert live.stop(timeout_s=8) == 0


BEGINS_TIMEOUT = """
import gevent
from wsgicluster.worker import GeventWorker

class Own(GeventWorker):
    def begin(self):
        super().begin()
        gevent.Timeout(1).start()

def application(environ, start_response):
    gevent.sleep(1.2)
    start_response("200 OK", [])
    return [b"answered"]
"""


def test_a_timeout_of_the_main_greenlet_ends_nothing(server: StartServer) -> None:
    pytest.importorskip("gevent")
    live = server("app", "-w", "1", "-k", "app:Own", source=BEGINS_TIMEOUT)
    assert fetch(live.port).body == b"answered"
    live.wait_log("Timeout: 1 second")
    assert fetch(live.port).body == b"answered"
    assert live.stop(timeout_s=8) == 0
    assert "crashed" not in live.log()
