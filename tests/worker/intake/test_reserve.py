"""What a worker does for want of descriptors: it closes silent clients, or leaves new ones where they are."""

import errno
import os
import resource

import pytest

from tests.worker.own_worker import OwnWorker
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.intake import descriptors, reserve
from wsgicluster.worker.kinds import gthread
from wsgicluster.worker.kinds.parts import KindParts
from wsgicluster.worker.kinds.sync import worker as sync

KINDS = pytest.mark.parametrize("kind", [sync.PARTS, gthread.PARTS], ids=["sync", "gthread"])
NONE_LEFT = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@KINDS
def test_silent_clients_make_room_once_in_a_turn(kind: KindParts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "SILENT_S", 0.0)
    monkeypatch.setattr(reserve, "FULL_AGAIN_S", 0.05)
    with OwnWorker(kind) as own:
        clients = [own.connect() for _ in range(3)]
        own.turn_until(lambda: len(own.context.connections) == 3)
        subject = own.parts.reserve
        assert not subject.cannot_accept(NONE_LEFT)
        assert own.page.cells[Cell.EVICTED] == 3
        assert own.context.connections == set()
        # Again in the same turn: there is nothing left that could be closed.
        assert subject.cannot_accept(NONE_LEFT)
        assert own.parts.listeners.paused
        own.turn_until(lambda: "closed 3 connections that were silent" in own.said)
        for client in clients:
            assert own.answer(client) == b""
        own.turn_until(lambda: not own.parts.listeners.paused)
        own.ask(fresh := own.connect())
        assert own.answer(fresh).endswith(b"hello")


@KINDS
def test_a_client_that_has_left_is_no_reason_to_wait(kind: KindParts) -> None:
    with OwnWorker(kind) as own:
        assert not own.parts.reserve.cannot_accept(ConnectionAbortedError(errno.ECONNABORTED, "aborted"))
        assert not own.parts.listeners.paused


@KINDS
def test_a_worker_whose_clients_hold_all_but_the_reserve_accepts_no_more(
    kind: KindParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "CONNECTIONS_PART", 1_000_000)  # so few connections count as many
    limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with OwnWorker(kind) as own:
        first = own.connect()
        own.ask(first)
        own.answer(first)
        few = 8  # fewer than any process has open, so that each new descriptor is one too many
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (few, few))
        left = own.parts.reserve.descriptors
        assert left.excess() > 0
        arrivals = own.parts.runner.arrivals
        if arrivals is not None:
            arrivals.mark = left.mark
        second = own.connect()
        own.turn_until(lambda: own.parts.listeners.paused, "it accepts no more")
        assert "cannot accept: few descriptors are left, with" in own.said
        monkeypatch.setattr(resource, "getrlimit", lambda _which: limits)
        own.turn_until(lambda: not own.parts.listeners.paused)
        own.ask(second)
        assert own.answer(second).endswith(b"hello")


def test_a_connection_of_a_sibling_stays_in_the_queue_without_a_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    with OwnWorker(sync.PARTS) as own:
        subject = own.parts.reserve
        assert subject.has_spare()
        subject.descriptors.free_spare()
        monkeypatch.setattr(os, "devnull", "/nothing/there")
        assert not subject.has_spare()
        monkeypatch.undo()
        assert subject.has_spare()
