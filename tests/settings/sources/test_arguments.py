"""Plain arguments, which are read without the parser: to the same as by it, or not at all."""

import random
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from wsgicluster.errors import UsageError
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import gunicorn_names
from wsgicluster.settings.sources.arguments import read_plain
from wsgicluster.settings.sources.command_line import parse, shown_flags

FLAGS = [flag for setting in SETTINGS.values() for flag in setting.about.flags]


def agrees(arguments: list[str]) -> bool:
    """Whether the quick way reads them; fails where it reads something else than the parser."""
    found = read_plain(arguments)
    if found is None:
        return False
    read = parse(arguments)
    assert found == read, arguments
    assert list(found.given) == list(read.given), "their order is that of complaints"
    return True


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag(flag: str) -> None:
    setting = next(setting for setting in SETTINGS.values() if flag in setting.about.flags)
    if setting.is_switch:
        assert agrees([flag, "app"])
        assert not agrees([f"{flag}=1"]), "a switch takes no argument"
        return
    assert agrees([flag, "1", "app", flag, "2"]) is (not setting.about.bare_value)
    assert agrees(["app", f"{flag}=x"]) is flag.startswith("--")
    assert read_plain([flag]) is None
    assert read_plain([flag, "-x"]) is None


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["app"],
        ["-w", "4", "app"],
        ["app", "-b", "", "--bind=b=c"],
        ["--error-logfile", "-", "-"],
        ["-e", "A=1", "-e", "B=2"],
    ],
)
def test_plain(arguments: list[str]) -> None:
    assert agrees(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-w4"],
        ["--"],
        ["a", "b"],
        ["--work", "4"],
        ["--help"],
        ["-v"],
        ["--timeout", "-1"],
        ["-Dw", "4"],
        ["--nothing"],
        ["-w"],
    ],
)
def test_left_to_the_parser(arguments: list[str]) -> None:
    assert read_plain(arguments) is None


@pytest.mark.parametrize("flag", [flag for row in gunicorn_names.ACCEPTED.values() for flag in row.flags])
def test_flags_without_effect_are_left_to_the_parser(flag: str) -> None:
    assert read_plain([flag, "app"]) is None


def test_mixed() -> None:
    drawn = random.Random(7)
    words = [*shown_flags(), *FLAGS, "app", "4", "", "-", "--", "-1", "-w4", "a=b", "--bind=x", "--preload=1", "--bin"]
    plain = 0
    for _ in range(400):
        arguments = drawn.choices(words, k=drawn.randint(0, 4))
        try:
            plain += agrees(arguments)
        except UsageError:
            pytest.fail(f"the parser refuses {arguments}")
    assert plain > 40


def test_a_plain_start_makes_no_parser() -> None:
    code = (
        "import sys; from wsgicluster.settings import load; load(['-w', '2', 'app:app'], {}, '/'); "
        "print('argparse' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"
