"""Where the shared state is, and how large it may become."""

import pytest

from wsgicluster.settings.types.state import STORE, STORE_SIZE


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost", "redis://localhost:6379/0", "rediss://:word@[::1]:6380/1?prefix=shop",
        "unix:///run/redis.sock?db=1",
    ],
)  # fmt: skip
def test_urls(url: str) -> None:
    assert STORE.read(url) == url


@pytest.mark.parametrize("value", [None, ""])
def test_without_one_it_is_built_in(value: str | None) -> None:
    assert STORE.read(value) is None
    assert STORE.show(None) == "none"


@pytest.mark.parametrize(
    "value",
    ["localhost:6379", "http://localhost", "redis://", "redis:///0", "redis://h:port", "redis://h:99999", "unix://", 7],
)  # fmt: skip
def test_what_is_not_a_url_of_redis_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        STORE.read(value)


def test_passwords_are_not_shown() -> None:
    assert STORE.show("redis://user:word@host:1/0") == "redis://user:***@host:1/0"


def test_sizes() -> None:
    assert STORE_SIZE.read("64M") == 64 << 20
    assert STORE_SIZE.show(32 << 20) == "32M"
    for value in ("1023K", "0", "-1M", "many"):
        with pytest.raises(ValueError):
            STORE_SIZE.read(value)
