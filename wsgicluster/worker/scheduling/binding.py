"""Binding clients to the slot that has served them, by a cookie in the responses of the application.

Only where it is needed: a request with a sound cookie gets its response as the application has made it.
"""

from collections.abc import Callable, MutableSequence
from typing import Any

from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.request.cycle import Application
from wsgicluster.worker.scheduling.sticky import StickyCookie, cache_control

_CACHE_CONTROL = "cache-control"
_FORGED = int(Cell.FORGED_COOKIES)


def bound(
    application: Application,
    cookie: StickyCookie,
    slot: int,
    slots: Callable[[], int],
    cells: MutableSequence[int] | memoryview,
) -> Application:
    """The same application; its responses set ``cookie`` to ``slot`` where the request has none that is sound.

    ``slots`` returns how many there are to be: the client of a worker whose slot goes is not bound to it. A cookie that
    is not sound is counted in ``cells``.
    """
    prefix = f"{cookie.name}="

    def binding(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        sent, wanted = environ.get("HTTP_COOKIE", ""), slots()
        if slot > wanted or cookie.slot(sent, wanted) is not None:
            return application(environ, start_response)
        if prefix in sent:
            cells[_FORGED] += 1
        field = cookie.field(slot, environ.get("SCRIPT_NAME", ""), environ["wsgi.url_scheme"] == "https")

        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            # Invalid headers are refused by start_response; and what a cache has is not changed by a 304.
            if isinstance(headers, list) and all(map(_is_field, headers)) and not str(status).startswith("304"):
                headers = _with_cookie(headers, field)
            return start_response(status, headers, exc_info)

        return application(environ, start)

    return binding


def _is_field(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _with_cookie(headers: list[tuple[str, str]], field: tuple[str, str]) -> list[tuple[str, str]]:
    present = [value for name, value in headers if name.lower() == _CACHE_CONTROL]
    wanted = cache_control(", ".join(present) if present else None)
    if wanted is not None:
        headers = [each for each in headers if each[0].lower() != _CACHE_CONTROL]
        headers.append(("Cache-Control", wanted))
    return [*headers, field]
