"""A client that takes its response slowly: little is stored for it, the application waits, and no byte is lost.

Every way in which an application can give a response meets every kind of worker, and every end of its wait.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates, make_certificates
from tests.conftest import LiveServer, StartServer, descriptors_of, wait_until
from tests.live.client import Connection, fetch
from tests.live.tls_client import TlsClient
from wsgicluster.http import core

pytestmark = pytest.mark.live

SOURCE = """
import io, os, random, time

SIZE = 12_000_000
DATA = random.Random(7).randbytes(SIZE)

def blocks(size, given):
    try:
        for start in range(0, SIZE, size):
            yield DATA[start : start + size]
            os.pwrite(given, b"%20d" % min(SIZE, start + size), 0)
    finally:
        os.pwrite(given, b"ended", 30)
        os.close(given)

def endless(given):
    while True:
        yield from blocks(65536, os.dup(given))

def application(environ, start_response):
    shape = environ["PATH_INFO"].lstrip("/")
    if not shape:
        start_response("200 OK", [("Content-Length", "4")])
        return [b"here"]
    counted = [("Content-Length", str(SIZE))]
    if shape == "whole":
        start_response("200 OK", counted)
        return [DATA]
    given = os.open("given", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    if shape == "written":
        write = start_response("200 OK", counted)
        for block in blocks(65536, given):
            write(block)
        return []
    if shape == "file":
        start_response("200 OK", counted)
        class File:
            def __init__(self):
                self.blocks = blocks(8192, given)
            def read(self, size):
                return next(self.blocks, b"")
            def close(self):
                self.blocks.close()
        return environ["wsgi.file_wrapper"](File(), 8192)
    start_response("200 OK", counted if shape == "counted" else [])
    if shape == "endless":
        return endless(given)
    return blocks({"large": 700_000, "huge": 3_000_000}.get(shape, 65536), given)
"""

SIZE = 12_000_000
SOCKETS = 5 << 20
"""What the kernel stores for a client whose own buffer is small."""

BUFFER, SPOOL = 200_000, 2 << 20
TIMEOUT_S, WRITE_TIMEOUT_S = 2, 3

SETTINGS = f"""
response_buffer = {BUFFER}
response_spool = {SPOOL}
tmp_upload_dir = "temp"
keepalive_slow = 0
"""

STREAMS = ("counted", "chunked", "large", "huge", "written", "file")
"""Shapes of responses that are made while they are sent; the blocks of a huge one are larger than what is stored."""

KINDS = ("sync", "sync plain", "gthread", "gevent", "sync over TLS", "gthread over TLS", "gevent over TLS")
LARGEST_BLOCK = 3_000_000
STEADY_LOOKS = 8


@dataclasses.dataclass
class Subject:
    """One worker, and clients for it."""

    live: LiveServer
    certificates: Certificates | None

    def connect(self) -> Connection:
        """A client that lets the kernel store little for it."""
        if self.certificates is None:
            client = Connection(self.live.port)
        else:
            client = TlsClient(self.live.port, self.certificates.client())
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        return client

    def given(self) -> int:
        """How much the application has given of its response."""
        path = self.live.folder / "given"
        text = path.read_bytes()[:20] if path.exists() else b""
        return int(text or 0)

    def wait_until_held_up(self) -> int:
        """Wait until the application gives no more; how much it has given."""
        seen: list[int] = []

        def is_steady() -> bool:
            seen.append(self.given())
            return seen[-1] > 0 and len(seen) >= STEADY_LOOKS and len(set(seen[-STEADY_LOOKS:])) == 1

        wait_until(is_steady, 10, "the application waits")
        return seen[-1]

    def has_ended(self) -> bool:
        """Whether the response's iterable has been closed."""
        return (self.live.folder / "given").read_bytes()[30:] == b"ended"

    def stored_bytes(self) -> int:
        """What is in temp files of the worker."""
        (worker,) = self.live.children()
        folder = str(self.live.folder / "temp")
        found = [number for number, name in descriptors_of(worker).items() if name.startswith(folder)]
        return sum(os.stat(f"/proc/{worker}/fd/{number}").st_size for number in found)


def start(folder: pathlib.Path, kind: str, certificates: Certificates | None, *arguments: str) -> Subject:
    name, _, core_name = kind.partition(" over ")[0].partition(" ")
    (folder / "app.py").write_text(SOURCE, "utf-8")
    (folder / "wsgicluster.conf.py").write_text(SETTINGS, "utf-8")
    (folder / "temp").mkdir()
    flags = [*(certificates.flags() if certificates else []), *(["--threads", "2"] if name == "gthread" else [])]
    environ = {"WSGICLUSTER_PURE": "1"} if core_name else {}
    live = LiveServer(folder, ["app", "-b", "127.0.0.1:0", "-w", "1", "-k", name, *flags, *arguments], environ)
    live.start().wait_listening().wait_log("is ready")
    return Subject(live, certificates)


@pytest.fixture(scope="module", params=KINDS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """One worker of each kind for all the tests."""
    if request.param == "sync plain" and not core.compiled:
        pytest.skip("it is that kind already")
    tls = make_certificates(tmp_path_factory.mktemp("certificates")) if "TLS" in request.param else None
    found = start(tmp_path_factory.mktemp("pressure"), request.param, tls)
    try:
        yield found
    finally:
        found.live.end()
        print(found.live.log())


@pytest.fixture(scope="module")
def data() -> bytes:
    """What the application gives."""
    names: dict[str, bytes] = {}
    exec(SOURCE, names)
    return names["DATA"]


@pytest.mark.parametrize("shape", STREAMS)
def test_the_application_waits_and_every_byte_comes(subject: Subject, shape: str, data: bytes) -> None:
    with subject.connect() as client:
        client.ask(f"/{shape}")
        assert subject.wait_until_held_up() < SOCKETS + BUFFER + SPOOL + LARGEST_BLOCK
        assert subject.stored_bytes() <= SPOOL
        response = client.response()
        assert response.body == data
        if not response.closes:
            assert client.exchange("/").body == b"here"
    wait_until(lambda: subject.stored_bytes() == 0, 5, "no temp files")


def test_what_the_application_gives_at_once_waits_in_memory_and_nobody_waits(subject: Subject, data: bytes) -> None:
    with subject.connect() as client:
        client.ask("/whole")
        with subject.connect() as other:
            assert other.exchange("/").body == b"here"
        assert subject.stored_bytes() == 0  # it is more than may be stored
        response = client.response()
        assert response.body == data
        if not response.closes:
            assert client.exchange("/").body == b"here"


def test_what_others_have_still_to_take_is_sent_while_the_application_waits(subject: Subject, data: bytes) -> None:
    before = subject.live.children()
    with subject.connect() as other, subject.connect() as slow:
        other.ask("/whole")
        head = other.sock.recv(1)
        slow.ask("/endless")
        subject.wait_until_held_up()
        taken = len(head)
        while taken < SIZE:
            piece = other.sock.recv(1 << 20)
            assert piece
            taken += len(piece)
            slow.sock.recv(1000)  # its own time does not end meanwhile
        assert not subject.has_ended()
    wait_until(subject.has_ended, 5, "the application is told")
    assert subject.live.children() == before


def test_a_client_that_leaves_ends_the_wait(subject: Subject) -> None:
    before = subject.live.children()
    for _ in range(2):
        with subject.connect() as client:
            client.ask("/endless")
            subject.wait_until_held_up()
            assert not subject.has_ended()
        wait_until(subject.has_ended, 5, "the application is told")
        with subject.connect() as other:
            assert other.exchange("/").body == b"here"
    assert subject.live.children() == before


def test_write_timeout_ends_the_wait_and_timeout_does_not(tmp_path: pathlib.Path) -> None:
    kinds = [kind for kind in KINDS if "TLS" not in kind and (core.compiled or "plain" not in kind)]
    folders = [tmp_path / str(number) for number in range(len(kinds))]
    subjects: list[Subject] = []
    try:
        for folder, kind in zip(folders, kinds, strict=True):
            folder.mkdir()
            limits = ("--timeout", str(TIMEOUT_S), "--write-timeout", str(WRITE_TIMEOUT_S))
            subjects.append(start(folder, kind, None, *limits))
        before = [subject.live.children() for subject in subjects]
        slow = [subject.connect() for subject in subjects]
        for subject, client in zip(subjects, slow, strict=True):
            client.ask("/counted")
            subject.wait_until_held_up()
        began = last = time.monotonic()
        while last < began + 1.1 * WRITE_TIMEOUT_S:
            wait_until(lambda last=last: time.monotonic() > last + 0.1, 5)  # type: ignore[misc]
            last = time.monotonic()
            for client in slow:
                assert client.sock.recv(20_000)  # far less than makes the kernel tell of room
        assert not any(subject.has_ended() for subject in subjects)
        for subject, client in zip(subjects, slow, strict=True):
            wait_until(subject.has_ended, WRITE_TIMEOUT_S + 5, "the application is told")
            with pytest.raises(ConnectionResetError):
                while client.sock.recv(1 << 20):
                    pass
            client.close()
            with subject.connect() as other:
                assert other.exchange("/").body == b"here"
        assert [subject.live.children() for subject in subjects] == before
        assert not any("stuck" in subject.live.log() for subject in subjects)
    finally:
        for subject in subjects:
            subject.live.end()
            print(subject.live.log())


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_a_worker_that_leaves_lets_the_client_take_its_response(tmp_path: pathlib.Path, kind: str, data: bytes) -> None:
    subject = start(tmp_path, kind, None)
    try:
        with subject.connect() as client:
            client.ask("/counted")
            subject.wait_until_held_up()
            subject.live.send(signal.SIGTERM)
            subject.live.wait_log("[Ss]topping|TERM")
            assert client.response().body == data
        assert subject.live.wait_end() == 0
    finally:
        subject.live.end()
        print(subject.live.log())


def test_where_temp_files_have_no_room_the_application_waits(server: StartServer, data: bytes) -> None:
    live = server("app", "-w", "1", source=SOURCE)
    (worker,) = live.wait_children(1)
    live.wait_log("is ready")
    subprocess.run(["prlimit", f"--pid={worker}", "--fsize=3000000"], check=True)
    subject = Subject(live, None)
    with subject.connect() as client:
        client.ask("/counted")
        assert subject.wait_until_held_up() < SOCKETS + (1 << 20) + 3_000_000 + 65536
        live.wait_log("cannot keep a response in .*tmp_upload_dir.*File too large; the application waits")
        assert client.response().body == data
        assert client.exchange("/").body == b"here"


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_slow_clients_do_not_keep_the_workers_of_other_requests(server: StartServer, kind: str) -> None:
    """More clients that read nothing than a gthread worker has threads: others are served."""
    if kind == "gevent":
        pytest.importorskip("gevent")
    live = server("app", "-w", "1", "-k", kind, "--threads", "2", source=SOURCE)
    with contextlib.ExitStack() as clients:
        slow = [clients.enter_context(Connection(live.port)) for _ in range(5)]
        for client in slow:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.ask("/counted")
        for _ in range(3):
            assert fetch(live.port).body == b"here"
        # And what was stored for the slow ones arrives.
        assert [len(client.response().body) for client in slow] == [SIZE] * len(slow)
    assert live.stop() == 0
