"""The life of a connection: every pair of state and input either is in the table or raises."""

import itertools

import pytest

from wsgicluster.worker.connection.states import LIFE, ON_KEPT, ON_REQUEST, ConnectionInput, ConnectionState, after

S, G = ConnectionState, ConnectionInput
PAIRS = list(itertools.product(S, G))

ENDS_IN = {
    G.PREAMBLE: S.OPENING,
    G.OPENED: S.READING,
    G.REQUEST: S.RUNNING,
    G.RESUMED: S.READING,
    G.KEPT: S.READING,
    G.KEPT_WITH_MORE: S.RESUMING,
    G.LEFTOVERS: S.SENDING,
    G.END_SENT: S.LINGERING,
    G.HANDED_OVER: S.CLOSED,
    G.CLOSED: S.CLOSED,
}
"""An input means the same in all states that know it."""

KNOWN_IN = {
    G.PREAMBLE: {S.READING},
    G.OPENED: {S.OPENING},
    G.REQUEST: {S.READING},
    G.RESUMED: {S.READING, S.RESUMING},
    G.KEPT: {S.READING, S.RUNNING, S.SENDING},
    G.KEPT_WITH_MORE: {S.READING, S.RUNNING, S.SENDING},
    G.LEFTOVERS: {S.OPENING, S.READING, S.RUNNING},
    G.END_SENT: {S.OPENING, S.READING, S.RUNNING, S.SENDING},
    G.HANDED_OVER: {S.OPENING, S.READING, S.RESUMING},
    G.CLOSED: set(S) - {S.CLOSED},
}


@pytest.mark.parametrize(("state", "given"), PAIRS, ids=lambda each: each.name)
def test_every_pair(state: ConnectionState, given: ConnectionInput) -> None:
    if state in KNOWN_IN[given]:
        assert after(state, given) is ENDS_IN[given] is LIFE[state, given]
    else:
        assert (state, given) not in LIFE
        with pytest.raises(LookupError, match=f"{given.value}: impossible for a connection that is {state.value}"):
            after(state, given)


@pytest.mark.parametrize(("column", "given"), [(ON_REQUEST, G.REQUEST), (ON_KEPT, G.KEPT)], ids=("request", "kept"))
def test_a_column_is_the_table_for_one_input(
    column: dict[ConnectionState, ConnectionState], given: ConnectionInput
) -> None:
    assert {(state, given): found for state, found in column.items()} == {
        pair: found for pair, found in LIFE.items() if pair[1] is given
    }


def test_nothing_leads_out_of_closed() -> None:
    assert not [given for state, given in LIFE if state is S.CLOSED]


def test_a_request_answered_by_the_fast_path_is_no_transition() -> None:
    """It calls `served` or `finished` while the connection reads: each outcome is known there."""
    assert all((S.READING, given) in LIFE for given in (G.KEPT, G.KEPT_WITH_MORE, G.LEFTOVERS, G.END_SENT, G.CLOSED))
    assert after(S.READING, G.KEPT) is S.READING
