"""Which descriptors code of the user's has opened, and still has."""

import os
import pathlib

from wsgicluster.system.descriptors import OpenedDescriptors


def test_what_is_opened_and_still_open(tmp_path: pathlib.Path) -> None:
    opened = OpenedDescriptors()
    first = os.open(tmp_path, os.O_RDONLY)
    with opened.noted():
        second = os.open(tmp_path / "second", os.O_RDWR | os.O_CREAT)
        os.close(os.open(tmp_path / "third", os.O_RDWR | os.O_CREAT))
        reader, writer = os.pipe()
    assert opened.numbers() == {second, reader, writer}
    os.close(writer)
    assert opened.numbers() == {second, reader}
    # The same number, but another file.
    os.dup2(first, second)
    assert opened.numbers() == {reader}
    with opened.noted():
        os.dup2(reader, first)
    assert opened.numbers() == {reader, first}
    for number in (first, second, reader):
        os.close(number)
    assert opened.numbers() == frozenset()
