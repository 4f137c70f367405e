"""``wsgi.errors`` alone: which text reaches the file, and in how many pieces."""

import io
import os
import threading
import traceback

import pytest

from wsgicluster.wsgi.error_stream import UNFINISHED_CHARACTERS, ErrorStream


class Written:
    """A file that notes what it is given with each call."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.pieces: list[bytes] = []
        self._descriptor = descriptor

    def append(self, data: bytes) -> None:
        self.pieces.append(data)

    def fileno(self) -> int:
        if self._descriptor is None:
            raise OSError("none")
        return self._descriptor


def test_what_one_call_ends_is_written_at_once() -> None:
    written = Written()
    stream = ErrorStream(written)
    assert stream.write("one\ntwo\n") == 8
    stream.writelines(["three\n", "fo", "ur\n"])
    assert written.pieces == [b"one\ntwo\n", b"three\nfour\n"]


def test_a_line_waits_for_its_end_or_to_be_flushed() -> None:
    written = Written()
    stream = ErrorStream(written)
    print("a", 1, "b", file=stream)
    assert stream.write("c\nhalf ") == 7
    stream.write("and half")
    assert written.pieces == [b"a 1 b\n", b"c\n"]
    stream.flush()
    stream.flush()
    stream.write("\n")
    assert b"".join(written.pieces) == b"a 1 b\nc\nhalf and half\n"
    print("once", end="", flush=True, file=stream)
    assert written.pieces[-1] == b"once"


def test_a_traceback_is_as_it_was_printed() -> None:
    written, wanted = Written(), io.StringIO()
    try:
        raise KeyError("x")
    except KeyError:
        traceback.print_exc(file=wanted)
        traceback.print_exc(file=ErrorStream(written))
    assert b"".join(written.pieces).decode() == wanted.getvalue()


def test_characters_that_have_no_bytes() -> None:
    written = Written()
    ErrorStream(written).write("\u2713 \udcff \ud800\n")
    assert written.pieces == ["\u2713 \\udcff \\ud800\n".encode()]


def test_bytes_are_refused_as_by_any_text_stream() -> None:
    stream = ErrorStream(Written())
    with pytest.raises(TypeError, match="takes str, not bytes"):
        stream.write(b"x\n")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        stream.writelines([b"x\n"])  # type: ignore[list-item]


def test_a_long_beginning_does_not_wait() -> None:
    written = Written()
    ErrorStream(written).write("x" * (UNFINISHED_CHARACTERS + 1))
    assert len(written.pieces) == 1


def test_closing_has_no_effect() -> None:
    written = Written()
    with ErrorStream(written) as stream:
        stream.write("left")
    stream.close()
    assert not stream.closed
    stream.write(" and on\n")
    assert b"".join(written.pieces) == b"left and on\n"


def test_each_thread_has_a_line_of_its_own() -> None:
    written = Written()
    stream = ErrorStream(written)
    stream.write("one half ")
    other = threading.Thread(target=lambda: (stream.write("another "), stream.write("line\nand left")))
    other.start()
    other.join()
    stream.write("and the other\n")
    assert written.pieces == [b"another line\n", b"one half and the other\n"]
    stream.write("own")
    stream.settle()
    assert written.pieces[2:] == [b"own\n"], "others may be in the middle of a line"
    stream.end_all()
    assert written.pieces[3:] == [b"and left\n"]
    stream.write("in a child that has been forked")
    stream.forget()
    stream.end_all()
    assert len(written.pieces) == 4


def test_what_libraries_ask_of_a_stream() -> None:
    stream = ErrorStream(Written())
    assert (stream.encoding, stream.errors, stream.isatty(), stream.readable()) == (
        "utf-8",
        "backslashreplace",
        False,
        False,
    )
    assert stream.writable()
    with pytest.raises(OSError, match="none"):
        stream.fileno()
    ours, theirs = os.openpty()
    try:
        terminal = ErrorStream(Written(theirs))
        assert (terminal.fileno(), terminal.isatty()) == (theirs, True)
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_unfinished_line_of_one_request_is_not_continued_by_the_next() -> None:
    written = Written()
    served = 0
    stream = ErrorStream(written, lambda: served)
    stream.write("left ")
    stream.write("without an end")
    served += 1
    stream.write("of the next\nhalf")
    stream.write(" a line\n")
    assert b"".join(written.pieces) == b"left without an end\nof the next\nhalf a line\n"
