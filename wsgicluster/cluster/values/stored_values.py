"""Values as they are stored: whole numbers and bytes as they are, all others as JSON (RFC 8259).

Pure. A value that is read is a copy: tuples come back as lists.
"""

import json
from typing import TypeAlias

from wsgicluster.cluster.values.payload import Value, json_text

Stored: TypeAlias = int | str | bytes

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def encode(value: Value) -> Stored:
    """An int of 64 bits as it is, bytes as they are, all else as the text of its JSON.

    Raises TypeError, with the path into the value, for what JSON does not have.
    """
    kind = type(value)
    if kind is int and _LEAST <= value <= _MOST:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    # Lone surrogates cannot be in a text of SQLite, but in an escape.
    return json_text(value, ascii_only=True)


def decode(stored: Stored) -> Value:
    """The value that `encode` was given, or a copy of it."""
    if isinstance(stored, str):
        value: Value = json.loads(stored)
        return value
    return stored


def same(one: Stored, other: Stored) -> bool:
    """Whether two values are the same as JSON: the order of names is ignored; ``1``, ``1.0`` and ``true`` differ."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other or _canonical(one) == _canonical(other)
    return type(one) is type(other) and one == other


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
