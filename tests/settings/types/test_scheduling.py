"""The settings of scheduling: what they take, and what they say of what they do not."""

from collections.abc import Mapping

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings, load, resolve
from wsgicluster.settings.types.scheduling import SCHEDULING, STICKY, WEIGHTS, Sticky
from wsgicluster.settings.types.values import Automatic


def loaded(*arguments: str, environ: Mapping[str, str] | None = None) -> Settings:
    return load(["app", *arguments], environ or {}, "/").settings


@pytest.mark.parametrize("text", ["round-robin", "ROUND_ROBIN", " round-robin "])
def test_policies_are_read_as_people_write_them(text: str) -> None:
    assert SCHEDULING.read(text) == "round-robin"


@pytest.mark.parametrize("value", ["3,2,1", "3, 2, 1", [3, 2, 1], (3, "2", 1)])
def test_weights(value: object) -> None:
    assert WEIGHTS.read(value) == (3, 2, 1)
    assert WEIGHTS.show((3, 2, 1)) == "3,2,1"


@pytest.mark.parametrize("value", ["0", "0,0", "1,x", "1,-1", "1,1001", "1.5", [None]])
def test_wrong_weights(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        WEIGHTS.read(value)


@pytest.mark.parametrize(
    ("text", "sticky"),
    [
        ("address", Sticky("address")),
        ("Header: X-Session ", Sticky("header", "X-Session")),
        ("cookie", Sticky("cookie")),
        ("cookie:SERVER_ID", Sticky("cookie", "SERVER_ID")),
    ],
)
def test_forms_of_stickiness(text: str, sticky: Sticky) -> None:
    assert STICKY.read(text) == sticky
    assert STICKY.read(str(sticky)) == sticky


@pytest.mark.parametrize(
    "text", ["", "cokie", "header", "header:", "header:X_Y", "header:a b", "cookie:", "cookie:a=b", "address:x"]
)
def test_wrong_forms_of_stickiness(text: str) -> None:
    with pytest.raises(ValueError):
        STICKY.read(text)


@pytest.mark.parametrize(
    ("arguments", "policy"),
    [
        ((), "shared"),
        (("--weights", "3,1", "-w", "2"), "weighted"),
        (("--sticky", "cookie"), "sticky"),
        (("--scheduling", "least-connections"), "least-connections"),
        (("--scheduling", "sticky"), "sticky"),
    ],
)
def test_weights_and_stickiness_choose_their_policy(arguments: tuple[str, ...], policy: str) -> None:
    assert loaded(*arguments).scheduling == policy


def test_names_in_the_environment() -> None:
    environ = {"WSGICLUSTER_SCHEDULING": "sticky", "WSGICLUSTER_STICKY": "header:X-User"}
    settings = loaded(environ=environ)
    assert (settings.scheduling, settings.sticky) == ("sticky", Sticky("header", "X-User"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--weights", "3,1", "-w", "3"), "weights: 3,1; expected one for each of 3 workers"),
        (("--scheduling", "weighted", "-w", "2"), "weights: none; expected one for each of 2 workers"),
        (("--scheduling", "shared", "--sticky", "cookie"), "expected scheduling = sticky with it, not shared"),
        (("--weights", "1", "--sticky", "cookie"), "expected scheduling = sticky with it, not weighted"),
        (("--scheduling", "stick"), "did you mean sticky?"),
        (("--sticky", "addressed"), "did you mean address?"),
    ],
)
def test_what_does_not_go_together_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError) as error:
        loaded(*arguments)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_for_a_number_of_workers_that_is_found_out() -> None:
    settings = Settings(workers=Automatic(), scheduling="weighted", weights=(3, 1))
    assert resolve(settings, 2, 1 << 30).weights == (3, 1)
    with pytest.raises(UsageError, match=r"workers = auto: weights: 3,1; expected one for each of 4 workers"):
        resolve(settings, 4, 1 << 30)
