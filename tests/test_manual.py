"""The manual pages: whole, of what the parsers say, and without a complaint of troff."""

import pathlib
import re
import runpy
import shutil
import subprocess

import pytest

from tests.conftest import ROOT
from wsgicluster.ctl import options
from wsgicluster.settings import SETTINGS
from wsgicluster.subcommands import SUBCOMMANDS

PAGES: dict[str, str] = runpy.run_path(str(ROOT / "docs/manual.py"))["pages"]()


def shown(name: str) -> str:
    """The text of a page without what is for troff."""
    return re.sub(r"\\f[BIR]", "", PAGES[name]).replace("\\-", "-").replace("\\e", "\\")


def test_every_flag_of_the_server_is_there() -> None:
    text = shown("wsgicluster")
    for setting in SETTINGS.values():
        for flag in setting.about.flags:
            assert re.search(rf"(^|, ){re.escape(flag)}\b", text, re.MULTILINE), flag


def test_every_first_word_of_the_server_is_there() -> None:
    text = shown("wsgicluster")
    for name in SUBCOMMANDS:
        assert re.search(rf'^\.SS "{name}\b', text, re.MULTILINE), name
    assert "-o, --output" in text


def test_every_command_is_there_with_its_other_names() -> None:
    text = shown("wsgiclusterctl")
    for name in re.findall(r'-W "(.*?)"', options.completion("bash"))[0].split():
        assert re.search(rf'^\.SS "{name}\b', text, re.MULTILINE), name
    assert "Also: drain." in text
    assert re.search(r"^\.SH .EXIT CODES", text, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(PAGES))
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_troff_has_no_complaint(name: str, tmp_path: pathlib.Path) -> None:
    page = tmp_path / f"{name}.1"
    page.write_text(PAGES[name], "utf-8")
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z", str(page)], capture_output=True, text=True, timeout=60, check=False
    )
    # Words that are longer than a line are no fault of the page.
    said = [line for line in done.stderr.splitlines() if "cannot" not in line and "can't" not in line]
    assert (done.returncode, said) == (0, [])


def test_a_line_of_a_text_is_no_request() -> None:
    escaped = runpy.run_path(str(ROOT / "docs/manual.py"))["escaped"]
    assert escaped(".so /etc/passwd\n'x\na\\b -c") == "\\&.so /etc/passwd\n\\&'x\na\\eb \\-c"
