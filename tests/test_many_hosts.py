"""The simulation of many hosts: the same seed gives the same figures, and they show what they are there to show."""

from benchmarks.many_hosts import (
    CHECK_S,
    Balance,
    Balancing,
    Job,
    broadcast_figures,
    half_weight,
    late_requests,
    no_weight,
    percentile,
    whole_weight,
)


def balanced(weigh: object, least: bool = False, seed: int = 1) -> Balance:
    return Balancing(20, weigh, least, seed).run(12.0, 0.75)  # type: ignore[arg-type]


def test_a_seed_gives_the_same_figures() -> None:
    assert balanced(half_weight) == balanced(half_weight)
    assert balanced(half_weight) != balanced(half_weight, seed=2)
    assert Job(40, 1.0, 5.0, 3).run(10.0, 0.1, 0.2) == Job(40, 1.0, 5.0, 3).run(10.0, 0.1, 0.2)


def test_weights_help_and_those_that_load_takes_all_of_swing() -> None:
    none, half, whole = (balanced(weigh) for weigh in (no_weight, half_weight, whole_weight))
    assert none.swing == 0 < half.swing < whole.swing
    assert half.wait_p99_s < none.wait_p99_s
    least = balanced(half_weight, least=True)
    assert least.wait_p99_s < half.wait_p99_s
    assert 0.5 < least.load < 1.0


def test_no_request_is_late_where_a_stop_waits_for_a_check() -> None:
    assert late_requests(50, 0.0, 20.0, 1) > late_requests(50, CHECK_S / 2, 20.0, 1) > 0
    assert late_requests(50, CHECK_S, 20.0, 1) == 0


def test_each_tick_is_run_once_although_hosts_die() -> None:
    ticks = Job(100, 1.0, 5.0, 1).run(40.0, 0.1, 0.3)
    assert ticks.most_of_a_tick == 1
    # The lease of a host that died may take one tick.
    assert ticks.runs + ticks.missed == 39
    assert ticks.latest_s < 1.5
    assert (
        Job(100, 10.0, 0.5, 1).run(40.0, 0.1, 0.0).commands_per_s
        > 5 * Job(100, 10.0, 5.0, 1).run(40.0, 0.1, 0.0).commands_per_s
    )


def test_figures_of_a_broadcast_and_percentiles() -> None:
    assert broadcast_figures(1000).startswith("a broadcast keeps Redis busy for 3.5 ms")
    assert (percentile([], 0.99), percentile([3.0, 1.0, 2.0], 0.5), percentile([1.0], 1.0)) == (0.0, 2.0, 1.0)
