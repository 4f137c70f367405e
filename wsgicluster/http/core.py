"""The parser and the writer in use: compiled where they were built, else plain Python.

``WSGICLUSTER_PURE=1`` in the environment selects plain Python; both return the same results.
"""

import os
from typing import Any

from wsgicluster.http import grammar
from wsgicluster.http.head import parse_head
from wsgicluster.http.response import exact_head, format_response

compiled = False
missing = ""
"""Why there is no compiled core although plain Python was not selected; empty where there is one."""

if os.environ.get("WSGICLUSTER_PURE", "") in ("", "0"):
    try:
        from wsgicluster.http._parser import parse_head
        from wsgicluster.http._writer import format_response
    except ImportError as error:
        # Installed without a compiler, or for another Python: everything works, but slower.
        missing = str(error)
    else:
        compiled = True

if not compiled:
    # Every request needs them: compiled here, before workers are forked.
    for each in vars(grammar).values():
        getattr(each, "fullmatch", None)

__all__ = ["compiled", "description", "exact_format_response", "format_response", "missing", "parse_head"]


def exact_format_response(status: Any, headers: Any) -> tuple[tuple[bytes, int, int], str, list[tuple[str, str]]]:
    """`format_response` of what it has refused with a TypeError, and the status and headers that were meant.

    Markup, members of a StrEnum, tuples and generators are taken, too: to ask for them before the first try would cost
    each response. Raises TypeError and ValueError for what must not be sent.
    """
    exact = exact_head(status, headers)
    return format_response(*exact), *exact


def description() -> str:
    """The core in use, and the reason where it is plain Python."""
    if compiled:
        return "compiled"
    return f"plain Python: {missing}" if missing else "plain Python: WSGICLUSTER_PURE is set"
