"""The end of a file: its last lines, and those that are added, over rotation, truncation and unfinished lines."""

import os
import pathlib
from collections.abc import Iterator

import pytest

from wsgicluster.ctl.logs.tail import Tail


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "error.log"
    path.write_text("one\ntwo\nthree\n")
    return path


@pytest.fixture
def tail(log: pathlib.Path) -> Iterator[Tail]:
    found = Tail(str(log))
    yield found
    found.close()


def add(log: pathlib.Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_the_last_lines_are_whole(tail: Tail) -> None:
    assert tail.last(1000) == (["one", "two", "three"], True)
    assert tail.last(8) == (["three"], False)
    assert tail.last(14) == (["one", "two", "three"], True)
    assert tail.more() == []


def test_what_is_added_comes_when_its_line_ends(log: pathlib.Path, tail: Tail) -> None:
    tail.last(1000)
    add(log, "fo")
    assert tail.more() == []
    add(log, "ur\nfive\nsi")
    assert tail.more() == ["four", "five"]
    assert tail.more() == []


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(log: pathlib.Path, tail: Tail) -> None:
    tail.last(1000)
    add(log, "four\n")
    log.rename(log.with_suffix(".1"))
    assert tail.more() == ["four"], "there is no new one yet"
    add(log.with_suffix(".1"), "five\nunended")
    add(log, "six\n")
    assert tail.more() == ["five", "unended", "six"]
    add(log, "seven\n")
    assert tail.more() == ["seven"]


def test_a_file_that_was_cut_is_read_from_its_beginning(log: pathlib.Path, tail: Tail) -> None:
    tail.last(1000)
    log.write_text("anew\n")
    assert tail.more() == ["anew"]


def test_bytes_that_are_no_text_are_shown_as_such(log: pathlib.Path, tail: Tail) -> None:
    log.write_bytes(b"\xff\n")
    assert tail.last(1000) == (["\ufffd"], True)


def test_a_pipe_is_not_opened(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        Tail(str(tmp_path / "pipe"))
