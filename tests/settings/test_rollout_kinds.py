"""The settings of rollouts: what they take, and what does not go together."""

import pathlib
from typing import Any

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import load, resolve, rollout_kinds
from wsgicluster.settings.kinds import Kind, WrongEntry
from wsgicluster.settings.values import Portion


@pytest.mark.parametrize(
    ("kind", "raw", "value", "shown"),
    [
        (rollout_kinds.SURGE, "25%", Portion(25, percent=True), "25%"),
        (rollout_kinds.SURGE, " 12.5 % ", Portion(12.5, percent=True), "12.5%"),
        (rollout_kinds.SURGE, 0, Portion(0), "0"),
        (rollout_kinds.SURGE, "2", Portion(2), "2"),
        (rollout_kinds.MIN_READY, "all", 0, "all"),
        (rollout_kinds.MIN_READY, 3, 3, "3"),
        (rollout_kinds.SMOKE, "/,/login?a=1,2", ("/", "/login?a=1,2"), "/,/login?a=1,2"),
        (rollout_kinds.SMOKE, ["/a", "http://www.example.com/b, /c"], ("/a", "http://www.example.com/b", "/c"), None),
        (rollout_kinds.SMOKE, "", (), ""),
    ],
)
def test_what_is_taken(kind: Kind[Any], raw: object, value: object, shown: str | None) -> None:
    assert kind.read(raw) == value
    if shown is not None:
        assert kind.show(value) == shown
        assert kind.read(kind.show(value)) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (rollout_kinds.SURGE, "-1"),
        (rollout_kinds.SURGE, "101%"),
        (rollout_kinds.SURGE, True),
        (rollout_kinds.SURGE, "some"),
        (rollout_kinds.MIN_READY, "none"),
        (rollout_kinds.MIN_READY, 501),
        (rollout_kinds.MIN_READY, "50%"),
        (rollout_kinds.SMOKE, "login"),
        (rollout_kinds.SMOKE, ["/a b"]),
        (rollout_kinds.SMOKE, ["/a#b"]),
        (rollout_kinds.SMOKE, "http://example.com"),
        (rollout_kinds.SMOKE, "/\r\nHost: other"),
        (rollout_kinds.SMOKE, 7),
    ],
)
def test_what_is_not(kind: Kind[Any], raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        kind.read(raw)


def test_a_path_without_its_slash_is_suggested() -> None:
    with pytest.raises(WrongEntry) as caught:
        rollout_kinds.SMOKE.read("login")
    assert caught.value.near == "/login"


@pytest.mark.parametrize(
    ("number", "workers", "count"),
    [
        (Portion(25, percent=True), 1, 1),
        (Portion(25, percent=True), 4, 1),
        (Portion(25, percent=True), 5, 2),
        (Portion(100, percent=True), 3, 3),
        (Portion(0, percent=True), 3, 0),
        (Portion(2), 1, 2),
    ],
)
def test_a_portion_of_the_workers(number: Portion, workers: int, count: int) -> None:
    assert number.of(workers) == count


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-w", "2", "--min-ready", "3"), "command line --min-ready: min_ready: 3; expected at most the number of"),
        (("-w", "2", "--reload-surge", "0"), "reload_surge: 0; expected 1 or more, or a min_ready below the number"),
        (("-w", "2", "--reload-surge", "0%", "--min-ready", "2"), "reload_surge: 0%; expected 1 or more"),
    ],
)
def test_what_does_not_go_together(tmp_path: pathlib.Path, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(["app", *arguments], {}, str(tmp_path))


def test_a_number_of_workers_that_turns_out_too_low(tmp_path: pathlib.Path) -> None:
    settings = load(["app", "-w", "auto", "--min-ready", "3"], {}, str(tmp_path)).settings
    assert resolve(settings, 4, 1 << 30).min_ready == 3
    with pytest.raises(UsageError, match=r"workers = auto: min_ready: 3; expected at most .* which is 2"):
        resolve(settings, 2, 1 << 30)


def test_no_smoke_with_reload(tmp_path: pathlib.Path) -> None:
    loaded = load(["app", "--reload", "--smoke", "/"], {}, str(tmp_path))
    assert loaded.settings.smoke == ()
    assert any(remark.startswith("smoke: off") for remark in loaded.remarks)
