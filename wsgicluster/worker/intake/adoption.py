"""How clients come in from other workers: by the hand-off socket that all share, and by the slot's own mailbox.

Who gives them, and why, is not known here.
"""

import errno
import os
import socket
import sys
import time

from wsgicluster.counting import count_of
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.handoff import Handed, Lost, meaning, take_over
from wsgicluster.ipc.reasons import CloseReason, HandOffResult
from wsgicluster.ipc.scoreboard import Cell
from wsgicluster.worker.connection.connection import Connection
from wsgicluster.worker.connection.host import Arrivals
from wsgicluster.worker.connection.offloaded import OffloadedConnection
from wsgicluster.worker.connection.preamble import PreambleSettings, apply_proxy_header
from wsgicluster.worker.context import WorkerContext
from wsgicluster.worker.hosting.factory import ConnectionFactory
from wsgicluster.worker.intake.eviction import SilentEviction
from wsgicluster.worker.intake.listeners import WatchedListeners
from wsgicluster.worker.intake.load_shedding import Tally
from wsgicluster.worker.intake.mail import ConnectionMail
from wsgicluster.worker.intake.overflow import Overflow
from wsgicluster.worker.intake.policy import HANDED_A_TURN
from wsgicluster.worker.intake.reserve import DescriptorReserve
from wsgicluster.worker.intake.snapshot import snapshot
from wsgicluster.worker.runner import Load
from wsgicluster.worker.scheduling.scheduler import Scheduler


@dataclass(frozen=True)
class EntryParts:
    """What clients meet, by whichever way they come in."""

    listeners: WatchedListeners
    reserve: DescriptorReserve
    factory: ConnectionFactory
    load: Load
    silent: SilentEviction
    overflow: Overflow
    arrivals: Arrivals[Connection] | None = None
    preamble: PreambleSettings | None = None
    scheduler: Scheduler | None = None


class Adoption:
    """Takes connections of other workers, as long as there is a descriptor for each.

    ``answers_passed`` says that compiled code, if there is any, serves what comes by mail and has not been read.
    """

    def __init__(self, context: WorkerContext, parts: EntryParts, mail: ConnectionMail) -> None:
        self.answers_passed = True
        self._context = context
        self._listeners = parts.listeners
        self._reserve = parts.reserve
        self._factory = parts.factory
        self._load = parts.load
        self._mail = mail
        self._silent = parts.silent
        self._overflow = parts.overflow
        self._arrivals = parts.arrivals
        self._preamble = parts.preamble
        self._scheduler = parts.scheduler
        self._last_mailed = sys.maxsize
        """The last descriptor that came by mail."""
        self._lost = Tally(context.loop, self._log_lost)

    def begin(self) -> None:
        """Take mail from now on; `take_over` is called by the listeners, which are watched together with the socket."""
        self._mail.begin(self.take_mail)

    def take_over(self) -> None:
        """Take what siblings give to whichever worker has room, as far as there is some."""
        listeners, spare = self._listeners, self._reserve.descriptors
        if not listeners.adopting or listeners.paused:
            return
        if self._overflow.is_better_elsewhere(snapshot(self._context, self._load, self._context.loop.now)):
            self._overflow.leave()
            return
        for _ in range(HANDED_A_TURN):
            if not (listeners.adopting and not listeners.paused and not self._reserve.scarce):
                return
            if not self._reserve.has_spare():
                self._reserve.pause(os.strerror(errno.EMFILE))
                return
            spare.free_spare()
            handed = take_over(listeners.hand_off_receive)
            spare.keep_spare()
            if handed is None:
                return
            if isinstance(handed, Handed):
                self._adopt(handed, True)
            elif isinstance(handed, Lost):
                self._note_lost()
            else:
                for index, listener in list(listeners.open.items()):
                    listeners.accept_now(index, listener)

    def take_mail(self) -> None:
        """Take what lies in the slot's own mailbox, as far as this worker can."""
        mail, spare = self._mail, self._reserve.descriptors
        inbox, floats = mail.inbox, self._context.page.floats
        for _ in range(HANDED_A_TURN):
            if inbox is None:
                return
            self._silent.make_place()
            if self._reserve.scarce:
                return
            if mail.is_refused():
                self._load.room_awaited = True
                return
            # The lowest free number is the next: far below the limit there is no need to make sure of one.
            is_short = self._last_mailed + HANDED_A_TURN >= spare.mark
            if is_short:
                if not self._reserve.has_spare():
                    self._reserve.pause(os.strerror(errno.EMFILE))
                    mail.pause()
                    return
                spare.free_spare()
            if self._arrivals is not None and self.answers_passed and not is_short:
                found = self._answer_passed(self._arrivals, inbox)
                if found is None:
                    break
                handed = meaning(*found)
            else:
                handed = take_over(inbox)
            if is_short:
                spare.keep_spare()
            if handed is None:
                # They are counted before nothing is said to lie there any more.
                self._context.page.cells[Cell.CONNECTIONS] = len(self._context.connections)
                floats[Cell.MAIL_SINCE] = 0.0
                return
            if isinstance(handed, Handed):
                self._last_mailed = handed.sock.fileno()
                self._adopt(handed, False)
            elif isinstance(handed, Lost):
                self._note_lost()
        # More may lie there, but this worker does take it.
        floats[Cell.MAIL_SINCE] = time.monotonic()

    def _answer_passed(self, arrivals: Arrivals[Connection], inbox: socket.socket) -> tuple[bytes, int] | None:
        """Have compiled code answer what was passed on unread; returns what it returns."""
        arrivals.last_passed = self._last_mailed
        found = arrivals.answer_passed(inbox.fileno(), HANDED_A_TURN)
        self._last_mailed = arrivals.last_passed
        return found

    def _adopt(self, handed: Handed[socket.socket], from_any: bool) -> None:
        cells = self._context.page.cells
        cells[Cell.HAND_OFFS + HandOffResult.TAKEN] += 1
        try:
            peer = handed.sock.getpeername()
        except OSError:
            cells[Cell.CLOSED + CloseReason.CLIENT] += 1
            handed.sock.close()  # the client left while the connection was under way
            return
        factory = self._factory
        index = factory.index_of(handed.listener, handed.sock)
        connection = factory.open(handed.sock.detach(), index, peer, handed.rest)
        if isinstance(connection, OffloadedConnection):
            # One that a sibling has given away is not given away again before it has been served; but one that was
            # given to this worker has met no other.
            connection.guest = from_any
        if handed.fresh:
            self._begin_fresh(connection, handed.proxy_header)
            return
        connection.kept = handed.kept
        apply_proxy_header(connection, handed.proxy_header, factory.trust.peers)
        if self._scheduler is not None:
            if from_any and not handed.placed and self._scheduler.place(connection, False):
                return
            self._scheduler.keep_next(connection, handed.placed)
        connection.reading.resume()

    def _begin_fresh(self, connection: Connection, proxy_header: bytes) -> None:
        """A connection on which nothing has been said but a PROXY header."""
        if self._preamble is not None:
            self._preamble.apply(connection, proxy_header)
        if isinstance(connection, OffloadedConnection):
            connection.receive_unless_full()
        else:
            connection.receive_if_open()

    def _note_lost(self) -> None:
        self._context.page.cells[Cell.HAND_OFFS + HandOffResult.LOST] += 1
        self._lost.add()

    def _log_lost(self, count: int) -> None:
        self._context.log.error(
            "worker %d: %s lost: no descriptor was left (raise the limit on open files)",
            self._context.slot,
            count_of(count, "connection from other workers is", "connections from other workers are"),
        )  # fmt: skip
