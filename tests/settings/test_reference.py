"""What is shown of the settings."""

import pathlib
import re

from wsgicluster.settings import load
from wsgicluster.settings.declaration import OTHER_VARIABLES, Group
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.reference import listing, render


def test_listing_has_one_line_for_each(tmp_path: pathlib.Path) -> None:
    arguments = ["app", "-b", "[::1]:0", "-b", "unix:x,mode=0600", "--max-memory", "80%", "-w", "auto", "--umask", "22"]
    lines = listing(load(arguments, {"WSGICLUSTER_TIMEOUT": "90s"}, str(tmp_path))).splitlines()
    assert [line.split()[0] for line in lines] == list(SETTINGS)
    shown = {line.split()[0]: re.sub(r"\s+", " ", line.partition("=")[2]).strip() for line in lines}
    assert shown["bind"] == "[::1]:0, unix:x,mode=0600 # command line --bind"
    assert shown["max_memory"] == "80% # command line --max-memory"
    assert shown["workers"] == "auto # command line --workers"
    assert shown["umask"] == "022 # command line --umask"
    assert shown["timeout"] == "90 # environment WSGICLUSTER_TIMEOUT"
    assert shown["limit_request_body"] == "1G # default"
    assert shown["accesslog"] == "none # default"


def test_page_has_each_setting_once_under_a_heading() -> None:
    page = render()
    for group in Group:
        assert f"\n{group.value}\n{'-' * len(group.value)}\n" in page
    for name, setting in SETTINGS.items():
        title = f"``{name}``"
        assert page.count(f"\n{title}\n{'~' * len(title)}\n") == 1
        assert f"``{setting.variable}``" in page
        for flag in setting.about.flags:
            assert f"``{flag}" in page


def test_page_has_variables_that_are_not_settings() -> None:
    page = render()
    for name in OTHER_VARIABLES:
        assert f"\n``{name}``\n" in page


def test_page_has_defaults_that_are_the_same_on_every_machine() -> None:
    """(Node 26)"""
    page = render()
    assert ":Default: the current one" in page
    assert ":Default: ``127.0.0.1:8000``; ``0.0.0.0:$PORT`` where that variable is set" in page
    assert ":Default: ``75``" in page
