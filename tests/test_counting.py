"""Numbers and nouns."""

import pathlib
import re

import pytest

from wsgicluster.counting import count_of

PACKAGE = pathlib.Path(__file__).parent.parent / "wsgicluster"
BY_HAND = re.compile(r"%d (workers|requests|connections|lines|threads|clients|seconds|times)\b")


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ["worker"], "0 workers"),
        (1, ["worker"], "1 worker"),
        (2, ["worker"], "2 workers"),
        (1, ["worker serves", "workers serve"], "1 worker serves"),
        (3, ["worker serves", "workers serve"], "3 workers serve"),
    ],
)
def test_count_of(number: int, nouns: list[str], text: str) -> None:
    assert count_of(number, *nouns) == text


def test_nobody_counts_by_hand() -> None:
    paths = [path for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyx")]
    assert len(paths) > 100
    assert [path.name for path in paths if BY_HAND.search(path.read_text("utf-8"))] == []
