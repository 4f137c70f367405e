"""Patterns that are compiled by their first use."""

import re

import pytest

from wsgicluster.pattern import pattern


def test_has_what_a_compiled_pattern_has() -> None:
    made, expected = pattern(r"(a)(?P<b>b+)", re.IGNORECASE), re.compile(r"(a)(?P<b>b+)", re.IGNORECASE)
    for name in (name for name in dir(expected) if not name.startswith("_")):
        assert hasattr(pattern(r"a"), name), "by whatever is asked first"
    assert made.pattern == expected.pattern
    assert made.flags == expected.flags
    assert made.sub("x", "ABB ab") == "x x"
    found = made.fullmatch("Abbb")
    assert found is not None
    assert found["b"] == "bbb"
    assert pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]


def test_is_compiled_once_and_late() -> None:
    made = pattern("(")
    with pytest.raises(re.error, match="missing"):
        made.search("")
    sound = pattern("a")
    assert "search" not in vars(sound)
    assert sound.search("a")
    assert vars(sound)["search"] == sound.search


def test_has_nothing_else() -> None:
    with pytest.raises(AttributeError):
        _ = pattern("a").matches  # type: ignore[attr-defined]
