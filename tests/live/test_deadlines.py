"""Progress is no hang: ``timeout`` counts from the last block, and an application may put its own deadline off.

All the servers and all their clients run at the same time, since each of them has to outlast ``timeout``.
"""

import concurrent.futures
import dataclasses
import importlib.util
import json
import pathlib
from collections.abc import Iterator

import pytest

from tests.conftest import LiveServer
from tests.live.client import BrokenResponse, Connection, Response

pytestmark = pytest.mark.live

SOURCE = """
import json, math, time
from decimal import Decimal

PAUSE_S = 0.5
kept = []

def speaking(block):
    for _ in range(8):
        time.sleep(PAUSE_S)
        yield block
    yield b"end"

def falling_silent():
    yield b"first;"
    time.sleep(60)

def extending(extend):
    yield b"first;"
    extend(30)
    yield b"second;"
    time.sleep(8 * PAUSE_S)
    yield b"end"

class Closing(list):
    def __init__(self, blocks, extend):
        super().__init__(blocks)
        self.extend = extend

    def __iter__(self):
        yield from list.__iter__(self)

    def close(self):
        self.extend(None)

VALUES = {
    "text": "1", "nothing": "", "boolean": True, "list": [1], "negative": -1, "zero": 0, "small": -math.inf,
    "nan": math.nan, "huge": 10 ** 400, "-huge": -10 ** 400, "endless": math.inf, "large": 1e300,
    "decimal": Decimal("1.5"), "whole": 3, "fraction": 0.9, "none": None,
}

def tried(extend):
    found = {}
    for name, value in VALUES.items():
        try:
            found[name] = str(extend(value))
        except (TypeError, ValueError) as error:
            found[name] = type(error).__name__ + ": " + str(error)[:80]
    return found

def application(environ, start_response):
    path, body = environ["PATH_INFO"], b"end"
    extend = environ["wsgicluster.extend_deadline"]
    headers = [("Content-Type", "text/plain")]
    if path.startswith("/former"):
        # Neither what an earlier request was given speaks for this one, nor what it has asked for.
        for former in kept:
            former(None)
        if environ["QUERY_STRING"]:
            time.sleep(60)
        kept.append(extend)
        if path == "/former/close":
            start_response("200 OK", headers)
            return Closing([body], extend)
        extend(None)
    elif path == "/values":
        body = json.dumps(tried(extend)).encode()
        extend(30)
    elif path == "/extend":
        extend(30)
        time.sleep(8 * PAUSE_S)
    elif path == "/lift":
        extend(None)
        time.sleep(8 * PAUSE_S)
    elif path == "/shorten":
        extend(0.2)
        time.sleep(60)
    elif path == "/silent":
        time.sleep(60)
    write = start_response("200 OK", headers)
    if path == "/write":
        for _ in range(8):
            time.sleep(PAUSE_S)
            write(b"block;")
    if path == "/extend/stream":
        return extending(extend)
    return {"/stream": speaking(b"block;"), "/empty": speaking(b""), "/late": falling_silent()}.get(path, [body])
"""

TIMEOUT_S = 2

KINDS = {
    "sync": ("-k", "sync", "-w", "14", "--preload"),
    "sync in plain Python": ("-k", "sync", "-w", "14", "--preload"),
    "gthread": ("-k", "gthread", "-w", "1", "--threads", "14"),
    "gevent": ("-k", "gevent", "-w", "1"),
}

GOOD = {
    "/stream": b"block;" * 8 + b"end",
    "/empty": b"end",
    "/write": b"block;" * 8 + b"end",
    "/extend": b"end",
    "/extend/stream": b"first;second;end",
    "/lift": b"end",
}
SILENT = ("/silent", "/late", "/shorten")

TWICE = ("/former", "/former/close")
"""Asked twice on one connection: the second request never ends by itself."""


@dataclasses.dataclass
class Seen:
    """What one server's clients have seen; None is a response that was broken off."""

    live: LiveServer
    responses: dict[str, Response | None]


def ask(live: LiveServer, path: str) -> Response | None:
    method, _, target = path.rpartition(" ")
    with Connection(live.port, 30.0) as connection:
        if target in TWICE:
            assert connection.exchange(target).body == b"end"
            target += "?again"
        connection.ask(target, method or "GET")
        try:
            return connection.response(method or "GET")
        except (BrokenResponse, ConnectionResetError):
            return None


def kinds() -> list[str]:
    return [kind for kind in KINDS if kind != "gevent" or importlib.util.find_spec("gevent") is not None]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Seen]]:
    found: dict[str, Seen] = {}
    try:
        for kind in kinds():
            folder: pathlib.Path = tmp_path_factory.mktemp("deadlines")
            (folder / "app.py").write_text(SOURCE, "utf-8")
            pure = {"WSGICLUSTER_PURE": "1"} if "plain" in kind else {}
            flags = ["-b", "127.0.0.1:0", "--timeout", str(TIMEOUT_S), *KINDS[kind], "app"]
            found[kind] = each = Seen(LiveServer(folder, flags, pure).start(), {})
            # One after the other: in the time of a request their workers must also be able to boot.
            each.live.wait_log(r"Started: \d+ workers? serves?", 20)
        paths = [*GOOD, "HEAD /stream", "/values", *SILENT, *TWICE]
        with concurrent.futures.ThreadPoolExecutor(len(found) * len(paths)) as clients:
            asked = {
                (kind, path): clients.submit(ask, each.live, path) for kind, each in found.items() for path in paths
            }
            for (kind, path), response in asked.items():
                found[kind].responses[path] = response.result()
        yield found
    finally:
        for each in found.values():
            each.live.end()
            print(each.live.log())


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("path", GOOD)
def test_what_makes_progress_or_asks_for_time_is_not_cut(seen: dict[str, Seen], kind: str, path: str) -> None:
    response = seen[kind].responses[path]
    assert response is not None
    assert (response.status, response.body) == (200, GOOD[path])
    assert f"GET {path} " not in seen[kind].live.log()


@pytest.mark.parametrize("kind", kinds())
def test_a_stream_for_nobody_makes_progress_too(seen: dict[str, Seen], kind: str) -> None:
    response = seen[kind].responses["HEAD /stream"]
    assert response is not None
    assert response.status == 200
    assert "HEAD /stream" not in seen[kind].live.log()


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("path", SILENT)
def test_what_makes_no_progress_is_found(seen: dict[str, Seen], kind: str, path: str) -> None:
    live = seen[kind].live
    live.wait_log(f"(?:stuck|hung) in GET {path} ")
    if kind == "gthread":
        return  # a thread cannot be ended; its worker has been replaced
    response = seen[kind].responses[path]
    assert (response and response.status) == (500 if kind == "gevent" and path != "/late" else None)


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_the_log_says_which_limit_has_passed(seen: dict[str, Seen], kind: str) -> None:
    if kind not in seen:
        pytest.skip("gevent is not there")
    reasons = {
        "/silent": "timeout of 2 s passed;",
        "/late": "timeout of 2 s passed since its last block;",
        "/shorten": "the deadline that the application has set passed;",
    }
    for path, reason in reasons.items():
        line = next(line for line in seen[kind].live.log().splitlines() if f"stuck in GET {path} " in line)
        assert reason in line


@pytest.mark.parametrize("kind", kinds())
def test_values_that_are_no_time_are_refused_in_plain_words(seen: dict[str, Seen], kind: str) -> None:
    response = seen[kind].responses["/values"]
    assert response is not None
    number, above = "TypeError: extend_deadline() takes a number of seconds or None, not ", "ValueError: "
    found = json.loads(response.body)
    for name in ("huge", "endless", "large", "decimal", "whole", "fraction", "none"):
        assert found.pop(name) == "None"
    for name, kind_of in {"text": "str", "nothing": "str", "boolean": "bool", "list": "list"}.items():
        assert found.pop(name) == number + kind_of
    assert sorted(found) == ["-huge", "nan", "negative", "small", "zero"]
    assert all(
        text.startswith(f"{above}extend_deadline() takes more than 0 seconds or None, not ") for text in found.values()
    )


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("path", TWICE)
def test_time_that_one_request_has_asked_for_is_not_that_of_the_next(
    seen: dict[str, Seen], kind: str, path: str
) -> None:
    """On the same connection, with a callable that was kept, and although it was called when the response had ended."""
    seen[kind].live.wait_log(rf"(?:stuck|hung) in GET {path}\?again ")
