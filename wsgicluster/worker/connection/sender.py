"""The sending half of a connection: now what its transport takes, later what it does not.

A response is given to it in pieces, in whatever order the application makes them. What the transport does not take is
stored in an outbox; an application that is far ahead of its client waits here. When the rest is sent is the loop's
business.
"""

import contextlib
import select
import socket
import struct
from _thread import LockType
from os import close as _close  # gevent replaces it by one that closes only when its hub runs
from time import monotonic
from typing import Any

from wsgicluster.errors import ClientGone
from wsgicluster.worker.connection.host import Host
from wsgicluster.worker.transport.outbox import Outbox
from wsgicluster.worker.transport.pace_wait import PaceWait
from wsgicluster.worker.transport.timeouts import SendLimit
from wsgicluster.worker.transport.transport import ByteTransport, plain_transport
from wsgicluster.worker.transport.write_wait import WriteWait
from wsgicluster.wsgi.files import FileRegion

_RESET, _END = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""What closing a socket does, as SO_LINGER has it: reset the connection, or send what is left and end it."""

_TOO_SLOW = "the client has not taken its response in time"


_pace_wait = PaceWait()


class Sender:
    """Sends over one transport, which owns ``descriptor``; ``made_transport`` is None before it is first needed.

    ``outbox`` is what waits for the client, or None; ``send_limit`` the time that it has for that. ``quick`` says that
    the client has not been slow in this response. ``write_wait`` is how long the application has waited for it, in this
    response or in an earlier one, and ``sends_alone`` that it does so now: then the loop need not send. ``turn`` is
    held while the outbox changes, where others than the loop send too; made when something first has to wait.
    """

    __slots__ = (
        "_resets", "descriptor", "host", "made_transport", "outbox", "quick", "send_limit", "sends_alone", "turn",
        "write_wait",
    )  # fmt: skip

    send_limit: SendLimit
    """Set as long as there is an ``outbox``."""

    def __init__(self, host: Host[Any], descriptor: int) -> None:
        self.descriptor = descriptor
        self.host = host
        self.outbox: Outbox | None = None
        self.quick = True
        self.sends_alone = False
        self.turn: LockType | None = None
        self.write_wait: WriteWait | None = None
        self._resets = False
        self.made_transport: ByteTransport | None = None

    @property
    def transport(self) -> ByteTransport:
        """The transport; made when it is first asked for: a connection that only compiled code uses needs none."""
        transport = self.made_transport
        if transport is None:
            transport = self.made_transport = plain_transport(self.descriptor)
        return transport

    @transport.setter
    def transport(self, transport: ByteTransport) -> None:
        self.made_transport = transport

    def close_socket(self) -> None:
        """Close the descriptor, and tell the client nothing."""
        if self.made_transport is None:
            _close(self.descriptor)
        else:
            self.made_transport.close()

    def say_end(self) -> None:
        """Tell the client that the connection is about to be closed."""
        if self.made_transport is not None:
            self.made_transport.end(not self._resets and self.outbox is None)

    def reset_if_cut(self) -> None:
        """From now on any close of the connection resets it, until `allow_end`.

        The kernel has to know before the response begins, since nothing of ours runs when this process is killed or
        crashes: a client takes any other end for that of a body without a length (RFC 9112, section 8).
        """
        with contextlib.suppress(OSError):
            self.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._resets = True

    def allow_end(self) -> None:
        """The response is complete and has been sent: the connection may end as usual."""
        if self._resets:
            with contextlib.suppress(OSError):
                self.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _END)
            self._resets = False

    def client_wait_s(self, now: float) -> float:
        """How long the request that runs has waited for its client to take its response."""
        wait = self.write_wait
        return 0.0 if self.quick or wait is None else wait.total_s(now)

    @property
    def sends_later(self) -> bool:
        """Whether something waits for the client to take it."""
        return self.outbox is not None

    def lost_client(self) -> bool:
        """Whether the client has ended or reset the connection."""
        return self.transport.peer_lost()

    def send_interim(self, data: bytes) -> None:
        """Send an interim response. Raises ClientGone."""
        if self.transport.record_bytes:
            # Not dropped when the socket does not take it: TLS has begun with it then.
            self.send(data)
            return
        try:
            self.transport.send(data)
        except BlockingIOError:
            pass  # a client that has not read its last response will not miss this
        except OSError as error:
            raise ClientGone(str(error)) from error

    def send(self, data: bytes | memoryview) -> None:
        """Send now, or keep what the transport does not take. Raises ClientGone."""
        if self.outbox is None or self.flush_outbox():
            try:
                sent = (self.made_transport or self.transport).send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientGone(str(error)) from error
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self.store(data)

    def send_last(self, data: bytes) -> None:
        """Send the end of a response: nothing comes behind it, so there is nothing to wait for. Raises ClientGone."""
        if self.outbox is None or self.flush_outbox():
            self.send(data)
        else:
            self.keep(data)

    def send_pair(self, head: bytes, body: bytes) -> None:
        """Send two buffers, the second perhaps large: joined no further than records are. Raises ClientGone."""
        record_bytes = self.transport.record_bytes
        if self.outbox is not None or record_bytes:
            # What has been encrypted together has to wait together.
            room = max(0, record_bytes - len(head))
            self.send(head + body[:room])
            if len(body) > room:
                self.send(memoryview(body)[room:])
            return
        try:
            sent = self.transport.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientGone(str(error)) from error
        if sent < len(head):
            self.store(memoryview(head)[sent:])
            self.store(memoryview(body))
        elif sent < len(head) + len(body):
            self.store(memoryview(body)[sent - len(head) :])

    def send_file(self, head: bytes, region: FileRegion) -> None:
        """Send a head and then a part of a file. Raises ClientGone, and FileFault when the file cannot be read."""
        outbox = self.outbox or self._new_outbox(monotonic())
        outbox.put(head)
        outbox.put_file(region)
        self.flush_outbox()

    def store(self, data: memoryview | bytes) -> None:
        """Keep data until the client takes it, when it has taken enough of what waits already.

        Raises ClientGone if it takes too long for that.
        """
        outbox = self.outbox
        if outbox is not None and outbox.memory_bytes + outbox.spool_bytes > outbox.buffer_bytes:
            if not outbox.has_room(len(data)) and self.is_served():
                self._wait_for_room(outbox, len(data))
        self.keep(data)

    def keep(self, data: memoryview | bytes) -> None:
        """Keep data until the client takes it. Raises ClientGone if it has taken nothing for too long.

        The application is the only one to know of a response that is still being made, and it may have no end.
        """
        if not data:
            return
        outbox, now = self.outbox, monotonic()
        if outbox is None:
            outbox = self._new_outbox(now)
        elif self.send_limit.is_over(now, outbox.sent_bytes):
            outbox.given_up = True
            raise ClientGone(_TOO_SLOW)
        if outbox.memory_bytes + len(data) > outbox.buffer_bytes and self.host.storage.spools_now():
            if not (outbox.lagging or outbox.spool_bytes):
                self._pace(outbox)
        outbox.put(data)

    def flush_outbox(self) -> bool:
        """Send of what waits what the client takes; True when nothing is left. Raises ClientGone or FileFault."""
        if self.turn is None:
            return self.flush_in_turn()
        with self.turn:
            return self.flush_in_turn()

    def flush_in_turn(self) -> bool:
        """`flush_outbox`, for a caller that holds the ``turn`` if there is one."""
        outbox = self.outbox
        if outbox is None or outbox.flush(self.transport):
            self.outbox = None
            return True
        return False

    def is_served(self) -> bool:
        """Whether it is an application that sends, so that it may be made to wait."""
        raise NotImplementedError

    def _new_outbox(self, now: float) -> Outbox:
        self.send_limit = SendLimit(self.host.timing, now)
        self.outbox = outbox = Outbox(self.host.storage)
        return outbox

    def makes_room(self) -> bool:
        """Wait a moment until the client has made room in the socket; whether it has."""
        # Looked up now: gevent puts one there that lets other greenlets run.
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        began = monotonic()
        room = bool(poll.poll(_pace_wait.begin(began) * 1000))
        now = monotonic()
        _pace_wait.end(now, room)
        self.host.has_waited(now - began)
        return room

    def _pace(self, outbox: Outbox) -> None:
        # A client that reads as fast as we write needs no temp file, only a moment. One that lets such a moment pass
        # without reading gets no other before it has taken all that is stored by then: it may only have been held up.
        while outbox.memory_bytes > outbox.buffer_bytes // 2:
            if not self.makes_room():
                if self.quick:
                    self.quick, self.write_wait = False, None  # that is of an earlier response
                outbox.lagging = True
                break
            if outbox.flush(self.transport):
                break

    def _wait_for_room(self, outbox: Outbox | None, size: int) -> None:
        """Send, and wait for the client, until a block of this size may be kept. Raises ClientGone or FileFault."""
        # Not with the turn in hand: another greenlet that wants it would stop them all.
        self.sends_alone = True
        wait = self.write_wait
        if wait is None or self.quick:
            wait = self.write_wait = WriteWait(self.host.timing)
            self.quick = False
        # Looked up now: gevent puts one there that lets other greenlets run.
        poll = select.poll()
        poll.register(self.descriptor, select.POLLOUT)
        sent_bytes = outbox.sent_bytes if outbox is not None else 0
        wait.begin(monotonic(), sent_bytes)
        try:
            while outbox is not None and not outbox.has_room(size):
                sent_bytes = outbox.sent_bytes
                now = monotonic()
                limit_s = wait.deadline(now, sent_bytes) - now
                if limit_s <= 0:
                    raise ClientGone(_TOO_SLOW)
                self.host.wait_for_client(poll, limit_s)
                self.flush_outbox()
                sent_bytes = outbox.sent_bytes
                outbox = self.outbox
        except BaseException:
            # Whatever the application makes of it: its block is lost, and none behind it may be sent.
            if self.outbox is not None:
                self.outbox.given_up = True
            raise
        finally:
            wait.end(monotonic(), sent_bytes)
