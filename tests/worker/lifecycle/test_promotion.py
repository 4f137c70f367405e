"""Whether a mold may be forked from a worker."""

import os
import socket

import pytest

from wsgicluster.ipc.messages import MoldOrdered, PromotionAnswered
from wsgicluster.system import threads
from wsgicluster.system.descriptors import open_sockets
from wsgicluster.worker.lifecycle.promotion import Promotion


@pytest.fixture(autouse=True)
def no_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the tests' own process are none of the worker's."""
    monkeypatch.setattr(threads, "others", list)


def test_a_worker_with_nothing_of_its_own() -> None:
    promotion = Promotion(frozenset(open_sockets()))
    assert promotion.answer() == PromotionAnswered()
    assert promotion.refusal() == ""


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    promotion = Promotion(frozenset(open_sockets()), "request-")
    monkeypatch.setattr(threads, "others", lambda: ["request-1", "request-2"])
    assert promotion.answer() == PromotionAnswered(), "its kind ends them"
    assert "(request-1, request-2)" in promotion.refusal(), "they have not ended"
    monkeypatch.setattr(threads, "others", lambda: [f"poller-{number}" for number in range(7)])
    assert "(poller-0, poller-1, poller-2, poller-3, poller-4 and 2 more)" in promotion.answer().refused


def test_a_kind_that_cannot_be_forked() -> None:
    assert Promotion(refused="greenlets").answer() == PromotionAnswered("greenlets")


def test_connections_that_the_application_has_opened_since() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as before:
            promotion = Promotion(frozenset(open_sockets()))
            pair = socket.socketpair()
            assert promotion.refusal() == "", "a pair within the process, and what was there when it booted"
            with socket.create_connection(address):
                assert f"(to {address[0]}:{address[1]})" in promotion.refusal()
            assert promotion.refusal() == ""
            assert before.fileno() >= 0
            for end in pair:
                end.close()


def test_an_order_is_declined_once() -> None:
    receive, send = os.pipe()
    promotion = Promotion()
    promotion.take(MoldOrdered(7, 3, [send]))
    promotion.decline()
    promotion.decline()
    assert os.read(receive, 1) == b"", "the other end learns of it"
    os.close(receive)
