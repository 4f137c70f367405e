"""What an application may do with its client beside its response: hint at what it will need, see whether it is there.

The callables stand in the template of a connection's environs, so that a request costs next to nothing for them. They
mean the request that is under way, and an application may keep them, or its whole environ, for longer than that. So
whoever begins a request counts the references to them, and a connection whose callables are kept gets new ones.
"""

from _thread import get_ident
from collections.abc import Callable, Iterable
from sys import getrefcount
from typing import Any, Protocol

from wsgicluster.http.core import format_response

_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n"
# RFC 9110, section 8.6, and RFC 9112, section 6.1: neither status has a length or a coding.
_UNFRAMED = "204 No Content"
_UNFRAMED_BYTES = len(f"HTTP/1.1 {_UNFRAMED}\r\n")


class Answer(Protocol):
    """A response that is under way."""

    def send_interim(self, data: bytes) -> None:
        """Send a whole interim response, unless it is too late for it. Raises ClientGone."""

    def lost_client(self) -> bool:
        """Whether the client has left; receives nothing."""


class Answers(Protocol):
    """Somebody who answers requests without telling their contacts."""

    def answer_to(self, contact: "Contact") -> Answer | None:
        """The response that is under way to the client of a contact."""


class Contact:
    """One client as its application sees it; belongs to one connection, and to one of its requests at a time.

    ``answer`` is the response that is under way, ``thread_id`` the thread that makes it; ``answers`` knows of those
    that are not said here. ``usual_references`` is what ``getrefcount`` says of each of the callables while a template
    and one environ hold them, and no application has kept them.
    """

    __slots__ = (
        "_answers", "_gone", "_kept",
        "answer", "client_disconnected", "early_hints", "thread_id", "usual_references",
    )  # fmt: skip

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers = answers
        self.answer: Answer | None = None
        self._gone = False
        self._kept: object = None
        self.thread_id = get_ident()
        self.usual_references = _USUAL_REFERENCES
        self.early_hints: Callable[[Iterable[tuple[str, str]]], None] | None = self._send_hints
        self.client_disconnected: Callable[[], bool] | None = self._is_gone

    def enter(self, environ: dict[str, Any]) -> None:
        """Put the callables into an environ, or into the template of some."""
        environ["wsgi.early_hints"] = self.early_hints
        environ["wsgicluster.client_disconnected"] = self.client_disconnected

    def close(self) -> None:
        """There is no request any more, and there will be none."""
        self.answer = self._answers = self._kept = self.early_hints = self.client_disconnected = None

    def interrupt(self, data: bytes) -> None:
        """Send an interim response if the request's own has not begun. Raises ClientGone."""
        answer = self._current()
        if answer is not None:
            answer.send_interim(data)

    def _current(self) -> Answer | None:
        # Another thread could find a response not begun that is just being sent.
        if get_ident() != self.thread_id:
            return None
        if self.answer is None and self._answers is not None:
            return self._answers.answer_to(self)
        return self.answer

    def _send_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """``wsgi.early_hints``: tell the client header fields that the response will have (RFC 8297).

        Raises TypeError and ValueError for what `start_response` would not take either, and ClientGone.
        """
        fields = format_response(_UNFRAMED, list(headers))[0][_UNFRAMED_BYTES:]
        if fields:
            self.interrupt(b"%b%b\r\n" % (_EARLY_HINTS, fields))

    def _is_gone(self) -> bool:
        """``wsgicluster.client_disconnected``: whether the client has left, as far as can be seen.

        When the request is over, and in other threads, this is what was seen last.
        """
        answer = self._current()
        if answer is not None and answer.lost_client():
            # Whoever asks again is told the same, so from now on this contact counts as kept by somebody.
            self._gone, self._kept = True, self.client_disconnected
        return self._gone


def _usual_references() -> int:
    contact = Contact()
    template: dict[str, Any] = {}
    contact.enter(template)
    environ = template.copy()
    count = getrefcount(contact.early_hints)
    del environ
    return count


_USUAL_REFERENCES = 0
_USUAL_REFERENCES = _usual_references()
