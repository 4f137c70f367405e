"""What the figures of a new worker mean beside those of the old ones: a table, and the texts that go with it."""

import dataclasses
import random

import pytest

from wsgicluster.arbiter.plan.canary import Bounds, Figures, Judgement, judge, total

BOUNDS = Bounds(error_share=0.05, latency_factor=3.0, least_requests=20)
WORSE, NOT_WORSE, OPEN = Judgement.WORSE, Judgement.NOT_WORSE, Judgement.OPEN
UPPER_MS = (1, 2.5, 5, 10, 25, 50, 75, 100, 250, 500, 1000)


def served(*times_ms: float, failed: int = 0) -> Figures:
    """Requests that have taken so long."""
    buckets = [0] * (len(UPPER_MS) + 1)
    for each in times_ms:
        buckets[sum(each > bound for bound in UPPER_MS)] += 1
    return Figures(len(times_ms), failed, sum(times_ms) / 1e3, tuple(buckets))


def alike(count: int, ms: float = 10.0, failed: int = 0) -> Figures:
    return served(*[ms] * count, failed=failed)


CASES = [
    # Failures; those that are clear count at once.
    (alike(61, failed=12), alike(700, failed=1), WORSE, WORSE),
    (alike(20, failed=20), alike(5), WORSE, WORSE),
    (alike(20, failed=2), alike(500), OPEN, WORSE),
    (alike(20, failed=1), alike(500), OPEN, NOT_WORSE),
    (alike(400, failed=24), alike(4000), OPEN, WORSE),
    (alike(400, failed=48), alike(4000), WORSE, WORSE),
    # A fault that both have, such as of the database, is none of the new code.
    (alike(61, failed=12), alike(700, failed=140), OPEN, NOT_WORSE),
    (alike(61, failed=12), alike(700, failed=700), OPEN, NOT_WORSE),
    (alike(61, failed=12), Figures(), WORSE, WORSE),
    # Too few.
    (alike(19, failed=19), alike(700), OPEN, OPEN),
    (Figures(), Figures(), OPEN, OPEN),
    (Figures(), alike(700), OPEN, OPEN),
    # Requests that do not end.
    (Figures(2, oldest_s=29.0), alike(700), OPEN, WORSE),
    (Figures(oldest_s=29.0), alike(700), OPEN, WORSE),
    (Figures(oldest_s=29.0), alike(19), OPEN, OPEN),
    (Figures(oldest_s=29.0), Figures(700, 0, 7.0, (700,), oldest_s=10.0), OPEN, OPEN),
    (Figures(oldest_s=0.9), alike(700), OPEN, OPEN),
    (Figures(oldest_s=29.0), alike(700, 10_000.0), OPEN, OPEN),
    (dataclasses.replace(alike(60), oldest_s=29.0), alike(700), OPEN, NOT_WORSE),
    # Times.
    (alike(60, 50.0), alike(700), WORSE, WORSE),
    (alike(59, 50.0), alike(700), OPEN, WORSE),
    (alike(60, 29.0), alike(700), OPEN, NOT_WORSE),
    (alike(60, 3.0), alike(700, 1.0), OPEN, NOT_WORSE),
    (alike(60, 9.0), alike(700, 0.1), OPEN, NOT_WORSE),
    (alike(60, 50.0), alike(19), OPEN, NOT_WORSE),
    (served(*[10.0] * 59, 4000.0), alike(700), OPEN, NOT_WORSE),
    (served(*[10.0] * 40, *[200.0] * 20), alike(700), WORSE, WORSE),
    (served(*[10.0] * 18, *[900.0] * 2), served(*[10.0] * 63, *[900.0] * 7), OPEN, NOT_WORSE),
    (alike(60, 1.0), alike(700), OPEN, NOT_WORSE),
]


@pytest.mark.parametrize(("canary", "others", "meanwhile", "at_the_end"), CASES)
def test_judgements(canary: Figures, others: Figures, meanwhile: Judgement, at_the_end: Judgement) -> None:
    assert judge(canary, others, BOUNDS, is_over=False)[0] is meanwhile
    assert judge(canary, others, BOUNDS, is_over=True)[0] is at_the_end


@pytest.mark.parametrize(("canary", "others", "meanwhile", "at_the_end"), CASES)
def test_without_bounds_nothing_is_worse(
    canary: Figures, others: Figures, meanwhile: Judgement, at_the_end: Judgement
) -> None:
    for is_over in (False, True):
        assert judge(canary, others, Bounds(1.0, 0.0, 1), is_over)[0] is not WORSE


@pytest.mark.parametrize(
    ("canary", "others", "text"),
    [
        (
            alike(61, failed=12),
            alike(700, failed=1),
            "12 of 61 requests failed (19.7 %), against 1 of 700 requests failed (0.1 %) in the old workers",
        ),
        (alike(61, failed=12), Figures(), "12 of 61 requests failed (19.7 %), against no request in the old workers"),
        (
            alike(60, 52.0),
            alike(700, 10.4),
            "60 requests took 52 ms on the average, against 10.4 ms for 700 in the old workers",
        ),
        (
            alike(60),
            alike(700, 10.4, failed=1),
            (
                "0 of 60 requests failed (0.0 %), 10 ms on the average; the old workers: "
                "1 of 700 requests failed (0.1 %), 10.4 ms on the average"
            ),
        ),
        (
            alike(60, 1500.0),
            Figures(),
            "0 of 60 requests failed (0.0 %), 1.50 s on the average; the old workers: no request",
        ),
        (
            Figures(2, oldest_s=29.3),
            alike(700),
            "a request has been running for 29.30 s, of 700 requests in the old workers none does",
        ),
        (alike(1, failed=1), alike(700), "only 1 request, reload_least_requests is 20"),
        (Figures(), alike(700), "only 0 requests, reload_least_requests is 20"),
    ],
)
def test_the_reason_has_the_numbers(canary: Figures, others: Figures, text: str) -> None:
    assert judge(canary, others, BOUNDS, is_over=True)[1] == text


def test_code_that_is_as_good_is_seldom_called_worse_although_it_is_compared_often() -> None:
    """One request in a hundred fails in both; compared after each one until a thousand."""
    chance, wrong = random.Random(7), 0
    others = alike(5000, failed=50)
    for _ in range(200):
        failed, found = 0, OPEN
        for count in range(1, 1001):
            failed += chance.random() < 0.01
            if found is OPEN and failed:
                found = judge(Figures(count, failed), others, BOUNDS, is_over=False)[0]
        wrong += found is WORSE
    assert wrong <= 1


def test_code_of_which_a_fifth_fails_is_found_before_the_end() -> None:
    chance = random.Random(7)
    others = alike(5000)
    for _ in range(200):
        failed = 0
        for count in range(1, 1001):
            failed += chance.random() < 0.2
            if judge(Figures(count, failed), others, BOUNDS, is_over=False)[0] is WORSE:
                break
        else:
            raise AssertionError("never found")


def test_figures_of_several_workers() -> None:
    found = total([alike(3, failed=1), alike(4, 100.0), Figures()])
    assert (found.requests, found.failed, round(found.mean_s, 6)) == (7, 1, round(0.43 / 7, 6))
    assert found.slow_bucket == UPPER_MS.index(100)
    assert total([]) == Figures()
