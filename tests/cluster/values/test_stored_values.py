"""What can be stored, what is said of what cannot, and when two values are the same."""

import math

import pytest

from wsgicluster.cluster.values.payload import Json, Value
from wsgicluster.cluster.values.stored_values import decode, encode, same


@pytest.mark.parametrize(
    "value",
    [
        0, -1, 2**63 - 1, -(2**63), 2**63, 10**40, 1.5, True, False, None, "", "text", "\ud800", "\0",
        b"", b"\0\xff", [], {}, [1, [2.5, None]], {"a": {"b": [True, "x"]}, "": 0},
    ],
)  # fmt: skip
def test_values_come_back(value: Value) -> None:
    assert decode(encode(value)) == value
    assert type(decode(encode(value))) is type(value)


def test_tuples_come_back_as_lists() -> None:
    assert decode(encode((1, ("a",)))) == [1, ["a"]]


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({1, 2}, "value: set is neither JSON nor bytes"),
        ({"a": [1, {"b": object()}]}, r"value\['a'\]\[1\]\['b'\]: object is neither JSON"),
        ({"a": {1: "x"}}, r"value\['a'\]: the key 1 is not a string"),
        ([0.0, math.nan], r"value\[1\]: nan is not a number"),
        ({"x": (b"bytes",)}, r"value\['x'\]\[0\]: bytes is neither JSON"),
    ],
)
def test_what_json_does_not_have_is_named_with_its_path(value: object, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        encode(value)  # type: ignore[arg-type]


def test_a_value_that_contains_itself_is_refused() -> None:
    """(Node: test-cluster-advanced-serialization.)"""
    value: list[object] = [1]
    value.append({"again": value})
    with pytest.raises(TypeError, match=r"value\[1\]\['again'\]: contains itself"):
        encode(value)  # type: ignore[arg-type]


def test_the_same_part_twice_is_not_a_circle() -> None:
    part: list[Json] = [1]
    assert decode(encode([part, part])) == [[1], [1]]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        (1, 1.0, False),
        (1, True, False),
        ("a", b"a", False),
        ((1,), [1], True),
        (None, "null", False),
        (b"a", b"a", True),
    ],
)
def test_same(one: Value, other: Value, alike: bool) -> None:
    assert same(encode(one), encode(other)) is alike
