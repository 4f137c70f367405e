"""Settings that change without a reload."""

import dataclasses

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings
from wsgicluster.settings.live import with_scheduling
from wsgicluster.settings.types.scheduling import MOST_NAME_CHARACTERS, STICKY, Sticky

PRESENT = Settings(workers=3, scheduling="weighted", weights=(3, 2, 1), sticky=Sticky("header", "X-User"))


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({"scheduling": "ROUND_ROBIN"}, "round-robin"),
        ({"weights": "1,1,2"}, "weighted"),
        ({"weights": [1, 1, 2], "scheduling": "weighted"}, "weighted"),
        ({"sticky": "cookie:home"}, "sticky"),
        ({"scheduling": "sticky"}, "sticky"),
        ({"scheduling": "weighted"}, "weighted"),
    ],
)
def test_what_is_given_is_in_force(given: dict[str, object], policy: str) -> None:
    found = with_scheduling(PRESENT, given, "here")
    assert found.scheduling == policy
    assert found.weights == ((1, 1, 2) if "weights" in given else (3, 2, 1))
    assert found.sticky == (Sticky("cookie", "home") if "sticky" in given else PRESENT.sticky)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "here: scheduling: not given; expected one of shared, round-robin"),
        ({"scheduling": "stickx"}, "here: scheduling: 'stickx'; expected one of"),
        ({"scheduling": "stickx"}, "did you mean sticky?"),
        ({"weights": "1,2"}, "here: weights: 1,2; expected one for each of 3 workers"),
        ({"scheduling": "shared", "weights": "1,2,3"}, "here: weights: 1,2,3; expected scheduling = weighted with it"),
        ({"scheduling": "x", "weights": "y"}, "here: weights: 'y'; expected whole numbers"),
        ({"weightz": "1"}, "here: weightz: not a setting that changes live; did you mean weights?"),
        ({"bind": ":80"}, "here: bind: not a setting that changes live; expected one of scheduling, weights, sticky"),
    ],
)
def test_what_is_not_valid(given: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        with_scheduling(PRESENT, given, "here")
    assert said in str(raised.value)


def test_weights_of_another_number_of_workers_do_not_stay() -> None:
    with pytest.raises(UsageError, match="weights: none; expected one for each of 4 workers"):
        with_scheduling(dataclasses.replace(PRESENT, workers=4), {"scheduling": "weighted"}, "here")


def test_names_that_have_no_room() -> None:
    assert STICKY.read("cookie:" + "x" * MOST_NAME_CHARACTERS).name
    with pytest.raises(ValueError):
        STICKY.read("header:" + "x" * (MOST_NAME_CHARACTERS + 1))
