"""The messenger: the one thread of a process in which its message handlers run, one after another.

With gevent, which replaces `threading` and `select`, it is a greenlet. It is started by the first use that needs it,
in a worker of a mold only after that has been forked, and reads the mailbox of its process from when that is ready
until a successor in the same slot is. Who may send what is not known here.
"""

import atexit
import contextlib
import logging
import math
import os
import select
import signal
import socket
import threading
import time

from wsgicluster.cluster.messages import handlers
from wsgicluster.cluster.messages.bus import bus_of
from wsgicluster.cluster.messages.handlers import ClusterMessage, MessageHandler
from wsgicluster.cluster.messages.packets import PACKET_BYTES, Kind, Packet, decode_packet
from wsgicluster.cluster.messages.posting import send_packet
from wsgicluster.cluster.server.standing import Standing, standing
from wsgicluster.cluster.values.payload import IS_JSON, LIMIT_BYTES, decode_value, encode_value
from wsgicluster.ipc import membership
from wsgicluster.ipc.mailbox import Posted, opened
from wsgicluster.ipc.retained import RetainedFull
from wsgicluster.ipc.scoreboard import Cell, WorkerState
from wsgicluster.system import forks
from wsgicluster.system.anonymous_files import read_sealed
from wsgicluster.system.network import descriptor_passing

LOOK_S = 1.0
"""How often it looks for retained values that it has not received: of a server beside this one during an upgrade, or
where its mailbox was full."""
BOOT_LOOK_S = 0.01
MESSAGES_A_TURN = 64
TRUNCATED_AGAIN_S = 60.0
"""How long it has to be over before lost messages are logged once more."""
_TRACEBACKS = "wsgicluster.error"
_READ = select.POLLIN

_log = logging.getLogger(_TRACEBACKS)


class Messenger:
    """That of one process."""

    def __init__(self, here: Standing) -> None:
        self.here = here
        self._inbox = here.mailboxes.messages_inbox
        self.busy_since = 0.0
        """When the handling of the present message began, on the monotonic clock; 0.0 while none is handled."""
        self._reading = True
        self._stopped = False
        self._version = 0
        self._stale = True
        self._look_at = 0.0
        self._truncated_at = -math.inf
        self._ident = 0
        self._wake_receive, self._wake_send = os.pipe()
        for number in (self._wake_receive, self._wake_send):
            os.set_blocking(number, False)

    @property
    def runs_caller(self) -> bool:
        """Whether the code that asks is a handler."""
        return self._ident == threading.get_ident()

    def start(self) -> None:
        """Start the thread, or the greenlet."""
        if self.here.member is not None:
            self.here.member.page.cells[Cell.READS_MESSAGES] = 1
            forks.on_fork(self.abandon)
            membership.add_activity(self)
        else:
            atexit.unregister(self.here.mailboxes.close)
        thread = threading.Thread(target=self._run, name="wsgicluster-messenger", daemon=True)
        # Signals are for the main thread: one that comes here would not end what that one waits for.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        bus = bus_of(self.here)
        try:
            thread.start()
            if bus is not None:
                from wsgicluster.cluster.messages.bridge import Bridge

                threading.Thread(target=Bridge(self.here, bus).run, name="wsgicluster-bridge", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """Take no message more than the present one: what is in the mailbox is the successor's."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Have it look for retained values: there is a new handler."""
        self._stale = True
        with contextlib.suppress(OSError):  # so full that it wakes anyway
            os.write(self._wake_send, b"\0")

    def abandon(self) -> None:
        """In a process that the application has forked: close what is the parent's."""
        for number in (self._wake_receive, self._wake_send):
            with contextlib.suppress(OSError):  # closed by the application
                os.close(number)

    def _run(self) -> None:
        self._ident = threading.get_ident()
        try:
            self._wait_until_ready()
            poll = select.poll()
            poll.register(self._wake_receive, _READ)
            poll.register(self._inbox, _READ)
            while True:
                if self._turn(poll) or time.monotonic() >= self._look_at:
                    self._look_at = time.monotonic() + LOOK_S
                    self._look(poll)
        except Exception:  # noqa: BLE001
            # The boundary of this thread. The process serves on without messages, and its log says so.
            _log.exception("pid %d: the messenger has ended; messages reach this process no more", os.getpid())

    def _state(self) -> int:
        member = self.here.member
        return member.page.cells[Cell.STATE] if member is not None else WorkerState.READY

    def _wait_until_ready(self) -> None:
        """Until then the mailbox is that of the worker which this one is to replace."""
        poll = select.poll()
        poll.register(self._wake_receive, _READ)
        while self._state() == WorkerState.BOOTING:
            if poll.poll(BOOT_LOOK_S * 1000):
                self._empty_wakeups()

    def _is_succeeded(self) -> bool:
        """Whether another process reads the mailbox from now on."""
        member = self.here.member
        if member is None or self._state() != WorkerState.DRAINING:
            return False
        own = member.page.index, member.page.cells[Cell.SLOT], member.page.cells[Cell.ROLE]
        return any(
            seat != own[0] and (slot, role) == own[1:] and state in (WorkerState.READY, WorkerState.HELD)
            for seat, slot, role, state in member.board.children(Cell.SLOT, Cell.ROLE, Cell.STATE)
        )

    def _turn(self, poll: select.poll) -> bool:
        """Handle what is there, or wait for it; True when the mailbox was empty in the end.

        Only then is it looked for retained values: those are newer than what lies in the mailbox, or are in it, too.
        """
        events = dict(poll.poll(0 if self._stale else LOOK_S * 1000))
        if self._wake_receive in events:
            self._empty_wakeups()
        if self._stopped and self._reading:
            self._reading = False
            poll.unregister(self._inbox)
        if not self._reading or self._inbox.fileno() not in events:
            return True
        if self._is_succeeded():
            self._reading = False
            poll.unregister(self._inbox)
            return True
        if not events[self._inbox.fileno()] & _READ:
            raise OSError("the mailbox is closed")
        try:
            return self._handle_some()
        finally:
            self.busy_since = 0.0

    def _handle_some(self) -> bool:
        """Handle what is in the mailbox; True when that was empty in the end."""
        for _ in range(MESSAGES_A_TURN):
            self.busy_since = time.monotonic()
            # Looked at after that is written: the code that stops this waits for what was begun before.
            if self._stopped:
                return False
            try:
                data, descriptors, truncated = descriptor_passing.receive_descriptors(self._inbox, PACKET_BYTES, 2)
            except BlockingIOError:
                return True
            if not data:
                raise OSError("the mailbox is closed")
            if truncated:
                self._say_truncated()
            try:
                self._take(data, descriptors)
            finally:
                for number in descriptors:
                    os.close(number)
        return False

    def _say_truncated(self) -> None:
        said, self._truncated_at = time.monotonic() - self._truncated_at < TRUNCATED_AGAIN_S, time.monotonic()
        if not said:
            _log.error(
                "pid %d: messages are lost, since no descriptor was left for what came with them "
                "(raise the limit on open files)",
                os.getpid(),
            )

    def _empty_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_receive, 4096):
                pass

    # -- messages

    def _take(self, data: bytes, descriptors: list[int]) -> None:
        self.here.count(Cell.MESSAGES_RECEIVED)
        try:
            packet = decode_packet(data)
            if len(descriptors) != packet.in_file + (packet.kind == Kind.REQUEST):
                raise ValueError("what came with it is lost")
            content = read_sealed(descriptors[0], LIMIT_BYTES) if packet.in_file else packet.content
            value = decode_value(packet.form, content)
        except (ValueError, OSError, RecursionError) as error:
            self._drop(str(error))
            return
        known = handlers.handlers_of(packet.topic)
        if packet.version > self._version and not packet.retained:
            self._catch_up(packet.version)
        if packet.retained:
            self._call_with_retained(known, packet, content, packet.version)
        elif packet.kind == Kind.REQUEST:
            with opened(descriptors.pop()) as way:
                self._answer(known, packet, ClusterMessage(value, packet.topic, packet.sender), way)
        elif packet.kind in (Kind.SEND, Kind.BROADCAST):
            if not known and packet.kind == Kind.SEND:
                self._drop(f"there is no handler for the topic {packet.topic!r}")
            for index, handler in enumerate(known):
                # Each handler gets a copy of its own.
                own = decode_value(packet.form, content) if index else value
                self._call(handler, ClusterMessage(own, packet.topic, packet.sender))
        else:
            self._drop("a reply that no request waits for")

    def _drop(self, reason: str) -> None:
        self.here.count(Cell.MESSAGES_DROPPED)
        _log.debug("pid %d: a message is dropped: %s", os.getpid(), reason)

    def _call(self, handler: MessageHandler, message: ClusterMessage) -> tuple[object, BaseException | None]:
        try:
            return handler.function(message), None
        except BaseException as error:  # noqa: BLE001
            # The boundary to the application: whatever it raises, the next message is still handled.
            name = getattr(handler.function, "__qualname__", repr(handler.function))
            _log.exception("the message handler %s failed (topic %r)", name, message.topic)
            return None, error

    def _answer(
        self, known: tuple[MessageHandler, ...], packet: Packet, message: ClusterMessage, way: socket.socket
    ) -> None:
        """Call the handlers of a request; what the first returns is the reply."""
        outcomes = [self._call(handler, message) for handler in known]
        kind, form, content = Kind.NO_HANDLER, IS_JSON, b"null"
        if outcomes:
            value, error = outcomes[0]
            kind = Kind.REPLY
            try:
                form, content = encode_value(value)
            except (TypeError, ValueError) as unfit:
                error = unfit
                _log.error("the reply to a request (topic %r) cannot be sent: %s", packet.topic, unfit)
            if error is not None:
                kind = Kind.FAILED
                form, content = encode_value(f"{type(error).__name__}: {error}"[:10_000])
        reply = Packet(kind, form, content, "", self.here.name, packet.correlation)
        if send_packet(way, reply) is not Posted.QUEUED:
            self.here.count(Cell.LATE_REPLIES)

    # -- retained values

    def _look(self, poll: select.poll) -> None:
        """Catch up with the retained values, unless there is something in the mailbox, which was sent before."""
        version = self.here.retained.version
        if version == self._version and not self._stale:
            return
        # In this order: whatever a sender has sent before it made that version has been handled, or is found here.
        if self._reading and self._inbox.fileno() in dict(poll.poll(0)):
            return
        self._stale = False
        self._catch_up(version)

    def _catch_up(self, most: int) -> None:
        """Call handlers with the retained values up to this version that they have not seen."""
        try:
            newest = self.here.retained.newest()
        except RetainedFull as error:
            _log.error("pid %d: retained values cannot be read now: %s", os.getpid(), error)
            return
        self._version = most
        for each in sorted(newest.values(), key=lambda found: found.version):
            known = handlers.handlers_of(each.topic)
            if each.version <= most and any(handler.version < each.version for handler in known):
                packet = decode_packet(each.packet)
                self._call_with_retained(known, packet, packet.content, each.version)

    def _call_with_retained(
        self, known: tuple[MessageHandler, ...], packet: Packet, content: bytes, version: int
    ) -> None:
        for handler in known:
            # One that is older than what the handler has seen came a longer way, and is outdated.
            if handler.version < version:
                handler.version = version
                value = decode_value(packet.form, content)
                self._call(handler, ClusterMessage(value, packet.topic, packet.sender, retained=True))


_messenger: Messenger | None = None
_starting = threading.Lock()


def messenger() -> Messenger:
    """That of this process, started if need be. Raises NotInCluster."""
    global _messenger
    here = standing()
    found = _messenger
    if found is not None and found.here is here:
        return found
    with _starting:
        if _messenger is None or _messenger.here is not here:
            _messenger = Messenger(here)
            _messenger.start()
        return _messenger


def running() -> Messenger | None:
    """That of this process, if it has been started."""
    return _messenger if _messenger is not None and _messenger.here.pid == os.getpid() else None


def _joined() -> None:
    """This process has become a member; handlers that were registered before its fork are to be called from now on."""
    if handlers.has_any():
        messenger()


membership.on_join(_joined)
