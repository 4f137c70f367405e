"""The settings of rollouts: what they take, and what does not go together."""

import pathlib
from typing import Any

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import load, resolve
from wsgicluster.settings.types import rollout
from wsgicluster.settings.types.general import SettingType, WrongEntry
from wsgicluster.settings.types.values import Portion


@pytest.mark.parametrize(
    ("value_type", "raw", "value", "shown"),
    [
        (rollout.SURGE, "25%", Portion(25, percent=True), "25%"),
        (rollout.SURGE, " 12.5 % ", Portion(12.5, percent=True), "12.5%"),
        (rollout.SURGE, 0, Portion(0), "0"),
        (rollout.SURGE, "2", Portion(2), "2"),
        (rollout.MIN_READY, "all", 0, "all"),
        (rollout.MIN_READY, 3, 3, "3"),
        (rollout.SMOKE, "/,/login?a=1,2", ("/", "/login?a=1,2"), "/,/login?a=1,2"),
        (rollout.SMOKE, ["/a", "http://www.example.com/b, /c"], ("/a", "http://www.example.com/b", "/c"), None),
        (rollout.SMOKE, "", (), ""),
    ],
)
def test_what_is_taken(value_type: SettingType[Any], raw: object, value: object, shown: str | None) -> None:
    assert value_type.read(raw) == value
    if shown is not None:
        assert value_type.show(value) == shown
        assert value_type.read(value_type.show(value)) == value


@pytest.mark.parametrize(
    ("value_type", "raw"),
    [
        (rollout.SURGE, "-1"),
        (rollout.SURGE, "101%"),
        (rollout.SURGE, True),
        (rollout.SURGE, "some"),
        (rollout.MIN_READY, "none"),
        (rollout.MIN_READY, 501),
        (rollout.MIN_READY, "50%"),
        (rollout.SMOKE, "login"),
        (rollout.SMOKE, ["/a b"]),
        (rollout.SMOKE, ["/a#b"]),
        (rollout.SMOKE, "http://example.com"),
        (rollout.SMOKE, "/\r\nHost: other"),
        (rollout.SMOKE, 7),
    ],
)
def test_what_is_not(value_type: SettingType[Any], raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        value_type.read(raw)


def test_a_path_without_its_slash_is_suggested() -> None:
    with pytest.raises(WrongEntry) as caught:
        rollout.SMOKE.read("login")
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
    assert any(remark.startswith("smoke: turned off") for remark in loaded.remarks)


@pytest.mark.parametrize(
    ("value_type", "raw", "value", "shown"),
    [
        (rollout.ERROR_SHARE, "5%", 0.05, "5%"),
        (rollout.ERROR_SHARE, "0.5 %", 0.005, "0.5%"),
        (rollout.ERROR_SHARE, "0.05", 0.05, "5%"),
        (rollout.ERROR_SHARE, 0, 0.0, "0%"),
        (rollout.ERROR_SHARE, 1, 1.0, "100%"),
        (rollout.LATENCY_FACTOR, "2.5", 2.5, "2.5"),
        (rollout.LATENCY_FACTOR, 3, 3.0, "3"),
        (rollout.LATENCY_FACTOR, "0", 0.0, "0"),
    ],
)
def test_bounds_of_a_probation(value_type: SettingType[float], raw: object, value: float, shown: str) -> None:
    assert value_type.read(raw) == value
    assert value_type.show(value) == shown
    assert value_type.read(shown) == value


@pytest.mark.parametrize(
    ("value_type", "raw"),
    [
        (rollout.ERROR_SHARE, "101%"),
        (rollout.ERROR_SHARE, "5"),
        (rollout.ERROR_SHARE, "-1%"),
        (rollout.ERROR_SHARE, "nan"),
        (rollout.ERROR_SHARE, True),
        (rollout.LATENCY_FACTOR, "0.5"),
        (rollout.LATENCY_FACTOR, "inf"),
        (rollout.LATENCY_FACTOR, "3x"),
        (rollout.LATENCY_FACTOR, None),
    ],
)
def test_what_is_no_bound_of_a_probation(value_type: SettingType[float], raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        value_type.read(raw)
