"""The bridge: the one process of a machine that takes what the bus has for it, and puts it into mailboxes.

Every process with handlers tries to be it; a lock of the kernel says which one is, and makes way when that one dies.
"""

import dataclasses
import logging
import os
import select
import threading
import time

from wsgicluster.cluster.errors import BusDown
from wsgicluster.cluster.messages.bus import seen_from_elsewhere
from wsgicluster.cluster.messages.packets import PACKET_BYTES, Kind, Packet, decode_packet, encode_packet
from wsgicluster.cluster.messages.posting import post_to_readers, send_packet
from wsgicluster.cluster.redis.bus import Mail, RedisBus
from wsgicluster.cluster.server.standing import Standing
from wsgicluster.cluster.values.payload import IS_JSON, LIMIT_BYTES, encode_value
from wsgicluster.ipc.mailbox import MailboxName, Posted, reply_pair
from wsgicluster.ipc.retained import RetainedFull
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.system.anonymous_files import read_sealed
from wsgicluster.system.network import descriptor_passing

LOOK_S = 1.0
"""How often the others try to be the bridge, and how long the bus is left alone when it is down."""
REGISTER_S = 2.0
MOST_REQUESTS = 64
"""Of other machines, that wait for their replies here at a time."""

_log = logging.getLogger("wsgicluster.error")


class Bridge:
    """That of one process, in a thread of its own, or a greenlet with gevent."""

    def __init__(self, here: Standing, bus: RedisBus) -> None:
        self._here = here
        self._bus = bus
        self._down = False
        self._register_at = 0.0
        self._version = -1
        self._requests = threading.BoundedSemaphore(MOST_REQUESTS)

    def run(self) -> None:
        """Join this machine to the bus, for as long as the process lives."""
        while not self._here.retained.hold_bridge():
            time.sleep(LOOK_S)
        while True:
            try:
                self._turn()
            except BusDown as error:
                if not self._down:
                    _log.error("%s; until it is back, messages reach this machine only from itself", error)
                self._down, self._register_at, self._version = True, 0.0, -1
                time.sleep(LOOK_S)
            except Exception:  # noqa: BLE001
                # The boundary of this thread: one message that cannot be handled is not a reason to leave the bus.
                _log.exception("pid %d: a message of the bus is lost", os.getpid())

    def _turn(self) -> None:
        if time.monotonic() >= self._register_at:
            self._register_at = time.monotonic() + REGISTER_S
            version = self._bus.register()
            if version != self._version:
                self._exchange_retained()
                self._version = version
            if self._down:
                self._down = False
                _log.warning("The bus is back: messages of other machines reach this one")
        mail = self._bus.take(LOOK_S)
        if mail is not None:
            self._deliver(mail)

    def _exchange_retained(self) -> None:
        """After this machine was cut off, or Redis has lost its data: what is newer counts, here and there."""
        there, here = self._bus.retained(), self._here.retained
        for topic, known in list(here.newest().items()):
            version, _ = there.get(topic, (0, b""))
            if known.outer_version > version:
                mine = decode_packet(known.packet)
                sender = seen_from_elsewhere(self._bus.node, mine.sender)
                told = encode_packet(dataclasses.replace(mine, sender=sender))
                self._bus.retain(topic, known.outer_version, told)
        for topic, (version, packet) in there.items():
            known_here = here.newest().get(topic)
            if known_here is None or known_here.outer_version < version:
                self._retain(decode_packet(packet), version)

    def _deliver(self, mail: Mail) -> None:
        packet = decode_packet(mail.packet)
        if mail.version:
            self._retain(packet, mail.version)
        elif not mail.target:
            post_to_readers(self._here, packet)
        elif mail.reply_to:
            if self._requests.acquire(blocking=False):
                threading.Thread(target=self._relay, args=(mail, packet), daemon=True).start()
            else:
                self._here.count(Cell.MESSAGES_DROPPED)
        elif not self._send(mail.target, packet):
            self._here.count(Cell.MESSAGES_DROPPED)

    def _retain(self, packet: Packet, version: int) -> None:
        """Retain a value of another machine here, unless there is a newer one, and tell who has handlers."""
        try:
            own = self._here.retained.add(packet.topic, encode_packet(packet), version)
        except (RetainedFull, OSError) as error:
            _log.error("a value of another machine cannot be retained (topic %r): %s", packet.topic, error)
            return
        if own:
            told = Packet(packet.kind, packet.form, packet.content, packet.topic, packet.sender, 0, own, retained=True)
            post_to_readers(self._here, told)

    def _send(self, target: str, packet: Packet, beside: tuple[int, ...] = ()) -> bool:
        name: MailboxName = int(target) if target.isdecimal() else target
        mailbox = self._here.mailboxes.messages.get(name)
        return mailbox is not None and send_packet(mailbox, packet, beside) is Posted.QUEUED

    def _relay(self, mail: Mail, packet: Packet) -> None:
        """Wait for the reply to a request of another machine, and send it there."""
        try:
            ours, theirs = reply_pair()
            with ours:
                with theirs:
                    sent = self._send(mail.target, packet, (theirs.fileno(),))
                poll = select.poll()
                poll.register(ours, select.POLLIN)
                if sent and not poll.poll(mail.timeout_s * 1000):
                    return
                data, descriptors, _lost = (
                    descriptor_passing.receive_descriptors(ours, PACKET_BYTES, 1) if sent else (b"", [], False)
                )
            reply = decode_packet(data) if data else _failed(f"{mail.target} did not take it, or has ended", packet)
            if descriptors:
                content = read_sealed(descriptors[0], LIMIT_BYTES)
                reply = Packet(reply.kind, reply.form, content, "", reply.sender, reply.correlation)
                os.close(descriptors[0])
            if not self._bus.reply(mail.reply_to, encode_packet(reply)):
                self._here.count(Cell.LATE_REPLIES)
        except (BusDown, OSError, ValueError) as error:
            _log.error("a reply to another machine is lost: %s", error)
        finally:
            self._requests.release()


def _failed(text: str, packet: Packet) -> Packet:
    form, content = encode_value(text)
    assert form == IS_JSON
    return Packet(Kind.FAILED, form, content, "", 0, packet.correlation)
