"""What an application may do with its client beside its response: hint at what the page will need.

The callable stands in the template of a connection's environs, so that a request costs next to nothing for it. It
means the request that is under way, and an application may keep it, or its whole environ, for longer than that. So
whoever begins a request asks `Contact.is_kept`, and a connection with one that is gets a new one.
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


class Answers(Protocol):
    """Somebody who answers requests without telling their contacts."""

    def answer_to(self, contact: "Contact") -> Answer | None:
        """The response that is under way to the client of a contact."""


class Contact:
    """One client as its application sees it; belongs to one connection, and to one of its requests at a time.

    ``answers`` knows of the responses that are not made known by `begin`. ``usual_references`` are those to each of the
    callables that no application has taken, while a template and an environ hold them.
    """

    __slots__ = ("_answer", "_answers", "_thread", "early_hints", "usual_references")

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers = answers
        self._answer: Answer | None = None
        self._thread = get_ident()
        self.usual_references = _USUAL_REFERENCES
        self.early_hints: Callable[[Iterable[tuple[str, str]]], None] | None = self._send_hints

    def enter(self, environ: dict[str, Any]) -> None:
        """Put the callables into an environ, or into the template of some."""
        environ["wsgi.early_hints"] = self.early_hints

    def is_kept(self) -> bool:
        """Whether an application has kept a callable from an earlier request."""
        return getrefcount(self.early_hints) > self.usual_references

    def begin(self, answer: Answer) -> None:
        """A request has begun, in the thread that calls this."""
        self._thread = get_ident()
        self._answer = answer

    def end(self) -> None:
        """It is over."""
        self._answer = None

    def close(self) -> None:
        """It is over, and there will be no other one."""
        self._answer = self._answers = self.early_hints = None

    def interrupt(self, data: bytes) -> None:
        """Send an interim response if the request's own has not begun. Raises ClientGone."""
        answer = self._current()
        if answer is not None:
            answer.send_interim(data)

    def _current(self) -> Answer | None:
        # Another thread could find a response not begun that is just being sent.
        if get_ident() != self._thread:
            return None
        if self._answer is None and self._answers is not None:
            return self._answers.answer_to(self)
        return self._answer

    def _send_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """``wsgi.early_hints``: tell the client header fields that the response will have (RFC 8297).

        Raises TypeError and ValueError for what `start_response` would not take either, and ClientGone.
        """
        fields = format_response(_UNFRAMED, list(headers))[0][_UNFRAMED_BYTES:]
        if fields:
            self.interrupt(b"%b%b\r\n" % (_EARLY_HINTS, fields))


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
