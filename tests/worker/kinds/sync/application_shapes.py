"""What applications do: how they answer as PEP 3333 has it, and how they break it."""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.worker.kinds.sync.conversation import App, Case, Environ, StartResponse

Headers = Any
"""A list of two str each, unless an application gets that wrong."""

TYPE = ("Content-Type", "text/plain")
KIB = 1024
OK = "200 OK"


class Odd(bytes):
    """Bytes that lie about their length."""

    def __len__(self) -> int:
        return 2


class Blocks:
    """An iterable that is followed: an exception among the blocks, or as ``at_close``, is raised in its place."""

    def __init__(self, case: Case, blocks: Iterable[Any], at_close: BaseException | None = None) -> None:
        self._case = case
        self._blocks = iter(blocks)
        self._at_close = at_close

    def __iter__(self) -> "Blocks":
        return self

    def __next__(self) -> Any:
        try:
            block = next(self._blocks)
        except StopIteration:
            self._case.notes.append("ended")
            raise
        if isinstance(block, BaseException):
            raise block
        return block() if callable(block) else block

    def close(self) -> None:
        """What PEP 3333 promises to call once."""
        self._case.notes.append("closed")
        if self._at_close is not None:
            raise self._at_close


class Endless(Blocks):
    """Blocks of a KiB without end, as good as, before the second of which the client leaves."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, itertools.chain([b"one", self._leave], [b"block" * 200] * 10_000))

    def _leave(self) -> bytes:
        self._case.client.leave()
        return b"two"


class Unclosed:
    """An iterable without ``close``, by the old protocol of sequences."""

    def __getitem__(self, index: int) -> bytes:
        return (b"one", b"two")[index]


def length(count: object) -> tuple[str, str]:
    """A header that declares a length."""
    return "Content-Length", str(count)


def returns(result: Callable[[], Any], *headers: Any, status: Any = OK) -> App:
    """An application that starts a response and returns what ``result`` makes."""

    def app(_case: Case, _environ: Environ, start: StartResponse) -> Any:
        start(status, [TYPE, *headers])
        return result()

    return app


def whole(*blocks: Any) -> Callable[[], Any]:
    """For `returns`: a list of blocks."""
    return lambda: list(blocks)


def streams(*blocks: Any, headers: Headers = (), status: str = OK, at_close: BaseException | None = None) -> App:
    """An application that gives its blocks one by one."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        start(status, [TYPE, *headers])
        return Blocks(case, blocks, at_close)

    return app


def writes(blocks: Iterable[Any], result: Callable[[], Any], *headers: Any) -> App:
    """An application that uses the write callable first."""

    def app(_case: Case, _environ: Environ, start: StartResponse) -> Any:
        write = start(OK, [TYPE, *headers])
        for block in blocks:
            write(block)
        return result()

    return app


def raises(error: BaseException) -> App:
    """An application that fails at once."""

    def app(_case: Case, _environ: Environ, _start: StartResponse) -> Any:
        raise error

    return app


def raises_after_start(error: BaseException) -> App:
    """An application that fails with its head ready."""

    def app(_case: Case, _environ: Environ, start: StartResponse) -> Any:
        start(OK, [TYPE])
        raise error

    return app


def _generator(case: Case, _environ: Environ, start: StartResponse) -> Iterator[bytes]:
    # PEP 3333 allows start_response to be called as late as before the first block.
    start(OK, [TYPE])
    try:
        yield b"one"
        yield b""
        yield b"two"
    finally:
        case.notes.append("generator left")


def _starts_after_empty_block(_case: Case, _environ: Environ, start: StartResponse) -> Iterator[bytes]:
    yield b""
    start(OK, [TYPE])
    yield b"late"


def _starts_after_block(_case: Case, _environ: Environ, start: StartResponse) -> Iterator[bytes]:
    yield b"too early"
    start(OK, [TYPE])


def _failing_generator(case: Case, _environ: Environ, start: StartResponse) -> Iterator[bytes]:
    start(OK, [TYPE])
    try:
        yield b"one"
        raise LookupError("in the midst")
    finally:
        case.notes.append("generator left")


def _writes_while_streaming(case: Case, _environ: Environ, start: StartResponse) -> Any:
    write = start(OK, [TYPE])

    def second() -> bytes:
        write(b"written ")
        return b"second "

    return Blocks(case, [b"first ", second, b"third"])


def _starts_twice(case: Case, _environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])
    start("201 Created", [TYPE])
    return Blocks(case, [b"never"])


def _starts_twice_and_goes_on(case: Case, _environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])
    try:
        start("201 Created", [TYPE])
    except AssertionError as error:
        case.notes.append(str(error))
    return [b"first"]


def _replaced(at: int) -> App:
    """An application that replaces its head behind ``at`` blocks, as PEP 3333's error handlers do."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        start(OK, [TYPE, ("X-First", "1")])

        def replace() -> bytes:
            try:
                raise LookupError("the cause")
            except LookupError:
                start("503 Replaced", [TYPE], sys.exc_info())
            return b"replaced"

        return [replace()] if at < 0 else Blocks(case, [*([b"block "] * at), replace, b" and more"])

    return app


def _starts_with_exc_info_at_once(_case: Case, _environ: Environ, start: StartResponse) -> Any:
    try:
        raise LookupError("the cause")
    except LookupError:
        start("500 Own", [TYPE], sys.exc_info())
    return [b"own page"]


def _starts_again_while_streaming(case: Case, _environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])

    def again() -> bytes:
        start(OK, [TYPE])
        return b"two"

    return Blocks(case, [b"one", again, b"three"])


def _mends_its_head(case: Case, _environ: Environ, start: StartResponse) -> Any:
    try:
        start(OK, [("X-Bad", "a\r\nb: c")])
    except ValueError as error:
        case.notes.append(str(error))
    start(OK, [TYPE])
    return [b"mended"]


def _never_starts(result: Callable[[], Any]) -> App:
    return lambda _case, _environ, _start: result()


def _starts(status: Any, headers: Any) -> App:
    """An application with exactly these two arguments, whatever they are."""

    def app(_case: Case, _environ: Environ, start: StartResponse) -> Any:
        start(status, headers)
        return [b"body"]

    return app


def _starts_by_generator(_case: Case, _environ: Environ, start: StartResponse) -> Any:
    start(OK, ([name, value] for name, value in (TYPE, ("X-Last", "1"))))
    return [b"body"]


def changes_headers(change: Callable[[list[Any]], object], result: Callable[[Case], Any]) -> App:
    """An application that changes its list of headers when start_response has read it already."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        headers = [TYPE]
        start(OK, headers)
        change(headers)
        return result(case)

    return app


def in_close(action: Callable[[StartResponse, Callable[[bytes], object]], object], *blocks: Any) -> App:
    """An application whose ``close`` still uses its start_response or write callable."""

    def app(case: Case, _environ: Environ, start: StartResponse) -> Any:
        write = start(OK, [TYPE])

        class Acting(Blocks):
            def close(self) -> None:
                super().close()
                action(start, write)

        return Acting(case, blocks)

    return app


class FailingIterable:
    """Cannot even be iterated; closes like any other."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def __iter__(self) -> Iterator[bytes]:
        raise LookupError("no iterator")

    def close(self) -> None:
        """Noted, as that of `Blocks` is."""
        self._case.notes.append("closed")


def fails_to_iterate(case: Case, _environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])
    return FailingIterable(case)


def _uses_former_response(case: Case, _environ: Environ, start: StartResponse) -> Any:
    """Calls what the request before was given: none of it may reach the client as part of this response."""
    for name, call in case.kept.items():
        try:
            call()
        except BaseException as error:
            case.notes.append((name, type(error).__name__, str(error)))
    write = start(OK, [TYPE])
    case.kept = {"write": lambda: write(b"stray"), "start": lambda: start("500 Stray", [TYPE], sys.exc_info())}
    return [b"own"]


def _changes_environ(_case: Case, environ: Environ, start: StartResponse) -> Any:
    environ.update(REQUEST_METHOD="FORGED", RAW_URI="/forged", REMOTE_ADDR="192.0.2.1", SERVER_PROTOCOL="X/9")
    environ["wsgi.url_scheme"] = "gopher"
    del environ["wsgi.input"], environ["HTTP_HOST"]
    start(OK, [TYPE])
    return [b"body"]


def _clears_environ(case: Case, environ: Environ, start: StartResponse) -> Any:
    environ.clear()
    start(OK, [TYPE])
    return Blocks(case, [b"one", b"two"])


def reads(how: Callable[[Any], Any]) -> App:
    """An application that notes what it reads of its input."""

    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        case.notes.append(how(environ["wsgi.input"]))
        start(OK, [TYPE])
        return [b"read"]

    return app


def _echoes(_case: Case, environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])
    return [environ["wsgi.input"].read()]


def _streams_its_input(case: Case, environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])
    source = environ["wsgi.input"]
    return Blocks(case, iter(lambda: source.read(1000), b""))


def _complains(_case: Case, environ: Environ, start: StartResponse) -> Any:
    environ["wsgi.errors"].write("a complaint\nand half of one")
    environ["wsgi.errors"].flush()
    start(OK, [TYPE])
    return [b"body"]


def wraps(open_file: Callable[[], Any], *headers: Any, start_at: int = 0) -> App:
    """An application that returns its file in the server's wrapper; notes whether it was closed."""

    def app(case: Case, environ: Environ, start: StartResponse) -> Any:
        file = open_file()
        file.seek(start_at)
        case.at_end.append(lambda: ("file closed", file.closed))
        start(OK, [TYPE, *headers])
        return environ["wsgi.file_wrapper"](file)

    return app


def _real_file(size: int) -> Callable[[], Any]:
    def make() -> Any:
        file = tempfile.TemporaryFile()
        file.write(bytes(index % 251 for index in range(1000)) * (size // 1000))
        file.seek(0)
        return file

    return make


def _writes_and_wraps(_case: Case, environ: Environ, start: StartResponse) -> Any:
    start(OK, [TYPE])(b"written ")
    return environ["wsgi.file_wrapper"](_real_file(5000)())


_TIMES, _SMALL_BYTES, _LARGE_BLOCKS = 12_000, 16, 8


class _Enlarged:
    """The first small blocks of a response, and lengths that are declared for such, many times as large."""

    def __init__(self, start: StartResponse) -> None:
        self._start = start
        self._left = _LARGE_BLOCKS

    def start(self, status: Any, headers: Headers, *exc_info: Any) -> Callable[[bytes], object]:
        """``start_response``; headers without such a length are given on as the very object."""
        if type(headers) is list and any(_is_small_length(header) for header in headers):
            headers = [length(int(each[1]) * _TIMES) if _is_small_length(each) else each for each in headers]
        write = self._start(status, headers, *exc_info)
        return lambda data: write(self.block(data))

    def block(self, data: Any) -> Any:
        """A block of the body."""
        if type(data) is not bytes or not 0 < len(data) <= _SMALL_BYTES or not self._left:
            return data
        self._left -= 1
        return data * _TIMES

    def result(self, result: Any) -> Any:
        """What an application returns, of the same kind as far as a server may tell."""
        if type(result) in (list, tuple):
            return type(result)(map(self.block, result))
        return _EnlargedBlocks(result, self.block) if hasattr(result, "__next__") else result


class _EnlargedBlocks:
    """An iterator over what another one gives, made larger."""

    def __init__(self, blocks: Any, enlarge: Callable[[Any], Any]) -> None:
        self._blocks = blocks
        self._enlarge = enlarge

    def __iter__(self) -> "_EnlargedBlocks":
        return self

    def __next__(self) -> Any:
        return self._enlarge(next(self._blocks))

    def close(self) -> None:
        """As PEP 3333 has it."""
        if hasattr(self._blocks, "close"):
            self._blocks.close()


def _is_small_length(header: Any) -> bool:
    name, value = header if type(header) is tuple and len(header) == 2 else ("", "")
    return name == "Content-Length" and type(value) is str and value.isascii() and value.isdigit() and len(value) < 3


def enlarged(app: App) -> App:
    """The same application with a body that does not fit into a small socket, if it is one of small blocks."""

    def large(case: Case, environ: Environ, start: StartResponse) -> Any:
        larger = _Enlarged(start)
        return larger.result(app(case, environ, larger.start))

    return large
