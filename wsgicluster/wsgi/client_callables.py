"""The callables in an environ beside ``start_response``: early hints, whether the client is there, more time.

The callables stand in the template of a connection's environs, so that a request costs next to nothing for them. They
mean the request that is under way, and an application may keep them, or its whole environ, for longer than that. So
the code that begins a request counts the references to them, and a connection whose callables are kept gets new ones.
"""

import math
from _thread import get_ident
from collections.abc import Callable, Iterable
from sys import getrefcount
from time import monotonic
from typing import Any, Protocol

from wsgicluster.http.core import exact_format_response

_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n"
# RFC 9110, section 8.6, and RFC 9112, section 6.1: neither status has a length or a coding.
_UNFRAMED = "204 No Content"
_UNFRAMED_BYTES = len(f"HTTP/1.1 {_UNFRAMED}\r\n")

_FOREVER_S = 1e9
"""Thirty years: more than any supervisor can sleep."""


class OpenResponse(Protocol):
    """A response that is under way."""

    def send_interim(self, data: bytes) -> None:
        """Send a whole interim response, unless it is too late for it. Raises ClientGone."""

    def lost_client(self) -> bool:
        """Whether the client has left; receives nothing."""


class Runner(Protocol):
    """Who calls the application, in the thread ``thread_id``."""

    thread_id: int

    def extend_deadline(self, deadline: float) -> None:
        """Let the present request run until then, by the monotonic clock; ``math.inf`` is without limit."""


class Answers(Protocol):
    """What answers requests without telling their contacts; ``cycle`` is its runner."""

    @property
    def cycle(self) -> Runner:
        """Who calls the application."""

    def answer_to(self, contact: "ClientCallables") -> OpenResponse | None:
        """The response that is under way to the client of a contact."""


class ClientCallables:
    """One client as its application sees it; belongs to one connection, and to one of its requests at a time.

    ``answer`` is the response that is under way, ``runner`` makes it; ``answers`` knows of those
    that are not said here. ``baseline_refcount`` is what ``getrefcount`` says of each of the callables while a template
    and one environ hold them, and no application has kept them.
    """

    __slots__ = (
        "_answers",
        "_gone",
        "_kept",
        "answer",
        "baseline_refcount",
        "client_disconnected",
        "early_hints",
        "extend_deadline",
        "runner",
    )  # fmt: skip

    def __init__(self, answers: Answers | None = None) -> None:
        self.answer: OpenResponse | None = None
        self._gone = False
        self._kept: object = None
        self.be_answered_by(answers)
        self.baseline_refcount = _USUAL_REFERENCES
        self.early_hints: Callable[[Iterable[tuple[str, str]]], None] | None = self._send_hints
        self.client_disconnected: Callable[[], bool] | None = self._is_gone
        self.extend_deadline: Callable[[float | None], None] | None = self._extend

    def be_answered_by(self, answers: Answers | None) -> None:
        """From the next request on ``answers`` knows of responses that are not said here; None for no other."""
        self._answers = answers
        if self.answer is None:
            self.runner: Runner | None = answers.cycle if answers is not None else None

    def enter(self, environ: dict[str, Any]) -> None:
        """Put the callables into an environ, or into the template of some."""
        environ["wsgi.early_hints"] = self.early_hints
        environ["wsgicluster.client_disconnected"] = self.client_disconnected
        environ["wsgicluster.extend_deadline"] = self.extend_deadline

    def is_kept(self) -> bool:
        """Whether an application has kept one of the callables; while the next request has its environ already."""
        usual = self.baseline_refcount
        return (
            getrefcount(self.early_hints) > usual
            or getrefcount(self.client_disconnected) > usual
            or getrefcount(self.extend_deadline) > usual
        )

    def close(self) -> None:
        """There is no request any more, and there will be none."""
        self.answer = self._answers = self._kept = None
        self.early_hints = self.client_disconnected = self.extend_deadline = None

    def interrupt(self, data: bytes) -> None:
        """Send an interim response if the request's own has not begun. Raises ClientGone."""
        answer = self._current()
        if answer is not None:
            answer.send_interim(data)

    def _current(self) -> OpenResponse | None:
        # Another thread could find a response not begun that is just being sent.
        runner = self.runner
        if runner is None or get_ident() != runner.thread_id:
            return None
        if self.answer is None and self._answers is not None:
            return self._answers.answer_to(self)
        return self.answer

    def _send_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """``wsgi.early_hints``: tell the client header fields that the response will have (RFC 8297).

        Raises TypeError and ValueError for what `start_response` would not take either, and ClientGone.
        """
        fields = exact_format_response(_UNFRAMED, headers)[0][0][_UNFRAMED_BYTES:]
        if fields:
            self.interrupt(b"%b%b\r\n" % (_EARLY_HINTS, fields))

    def _is_gone(self) -> bool:
        """``wsgicluster.client_disconnected``: whether the client has left, as far as can be seen.

        When the request is over, and in other threads, this is what was seen last.
        """
        answer = self._current()
        if answer is not None and answer.lost_client():
            # Later calls return the same, so from now on these callables count as kept by the application.
            self._gone, self._kept = True, self.client_disconnected
        return self._gone

    def _extend(self, seconds: float | None) -> None:
        """``wsgicluster.extend_deadline``: let the request run for so many seconds from now; None is without limit.

        Does nothing when the request is over, and in other threads. Raises TypeError for what is not a number,
        ValueError for one that is not above 0.
        """
        deadline = monotonic() + _checked(seconds)
        if self._current() is not None and self.runner is not None:
            self.runner.extend_deadline(deadline)


def _checked(seconds: Any) -> float:
    if seconds is None:
        return math.inf
    if isinstance(seconds, bool) or not hasattr(type(seconds), "__float__"):
        raise TypeError(f"extend_deadline() takes a number of seconds or None, not {type(seconds).__name__}")
    try:
        left_s = float(seconds)
    except OverflowError:
        left_s = math.inf if seconds > 0 else 0.0
    if not left_s > 0:
        raise ValueError(f"extend_deadline() takes more than 0 seconds or None, not {seconds!r}")
    return left_s if left_s < _FOREVER_S else math.inf


def _usual_references() -> int:
    contact = ClientCallables()
    template: dict[str, Any] = {}
    contact.enter(template)
    environ = template.copy()
    count = getrefcount(contact.early_hints)
    del environ
    return count


_USUAL_REFERENCES = 0
_USUAL_REFERENCES = _usual_references()
