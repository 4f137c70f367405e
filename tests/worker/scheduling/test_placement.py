"""When a policy is asked, what it is asked with, and which slot a client belongs to: on plain values."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import pytest

from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState
from wsgicluster.ipc.turns import Turns
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import POLICIES, SHARED, Sticky
from wsgicluster.worker.scheduling.binding import bound
from wsgicluster.worker.scheduling.placement import (
    UNTAKEN_S,
    VACANT_S,
    WAITING_S,
    Asked,
    Balance,
    Crowd,
    SlotTable,
    Stickiness,
    asked_when,
)
from wsgicluster.worker.scheduling.policies import SlotLoad
from wsgicluster.worker.scheduling.sticky import StickyCookie

SALT, KEY = b"s" * 32, b"k" * 32
COOKIE, HEADER = Sticky("cookie"), Sticky("header", "X-User")
TLS = {"certfile": "c.pem", "keyfile": "k.pem"}


def settings(**changes: object) -> Settings:
    return dataclasses.replace(Settings(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, None),
        ({"scheduling": "round-robin"}, Asked.AT_ACCEPT),
        ({"scheduling": "weighted", "proxy_protocol": "auto", **TLS}, Asked.AT_ACCEPT),
        ({"scheduling": "sticky"}, Asked.AT_ACCEPT),
        ({"scheduling": "sticky", "proxy_protocol": "auto"}, Asked.AFTER_PROXY_HEADER),
        ({"scheduling": "sticky", "forwarded_hops": 1}, Asked.AFTER_HEAD),
        ({"scheduling": "sticky", "protocol": "uwsgi"}, Asked.AFTER_HEAD),
        ({"scheduling": "sticky", "sticky": COOKIE}, Asked.AFTER_HEAD),
        ({"scheduling": "sticky", "sticky": HEADER, **TLS}, Asked.AT_ACCEPT),
        ({"scheduling": "sticky", "sticky": HEADER, "proxy_protocol": "v2", **TLS}, Asked.AFTER_PROXY_HEADER),
    ],
)
def test_a_policy_is_asked_as_soon_as_it_can_be(changes: dict[str, object], asked: Asked | None) -> None:
    assert asked_when(settings(**changes)) is asked


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != SHARED])
def test_each_policy_that_is_asked_has_its_function(policy: str) -> None:
    turns = Turns.new()
    try:
        assert Balance(settings(scheduling=policy), turns).choose is not None
    finally:
        turns.close()


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard(None, 8)
    made.server.cells[Cell.WANTED] = 3
    yield made
    made.close()


def test_the_table_shows_the_wanted_slots(board: Scoreboard) -> None:
    old, new, drains, gone = (board.take(slot, 1) for slot in (1, 1, 2, 4))
    for page, state in ((old, WorkerState.DRAINING), (new, WorkerState.READY), (drains, WorkerState.HELD)):
        page.cells[Cell.STATE] = state
    gone.cells[Cell.STATE] = WorkerState.READY
    new.cells[Cell.RUNNING], new.cells[Cell.CONNECTIONS] = 2, 7
    assert SlotTable(board).loads(1.0) == [SlotLoad(1, True, 2, 7), SlotLoad(2, False), SlotLoad(3, False)]
    table = SlotTable(board, held_too=True)
    assert [load.takes for load in table.loads(1.0)] == [True, True, False]
    table.add(1)
    assert table.loads(1.0)[0] == SlotLoad(1, True, 2, 8)
    assert table.loads(2.0)[0] == SlotLoad(1, True, 2, 7), "the pages are read anew for each moment"
    new.floats[Cell.STARTED], new.cells[Cell.RUNNING] = 5.0, 0
    assert table.loads(3.0)[0].requests == 1, "of a worker that runs one request at a time"


def test_a_worker_that_does_not_take_its_mail_is_left_out(board: Scoreboard) -> None:
    first, second = board.take(1, 1), board.take(2, 1)
    for page in (first, second):
        page.cells[Cell.STATE] = WorkerState.READY
    table = SlotTable(board)
    assert [each.takes for each in table.loads(99.0)] == [True, True, False]
    table.note_mail(1, 100.0)
    table.note_mail(1, 100.5)
    table.note_mail(3, 100.0)
    assert first.floats[Cell.MAIL_SINCE] == 100.0, "that of the oldest counts"
    table.add(1)
    assert table.loads(100.0 + WAITING_S / 2)[0] == SlotLoad(1, True, 0, 1), "the page shows none yet"
    assert table.loads(100.01 + WAITING_S)[0].late
    assert table.loads(100.01 + UNTAKEN_S)[0] == SlotLoad(1, False, 0, 1, True, True)
    first.floats[Cell.MAIL_SINCE] = 0.0
    assert table.loads(110.0)[0] == SlotLoad(1, True)
    second.floats[Cell.DEADLINE] = 111.0
    assert [table.loads(moment)[1].hangs for moment in (110.5, 111.5)] == [False, True]


def test_a_slot_that_hangs_loses_its_clients_at_once() -> None:
    by = Stickiness(settings(scheduling="sticky", sticky=HEADER), SALT, KEY)
    environ = {"HTTP_X_USER": "u1"}
    home = by.of_request(environ, "", loads(True, True, True), 0.0)
    hanging = [SlotLoad(slot, slot != home, hangs=slot == home) for slot in (1, 2, 3)]
    assert by.of_request(environ, "", hanging, 1.0) not in (home, None)


def loads(*takes: bool) -> list[SlotLoad]:
    return [SlotLoad(slot, each) for slot, each in enumerate(takes, 1)]


def test_a_slot_without_a_worker_keeps_its_clients_for_a_while() -> None:
    by = Stickiness(settings(scheduling="sticky", sticky=HEADER), SALT, KEY)
    environ = {"HTTP_X_USER": "u1"}
    home = by.of_request(environ, "", loads(True, True, True), 0.0)
    assert home is not None
    without = loads(*(slot != home for slot in (1, 2, 3)))
    assert by.of_request(environ, "", without, 1.0) == home
    assert by.of_request(environ, "", without, 1.0 + VACANT_S / 2) == home
    other = by.of_request(environ, "", without, 1.0 + VACANT_S)
    assert other not in (home, None)
    assert by.of_request(environ, "", loads(True, True, True), 3.0) == home
    assert by.of_request(environ, "", without, 3.1) == home, "from then on it is waited for anew"
    assert by.of_request({}, "", without, 4.0) is None
    assert by.of_request(environ, "", [], 4.0) is None


def test_an_address_is_known_however_it_is_written() -> None:
    """(Node 31)"""
    by = Stickiness(settings(scheduling="sticky"), SALT, KEY)
    all_take = loads(*[True] * 16)
    assert by.of_address("::ffff:192.0.2.1", all_take, 0.0) == by.of_address("192.0.2.1", all_take, 0.0)
    assert by.of_address("fe80::1%eth0", all_take, 0.0) == by.of_address("fe80::1", all_take, 0.0)
    assert by.of_address("", all_take, 0.0) is None
    found = Counter(by.of_address(f"10.0.{n // 250}.{n % 250}", all_take, 0.0) for n in range(4000))
    assert all(150 < count < 350 for count in found.values())


def test_one_address_of_most_clients_is_noticed_once() -> None:
    crowd = Crowd(enough=10)
    assert not any(crowd.add(f"10.0.0.{n}") for n in range(40))
    said = [crowd.add("192.0.2.1" if n % 3 else f"10.0.0.{n}") for n in range(40)]
    assert [each for each in said if each] == ["192.0.2.1"]


def response_of(environ: dict[str, str], status: str = "200 OK", headers: object = None, slot: int = 2) -> list[object]:
    """What the server learns of a response."""
    told: list[object] = []

    def application(_environ: object, start_response: object) -> list[bytes]:
        start_response(status, [] if headers is None else headers)  # type: ignore[operator]
        return []

    cells = [0] * (max(Cell) + 1)
    called = bound(application, StickyCookie("home", KEY), slot, lambda: 3, cells)
    called({"SCRIPT_NAME": "/shop", "wsgi.url_scheme": "https", **environ}, lambda *given: told.append(given[1]))
    told.append(cells[Cell.FORGED_COOKIES])
    return told


def test_the_cookie_of_a_response() -> None:
    cookie = StickyCookie("home", KEY)
    good = f"a=b; home={cookie.value(1)}"
    fields, forged = response_of({})
    assert fields == [("Cache-Control", "private"), cookie.field(2, "/shop", True)]
    assert forged == 0
    assert "; Path=/shop; HttpOnly; SameSite=Lax; Secure" in fields[1][1]
    assert response_of({"HTTP_COOKIE": good}) == [[], 0], "that of another slot is sound, too"
    assert response_of({"HTTP_COOKIE": "home=1.forged"})[1] == 1
    assert response_of({"HTTP_COOKIE": f"home={cookie.value(4)}"})[1] == 1, "there is no such slot any more"
    assert response_of({}, "304 Not Modified") == [[], 0]
    assert response_of({}, slot=4) == [[], 0], "that slot is about to go"
    assert response_of({}, headers="no list") == ["no list", 0]
    stricter = [("cache-control", "no-store")]
    assert response_of({}, headers=stricter)[0] == [*stricter, cookie.field(2, "/shop", True)]
