"""What is said of changed settings: short, with both values, and without secrets."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from wsgicluster.settings import Settings, TcpAddress
from wsgicluster.settings.diff import SHOWN_CHARACTERS, changed, shown
from wsgicluster.settings.types.rollout import QUARTER
from wsgicluster.settings.types.values import Portion


def test_nothing_has_changed() -> None:
    assert changed(Settings(), Settings()) == {}


def test_old_and_new_values_as_a_user_writes_them() -> None:
    new = Settings(
        workers=3, timeout=90.0, reload_surge=Portion(2), accesslog="-", smoke=("/", "/login"), preload_app=True
    )
    assert changed(Settings(), new) == {
        "workers": "1 -> 3",
        "timeout": "30 -> 90",
        "reload_surge": f"{QUARTER} -> 2",
        "accesslog": "none -> -",
        "smoke": "nothing -> /,/login",
        "preload_app": "false -> true",
    }
    assert changed(Settings(), Settings(bind=(TcpAddress("::1", 80),))) == {"bind": "127.0.0.1:8000 -> [::1]:80"}


def test_variables_are_named_without_their_values() -> None:
    old = Settings(raw_env=("A=1", "KEY=secret", "OLD=x"))
    new = Settings(raw_env=("A=1", "KEY=other", "NEW=y"))
    assert changed(old, new) == {"raw_env": "added NEW, removed OLD, changed KEY"}
    assert changed(Settings(raw_env=("A=1", "B=2")), Settings(raw_env=("B=2", "A=1"))) == {"raw_env": "other order"}


def made_by_a_file(text: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(compile(f"def make(settings, usual):\n    return {text}\n", "wsgicluster.conf.py", "exec"), names)
    made: Callable[..., Any] = names["make"]
    return made


def test_a_function_has_changed_when_its_code_has() -> None:
    old = Settings(ssl_context=made_by_a_file("usual()"))
    assert changed(old, Settings(ssl_context=made_by_a_file("usual()"))) == {}
    assert changed(old, Settings(ssl_context=made_by_a_file("None"))) == {"ssl_context": "make, changed"}
    assert changed(old, Settings()) == {"ssl_context": "make -> none"}


def test_long_values_are_cut_and_dictionaries_not_shown() -> None:
    text = changed(Settings(), Settings(access_log_format="%(h)s " * 99))["access_log_format"]
    assert len(text) <= 2 * SHOWN_CHARACTERS + 10
    assert "\n" not in changed(Settings(), Settings(access_log_format="a\nb"))["access_log_format"]
    old, new = Settings(logconfig_dict={"version": 1}), Settings(logconfig_dict={"version": 1, "root": {}})
    assert changed(old, new) == {"logconfig_dict": "a dictionary, changed"}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("timeout", 2.5, "2.5"),
        ("raw_env", ("SECRET=a", "B=c=d"), "SECRET B"),
        ("store", "redis://user:secret@host/1", "redis://user:***@host/1"),
    ],
)
def test_a_value_is_shown_without_secrets(name: str, value: object, text: str) -> None:
    assert shown(name, dataclasses.replace(Settings(), **{name: value})) == text  # type: ignore[arg-type]
