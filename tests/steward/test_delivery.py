"""Delivery of events to handlers, up to the last one."""

import logging
import socket

from tests.conftest import wait_until
from wsgicluster.cluster.events.subscriptions import Subscription
from wsgicluster.ipc.events import Event, ExitEvent, encode_event
from wsgicluster.steward.delivery import Delivery

EVENT = ExitEvent(at=1.0, role="worker", slot=1, generation=1, pid=7, code=None, signal="SIGKILL")


class AtTheLastMoment(socket.socket):
    """A socket in which a last event arrives, and the stop after it, just when nothing has been found there."""

    delivery: Delivery
    sender: socket.socket
    found_empty = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        try:
            return super().recv(size, flags)
        except BlockingIOError:
            self.found_empty += 1
            if self.found_empty == 1:
                self.sender.send(encode_event(EVENT))
                self.delivery.stop()
            raise


def test_an_event_just_before_the_stop_is_delivered() -> None:
    sender, plain = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    seen: list[Event] = []
    with sender, AtTheLastMoment(fileno=plain.detach()) as receiver:
        receiver.setblocking(False)
        delivery = Delivery(receiver, lambda: [Subscription("exit", None, seen.append)], [], logging.getLogger())
        receiver.sender, receiver.delivery = sender, delivery
        delivery.start()
        wait_until(lambda: delivery.is_done, 10)
    assert seen == [EVENT]
