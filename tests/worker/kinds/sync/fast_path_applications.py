"""The applications that every implementation has to answer for alike."""

import io
import tempfile
from collections.abc import Callable
from typing import Any

from tests.worker.kinds.sync import application_shapes as shapes
from tests.worker.kinds.sync.application_shapes import (
    KIB,
    OK,
    TYPE,
    in_close,
    length,
    raises,
    raises_after_start,
    reads,
    returns,
    streams,
    whole,
    wraps,
    writes,
)
from tests.worker.kinds.sync.callable_applications import CONTACTS
from tests.worker.kinds.sync.conversation import App, Case

JOIN = 16 * KIB
"""Up to here head and body are sent as one buffer."""

OUT = 24 * KIB
"""Up to here a compiled CompiledFastPath copies a block behind its framing."""

MIB = KIB * KIB
FAULT = LookupError("the application's own fault")


class _Text(str):
    """What Markup and the like are."""

    __slots__ = ()


def _raise(_case: Case) -> Any:
    raise FAULT


CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "added": lambda headers: headers.append(("X-Late", "1")),
    "cleared": lambda headers: headers.clear(),
    "spoilt": lambda headers: headers.append(("X-Late", "a\r\nb: c")),
}
RESULTS: dict[str, Callable[[Case], Any]] = {
    "list": lambda _case: [b"body"],
    "list of several": lambda _case: [b"bo", b"dy"],
    "large list": lambda _case: [b"body" * JOIN],
    "stream": lambda case: shapes.Blocks(case, [b"bo", b"dy"]),
    "stream of none": lambda case: shapes.Blocks(case, []),
    "stream with odd bytes": lambda case: shapes.Blocks(case, [b"bo", shapes.Odd(b"dy")]),
    "stream that fails": lambda case: shapes.Blocks(case, [FAULT]),
    "stream that fails later": lambda case: shapes.Blocks(case, [b"bo", FAULT]),
    "raise": _raise,
}
"""What an application does behind `CHANGES` of the headers that it has given already."""

AT_ONCE: dict[str, App] = {
    "list": returns(whole(b"hello")),
    "list, length": returns(whole(b"hello"), length(5)),
    "list, length too small": returns(whole(b"hello"), length(3)),
    "list, length too large": returns(whole(b"hello"), length(7)),
    "list, length 0": returns(whole(b"hello"), length(0)),
    "list of several": returns(whole(b"hello, ", b"", b"world")),
    "list of several, length": returns(whole(b"hello, ", b"world"), length(12)),
    "list of several, length too small": returns(whole(b"hello, ", b"world"), length(8)),
    "list of several, length too large": returns(whole(b"hello, ", b"world"), length(13)),
    "empty list": returns(whole()),
    "empty list, length": returns(whole(), length(3)),
    "list of an empty block": returns(whole(b"")),
    "list of an empty block, length 0": returns(whole(b""), length(0)),
    "tuple": returns(lambda: (b"hello",)),
    "tuple of several": returns(lambda: (b"hello, ", b"world")),
    "empty tuple": returns(tuple),
    "subclass of list": returns(lambda: type("Listed", (list,), {})([b"hello"])),
    **{
        f"list of {name}": returns(whole(b"x" * size))
        for name, size in {"JOIN": JOIN, "JOIN + 1": JOIN + 1, "OUT": OUT, "MIB + 1": MIB + 1}.items()
    },
    "list of many large": returns(whole(*[b"y" * 100_000] * 12)),
    "list of 64 KiB, length too small": returns(whole(b"x" * 64 * KIB), length(20_000)),
    "list with str": returns(whole("hello")),
    "list with bytes and str": returns(whole(b"hello", "world")),
    "list with bytearray": returns(whole(bytearray(b"hello"))),
    "list with bytearrays": returns(whole(bytearray(b"hello"), bytearray(b"world"))),
    "list with memoryview": returns(whole(memoryview(b"hello"))),
    "list with odd bytes": returns(whole(shapes.Odd(b"hello"))),
    "list with odd bytes, length": returns(whole(shapes.Odd(b"hello")), length(5)),
    "list with None": returns(whole(None)),
    "bytes": returns(lambda: b"hello"),
    "str": returns(lambda: "hello"),
    "None": returns(lambda: None),
    "number": returns(lambda: 5),
    "set": returns(lambda: {b"hello"}),
    "dict": returns(lambda: {b"key": 1}),
    "sequence without iter": returns(shapes.Unclosed),
}

STREAMED: dict[str, App] = {
    "generator": shapes._generator,
    "generator that fails": shapes._failing_generator,
    "stream": streams(b"one ", b"two"),
    "stream of one": streams(b"one"),
    "stream of one, length, then an odd field": streams(b"one", headers=[length(3), ("X-Odd", "caf\xe9")]),
    "stream of one, length, then a wrong field": streams(b"one", headers=[length(3), ("X Odd", "1")]),
    "stream of none": streams(),
    "stream of none, length": streams(headers=[length(3)]),
    "stream of none, length 0": streams(headers=[length(0)]),
    "stream of empty blocks": streams(b"", b"", b""),
    "stream with empty blocks": streams(b"", b"one", b"", b"two", b""),
    "stream, length": streams(b"one ", b"two", headers=[length(7)]),
    "stream, length too small": streams(b"one ", b"two", b"three", headers=[length(5)]),
    "stream, length within the first": streams(b"one ", b"two", headers=[length(2)]),
    "stream, length 0": streams(b"one", headers=[length(0)]),
    "stream, length too large": streams(b"one ", b"two", headers=[length(8)]),
    "stream, fails behind its length": streams(b"one", FAULT, headers=[length(3)]),
    "stream with str first": streams("one", b"two"),
    "stream with str later": streams(b"one", "two"),
    "stream with bytearray": streams(b"one", bytearray(b"two")),
    "stream with odd bytes": streams(shapes.Odd(b"one"), b"two", shapes.Odd(b"three")),
    "stream with odd bytes later": streams(b"two", shapes.Odd(b"three"), b"four"),
    "stream with odd bytes, length": streams(b"two", shapes.Odd(b"three"), headers=[length(8)]),
    "stream with None": streams(b"one", None),
    **{
        f"stream of {name}": streams(b"x" * size, b"y" * size, b"z")
        for name, size in {
            "JOIN": JOIN,
            "OUT - 200": OUT - 200,
            "OUT - 8": OUT - 8,
            "OUT - 2": OUT - 2,
            "OUT": OUT,
            "OUT + 1": OUT + 1,
            "100 KB": 100_000,
            "MIB + 1": MIB + 1,
        }.items()
    },
    **{
        f"stream of OUT - {less}, length": streams(b"x" * (OUT - less), headers=[length(OUT - less)])
        for less in (0, 2, 8, 200)
    },
    "stream of 2 MiB, length": streams(*[b"x" * 64 * KIB] * 32, headers=[length(2 * MIB)]),
    "stream of 2 MiB": streams(*[b"x" * 64 * KIB] * 32),
    "stream of 500": streams(*[b"block"] * 500),
    "no iterator": shapes.fails_to_iterate,
    "close is None": returns(lambda: type("Unclosable", (shapes.Unclosed,), {"close": None})()),
    "close cannot be called": returns(lambda: type("Unclosable", (shapes.Unclosed,), {"close": 5})()),
    "stream fails first": streams(FAULT),
    "stream fails later": streams(b"one", FAULT),
    "stream fails much later": streams(*[b"block"] * 5, b"x" * 50_000, b"block", FAULT),
    "stream fails later, length": streams(b"one", FAULT, headers=[length(10)]),
    "stream fails, and its close": streams(b"one", FAULT, at_close=OSError("close, too")),
    "close fails": streams(b"one", at_close=FAULT),
    "close fails, length": streams(b"one", headers=[length(3)], at_close=FAULT),
    "close fails, nothing sent": streams(at_close=FAULT),
    "close fails, length too large": streams(b"one", headers=[length(5)], at_close=FAULT),
    "close fails, length too small": streams(b"one", headers=[length(2)], at_close=FAULT),
    "stream exits": streams(b"one", SystemExit(3)),
    "stream exits first": streams(SystemExit(3)),
    "stream is interrupted": streams(b"one", KeyboardInterrupt()),
    "close exits": streams(b"one", at_close=SystemExit("closed")),
    "stream ends by GeneratorExit": streams(b"one", GeneratorExit()),
    "stream, 404": streams(b"gone", status="404 Not Found"),
    "stream, 204": streams(b"gone", status="204 No Content"),
    "stream, 304": streams(b"gone", headers=[length(4)], status="304 Not Modified"),
    "stream, connection: close": streams(b"one", b"two", headers=[("Connection", "close")]),
    "stream, own date": streams(b"one", headers=[("Date", "Mon, 01 Jan 2001 00:00:00 GMT")]),
    "stream starts after an empty block": shapes._starts_after_empty_block,
    "stream starts too late": shapes._starts_after_block,
}

WRITTEN: dict[str, App] = {
    "write": writes([b"one ", b"two"], whole()),
    "write, list": writes([b"one "], whole(b"two")),
    "write, list of several": writes([b"one "], whole(b"two ", b"three")),
    "write, length": writes([b"one ", b"two"], whole(), length(7)),
    "write, list, length": writes([b"one "], whole(b"two"), length(7)),
    "write, length too small": writes([b"one ", b"two"], whole(b"three"), length(5)),
    "write, length too large": writes([b"one "], whole(b"two"), length(9)),
    "write nothing": writes([], whole(b"two")),
    "write empty": writes([b""], whole(b"two")),
    "write large": writes([b"x" * 30_000], whole(b"y" * 30_000)),
    "write, stream": writes([b"one "], lambda: iter([b"two ", b"three"])),
    "write empty, stream": writes([b""], lambda: iter([b"two ", b"three"])),
    "write str": writes(["one"], whole(b"two")),
    "write odd bytes": writes([shapes.Odd(b"one ")], whole(b"two")),
    "write, None": writes([b"one"], lambda: None),
    "write while streaming": shapes._writes_while_streaming,
    "write in close": in_close(lambda _start, write: write(b"late"), b"one"),
    "write in close, nothing sent": in_close(lambda _start, write: write(b"late")),
    "write in close, failed": in_close(lambda _start, write: write(b"late"), FAULT),
    "write in close, failed later": in_close(lambda _start, write: write(b"late"), b"one", FAULT),
    "start in close": in_close(lambda start, _write: start(OK, [TYPE]), b"one"),
    "start in close, failed": in_close(lambda start, _write: start(OK, [TYPE]), FAULT),
}

STARTED: dict[str, App] = {
    "start twice": shapes._starts_twice,
    "start twice and go on": shapes._starts_twice_and_goes_on,
    "start again while streaming": shapes._starts_again_while_streaming,
    "replace at once": shapes._replaced(-1),
    "replace before a stream": shapes._replaced(0),
    "replace too late": shapes._replaced(1),
    "start with exc_info at once": shapes._starts_with_exc_info_at_once,
    "start after a bad head": shapes._mends_its_head,
    "never start, list": shapes._never_starts(lambda: [b"body"]),
    "never start, empty list": shapes._never_starts(list),
    "never start, stream": shapes._never_starts(lambda: iter([b"body"])),
    "never start, empty stream": shapes._never_starts(lambda: iter([])),
    "never start, None": shapes._never_starts(lambda: None),
    "former response": shapes._uses_former_response,
    "raise": raises(FAULT),
    "raise after start": raises_after_start(FAULT),
    "exit": raises(SystemExit(3)),
    "exit after start": raises_after_start(SystemExit()),
    "interrupt": raises(KeyboardInterrupt()),
    "raise ClientGone's kin": raises_after_start(ConnectionResetError("of its own connection")),
    **{
        f"status {status!r}": returns(whole(b"body"), status=status)
        for status in (
            "200", "200 ", "200  OK", "201 Created", "404 Not Found", "500 Internal Server Error", "599 Odd: reason!",
            "999 Last", "204 No Content", "205 Reset Content", "304 Not Modified", "200 caf\xe9", "200 \u2713",
            "100 Continue", "101 Switching Protocols", "199 X", "1000 X", "OK", "", "200\r\nX: y", 200, None,
        )
    },
    "204, length": returns(whole(), length(0), status="204 No Content"),
    "304, length": returns(whole(), length(10), status="304 Not Modified"),
    "205, length": returns(whole(), length(5), status="205 Reset Content"),
}  # fmt: skip

HEADED: dict[str, App] = {
    "no headers": shapes._starts("200 OK", []),
    "own date": returns(whole(b"body"), ("Date", "Mon, 01 Jan 2001 00:00:00 GMT")),
    "own server": returns(whole(b"body"), ("server", "mine")),
    "own date and server": returns(whole(b"body"), ("Server", "mine"), ("Date", "Mon, 01 Jan 2001 00:00:00 GMT")),
    "own empty server": returns(whole(b"body"), ("Server", "")),
    "connection: close": returns(whole(b"body"), ("Connection", "close")),
    "connection: keep-alive": returns(whole(b"body"), ("Connection", "keep-alive")),
    "connection: options": returns(whole(b"body"), ("connection", "x-option, Close")),
    **{
        f"hop by hop {name}": returns(whole(b"body"), (name, value))
        for name, value in {
            "Transfer-Encoding": "chunked", "Keep-Alive": "timeout=5", "Upgrade": "h2c", "Trailer": "X", "TE": "gzip",
        }.items()
    },
    "stream, own coding": streams(b"one", headers=[("Transfer-Encoding", "chunked")]),
    "latin-1 value": returns(whole(b"body"), ("X-Name", "caf\xe9")),
    "value beyond latin-1": returns(whole(b"body"), ("X-Name", "\u2713")),
    "empty value": returns(whole(b"body"), ("X-Name", "")),
    "spaces around value": returns(whole(b"body"), ("X-Name", "  a  ")),
    **{
        f"value {value!r}": returns(whole(b"body"), ("X-Name", value))
        for value in ("a\r\nb: c", "a\nb", "a\0b", "a\tb", "a\x7fb", b"bytes", 5, None)
    },
    **{
        f"name {name!r}": returns(whole(b"body"), (name, "a"))
        for name in ("X Name", "X-Name:", "", "X-\xe9", "X-Never-Seen-By-Anybody", b"X-Bytes", None)
    },
    **{
        f"length {value!r}": returns(whole(b"body"), length(value))
        for value in ("04", "-1", "+4", "4 ", "x", "", "\u0664", "9" * 18, "9" * 19)
    },
    "length as int": returns(whole(b"body"), ("Content-Length", 4)),
    "length twice": returns(whole(b"body"), length(4), length(4)),
    "length in lower case": returns(whole(b"body"), ("content-length", "4")),
    "headers in a tuple": shapes._starts("200 OK", (TYPE,)),
    "headers in a generator": shapes._starts_by_generator,
    "headers are None": shapes._starts("200 OK", None),
    "header is a list": shapes._starts("200 OK", [["Content-Type", "text/plain"]]),
    "header of three": shapes._starts("200 OK", [("A", "b", "c")]),
    "header is a str": shapes._starts("200 OK", ["ab"]),
    "headers in a subclass": shapes._starts("200 OK", type("Listed", (list,), {})([TYPE])),
    "header is a named tuple": shapes._starts("200 OK", [type("Pair", (tuple,), {})(TYPE)]),
    "name of a subclass": returns(whole(b"body"), (_Text("X-A"), "a")),
    "name and value of a subclass": shapes._starts("200 OK", [[_Text("Content-Type"), _Text("text/plain")]]),
    "status of a subclass": returns(whole(b"body"), status=_Text("201 Created")),
    "length of a subclass": returns(whole(b"body"), [_Text("Content-Length"), _Text("4")]),
    "stream, value of a subclass": streams(b"one", headers=[("X-A", _Text("a"))]),
    "line end in a subclass": returns(whole(b"body"), ("X-A", _Text("a\r\nb: c"))),
    "long value": returns(whole(b"body"), ("X-Long", "v" * 3900)),
    "longer value": returns(whole(b"body"), ("X-Long", "v" * 5000)),
    "stream, longer value": streams(b"one", headers=[("X-Long", "v" * 30_000)]),
    "many cookies": returns(whole(b"body"), *[("Set-Cookie", f"name{number}=value") for number in range(300)]),
    **{
        f"headers {change_name}, {result_name}": shapes.changes_headers(change, result)
        for change_name, change in CHANGES.items()
        for result_name, result in RESULTS.items()
    },
}  # fmt: skip

SURROUNDED: dict[str, App] = {
    "changed environ": shapes._changes_environ,
    "cleared environ": shapes._clears_environ,
    "read all": reads(lambda source: source.read()),
    "read some": reads(lambda source: source.read(3)),
    "read line": reads(lambda source: (source.readline(), source.readlines())),
    "read by iterating": reads(list),
    "read too much": reads(lambda source: (source.read(1 << 22), source.read(5), source.read())),
    "close input": reads(lambda source: source.close()),
    "echo": shapes._echoes,
    "stream the input": shapes._streams_its_input,
    "complain": shapes._complains,
    "file": wraps(shapes._real_file(200_000)),
    "file, length": wraps(shapes._real_file(5000), length(5000)),
    "file, length too small": wraps(shapes._real_file(5000), length(4000)),
    "file, length too large": wraps(shapes._real_file(5000), length(6000)),
    "file from the midst": wraps(shapes._real_file(5000), start_at=3000),
    "file from its end": wraps(shapes._real_file(5000), start_at=5000),
    "file from beyond its end": wraps(shapes._real_file(5000), start_at=6000),
    "empty file": wraps(tempfile.TemporaryFile),
    "file in memory": wraps(lambda: io.BytesIO(b"z" * 20_000)),
    "file in memory, length": wraps(lambda: io.BytesIO(b"z" * 20_000), length(20_000)),
    "text file": wraps(lambda: io.StringIO("text")),
    "file after write": shapes._writes_and_wraps,
    "file, connection: close": wraps(shapes._real_file(5000), ("Connection", "close")),
}

APPLICATIONS: dict[str, App] = {**AT_ONCE, **STREAMED, **WRITTEN, **STARTED, **HEADED, **SURROUNDED, **CONTACTS}

CENTRAL = (
    "list", "list, length too large", "list of several", "list of JOIN + 1", "list with str", "generator", "stream",
    "stream, length too small", "stream fails later", "close fails", "write, list", "former response", "raise",
    "connection: close", "changed environ", "echo", "stream the input", "file", "hint on the way", "former environ",
)  # fmt: skip
"""The applications that every request is given to."""
