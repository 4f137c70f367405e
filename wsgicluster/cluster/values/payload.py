"""Values that leave a process: JSON or bytes, never pickled, since the reader may be of another version or machine."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from wsgicluster.cluster.errors import MessageTooLarge

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""What JSON has. Tuples arrive as lists, and every value as a copy."""
Value: TypeAlias = Json | bytes

LIMIT_BYTES = 1024 * 1024
"""Of one value, as JSON without white space, or of bytes."""
IS_BYTES, IS_JSON = 0, 1

_DEEPEST = 200
"""As far as faults are looked for; what is nested as deeply as the encoder can follow is sent."""
_PLAIN = (str, int, float, bool, type(None))
_encoders = {
    ascii_only: json.JSONEncoder(ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":")).encode
    for ascii_only in (False, True)
}


def encode_value(value: object) -> tuple[int, bytes]:
    """Its form, `IS_BYTES` or `IS_JSON`, and its bytes.

    Raises TypeError, with the path into the value, for what is neither bytes nor JSON, and MessageTooLarge.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        form, content = IS_BYTES, bytes(value)
    else:
        # Lone surrogates, which file names may have, come back as they are.
        form, content = IS_JSON, json_text(value).encode("utf-8", "surrogatepass")
    if len(content) > LIMIT_BYTES:
        raise MessageTooLarge(f"the value takes {len(content)} bytes, at most {LIMIT_BYTES} can be sent")
    return form, content


def json_text(value: object, ascii_only: bool = False) -> str:
    """A value as JSON without white space. Raises TypeError, with the path into the value, for what is not JSON."""
    try:
        if not isinstance(value, _PLAIN):
            _check_keys(value)
        return _encoders[ascii_only](value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(next(_faults(value, "value", ()), f"value: {error}")) from None


def decode_value(form: int, content: bytes) -> Any:
    """What `encode_value` was given; raises ValueError for what it did not make."""
    if form == IS_BYTES:
        return content
    return json.loads(content.decode("utf-8", "surrogatepass"))


def _check_keys(value: object) -> None:
    # The encoder makes strings of numbers, and a dictionary would not come back as it was.
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError
            if not isinstance(each, _PLAIN):
                _check_keys(each)
    elif isinstance(value, list | tuple):
        for each in value:
            if not isinstance(each, _PLAIN):
                _check_keys(each)


def _faults(value: object, path: str, around: tuple[int, ...]) -> Iterator[str]:
    """What in a value is not JSON, and where."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is not a number that JSON has"
    elif isinstance(value, _PLAIN):
        return
    elif len(around) > _DEEPEST:
        yield f"value: lists and dictionaries are nested more than {_DEEPEST} deep"
    elif id(value) in around:
        yield f"{path}: contains itself"
    elif isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                yield f"{path}: the key {key!r} is not a string"
            yield from _faults(each, f"{path}[{key!r}]", (*around, id(value)))
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _faults(each, f"{path}[{index}]", (*around, id(value)))
    else:
        within = "; bytes have to be the whole value" if isinstance(value, bytes | bytearray | memoryview) else ""
        yield f"{path}: {type(value).__name__} is neither JSON nor bytes{within}"
