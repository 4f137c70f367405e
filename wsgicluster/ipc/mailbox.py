"""Mailboxes: socket pairs of which the arbiter keeps both ends, so that what lies in one survives its reader.

Each slot has two, both ``SOCK_SEQPACKET``: one for messages, and one for connections that its worker has to serve
(`wsgicluster.ipc.handoff` says what the packets on that one are). Roles without a slot have one for messages. A child
has the sending ends of all of them and the receiving ends of its own. What the messages mean is not known here.

A full mailbox is an answer, never a wait: all ends are non-blocking.
"""

import _socket
import array
import contextlib
import enum
import errno
import fcntl
import os
import resource
import socket
import termios
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.handoff import give_back
from wsgicluster.ipc.messages import MOST_DESCRIPTORS, MailboxesChanged
from wsgicluster.ipc.nudge import nudge
from wsgicluster.ipc.turns import Turns
from wsgicluster.system.anonymous_files import anonymous_file

# As it is now: an application, or a kind of workers, may put a class that waits in its place.
_Socket = socket.socket

MailboxName: TypeAlias = int | str
"""A slot from 1, or the name of a role without one: ``"steward"`` or ``"jobs"``."""


def opened(descriptor: int) -> socket.socket:
    """The socket of a mailbox that came as a descriptor; never one of gevent's, which would wait."""
    return _Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)


def reply_pair() -> tuple[socket.socket, socket.socket]:
    """Receiving and sending end of a mailbox for one reply. Raises OSError without room for descriptors."""
    # Not `socket.socketpair`, which makes objects of the class that is in the module now.
    receive, send = (opened(end.detach()) for end in _socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    receive.setblocking(False)
    send.setblocking(False)
    return receive, send


class Posted(enum.Enum):
    """What became of a packet."""

    QUEUED = "queued"
    FULL = "full"
    """The mailbox takes no more now, or too many descriptors are under way."""
    GONE = "gone"
    """No process reads it, or ever will."""


_DESCRIPTORS_A_SLOT = 8
"""Of the arbiter: four of its mailboxes, and those of two workers while one replaces the other."""
_OTHER_DESCRIPTORS = 64

_FULL = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})


def post(mailbox: socket.socket, packet: bytes, descriptors: Sequence[int] = ()) -> Posted:
    """Send a packet, and descriptors beside it; the sender closes its own copies of these afterwards."""
    try:
        if descriptors:
            # `socket.send_fds` looks a module up for each call.
            mailbox.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        else:
            mailbox.send(packet)
    except OSError as error:
        return Posted.FULL if error.errno in _FULL else Posted.GONE
    return Posted.QUEUED


class Mailboxes:
    """What one child has of them; ``own`` is the name of those that it reads.

    ``messages`` and ``connections`` are the sending ends by name, ``messages_inbox`` and ``connections_inbox`` the
    receiving ends of its own. ``retained_fd`` is the file of `wsgicluster.ipc.retained`, ``turns_fd`` that of
    `wsgicluster.ipc.turns`. ``refresh`` reads what the arbiter has said since, where that can be done now: a worker
    that is busy has not heard of the newest slots.
    """

    def __init__(
        self,
        own: MailboxName,
        messages_inbox: socket.socket,
        connections_inbox: socket.socket | None,
        retained_fd: int,
        turns_fd: int,
    ) -> None:
        self.own = own
        self.messages: dict[MailboxName, socket.socket] = {}
        self.connections: dict[int, socket.socket] = {}
        self.messages_inbox = messages_inbox
        self.connections_inbox = connections_inbox
        self.retained_fd = retained_fd
        self.turns_fd = turns_fd
        self.refresh: Callable[[], object] | None = None

    @classmethod
    def unpacked(cls, names: Sequence[MailboxName], descriptors: Sequence[int]) -> "Mailboxes":
        """Made of what `packed` has returned, in another process."""
        own, *others = names
        retained_fd, turns_fd, inbox, *rest = descriptors
        connections_inbox = opened(rest.pop(0)) if isinstance(own, int) else None
        made = cls(own, opened(inbox), connections_inbox, retained_fd, turns_fd)
        made.apply(MailboxesChanged(others, [], rest))
        return made

    def packed(self) -> tuple[list[MailboxName], list[int]]:
        """Names and descriptors, for a process that is to have the same."""
        descriptors = [self.retained_fd, self.turns_fd, self.messages_inbox.fileno()]
        if self.connections_inbox is not None:
            descriptors.append(self.connections_inbox.fileno())
        for name, sock in self.messages.items():
            descriptors.append(sock.fileno())
            if isinstance(name, int):
                descriptors.append(self.connections[name].fileno())
        return [self.own, *self.messages], descriptors

    def apply(self, change: MailboxesChanged) -> list[MailboxName]:
        """Take over what the arbiter has made, and close what it has closed.

        Returns the names of those whose descriptors did not arrive, since this process had none left.
        """
        for name in change.closed:
            self._forget(name)
        descriptors = list(change.descriptors)
        lost = []
        for name in change.opened:
            count = 2 if isinstance(name, int) else 1
            taken, descriptors = descriptors[:count], descriptors[count:]
            if len(taken) < count:
                lost.append(name)
                for number in taken:
                    os.close(number)
                continue
            self._forget(name)
            if isinstance(name, int):
                self.connections[name] = opened(taken[1])
            self.messages[name] = opened(taken[0])
        return lost

    def _forget(self, name: MailboxName) -> None:
        for sock in (
            self.messages.pop(name, None),
            self.connections.pop(name, None) if isinstance(name, int) else None,
        ):
            if sock is not None:
                sock.close()

    def descriptors(self) -> set[int]:
        """All of them."""
        return set(self.packed()[1])

    def close(self) -> None:
        """Close all of them; harmless when repeated."""
        for sock in (self.messages_inbox, self.connections_inbox, *self.messages.values(), *self.connections.values()):
            if sock is not None:
                sock.close()
        self.messages.clear()
        self.connections.clear()
        for number in (self.retained_fd, self.turns_fd):
            if number >= 0:
                with contextlib.suppress(OSError):  # closed by the application
                    os.close(number)
        self.retained_fd = self.turns_fd = -1


@dataclass(frozen=True, slots=True)
class MailboxPair:
    """Both ends of the mailboxes of one name; ``serial`` is never used twice."""

    serial: int
    messages: tuple[socket.socket, socket.socket]
    connections: tuple[socket.socket, socket.socket] | None

    def sockets(self) -> list[socket.socket]:
        """All ends."""
        return [*self.messages, *(self.connections or ())]


class MailboxRegistry:
    """All mailboxes of a server, held by its arbiter; ``serial`` grows with each change.

    ``retained_fd`` and ``turns_fd`` are files for all its children; another server's take their places with
    `share_retained` and `share_turns`.
    """

    def __init__(self) -> None:
        self.serial = 0
        self.retained_fd = anonymous_file("wsgicluster-retained")
        self.turns_fd = Turns.new().descriptor
        self._pairs: dict[MailboxName, MailboxPair] = {}

    @classmethod
    def beside(cls, retained_fd: int, turns_fd: int) -> "MailboxRegistry":
        """An empty one, with these files of the server's; takes them over."""
        made = cls()
        made.share_retained(retained_fd)
        made.share_turns(turns_fd)
        return made

    def share_retained(self, number: int) -> None:
        """Use the file of the server before this one; before there is any child."""
        os.close(self.retained_fd)
        os.set_inheritable(number, False)
        self.retained_fd = number

    def share_turns(self, number: int) -> None:
        """The same for the file of turns and secrets: what a client is bound to outlives an upgrade."""
        os.close(self.turns_fd)
        os.set_inheritable(number, False)
        self.turns_fd = number

    def give_back(self, slot: int, hand_off: socket.socket, placed: bool = True) -> None:
        """Give the connections that lie in the mailbox of a slot without a worker to the first with room.

        ``placed`` as `wsgicluster.ipc.handoff.give_back` has it.
        """
        pair = self._pairs.get(slot)
        if pair is not None and pair.connections is not None:
            give_back(pair.connections, hand_off, placed=placed)

    def has_connections(self, slot: int) -> bool:
        """Whether something lies in a slot's mailbox for connections."""
        pair = self._pairs.get(slot)
        if pair is None or pair.connections is None:
            return False
        unread = array.array("i", (0,))
        fcntl.ioctl(pair.connections[1], termios.TIOCOUTQ, unread)  # unix(7): bytes that no process has received
        return unread[0] > 0

    def withdraw(self, slot: int, hand_off: socket.socket) -> None:
        """The same as `give_back` for a worker that does not take them; it finds a nudge there when it does again."""
        self.give_back(slot, hand_off)
        pair = self._pairs.get(slot)
        if pair is not None and pair.connections is not None:
            nudge(pair.connections[1])

    def slots(self) -> list[int]:
        """The slots that have mailboxes."""
        return [name for name in self._pairs if isinstance(name, int)]

    def open(self, name: MailboxName) -> None:
        """Make the mailboxes of this name, unless they are there. Raises OSError without room for descriptors."""
        if name in self._pairs:
            return
        with contextlib.ExitStack() as undo:
            messages = _pair(undo)
            connections = _pair(undo) if isinstance(name, int) else None
            undo.pop_all()
        self.serial += 1
        self._pairs[name] = MailboxPair(self.serial, messages, connections)

    def close_one(self, name: MailboxName) -> None:
        """Close the mailboxes of this name, and lose what lies in them."""
        pair = self._pairs.pop(name, None)
        if pair is not None:
            self.serial += 1
            for sock in pair.sockets():
                sock.close()

    def keep_slots(self, slots: Collection[int]) -> None:
        """Have those of these slots and of no others. Raises OSError without room for descriptors."""
        for name in [name for name in self._pairs if isinstance(name, int) and name not in slots]:
            self.close_one(name)
        if any(slot not in self._pairs for slot in slots):
            _allow_descriptors(len(slots) * _DESCRIPTORS_A_SLOT + _OTHER_DESCRIPTORS)
        for slot in slots:
            self.open(slot)

    def known(self) -> dict[MailboxName, int]:
        """The names and serial numbers of all that there are: what a child knows to which they have been given."""
        return {name: pair.serial for name, pair in self._pairs.items()}

    def descriptors(self) -> set[int]:
        """All of them."""
        sockets = [sock for pair in self._pairs.values() for sock in pair.sockets()]
        return {self.retained_fd, self.turns_fd, *(sock.fileno() for sock in sockets)}

    def news(self, known: Mapping[MailboxName, int]) -> tuple[list[MailboxName], list[MailboxName], list[int]]:
        """What has changed for a process that was forked with this registry, and knows these: see `adopt`."""
        closed = [name for name in known if name not in self._pairs]
        opened = [name for name, pair in self._pairs.items() if known.get(name) != pair.serial]
        return opened, closed, [sock.fileno() for name in opened for sock in self._pairs[name].sockets()]

    def adopt(self, opened: Sequence[MailboxName], closed: Sequence[MailboxName], descriptors: Sequence[int]) -> None:
        """Take over what the registry of another process has made: both ends of each, in the order of ``opened``."""
        for name in (*closed, *opened):
            self.close_one(name)
        ends = iter(_Socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, number) for number in descriptors)
        for name in opened:
            messages = next(ends), next(ends)
            self.serial += 1
            connections = (next(ends), next(ends)) if isinstance(name, int) else None
            self._pairs[name] = MailboxPair(self.serial, messages, connections)

    def share(self, own: MailboxName) -> Mailboxes:
        """What the child that reads those of this name gets when it is forked; opens them if need be."""
        self.open(own)
        pair = self._pairs[own]
        connections_inbox = pair.connections and pair.connections[0]
        made = Mailboxes(own, pair.messages[0], connections_inbox, self.retained_fd, self.turns_fd)
        for name, each in self._pairs.items():
            made.messages[name] = each.messages[1]
            if isinstance(name, int) and each.connections is not None:
                made.connections[name] = each.connections[1]
        return made

    def changes(self, known: Mapping[MailboxName, int]) -> list[MailboxesChanged]:
        """The messages for a child that knows these."""
        closed = [name for name in known if name not in self._pairs]
        opened = [name for name, pair in self._pairs.items() if known.get(name) != pair.serial]
        told = [MailboxesChanged([], closed)] if closed else []
        batch = MOST_DESCRIPTORS // 2
        for start in range(0, len(opened), batch):
            names = opened[start : start + batch]
            ends = [(self._pairs[name].messages, self._pairs[name].connections) for name in names]
            descriptors = [pair[1].fileno() for each in ends for pair in each if pair is not None]
            told.append(MailboxesChanged(names, [], descriptors))
        return told

    def close(self) -> None:
        """Close all of them; harmless when repeated."""
        for name in list(self._pairs):
            self.close_one(name)
        if self.retained_fd >= 0:
            os.close(self.retained_fd)
            os.close(self.turns_fd)
            self.retained_fd = self.turns_fd = -1


def _pair(undo: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    """Receiving and sending end."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        undo.callback(end.close)
        end.setblocking(False)
    return ends


def _allow_descriptors(wanted: int) -> None:
    """Allow this process, and the children it makes from now on, so many open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
