"""The shorter ways through the sync worker cannot be told from the plain one, by client, application or operator."""

import contextlib
import functools
import itertools
import pathlib
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.worker.kinds.sync import fast_path_applications, fast_path_requests
from tests.worker.kinds.sync.application_shapes import enlarged, returns, whole
from tests.worker.kinds.sync.conversation import Room, Seen, Subject, differences
from tests.worker.kinds.sync.fast_path_applications import APPLICATIONS
from tests.worker.kinds.sync.fast_path_implementations import PLAIN, TWINS, ways
from tests.worker.kinds.sync.fast_path_requests import ACCEPTED_FIRST, GET, LAST, REQUESTS, get, post
from wsgicluster.http import core
from wsgicluster.http.limits import HeadLimits
from wsgicluster.ipc.scoreboard import WorkerState

PARTS = 8
"""Of all applications, tried one after the other."""

Ask = Callable[[str, str], Seen]
"""What is seen of an application's and a request's conversation."""


def asking(subject: Subject) -> Ask:
    """Ask one worker by the names in the tables."""

    def ask(application: str, request: str) -> Seen:
        asked = REQUESTS[request]
        return subject.converse(APPLICATIONS[application], asked.segments, asked.host)

    return ask


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """The plain way, asked once for each pair, however many twins are held to it."""
    with Subject(PLAIN, tmp_path_factory.mktemp("plain")) as subject:
        yield functools.cache(asking(subject))


def agree(wanted: Ask, seen: Ask, pairs: Iterable[tuple[str, str]]) -> None:
    """Ask both for each application and request, and show all in which they differ."""
    complaints = [f"{' | '.join(pair)} | {text}" for pair in pairs for text in differences(wanted(*pair), seen(*pair))]
    assert not complaints, "\n" + "\n".join(complaints[:10])


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("application", APPLICATIONS)
def test_each_application(tmp_path: pathlib.Path, plain: Ask, way: str, application: str) -> None:
    with Subject(way, tmp_path) as twin:
        agree(plain, asking(twin), [(application, request) for request in fast_path_requests.CENTRAL])


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("request_name", REQUESTS)
def test_each_request(tmp_path: pathlib.Path, plain: Ask, way: str, request_name: str) -> None:
    with Subject(way, tmp_path) as twin:
        agree(plain, asking(twin), [(application, request_name) for application in fast_path_applications.CENTRAL])


AskSlowly = Callable[[str, Room], Seen]
"""What is seen of two requests for an application by a client that pauses behind the first one."""


def asking_slowly(subject: Subject) -> AskSlowly:
    """Ask one worker; where a little of a response fits into the socket, responses are made larger than that."""

    def ask(application: str, room: Room) -> Seen:
        app = APPLICATIONS[application]
        return subject.converse(enlarged(app) if room is Room.LITTLE else app, (GET, GET), room=room)

    return ask


@pytest.fixture(scope="module")
def plain_slowly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AskSlowly]:
    """As `plain`."""
    with Subject(PLAIN, tmp_path_factory.mktemp("plain")) as subject:
        yield functools.cache(asking_slowly(subject))


@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("room", [Room.LITTLE, Room.NONE])
@pytest.mark.parametrize("part", range(PARTS))
def test_two_requests_of_a_client_that_pauses(
    tmp_path: pathlib.Path, plain_slowly: AskSlowly, way: str, room: Room, part: int
) -> None:
    complaints = []
    with Subject(way, tmp_path) as twin:
        for application in itertools.islice(APPLICATIONS, part, None, PARTS):
            wanted, seen = plain_slowly(application, room), asking_slowly(twin)(application, room)
            complaints += [f"{application} | {text}" for text in differences(wanted, seen)]
    assert not complaints, f"{len(complaints)}\n" + "\n".join(complaints[:10])


def _held(subject: Subject) -> None:
    subject.worker.context.state.enter(WorkerState.HELD)


def _as_it_is(_subject: Subject) -> None:
    """Most surroundings are a matter of settings alone."""


SURROUNDINGS: dict[str, tuple[dict[str, Any], Callable[[Subject], object]]] = {
    "keepalive 0": ({"keepalive": 0.0}, _as_it_is),
    "no sendfile": ({"sendfile": False}, _as_it_is),
    "no access log": ({"access": False}, _as_it_is),
    "no timeout": ({"timeout": 0.0}, _as_it_is),
    "queue timeout": ({"queue_timeout": 30.0}, _as_it_is),
    "queue timeout, unix": ({"queue_timeout": 30.0, "bind": "unix"}, _as_it_is),
    "small limits": ({"limit_request_body": 4, "limit_request_fields": 2, "limit_request_line": 30}, _as_it_is),
    "nobody trusted": ({"forwarded_allow_ips": ()}, _as_it_is),
    "unix": ({"bind": "unix"}, _as_it_is),
    "ipv6": ({"bind": "::1"}, _as_it_is),
    "slow": ({"slow_s": 1e-9}, _as_it_is),
    "draining": ({}, lambda subject: subject.worker.begin_drain()),
    "held": ({}, _held),
}
"""Name to settings of a `Subject`, and what is done to it before it is asked."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ways(*TWINS))
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_surroundings(tmp_path: pathlib.Path, way: str, surroundings: str) -> None:
    settings, prepare = SURROUNDINGS[surroundings]
    if surroundings == "ipv6" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    applications = (
        "list",
        "list of several",
        "stream",
        "stream, length",
        "stream fails later",
        "raise",
        "echo",
        "file",
    )
    requests = ("get", "get, accepted first", "get, post, close", "close", "post", "chunked", "two", "trusted https")
    with Subject(PLAIN, tmp_path, **settings) as plain, Subject(way, tmp_path, **settings) as twin:
        prepare(plain)
        prepare(twin)
        agree(
            asking(plain),
            asking(twin),
            [(application, request) for application in applications for request in requests],
        )


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.parametrize("way", ways(*TWINS))
def test_named_requests(tmp_path: pathlib.Path, way: str) -> None:
    named = get(b"X-Request-ID: abc-1\r\n")
    conversations = {
        "kept": (named, get(b"X-Request-ID: abc-2\r\n")),
        "accepted first": (ACCEPTED_FIRST, named),
        "closed": (get(b"Connection: close\r\nX-Request-ID: abc-1\r\n"),),
        "long": (get(b"X-Request-ID: abc-1\r\n", b"GET /" + b"x" * 300 + b" HTTP/1.1"),),
        "pipelined": (named + get(b"X-Request-ID: abc-2\r\n"),),
        "post": (post(b"hello", b"X-Request-ID: abc-1\r\n"),),
        "refused": (named, get(b"Bad Name: 1\r\n")),
    }
    applications = (
        "list", "list of several", "stream", "stream fails later", "raise", "echo", "write", "list with str",
        "header of three", "headers in a tuple", "file", "hint on the way", "list, length too small",
    )  # fmt: skip
    with (
        Subject(PLAIN, tmp_path, request_id="accept") as plain,
        Subject(way, tmp_path, request_id="accept") as twin,
    ):
        complaints = [
            f"{name} | {conversation} | {text}"
            for name in applications
            for conversation, segments in conversations.items()
            for text in differences(
                plain.converse(APPLICATIONS[name], segments), twin.converse(APPLICATIONS[name], segments)
            )
        ]
        seen = twin.converse(APPLICATIONS["raise"], (named,))
    assert not complaints, "\n" + "\n".join(complaints[:10])
    assert b"\r\nX-Request-ID: abc-1\r\n" in seen.received
    (error,) = seen.errors
    assert error.startswith("ERROR the application failed in GET /a/path?query=1 HTTP/1.1 [abc-1] (")
    assert seen.shown[0][1] == "GET /a/path?query=1 HTTP/1.1 [abc-1]"
    assert seen.environs[0]["HTTP_X_REQUEST_ID"] == seen.environs[0]["wsgicluster.request_id"] == "abc-1"


SHORT = {
    "python": ("get", "get, accepted first", "get, get", "close", "head", "http/1.0", "trusted https"),
    "compiled": (
        "get", "get, accepted first", "get, get", "get, post, close", "close", "close, accepted first", "post",
        "post, close", "delete", "trusted https", "trusted https, close", "stranger",
    ),
}  # fmt: skip
"""Requests for which the application is called out of the twin's own code."""

LONG = (
    "chunked",
    "latin-1 value",
    "expect, not waiting",
    "two",
    "body in pieces",
    "cut in a field",
    "empty line first",
)
"""Those that no twin takes."""


@pytest.mark.parametrize("way", ways("python", "compiled"))
def test_the_twin_itself_answers(tmp_path: pathlib.Path, way: str) -> None:
    # Nor does it stop for usual names when somebody has sent more names than it remembers.
    for number in range(3000):
        head = b"GET / HTTP/1.1\r\nHost: example.com\r\nX-Fill-%d: 1\r\n\r\n" % number
        core.parse_head(head, 0, len(head) - 4, {}, HeadLimits())
    with Subject(way, tmp_path) as subject:
        for application in ("list", "stream", "raise"):
            for request, short in [*((name, True) for name in SHORT[way]), *((name, False) for name in LONG)]:
                asked = REQUESTS[request]
                seen = subject.converse(APPLICATIONS[application], asked.segments, asked.host)
                assert set(seen.shortcuts) == {short}, f"{application} | {request}"


def test_the_plain_way_is_the_cycle_alone(tmp_path: pathlib.Path) -> None:
    with Subject(PLAIN, tmp_path) as subject:
        for request in ("get", "get, get", "close", "post"):
            assert set(subject.converse(APPLICATIONS["list"], REQUESTS[request].segments).shortcuts) == {False}


def test_differences_are_found(tmp_path: pathlib.Path) -> None:
    with Subject(PLAIN, tmp_path) as subject:
        one = subject.converse(returns(whole(b"hello")), (GET,))
        other = subject.converse(returns(whole(b"world!")), (LAST,))
    assert not differences(one, one)
    assert {text.partition(":")[0] for text in differences(one, other)} == {
        "received", "ending", "counted", "shown", "access", "environs",
    }  # fmt: skip
