"""Applications that speak with their clients beside their responses: hints, and whether they are still there."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.worker.kinds.sync.application_shapes import KIB, OK, TYPE, Blocks, length
from tests.worker.kinds.sync.conversation import App, Case, Environ, StartResponse
from tests.worker.kinds.sync.fast_path_requests import NEXT
from tests.worker.kinds.sync.looped_client import FIN

LINK = ("Link", "</style.css>; rel=preload; as=style")
FAULT = LookupError("the application's own fault")


def _noted(case: Case, call: Callable[[], object]) -> None:
    """Note what a call answers or raises."""
    try:
        case.notes.append(call())
    except Exception as error:
        case.notes.append((type(error).__name__, str(error)))


def _hints(*heads: Any, result: Callable[[Case], Any] = lambda _case: [b"body"]) -> App:
    """Gives each of the lists as a hint, then its answer."""

    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        for headers in heads:
            _noted(case, lambda headers=headers: environ["wsgi.early_hints"](headers))  # type: ignore[misc]
        start(OK, [TYPE])
        return result(case)

    return app


def _raise(_case: Case) -> Any:
    raise FAULT


def _hints_and_raises(_case: Case, environ: Environ, _start: StartResponse) -> Any:
    environ["wsgi.early_hints"]([LINK])
    raise FAULT


def _hints_on_the_way(_case: Case, environ: Environ, start: StartResponse) -> Iterator[bytes]:
    hint = environ["wsgi.early_hints"]
    hint([LINK])
    yield b""
    hint([("X-Second", "2")])
    start(OK, [TYPE])
    hint([("X-Third", "3")])
    yield b"one"
    hint([("X-Late", "4")])
    yield b"two"


def _hints_in_close(case: Case, environ: Environ, start: StartResponse) -> Any:
    class Hinting(Blocks):
        def close(self) -> None:
            super().close()
            environ["wsgi.early_hints"]([LINK])

    start(OK, [TYPE, length(3)])
    return Hinting(case, [b"one"])


def _hints_around_write(_case: Case, environ: Environ, start: StartResponse) -> Any:
    write = start(OK, [TYPE])
    environ["wsgi.early_hints"]([LINK])
    write(b"one")
    environ["wsgi.early_hints"]([("X-Late", "1")])
    return [b"two"]


def _hints_from_a_thread(_case: Case, environ: Environ, start: StartResponse) -> Any:
    thread = threading.Thread(target=environ["wsgi.early_hints"], args=([LINK],))
    thread.start()
    thread.join()
    start(OK, [TYPE])
    return [b"body"]


def _uses_former_environ(case: Case, environ: Environ, start: StartResponse) -> Any:
    """What the request before was given does not speak for this one, which has its own."""
    kept = case.kept.get("environ")
    if kept is not None:
        _noted(case, lambda: kept["wsgi.early_hints"]([("X-Stray", "1")]))
        case.notes.append(kept["wsgi.early_hints"] == environ["wsgi.early_hints"])
    case.kept["environ"] = environ
    environ["wsgi.early_hints"]([LINK])
    start(OK, [TYPE])
    return [b"own"]


def _uses_former_callable(case: Case, environ: Environ, start: StartResponse) -> Any:
    """The same where not the environ was kept, but only what was in it."""
    kept = case.kept.get("hint")
    if kept is not None:
        _noted(case, lambda: kept([("X-Stray", "1")]))
    case.kept["hint"] = environ.pop("wsgi.early_hints")
    case.kept["hint"]([LINK])
    start(OK, [TYPE])
    return [b"own"]


def _watches(*acts: Callable[[Case], object], result: Callable[[Case], Any] = lambda _case: [b"body"]) -> App:
    """Asks whether its client has left, before and after each act of the client's, and once more in a thread."""

    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        is_gone = environ["wsgicluster.client_disconnected"]
        case.notes.append(is_gone())
        if "/next" in environ["RAW_URI"]:
            start(OK, [TYPE])
            return [b"next"]
        for act in acts:
            act(case)
            case.notes.append(is_gone())
        thread = threading.Thread(target=lambda: case.notes.append(is_gone()))
        thread.start()
        thread.join()
        case.at_end.append(is_gone)
        start(OK, [TYPE])
        return result(case)

    return app


def _watches_on_the_way(case: Case, environ: Environ, start: StartResponse) -> Iterator[bytes]:
    is_gone = environ["wsgicluster.client_disconnected"]
    case.notes.append(is_gone())
    yield b""
    write = start(OK, [TYPE])
    case.notes.append(is_gone())
    yield b"one"
    case.notes.append(is_gone())
    write(b"written")
    case.notes.append(is_gone())


CONTACTS: dict[str, App] = {
    "hint": _hints([LINK]),
    "hint, stream": _hints([LINK], result=lambda case: Blocks(case, [b"one", b"two"])),
    "hint, stream, length": _hints([LINK], result=lambda case: Blocks(case, [b"one"])),
    "hint twice": _hints([LINK, LINK], [("X-Second", "2")]),
    "hint nothing": _hints([]),
    "hint of length and coding": _hints(
        [length(5), ("Transfer-Encoding", "chunked"), ("Connection", "close"), LINK], [length(5)]
    ),
    "hint, tuple and items": _hints((LINK,), dict([LINK]).items()),
    "hints that are none": _hints(
        None, 5, "ab", [LINK[0]], [("a", "b", "c")], [("X", b"bytes")], [["X", "list"]], [("X Name", "a")],
        [("X", "a\r\nb: c")], [("X", "a\nb")], [("X", "\u2713")], [("X\r\n", "a")],
    ),
    "hint of 2 MiB": _hints([("X-Large", "x" * 2 * KIB * KIB)]),
    "hint of 2 MiB, stream": _hints(
        [("X-Large", "x" * 2 * KIB * KIB)], [LINK], result=lambda case: Blocks(case, [b"one", b"two"])
    ),
    "hint, fail": _hints([LINK], result=_raise),
    "hint, raise": _hints_and_raises,
    "hint on the way": _hints_on_the_way,
    "hint in close": _hints_in_close,
    "hint around write": _hints_around_write,
    "hint from a thread": _hints_from_a_thread,
    "former environ": _uses_former_environ,
    "former callable": _uses_former_callable,
    "watch": _watches(),
    "watch, stream": _watches(result=lambda case: Blocks(case, [b"one", b"two"])),
    "watch on the way": _watches_on_the_way,
    "watch, end": _watches(lambda case: case.client.send(FIN)),
    "watch, next": _watches(lambda case: case.client.send(NEXT)),
    "watch, next and end": _watches(lambda case: case.client.send(NEXT), lambda case: case.client.send(FIN)),
}  # fmt: skip
