"""A child's life: every pair of state and input, and what its properties say."""

import pytest

from wsgicluster.arbiter.plan.child import LIFE, Child, Input, Role, State


def child(state: State, **fields: object) -> Child:
    made = Child(key=7, slot=3, generation=2, forked_at=100.0)
    made.state = state
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("given", Input)
def test_every_pair_moves_or_raises(state: State, given: Input) -> None:
    it = child(state)
    if (state, given) in LIFE:
        it.take(given)
        assert it.state is LIFE[state, given]
    else:
        with pytest.raises(LookupError, match="impossible"):
            it.take(given)
        assert it.state is state


def test_nothing_leads_out_of_the_grave() -> None:
    assert not [pair for pair in LIFE if pair[0] is State.EXITED]


def test_every_life_can_end() -> None:
    for state in set(State) - {State.EXITED}:
        assert LIFE[state, Input.EXITED] is State.EXITED


def test_one_that_was_asked_to_go_is_never_ready_again() -> None:
    leaving = {State.DRAINING, State.KILLED, State.EXITED}
    assert all(after in leaving for (before, _), after in LIFE.items() if before in leaving)


@pytest.mark.parametrize(
    ("state", "coming", "ready", "alive"),
    [
        (State.FORKED, True, False, True),
        (State.BOOTING, True, False, True),
        (State.READY, False, True, True),
        (State.DRAINING, False, False, True),
        (State.KILLED, False, False, True),
        (State.EXITED, False, False, False),
    ],
)
def test_answers(state: State, coming: bool, ready: bool, alive: bool) -> None:
    it = child(state)
    assert (it.coming, it.ready, it.alive) == (coming, ready, alive)


def test_one_that_cannot_boot_is_not_coming() -> None:
    assert not child(State.BOOTING, boot_failed=True).coming


def test_names() -> None:
    assert str(child(State.READY, pid=42)) == "Worker 3 (pid 42, generation 2)"
    assert str(child(State.READY, pid=42, role=Role.MOLD)) == "Mold (pid 42, generation 2)"


def test_newer_generations_and_then_newer_children_rank_higher() -> None:
    ranks = [Child(9, 1, 1, 0.0).rank, Child(3, 1, 2, 0.0).rank, Child(4, 1, 2, 0.0).rank]
    assert sorted(ranks) == ranks
