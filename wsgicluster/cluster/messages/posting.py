"""Putting packets into the mailboxes of this server's processes; what they mean is decided elsewhere."""

import contextlib
import dataclasses
import os
import socket

from wsgicluster.cluster.messages.packets import INLINE_BYTES, Packet, encode_packet
from wsgicluster.cluster.server.standing import Standing
from wsgicluster.ipc.mailbox import MailboxName, Posted, post
from wsgicluster.ipc.scoreboard import Cell, ChildRole
from wsgicluster.system.anonymous_files import sealed_file

_ROLE_NAMES = {ChildRole.JOBS: "jobs", ChildRole.STEWARD: "steward"}


def send_packet(way: socket.socket, packet: Packet, beside: tuple[int, ...] = ()) -> Posted:
    """Send a packet, with its value in a file if that is large, and with descriptors beside it.

    A system without room for the file is as good as a mailbox without.
    """
    with contextlib.ExitStack() as owned:
        try:
            return post(way, *enclosed(packet, beside, owned))
        except OSError:
            return Posted.FULL


def enclosed(packet: Packet, beside: tuple[int, ...], owned: contextlib.ExitStack) -> tuple[bytes, tuple[int, ...]]:
    """The bytes and descriptors of a packet; ``owned`` closes its file. Raises OSError without room for one."""
    if len(packet.content) <= INLINE_BYTES:
        return encode_packet(packet), beside
    number = sealed_file("wsgicluster-message", packet.content)
    owned.callback(os.close, number)
    return encode_packet(dataclasses.replace(packet, content=b"", in_file=True)), (number, *beside)


def post_to_readers(here: Standing, packet: Packet) -> int:
    """Post a packet to all processes that have handlers; returns to how many, those that missed it are counted.

    Raises OSError without room for a large value.
    """
    queued = 0
    with contextlib.ExitStack() as owned:
        data, files = enclosed(packet, (), owned)
        for name in _readers(here):
            mailbox = here.mailboxes.messages.get(name)
            if mailbox is not None and post(mailbox, data, files) is Posted.QUEUED:
                queued += 1
            else:
                here.count(Cell.MESSAGES_DROPPED)
    return queued


def _readers(here: Standing) -> list[MailboxName]:
    """The mailboxes of all processes that have handlers."""
    if here.member is None:
        return [here.name]
    rows = here.member.board.children(Cell.SLOT, Cell.ROLE, Cell.READS_MESSAGES)
    return list(dict.fromkeys(name_of(child_role, slot) for _, slot, child_role, reads in rows if reads))


def name_of(child_role: int, slot: int) -> MailboxName:
    return slot if child_role == ChildRole.WORKER else _ROLE_NAMES.get(ChildRole(child_role), "")
