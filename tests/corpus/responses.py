"""Response heads as applications give them, and what must be written, for every implementation of `format_response`."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wsgicluster.http.response import HAS_DATE, HAS_SERVER, NO_BODY, WANTS_CLOSE

PLAIN = ("Content-Type", "text/plain")


@dataclass(frozen=True)
class Response:
    """One case: the fields as ``written`` with length and info, or an error that has ``says`` in its text."""

    name: str
    headers: Any
    status: Any = "200 OK"
    line: str = "HTTP/1.1 200 OK"
    written: tuple[str, ...] = ()
    length: int = -1
    info: int = 0
    error: type[Exception] | None = None
    says: tuple[str, ...] = field(default=())


class List(list[tuple[str, str]]):
    """Frameworks have their own lists."""


class Text(str):
    """What Markup, SafeString and the like are."""

    __slots__ = ()


class Code(str, enum.Enum):
    """Whose members show their names where they are formatted, unlike those of a StrEnum."""

    OK = "200 OK"
    NAME = "X-Code"
    VALUE = "value"
    LENGTH = "4"


class Liar(str):
    """Harmless wherever it is asked, and what was given to it wherever that is not so."""

    __slots__ = ()

    def __str__(self) -> str:
        return "fine"

    def __format__(self, spec: str) -> str:
        return "fine"

    def __len__(self) -> int:
        return 4

    def __hash__(self) -> int:
        return hash("fine")

    def __eq__(self, other: object) -> bool:
        return other == "fine"

    def isascii(self) -> bool:
        return True

    def isprintable(self) -> bool:
        return True

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"fine"


class Friend(str):
    """Harmful only where it is asked: what was given to it is sent."""

    __slots__ = ()

    def __str__(self) -> str:
        return "x\r\nX-Injected: x"

    def __format__(self, spec: str) -> str:
        return str(self)

    def strip(self, characters: str | None = None) -> str:
        return str(self)

    lower = upper = strip

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return b"x\r\nX-Injected: x"


class Pair(tuple[str, str]):
    """As a named tuple is."""

    __slots__ = ()


class Pairs:
    """An iterable that is not a list, as some classes of header fields are."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


def _valid() -> Iterator[Response]:
    yield Response("none", [])
    yield Response("one", [PLAIN], written=("Content-Type: text/plain",))
    yield Response("list-of-another-class", List([PLAIN]), written=("Content-Type: text/plain",))
    yield Response("order-and-case", [("b", "2"), ("A", "1"), ("b", "3")], written=("b: 2", "A: 1", "b: 3"))
    yield Response(
        "cookies", [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")], written=("Set-Cookie: a=b", "Set-Cookie: c=d")
    )
    yield Response("empty-value", [("X-A", "")], written=("X-A: ",))
    for value in ("a b ", " a b", "\t a b \t", "a b\t"):
        yield Response(f"space-around-{value}", [("X-A", value)], written=("X-A: a b",))
    yield Response("spaces", [("X-A", " \t")], written=("X-A: ",))
    yield Response("no-break-space", [("X-A", "\xa0a\x85")], written=("X-A: \xa0a\x85",))
    yield Response("length-space-around", [("Content-Length", " 5 ")], written=("Content-Length: 5",), length=5)
    yield Response("tab", [("X-A", "a\tb")], written=("X-A: a\tb",))
    yield Response("latin1", [("X-A", "caf\xe9 \x80\xff")], written=("X-A: caf\xe9 \x80\xff",))
    yield Response("strange-name", [("!#$%&'*+-.^_`|~09", "v")], written=("!#$%&'*+-.^_`|~09: v",))
    yield Response("long-name", [("X-" + "a" * 100, "v")], written=("X-" + "a" * 100 + ": v",))
    yield Response("length", [("Content-Length", "12")], written=("Content-Length: 12",), length=12)
    yield Response("length-case", [("CONTENT-LENGTH", "0")], written=("CONTENT-LENGTH: 0",), length=0)
    yield Response("length-zeros", [("content-length", "007")], written=("content-length: 007",), length=7)
    yield Response("date", [("dAte", "x")], written=("dAte: x",), info=HAS_DATE)
    yield Response("server", [("server", "x")], written=("server: x",), info=HAS_SERVER)
    yield Response(
        "both", [("Server", "x"), ("Date", "y")], written=("Server: x", "Date: y"), info=HAS_DATE | HAS_SERVER
    )
    yield from _unusual()
    for name in (
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Proxy-Connection",
        "transfer-ENCODING",
    ):
        yield Response(f"hop-{name}", [(name, "chunked"), PLAIN], written=("Content-Type: text/plain",))
    yield Response("end-to-end", [("Proxy-Authenticate", "x")], written=("Proxy-Authenticate: x",))
    for value, info in (("close", WANTS_CLOSE), ("x ,\tClose", WANTS_CLOSE), ("keep-alive", 0), ("closed", 0), ("", 0)):
        yield Response(f"connection-{value}", [("Connection", value)], info=info)
    for status, line in (
        ("404 Not Found", "HTTP/1.1 404 Not Found"),
        ("200", "HTTP/1.1 200 "),
        ("200 ", "HTTP/1.1 200 "),
        ("299 \tcaf\xe9", "HTTP/1.1 299 \tcaf\xe9"),
        ("999 x", "HTTP/1.1 999 x"),
        ("500 " + "long " * 40, "HTTP/1.1 500 " + "long " * 40),
    ):
        yield Response(f"status-{status}", [PLAIN], status, line, ("Content-Type: text/plain",))
    sized = [PLAIN, ("Content-Length", "3")]
    plain = "Content-Type: text/plain"
    yield Response("204", sized, "204 No Content", "HTTP/1.1 204 No Content", (plain,), -1, NO_BODY)
    yield Response("204-bare", [], "204", "HTTP/1.1 204 ", (), -1, NO_BODY)
    line = "HTTP/1.1 304 Not Modified"
    yield Response("304", sized, "304 Not Modified", line, (plain, "Content-Length: 3"), 3, NO_BODY)
    yield Response("304-bare", [], "304 Not Modified", line, (), -1, NO_BODY)
    line = "HTTP/1.1 205 Reset Content"
    yield Response("205", sized, "205 Reset Content", line, (plain, "Content-Length: 0"), 0, NO_BODY)
    yield Response("205-bare", [], "205 Reset Content", line, ("Content-Length: 0",), 0, NO_BODY)


def _unusual() -> Iterator[Response]:
    """What is not exactly str, list and tuple, but behaves like them: every other server takes it."""
    plain = "Content-Type: text/plain"
    for name, headers in (
        ("tuple", (PLAIN,)),
        ("set", {PLAIN}),
        ("iterable", Pairs(PLAIN)),
        ("item-list", [["Content-Type", "text/plain"]]),
        ("item-pair", [Pair(PLAIN)]),
        ("text-name", [(Text("Content-Type"), "text/plain")]),
        ("text-value", [("Content-Type", Text("text/plain"))]),
        ("all", Pairs([Text(PLAIN[0]), Text(PLAIN[1])])),
        ("friend", [("Content-Type", Friend("text/plain"))]),
        ("friendly-name", [(Friend("Content-Type"), "text/plain")]),
    ):
        yield Response(f"unusual-{name}", headers, written=(plain,))
    for status in (Text("200 OK"), Code.OK, Friend("200 OK")):
        yield Response(f"unusual-status-{type(status).__name__}", [PLAIN], status, written=(plain,))
    yield Response("unusual-enum", [(Code.NAME, Code.VALUE)], written=("X-Code: value",))
    yield Response("unusual-length", [("Content-Length", Code.LENGTH)], written=("Content-Length: 4",), length=4)
    yield Response("unusual-connection", [("Connection", Text("close"))], info=WANTS_CLOSE)
    yield Response("unusual-date", [(Text("Date"), "x")], written=("Date: x",), info=HAS_DATE)


def _refused() -> Iterator[Response]:
    for name, status in (
        ("99", "99 Low"),
        ("099", "099 Low"),
        ("100", "100 Continue"),
        ("101", "101 Switching Protocols"),
        ("1000", "1000 x"),
        ("word", "OK"),
        ("empty", ""),
        ("no-space", "200OK"),
        ("tab", "200\tOK"),
        ("space-first", " 200 OK"),
        ("crlf", "200 OK\r\nX-Injected: x"),
        ("lf", "200 OK\nX-Injected: x"),
        ("lf-last", "200 OK\n"),
        ("cr", "200 OK\r"),
        ("nul", "200 O\0K"),
        ("del", "200 O\x7fK"),
        ("beyond-latin1", "200 \u20ac"),
        ("digits", "\u0662\u0660\u0660 OK"),
        ("superscript", "20\xb2 OK"),
    ):
        yield Response(f"status-bad-{name}", [PLAIN], status, error=ValueError, says=("status",))
    for name, header in (
        ("empty", ""),
        ("space", "X A"),
        ("space-last", "X-A "),
        ("colon", "X-A:"),
        ("crlf", "X-A\r\nX-Injected"),
        ("lf", "X-A\n"),
        ("nul", "X-A\0"),
        ("high", "X-\xe9"),
        ("beyond-latin1", "X-\u20ac"),
    ):
        yield Response(f"name-bad-{name}", [(header, "v")], error=ValueError, says=("name", repr(header)))
    for name, value in (
        ("crlf", "a\r\nX-Injected: x"),
        ("crlf-last", "a\r\n"),
        ("lf", "a\nb"),
        ("cr", "a\rb"),
        ("nul", "a\0b"),
        ("bel", "a\x07"),
        ("del", "\x7f"),
        ("fold", "a\r\n b"),
        ("esc-and-high", "\xe9\x1b"),
        ("beyond-latin1", "\u20ac"),
        ("surrogate", "\udc80"),
    ):
        for header in ("X-A", "Content-Type", "Set-Cookie"):
            raw = [PLAIN, (header, value)]
            yield Response(f"value-bad-{name}-{header}", raw, error=ValueError, says=(header, repr(value)))
        yield Response(f"value-bad-dropped-{name}", [("Connection", value)], error=ValueError, says=("Connection",))
    for kind in (Text, Liar):
        bad = kind("a\r\nX-Injected: x")
        yield Response(
            f"unusual-bad-status-{kind.__name__}", [PLAIN], kind(f"200 {str.__str__(bad)}"), error=ValueError
        )
        yield Response(f"unusual-bad-name-{kind.__name__}", [(bad, "v")], error=ValueError)
        yield Response(f"unusual-bad-value-{kind.__name__}", [("X-A", bad)], error=ValueError, says=("X-A",))
        yield Response(f"unusual-bad-list-{kind.__name__}", Pairs(["X-A", bad]), error=ValueError)
    raw = [("X-Long", "\n" * 500)]
    yield Response("value-shown-cut", raw, error=ValueError, says=("X-Long", repr("\n" * 500)[:80] + "..."))
    for value in ("", "5 5", "+5", "-5", "x", "5.0", "0x5", "5,5", "\xb2", "\u0665", "9" * 19, "1_0"):
        raw = [("Content-Length", value)]
        yield Response(f"length-bad-{value}", raw, error=ValueError, says=("Content-Length", repr(value)))
        yield Response(f"length-bad-204-{value}", raw, "204 x", error=ValueError, says=("Content-Length",))
    for second in ("5", "6"):
        raw = [("Content-Length", "5"), PLAIN, ("content-length", second)]
        yield Response(f"length-two-{second}", raw, error=ValueError, says=("content-length", "twice"))
    for name, other in (("bytes", b"200 OK"), ("int", 200), ("none", None)):
        yield Response(f"status-type-{name}", [PLAIN], other, error=TypeError, says=(type(other).__name__,))
    for name, headers in (
        ("none", None),
        ("dict", {"ab": "b"}),
        ("text", "ab"),
        ("empty-text", ""),
        ("bytes", b""),
        ("int", 5),
    ):
        yield Response(f"headers-type-{name}", headers, error=TypeError, says=(type(headers).__name__,))
    for name, item in (
        ("list-of-one", ["a"]),
        ("text", "ab"),
        ("dict", {"a": 1, "b": 2}),
        ("one", ("a",)),
        ("three", ("a", "b", "c")),
        ("none", None),
        ("bytes-name", (b"X-A", "v")),
        ("bytes-value", ("X-A", b"v")),
        ("int-value", ("Content-Length", 5)),
        ("none-value", ("X-A", None)),
        ("unhashable-name", (["X-A"], "v")),
    ):
        yield Response(f"item-type-{name}", [PLAIN, item], error=TypeError, says=("tuple", repr(item)[:20]))


RESPONSES = [*_valid(), *_refused()]
