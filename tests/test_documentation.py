"""What the pages tell a reader to type works as it stands there, as far as can be seen without typing it."""

import pathlib
import re

import pytest

from tests.conftest import ROOT

DOCS = ROOT / "docs"
GUIDES = sorted([*DOCS.glob("howto/*.rst"), *DOCS.glob("tutorial/*.rst")])

_literal_block = re.compile(r"::\n\n((?:(?: {4}.*)?\n)+)")
_bare_command = re.compile(r"^    (?:wsgicluster|python|pip) ", re.MULTILINE)


def commands(text: str) -> list[str]:
    """The blocks of a page that may hold commands."""
    return _literal_block.findall(text)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_with_commands_says_where_they_are_found(page: pathlib.Path) -> None:
    text = page.read_text("utf-8")
    if _bare_command.search(text):
        assert ".. include:: /activated.txt" in text or "    . .venv/bin/activate\n" in text


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_that_uses_a_folder_in_run_says_how_to_make_it(page: pathlib.Path) -> None:
    text = page.read_text("utf-8")
    if "/run/shop/" in text:
        assert ":ref:`run-folder`" in text or "<run-folder>`" in text or "sudo install -d" in text


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_no_block_of_commands_asks_before_a_reload_is_complete(page: pathlib.Path) -> None:
    for block in commands(page.read_text("utf-8")):
        assert not re.search(r"kill -HUP.*\n.*curl", block), block


def test_blocks_are_found() -> None:
    tutorial = commands((DOCS / "tutorial/flask.rst").read_text("utf-8"))
    assert any("kill -HUP" in block for block in tutorial)
    assert any("curl" in block for block in tutorial)
