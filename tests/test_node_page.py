"""The list of what Node's tests assert is complete: each number has a test that names it, or a reason."""

import ast
import functools
import re

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "explanation" / "node.rst"
NUMBERS = range(1, 102)
LEAST_WORDS = 8
"""A reason is a sentence."""

_row = re.compile(r"^   \* - (\d+)\n     - (.+)\n     - ((?:.+\n(?:       .+\n)*))", re.MULTILINE)
_test = re.compile(r"``(tests/[\w/]+\.py)::(test_\w+)``")
_named = re.compile(r"\(Node ([\d, ]+)[):]")


@functools.cache
def rows() -> dict[int, str]:
    """Number to what is said of it."""
    found = _row.findall(PAGE.read_text("utf-8") + "\n")
    assert [int(number) for number, _, _ in found] == list(NUMBERS), "each number once, in order"
    return {int(number): here for number, _, here in found}


@functools.cache
def numbers_named(path: str) -> dict[str, frozenset[int]]:
    """The tests of a file, and the numbers that the docstring of each names."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return {
        node.name: named_in(ast.get_docstring(node) or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named_in(docstring: str) -> frozenset[int]:
    """The numbers that a docstring names, as in ``(Node 1, 5: basic)``."""
    return frozenset(int(number) for found in _named.findall(docstring) for number in re.findall(r"\d+", found))


@pytest.mark.parametrize("number", NUMBERS)
def test_each_number_has_a_test_or_a_reason(number: int) -> None:
    here = rows()[number]
    tests = _test.findall(here)
    for path, name in tests:
        assert (ROOT / path).exists(), path
        assert name in numbers_named(path), f"{path} has no {name}"
        assert number in numbers_named(path)[name], f"the docstring of {name} does not name {number}"
    if not tests:
        assert here.startswith("Does not apply: "), here
        assert len(here.split()) >= LEAST_WORDS, here


def test_each_test_that_names_a_number_is_in_the_list() -> None:
    listed = {(path, name, number) for number, here in rows().items() for path, name in _test.findall(here)}
    named = {
        (str(path.relative_to(ROOT)), name, number)
        for path in ROOT.glob("tests/**/test_*.py")
        if "(Node " in path.read_text("utf-8")  # few files, and to parse all of them takes a second
        for name, numbers in numbers_named(str(path.relative_to(ROOT))).items()
        for number in numbers
    }
    assert named == listed


def test_numbers_are_found() -> None:
    assert named_in("Text. (Node 1, 5, 80: basic, worker-init)") == {1, 5, 80}
    assert named_in("(Node 94)") == {94}
    assert named_in("Node 94 and (Node: basic)") == frozenset()
