"""Settings that join machines: what is accepted, and what is never shown."""

import pytest

from wsgicluster.settings.types.bus import BUS, NODE_NAME, default_node


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis://:secret@host:6379/1", "rediss://host:1/0?x=1", "unix:///run/redis.sock?db=1"]
)
def test_urls(url: str) -> None:
    assert BUS.read(url) == url
    assert "secret" not in BUS.show(url)


def test_no_bus() -> None:
    assert BUS.read("") is None
    assert BUS.read(None) is None
    assert BUS.show(None) == ""


@pytest.mark.parametrize("value", ["localhost:6379", "http://host", "redis://", "redis://a b", 6379])
def test_what_is_not_a_bus(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        BUS.read(value)


@pytest.mark.parametrize("value", ["web-1", "a.example.com", "x" * 100])
def test_names(value: str) -> None:
    assert NODE_NAME.read(value) == value


@pytest.mark.parametrize("value", ["", "a/b", "a b", "é", "x" * 101, 5])
def test_what_is_not_a_name(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        NODE_NAME.read(value)


def test_the_default_is_a_name() -> None:
    assert NODE_NAME.read(default_node()) == default_node()
