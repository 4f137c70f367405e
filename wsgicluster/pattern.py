"""Regular expressions that are compiled when they are first used.

A start knows a hundred of them, of settings that are not set and of requests that few clients send, and uses ten.
A pattern that most requests need is better compiled by `re` itself, before workers are forked.
"""

import re
from typing import TYPE_CHECKING, Any

__all__ = ["pattern"]

if TYPE_CHECKING:
    # Type checkers know what a compiled pattern can do.
    from re import compile as pattern
else:

    class pattern:  # noqa: N801 - called like a function
        """Has the methods of `re.Pattern`, once one of them was asked for as attributes of its own."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self._text = text
            self._flags = flags

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            made = re.compile(self._text, self._flags)
            for each in _PUBLIC:
                setattr(self, each, getattr(made, each))
            return getattr(made, name)

    _PUBLIC = tuple(name for name in dir(re.Pattern) if not name.startswith("_"))
