"""Stickiness on plain values: keys keep their slots, cookies cannot be forged, caches get no cookie of one client."""

from collections import Counter

import pytest

from wsgicluster.worker.scheduling.sticky import COOKIE, Rendezvous, StickyCookie, cache_control

SALT = b"of one server"
KEYS = [f"10.{n >> 8}.{n & 255}.7".encode() for n in range(4_000)]
COOKIES = StickyCookie(COOKIE, b"k" * 32)


def test_a_key_has_one_slot_in_every_worker() -> None:
    first, second = Rendezvous(SALT), Rendezvous(SALT)
    assert [first.slot(key, 5) for key in KEYS[:200]] == [second.slot(key, 5) for key in KEYS[:200]]


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_shares_are_about_equal(count: int) -> None:
    table = Rendezvous(SALT)
    shares = Counter(table.slot(key, count) for key in KEYS)
    assert sorted(shares) == list(range(1, count + 1))
    assert all(abs(share - len(KEYS) / count) < 0.2 * len(KEYS) / count for share in shares.values())


def test_one_slot_more_moves_only_its_own_share() -> None:
    table = Rendezvous(SALT)
    moved = [(table.slot(key, 4), table.slot(key, 5)) for key in KEYS if table.slot(key, 4) != table.slot(key, 5)]
    assert {new for _, new in moved} == {5}
    assert len(moved) / len(KEYS) <= 1 / 5 + 0.05


def test_servers_differ_in_their_salt() -> None:
    one, other = Rendezvous(b"one"), Rendezvous(b"other")
    assert [one.slot(key, 16) for key in KEYS[:50]] != [other.slot(key, 16) for key in KEYS[:50]]


@pytest.mark.parametrize("slot", [1, 4, 12])
def test_a_cookie_comes_back_as_its_slot(slot: int) -> None:
    sent = f"{COOKIE}={COOKIES.value(slot)}"
    for cookies in (sent, f"a=b; {sent}", f"a=b;{sent} ; c=d", f'{COOKIE}="{COOKIES.value(slot)}"'):
        assert COOKIES.slot(cookies, 12) == slot


@pytest.mark.parametrize(
    "cookies",
    [
        "",
        "a=b",
        COOKIE,
        f"{COOKIE}=",
        f"{COOKIE}=2",
        f"{COOKIE}=2.",
        f"{COOKIE}=2.0000",
        f"x{COOKIE}={COOKIES.value(2)}",
        f"{COOKIE}=3{COOKIES.value(2)[1:]}",
        f"{COOKIE}={COOKIES.value(5)}",
        f"{COOKIE}={COOKIES.value(0)}",
        f"{COOKIE}={'9' * 5000}.{'a' * 18}",
        f"{COOKIE}=²{COOKIES.value(2)[1:]}",
        f"{COOKIE}=2.\xff{COOKIES.value(2)[3:]}",
        f"{COOKIE}={StickyCookie(COOKIE, b'another').value(2)}",
        f"{COOKIE}={StickyCookie('another', b'k' * 32).value(2)}",
    ],
)
def test_what_is_no_cookie_of_ours_counts_as_absent(cookies: str) -> None:
    assert COOKIES.slot(cookies, 4) is None


def test_of_several_cookies_the_first_sound_one_counts() -> None:
    assert COOKIES.slot(f"{COOKIE}=2.bad; {COOKIE}={COOKIES.value(3)}; {COOKIE}={COOKIES.value(1)}", 4) == 3


def test_the_field_is_for_this_application_and_this_scheme() -> None:
    name, value = COOKIES.field(3, "", secure=False)
    assert (name, value) == ("Set-Cookie", f"{COOKIE}={COOKIES.value(3)}; Path=/; HttpOnly; SameSite=Lax")
    assert COOKIES.field(3, "/shop", secure=True)[1].endswith("; Path=/shop; HttpOnly; SameSite=Lax; Secure")


def test_a_path_cannot_end_its_attribute() -> None:
    assert "; Path=/a%3B%20Domain=x%C3%A9; " in COOKIES.field(1, "/a; Domain=x\xc3\xa9", secure=False)[1]


@pytest.mark.parametrize(
    ("present", "wanted"),
    [
        (None, "private"),
        ("", "private"),
        ("no-store", None),
        ("private, max-age=5", None),
        ("Private", None),
        ("public, max-age=60", "max-age=60, private"),
        ("max-age=60", "max-age=60, private"),
        ('private="X-Field"', 'private="X-Field", private'),
    ],
)
def test_shared_caches_do_not_keep_a_cookie(present: str | None, wanted: str | None) -> None:
    assert cache_control(present) == wanted
