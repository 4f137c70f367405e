"""The arguments of commands: each kind at its bounds, and one complaint for each that is wrong."""

import pathlib
from typing import Any

import pytest

from wsgicluster.control.commands import COMMANDS, MOST_WAIT_S, check
from wsgicluster.control.protocol import ControlError, ErrorCode


def test_defaults_are_filled_in() -> None:
    assert check("reload", {}) == {"smoke": None, "canary": 0.0, "wait": False, "timeout": MOST_WAIT_S}
    assert check("events", {"follow": True}) == {"last": 15, "follow": True}
    assert check("status", {}) == {}


@pytest.mark.parametrize(
    ("command", "args", "name", "value"),
    [
        ("show", {"slot": 1}, "slot", 1),
        ("show", {"slot": "500"}, "slot", 500),
        ("scale", {"workers": 4}, "workers", 4),
        ("scale", {"workers": "4"}, "workers", 4),
        ("scale", {"workers": "+12"}, "workers", "+12"),
        ("scale", {"workers": "-1"}, "workers", "-1"),
        ("restart", {"slots": "all"}, "slots", None),
        ("restart", {"slots": 2}, "slots", frozenset({2})),
        ("restart", {"slots": "1,3-5"}, "slots", frozenset({1, 3, 4, 5})),
        ("reload", {"timeout": 0}, "timeout", 0.0),
        ("reload", {"canary": 30}, "canary", 30.0),
        ("get", {}, "name", None),
        ("set", {"name": "workers", "value": "4"}, "value", "4"),
    ],
)
def test_arguments_have_their_final_form(command: str, args: dict[str, Any], name: str, value: object) -> None:
    assert check(command, args)[name] == value


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("show", {"slot": 0}),
        ("set", {"name": "workers"}),
        ("set", {"name": "workers", "value": 4}),
        ("show", {"slot": 501}),
        ("show", {"slot": True}),
        ("show", {"slot": 1.5}),
        ("show", {"slot": "one"}),
        ("show", {"slot": [1]}),
        ("show", {}),
        ("scale", {"workers": 0}),
        ("scale", {"workers": "++1"}),
        ("scale", {"workers": "9" * 5000}),
        ("restart", {"slots": "5-1"}),
        ("restart", {"slots": "1,"}),
        ("restart", {"slots": False}),
        ("reload", {"wait": "yes"}),
        ("reload", {"timeout": -1}),
        ("reload", {"timeout": float("nan")}),
        ("reload", {"timeout": 1e400}),
        ("events", {"last": 1001}),
        ("status", {"slot": 1}),
    ],
)
def test_a_wrong_argument_is_named(command: str, args: dict[str, Any]) -> None:
    with pytest.raises(ControlError) as caught:
        check(command, args)
    assert caught.value.code is ErrorCode.INVALID
    assert "\n" not in str(caught.value)


def test_a_command_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(ControlError, match="there is no command 'restrat'; there are hello, status") as caught:
        check("restrat", {})
    assert caught.value.code is ErrorCode.UNKNOWN_COMMAND


def test_every_command_says_what_it_does() -> None:
    for row in COMMANDS.values():
        assert row.summary.endswith(".")
        assert all(each.summary for each in row.parameters)


def test_the_reference_has_every_command_and_error_code() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs/reference/control-protocol.rst").read_text()
    for row in COMMANDS.values():
        part = page.partition(f"   * - ``{row.name}``\n")[2].partition("   * - ")[0]
        assert part, row.name
        for each in row.parameters:
            assert f"``{each.name}``" in part, f"{row.name}: {each.name}"
    for code in ErrorCode:
        assert f"``{code.value}``" in page
