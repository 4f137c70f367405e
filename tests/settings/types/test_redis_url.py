"""URLs of Redis servers and of Sentinels."""

import pytest

from wsgicluster.settings.types import redis_url
from wsgicluster.settings.types.general import without_passwords


@pytest.mark.parametrize(
    ("url", "addresses", "service", "server"),
    [
        ("redis+sentinel://one/shop", [("one", 26379)], "shop", "redis://localhost"),
        (
            "redis+sentinel://one:1,10.0.0.2,[::1]:3,[fe80::1]/my.shop-1/2?prefix=x",
            [("one", 1), ("10.0.0.2", 26379), ("::1", 3), ("fe80::1", 26379)],
            "my.shop-1", "redis://localhost/2?prefix=x",
        ),
        ("rediss+sentinel://user:word@one/shop/0", [("one", 26379)], "shop", "rediss://user:word@localhost/0"),
    ],
)  # fmt: skip
def test_sentinels(url: str, addresses: list[tuple[str, int]], service: str, server: str) -> None:
    assert redis_url.read(url) == url
    assert redis_url.sentinels(url) == redis_url.Sentinels(tuple(addresses), service, server)


def test_a_server_is_none_of_them() -> None:
    for url in ("redis://one/0", "unix:///run/redis.sock", "rediss://one"):
        assert redis_url.read(url) == url
        assert redis_url.sentinels(url) is None


@pytest.mark.parametrize(
    "rest",
    ["one", "one/", "/shop", "one,/shop", ",/shop", "one:port/shop", "one:99999/shop", "one/shop/x", "one/shop/0/1",
     "[::1/shop", "one/sh op", "a@/shop", "one two/shop", ""],
)  # fmt: skip
def test_what_is_no_url_of_sentinels(rest: str) -> None:
    with pytest.raises(ValueError):
        redis_url.read(f"redis+sentinel://{rest}")


@pytest.mark.parametrize("url", ["sentinel://one/shop", "unix+sentinel://one/shop", "redis+sentinel:one/shop"])
def test_other_schemes(url: str) -> None:
    with pytest.raises(ValueError):
        redis_url.read(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss+sentinel://u:secret@one,two/shop/0", "rediss+sentinel://u:***@one,two/shop/0"),
        (
            "redis+sentinel://one/shop?sentinel_username=u&sentinel_password=secret&prefix=x",
            "redis+sentinel://one/shop?sentinel_username=u&sentinel_password=***&prefix=x",
        ),
        ("redis://one/0?password=secret", "redis://one/0?password=***"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_passwords(url) == shown
