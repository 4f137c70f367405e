"""The parser and the writer in use: compiled where that was built, else plain Python.

``WSGICLUSTER_PURE=1`` in the environment asks for plain Python; both give the same results.
"""

import os

from wsgicluster.http.head import parse_head
from wsgicluster.http.response import format_response

compiled = False

if os.environ.get("WSGICLUSTER_PURE", "") in ("", "0"):
    try:
        from wsgicluster.http._speedups import format_response, parse_head
    except ImportError:
        # Built without a compiler: everything works, only slower.
        pass
    else:
        compiled = True

__all__ = ["compiled", "format_response", "parse_head"]
