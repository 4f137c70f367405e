"""Messages between the processes of a server: send, broadcast, request, and the handlers that they reach.

What is sent goes straight into the receiver's mailbox, which the arbiter holds: no process is in between, and what was
accepted outlives both its sender and a receiver that is replaced.
"""

import dataclasses
import itertools
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wsgicluster.cluster.errors import (
    ClusterError,
    MessageTooLarge,
    NoHandler,
    QueueFull,
    RemoteError,
    RequestTimeout,
    WorkerGone,
)
from wsgicluster.cluster.messages import handlers
from wsgicluster.cluster.messages.bus import bus_of, seen_from_elsewhere
from wsgicluster.cluster.messages.handlers import ClusterMessage
from wsgicluster.cluster.messages.messenger import messenger, running
from wsgicluster.cluster.messages.packets import PACKET_BYTES, Address, Kind, Packet, decode_packet, encode_packet
from wsgicluster.cluster.messages.posting import name_of, post_to_readers, send_packet
from wsgicluster.cluster.server.standing import Standing, standing
from wsgicluster.cluster.values.payload import LIMIT_BYTES, Value, decode_value, encode_value
from wsgicluster.ipc import membership
from wsgicluster.ipc.mailbox import MailboxName, Posted, reply_pair
from wsgicluster.ipc.retained import RetainedFull
from wsgicluster.ipc.scoreboard import Cell, ChildRole, WorkerState
from wsgicluster.system.anonymous_files import read_sealed
from wsgicluster.system.network import descriptor_passing

if TYPE_CHECKING:
    from wsgicluster.cluster.redis.bus import RedisBus

ARRIVAL_S = 0.2
"""How long a mailbox is waited for that has been made, but has not reached this process."""
_LOOK_S = 0.002

_numbers = itertools.count(int.from_bytes(os.urandom(4), "little"))
_F = TypeVar("_F", bound=Callable[[ClusterMessage], object])


def send(slot: Address, value: Value, topic: str = "") -> None:
    """Queue a message for the worker that accepts requests in this slot, or for ``"steward"`` or ``"jobs"``.

    Returns as soon as it is queued: it is delivered at most once, after all that this process has sent there before,
    even when this process ends at once. Raises WorkerGone, QueueFull, MessageTooLarge, and TypeError for a value that
    is neither JSON nor bytes. On a bus ``"machine/slot"`` is a worker of another machine; BusDown says that the bus
    cannot be reached.
    """
    here = standing()
    form, content = encode_value(value)
    node, target = _split(here, slot)
    packet = Packet(Kind.SEND, form, content, topic, here.name, version=here.retained.added)
    bus = bus_of(here)
    if bus is not None and node != bus.node:
        bus.send(node, str(target), _for_others(bus, packet))
        return
    _post(here, target, packet)
    if here.member is None:
        messenger()


def broadcast(topic: str, value: Value, retain: bool = False) -> int:
    """Queue a message for all processes that have handlers, this one included; returns for how many it was queued.

    It waits for none of them: one whose mailbox is full misses it, and that is counted. With ``retain`` the value is
    kept, in place of the one before, for processes and handlers that come later; none of them ever gets an older value
    after a newer one, and one that has missed it gets it as soon as it can. Raises MessageTooLarge, TypeError as `send`
    does, and ValueError for an empty topic.
    """
    if not topic:
        raise ValueError("a broadcast needs a topic")
    here = standing()
    form, content = encode_value(value)
    plain = Packet(Kind.BROADCAST, form, content, topic, here.name)
    bus, outer_version, elsewhere = bus_of(here), 0, 0
    if bus is not None:
        outer_version, elsewhere = bus.broadcast(topic, _for_others(bus, plain), retain)
    version = _retain(here, plain, outer_version) if retain else 0
    if retain and not version:
        return elsewhere  # another machine was quicker, and its value is here already
    packet = dataclasses.replace(plain, version=version or here.retained.added, retained=retain)
    try:
        queued = post_to_readers(here, packet)
    except OSError as error:
        raise MessageTooLarge(f"there is no room for the value: {error.strerror}") from error
    if here.member is None:
        messenger()
    return queued + elsewhere


@overload
def on_message(topic: _F) -> _F: ...
@overload
def on_message(topic: str) -> Callable[[_F], _F]: ...
def on_message(topic: str | _F) -> _F | Callable[[_F], _F]:
    """Decorate a function to be called with each message of a topic; without a topic, of those sent without one.

    Functions are called one after another, in the order in which messages came, in one thread of the process (with
    gevent in a greenlet). What the first one returns is the reply to a request. An error is logged, and keeps no other
    function from being called. Raises ValueError for an empty topic.
    """
    if callable(topic):
        return _register("", topic)
    if not topic:
        raise ValueError("on_message needs a topic; use @on_message itself for messages that are sent without one")
    return lambda function: _register(topic, function)


def _register(topic: str, function: _F) -> _F:
    handlers.register(topic, function)
    here = running()
    if here is not None:
        here.wake()
    elif membership.current() is not None:
        messenger()
    return function


def request(slot: Address, value: Value, timeout: float, topic: str = "") -> Any:
    """Send a message and wait for what its handler returns, for at most ``timeout`` seconds.

    A reply that comes later reaches no one, and is counted where it came from. Raises what `send` does; RequestTimeout;
    RemoteError when the handler raised an error; NoHandler when there is none; WorkerGone when the process that had the
    request ended without a reply.
    """
    if not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    here = standing()
    form, content = encode_value(value)
    node, target = _split(here, slot)
    bus = bus_of(here)
    if bus is not None and node != bus.node:
        packet = Packet(Kind.REQUEST, form, content, topic, here.name, next(_numbers))
        return _request_elsewhere(bus, node, str(target), packet, timeout)
    return _request_here(here, target, Packet(Kind.REQUEST, form, content, topic, here.name), timeout)


def _request_here(here: Standing, slot: Address, unnumbered: Packet, timeout: float) -> Any:
    _check_answerable(here, slot)
    number = next(_numbers)
    try:
        ours, theirs = reply_pair()
    except OSError as error:
        raise QueueFull(f"no descriptor is left for the reply: {error.strerror}") from error
    with ours:
        with theirs:
            packet = dataclasses.replace(unnumbered, correlation=number, version=here.retained.added)
            _post(here, slot, packet, (theirs.fileno(),))
        if here.member is None:
            messenger()
        return _reply(ours, number, timeout, slot, packet.topic)


def _request_elsewhere(bus: "RedisBus", node: str, target: str, packet: Packet, timeout: float) -> Any:
    """The same of a process of another machine."""
    ends = time.monotonic() + timeout
    way = bus.send(node, str(target), _for_others(bus, packet), timeout)
    while (left_s := ends - time.monotonic()) > 0:
        found = bus.wait_reply(way, left_s)
        if found is not None:
            return _replied(decode_packet(found), [], f"{node}/{target}", packet.topic)
    bus.forget_reply(way)
    raise RequestTimeout(f"no reply from {node}/{target} within {timeout:g} s (topic {packet.topic!r})")


def _for_others(bus: "RedisBus", packet: Packet) -> bytes:
    """A packet as other machines get it, to which versions of this one mean nothing."""
    sender = seen_from_elsewhere(bus.node, packet.sender)
    return encode_packet(dataclasses.replace(packet, sender=sender, version=0))


def _split(here: Standing, slot: Address) -> tuple[str, MailboxName]:
    """The machine of an address, and the slot or role on it. Raises WorkerGone without a bus that leads there."""
    bus = bus_of(here)
    own = bus.node if bus is not None else ""
    if not isinstance(slot, str) or "/" not in slot:
        return own, slot
    node, _, target = slot.rpartition("/")
    if bus is None:
        raise WorkerGone(f"there is no bus that leads to {slot} (setting bus)")
    return (node, target) if node != own else (own, int(target) if target.isdecimal() else target)


def _reply(ours: socket.socket, number: int, timeout: float, slot: Address, topic: str) -> Any:
    """What comes as the reply to a request; late ones find this end closed."""
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    ends = time.monotonic() + timeout
    while True:
        left_s = ends - time.monotonic()
        if left_s <= 0 or not poll.poll(max(1, math.ceil(left_s * 1000))):
            raise RequestTimeout(f"no reply from {slot} within {timeout:g} s (topic {topic!r})")
        data, descriptors, _lost = descriptor_passing.receive_descriptors(ours, PACKET_BYTES, 1)
        try:
            if not data:
                raise WorkerGone(f"{slot} has ended without having answered (topic {topic!r})")
            packet = decode_packet(data)
            if packet.correlation == number:
                return _replied(packet, descriptors, slot, topic)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _replied(packet: Packet, descriptors: list[int], slot: Address, topic: str) -> Any:
    if packet.kind == Kind.NO_HANDLER:
        raise NoHandler(f"{slot} has no handler for the topic {topic!r}")
    if packet.in_file and not descriptors:
        raise RemoteError(f"no descriptor was left for the reply of {slot} (raise the limit on open files)")
    content = read_sealed(descriptors[0], LIMIT_BYTES) if packet.in_file else packet.content
    value = decode_value(packet.form, content)
    if packet.kind == Kind.FAILED:
        raise RemoteError(f"the handler of {slot} failed (topic {topic!r}): {value}")
    return value


def _check_answerable(here: Standing, slot: Address) -> None:
    """Whether a request can be answered at all. Raises NoHandler or ClusterError."""
    found = running()
    if found is not None and found.runs_caller and slot == here.name:
        raise ClusterError("a handler cannot wait for its own process, whose handlers run one after another")
    if here.member is None or not isinstance(slot, int):
        return
    rows = here.member.board.children(Cell.SLOT, Cell.ROLE, Cell.STATE, Cell.READS_MESSAGES)
    accepting = [
        reads
        for _, own, child_role, state, reads in rows
        if own == slot and child_role == ChildRole.WORKER and state in (WorkerState.READY, WorkerState.HELD)
    ]
    # Without any the message waits for the slot's next worker.
    if accepting and not any(accepting):
        raise NoHandler(f"the worker in slot {slot} has no handlers")


def _post(here: Standing, slot: Address, packet: Packet, beside: tuple[int, ...] = ()) -> None:
    posted = send_packet(_mailbox(here, slot), packet, beside)
    if posted is Posted.FULL:
        raise QueueFull(f"the mailbox of {slot} is full")
    if posted is Posted.GONE:
        raise WorkerGone(f"{slot} reads no messages any more")


def _mailbox(here: Standing, slot: MailboxName) -> socket.socket:
    """The way to a slot or a role. Raises WorkerGone, and TypeError for what can be neither."""
    if isinstance(slot, bool) or not isinstance(slot, int | str):
        raise TypeError(f"slot is a number or the name of a role, not {slot!r}")
    found = here.mailboxes.messages.get(slot)
    if found is None:
        found = _late_mailbox(here, slot)
    if found is None:
        raise WorkerGone(f"there is no slot {slot}" if isinstance(slot, int) else f"there is no {slot}")
    return found


def _late_mailbox(here: Standing, slot: MailboxName) -> socket.socket | None:
    """A mailbox that was made lately: the worker's own loop takes it in, which may be waiting for this very call."""
    if here.member is None:
        return None
    refresh, messages = here.mailboxes.refresh, here.mailboxes.messages
    if refresh is not None and threading.get_native_id() == os.getpid():
        refresh()
    ends = time.monotonic() + ARRIVAL_S
    while slot not in messages and time.monotonic() < ends and _is_manned(here, slot):
        time.sleep(_LOOK_S)
    return messages.get(slot)


def _is_manned(here: Standing, slot: MailboxName) -> bool:
    return here.member is not None and any(
        name_of(child_role, own) == slot for _, own, child_role in here.member.board.children(Cell.SLOT, Cell.ROLE)
    )


def _retain(here: Standing, packet: Packet, outer_version: int) -> int:
    try:
        return here.retained.add(packet.topic, encode_packet(packet), outer_version)
    except (RetainedFull, OSError) as error:
        raise MessageTooLarge(f"the value cannot be retained: {error}") from error
