"""What is answered at which path, and to whom, without a socket."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from tests.admin.test_metrics import status, worker
from wsgicluster.admin.access import AdminAccess
from wsgicluster.admin.event_stream import EventStreams
from wsgicluster.admin.exchange import AdminRequest, AdminResponse
from wsgicluster.admin.routes import AdminRoutes
from wsgicluster.admin.scrape_facts import ScrapeErrors, ScrapeFacts
from wsgicluster.control.protocol import ControlError, ErrorCode

TOKEN = "correct-token-123"


class FakeClock:
    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Errors(ScrapeErrors):
    """Those of one process, without a scoreboard."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        self.count += 1

    @property
    def total(self) -> int:
        return self.count


class Site:
    """The routes, and what they have asked the arbiter for."""

    def __init__(self, token: str | None = TOKEN) -> None:
        self.clock = FakeClock()
        self.sent: list[tuple[str, Mapping[str, Any]]] = []
        self.failure: ControlError | None = None
        self.events = EventStreams("e")
        access = AdminAccess(token, logging.getLogger("tests.admin"), self.clock)
        facts = ScrapeFacts(None, Errors(), self.clock)
        self.routes = AdminRoutes(self.status, self.command, self.events, access, facts)

    def status(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        found = status(worker(1))
        found["server"] |= {"pid": 1}
        return found

    def command(self, name: str, args: Mapping[str, Any]) -> Any:
        self.sent.append((name, args))
        if self.failure is not None:
            raise self.failure
        return {"begun": name}

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **variables: str) -> AdminResponse:
        path, _, query = path.partition("?")
        return self.routes.respond(AdminRequest(method, path, {"QUERY_STRING": query, **variables}, body, "peer"))

    def post(self, path: str, body: bytes = b"", token: str = TOKEN) -> AdminResponse:
        return self.ask(path, "POST", body, HTTP_AUTHORIZATION=f"Bearer {token}")


def test_paths_and_methods() -> None:
    site = Site()
    assert site.ask("/nothing").status == 404
    assert site.ask("/livez/").status == 404
    assert site.ask("/livez", "POST").status == 405
    assert ("Allow", "POST") in site.ask("/reload").fields
    for path in ("/livez", "/readyz", "/startupz", "/metrics", "/status", "/events"):
        assert site.ask(path).status == 200, path
    assert not site.sent


def test_the_arbiter_does_not_answer() -> None:
    site = Site()
    site.failure = ControlError(ErrorCode.TIMED_OUT, "no answer")
    for path in ("/livez", "/readyz", "/startupz"):
        found = site.ask(path)
        assert found.status == 503
        assert json.loads(found.body) == {"status": "unavailable", "reasons": ["arbiter: no answer"]}
    assert site.ask("/metrics").status == site.ask("/status").status == 503
    site.failure = None
    assert b"wsgicluster_scrape_errors_total 1.0" in site.ask("/metrics").body


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer wrong", 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer t\xf6ken", 401),
        (f"Bearer {TOKEN}", 202),
        (f"bearer  {TOKEN} ", 202),
    ],
)
def test_tokens(field: str, code: int) -> None:
    site = Site()
    found = site.ask("/reload", "POST", HTTP_AUTHORIZATION=field)
    assert found.status == code
    assert (("WWW-Authenticate", 'Bearer realm="wsgicluster"') in found.fields) is (code == 401)
    assert bool(site.sent) is (code == 202)


def test_without_a_token_nobody_may() -> None:
    site = Site(None)
    assert site.post("/reload").status == 403
    assert not site.sent


def test_wrong_tokens_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    with caplog.at_level(logging.WARNING, "tests.admin"):
        for _ in range(5):
            site.post("/reload", token="wrong")
        assert len(caplog.records) == 1
        assert "wrong token from peer (POST /reload)" in caplog.text
        site.clock.now += 2
        site.post("/reload", token="wrong")
        assert len(caplog.records) == 2


def test_commands_and_their_arguments() -> None:
    site = Site()
    assert site.post("/reload").body == b'{"begun": "reload"}\n'
    assert site.post("/scale?workers=%2B2").status == 202
    assert site.post("/scale", b'{"workers": 4}').status == 202
    assert site.sent == [("reload", {}), ("scale", {"workers": "+2"}), ("scale", {"workers": 4})]


@pytest.mark.parametrize("body", [b"[1]", b"{", b'{"slots": 1}', b"\xff"])
def test_bodies_that_are_not_right(body: bytes) -> None:
    site = Site()
    assert site.post("/scale", body).status == 400
    assert not site.sent


@pytest.mark.parametrize(
    ("code", "status_code"),
    [(ErrorCode.INVALID, 400), (ErrorCode.REFUSED, 409), (ErrorCode.STOPPING, 503), (ErrorCode.INTERNAL, 500)],
)
def test_what_the_arbiter_refuses(code: ErrorCode, status_code: int) -> None:
    site = Site()
    site.failure = ControlError(code, "because")
    found = site.post("/reload")
    assert (found.status, json.loads(found.body)) == (status_code, {"error": "because"})


@pytest.mark.parametrize("last", ["x", "-1", "1" * 20, "%D9%A3"])
def test_the_number_of_past_events_is_checked(last: str) -> None:
    assert Site().ask(f"/events?last={last}").status == 400
