"""Whether a worker that is too large is to be replaced."""

from wsgicluster.arbiter.plan.memory_rule import GROWTH, MemoryRule, Size

MIB = 1 << 20


def asks(rule: MemoryRule, at_ready: int, now: int, early: bool = False, slot: int = 1) -> bool:
    return rule.replaces(Size(slot, at_ready * MIB, now * MIB, 1000, early))


def test_one_that_has_grown_in_its_service_is_replaced_each_time() -> None:
    rule = MemoryRule(100 * MIB)
    assert all(asks(rule, 40, 101) for _ in range(10))
    assert not rule.raised_bytes


def test_one_that_was_too_large_when_it_was_ready_is_not() -> None:
    rule = MemoryRule(30 * MIB)
    assert not asks(rule, 40, 41, early=True)
    assert rule.raised_bytes == GROWTH * 41 * MIB
    assert not asks(rule, 40, 42, slot=2)
    assert asks(rule, 40, GROWTH * 41 + 1), "this one leaks"
    assert not asks(rule, 40, 42, early=True), "and its replacement has the same limit"


def test_of_those_that_are_too_large_after_their_first_requests_one_is_replaced() -> None:
    rule = MemoryRule(60 * MIB)
    assert asks(rule, 40, 80, early=True, slot=1)
    assert asks(rule, 40, 80, early=True, slot=2)
    assert not asks(rule, 40, 80, early=True, slot=1)
    assert not asks(rule, 40, 80, early=True, slot=2)


def test_one_large_request_among_the_first_proves_nothing() -> None:
    rule = MemoryRule(60 * MIB)
    assert asks(rule, 40, 80, early=True)
    assert asks(rule, 40, 61, early=False)
    assert asks(rule, 40, 80, early=True)


def test_without_a_limit_or_a_size_whoever_asks_is_replaced() -> None:
    assert asks(MemoryRule(0), 40, 41, early=True)
    assert asks(MemoryRule(30 * MIB), 40, 0, early=True)
