"""Values: each comes back as it was, and what cannot be sent is refused with the place where it is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgicluster.cluster.errors import MessageTooLarge
from wsgicluster.cluster.values.payload import LIMIT_BYTES, decode_value, encode_value

TEXTS = st.text(st.characters())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(JSON | st.binary())
def test_there_and_back(value: Any) -> None:
    assert decode_value(*encode_value(value)) == value


@pytest.mark.parametrize("value", ["\udcff", {"\ud800": ["\udfff"]}, bytearray(b"x"), memoryview(b"x"), (1, (2,))])
def test_what_is_like_json_or_bytes(value: Any) -> None:
    like: dict[type, Any] = {bytearray: b"x", memoryview: b"x", tuple: [1, [2]]}
    kind: type = type(value)
    assert decode_value(*encode_value(value)) == like.get(kind, value)


def circular() -> Any:
    value: dict[str, Any] = {"a": [1, 2]}
    value["a"].append(value)
    return value


def deep() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (object, "value: object is neither JSON nor bytes"),
        (lambda: {"a": [0, {1, 2}]}, "value['a'][1]: set is neither JSON nor bytes"),
        (lambda: [{"b": b"x"}], "value[0]['b']: bytes is neither JSON nor bytes; bytes have to be the whole value"),
        (lambda: {"a": {1: 2}}, "value['a']: the key 1 is not a string"),
        (lambda: {None: 2}, "value: the key None is not a string"),
        (lambda: [float("inf")], "value[0]: inf is not a number that JSON has"),
        (lambda: float("nan"), "value: nan is not a number that JSON has"),
        (circular, "value['a'][2]: contains itself"),
        (deep, "nest"),
    ],
)
def test_what_cannot_be_sent(make: Callable[[], Any], text: str) -> None:
    """(Node 53: advanced-serialization)"""
    with pytest.raises(TypeError) as caught:
        encode_value(make())
    assert text in str(caught.value)


def test_the_limit() -> None:
    assert len(encode_value(bytes(LIMIT_BYTES))[1]) == LIMIT_BYTES
    assert len(encode_value("x" * (LIMIT_BYTES - 2))[1]) == LIMIT_BYTES
    for value in (bytes(LIMIT_BYTES + 1), "x" * (LIMIT_BYTES - 1)):
        with pytest.raises(MessageTooLarge):
            encode_value(value)
