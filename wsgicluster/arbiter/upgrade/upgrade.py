"""Two servers side by side: a new one is started on the listeners of the old one, and takes over from it.

Knows the other server, whichever of the two this one is; what becomes of this one's
own workers, pid file and listeners is decided by the arbiter.
"""

import collections
import enum
import logging
import os
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NoReturn

from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.postmortem import report
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.arbiter.service import launch
from wsgicluster.arbiter.service.launch import HandOff, Origin, Passed, Predecessor
from wsgicluster.arbiter.upgrade.channel import UpgradeChannel, UpgradeChannelClosed, UpgradeMessage
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AppLoadError, BootError, ForcedStop, ServerError, UsageError
from wsgicluster.ipc.shared_files import PassedFiles
from wsgicluster.system import descriptors
from wsgicluster.system.signals import HELD

_CANNOT_EXECUTE = 126
"""The exit code of a shell for a program that cannot be executed."""

_MEANINGS = {
    0: "it exited without an error",
    UsageError.exit_code: "a setting is wrong",
    BootError.exit_code: "its workers cannot be made ready",
    AppLoadError.exit_code: "the application cannot be loaded",
    ForcedStop.exit_code: "it was stopped by force",
}


class Happened(enum.Enum):
    """What the arbiter has to react to."""

    ALONE = "alone"
    """The server before this one has exited: this one is the server now."""
    MAIN = "main"
    """The server before this one is about to go, and has told the service manager who comes next."""
    LEAVING = "leaving"
    """The server after this one is to stop, and waits until this one serves."""
    LOST = "lost"
    """The server after this one has ended."""
    REPLACED = "replaced"
    """The server before this one serves again, or has exited, while this one waited for it in order to stop."""


@dataclass(slots=True)
class UpgradePeer:
    """The other server, as far as it is known; ``kept`` are the numbers of listeners that both have."""

    pid: int
    channel: UpgradeChannel
    is_successor: bool
    serving: bool
    kept: frozenset[int]
    shares_hand_off: bool = False
    error: str = ""
    has_served: bool = False
    is_awaited: bool = False


class Upgrade:
    """The other server, if there is one; there is never more than one."""

    def __init__(self, given: Origin, inbox: Inbox, log: logging.Logger) -> None:
        self._origin = given
        self._inbox = inbox
        self._log = log
        self._sent_serving = False
        self.before_exec: Callable[[], object] = _nothing
        """Called in the process that becomes the new server, before it does."""
        self.peer: UpgradePeer | None = None
        self.former = 0
        """The process of the server before this one, when that has exited."""
        self.happened: collections.deque[Happened] = collections.deque()
        before = given.predecessor
        if before is not None:
            try:
                channel = UpgradeChannel.inherited(before.channel)
            except OSError as error:
                raise ServerError(f"the server before this one cannot be reached: {error.strerror}") from error
            self._meet(UpgradePeer(before.pid, channel, is_successor=False, serving=True, kept=frozenset()))

    def _meet(self, peer: UpgradePeer) -> None:
        self.peer = peer
        self._sent_serving = peer.is_successor
        self._inbox.watch(peer.channel, self.read)

    def _part(self) -> None:
        if self.peer is not None:
            self._inbox.unwatch(self.peer.channel)
            self.peer.channel.close()
            self.peer = None

    # What is asked

    @property
    def predecessor(self) -> int | None:
        """The process of the server before this one, as long as it runs."""
        return self.peer.pid if self.peer is not None and not self.peer.is_successor else None

    @property
    def successor(self) -> int | None:
        """The process of the server after this one, as long as it runs."""
        return self.peer.pid if self.peer is not None and self.peer.is_successor else None

    @property
    def serves_elsewhere(self) -> bool:
        """Does the other server have workers for the clients of this one?"""
        return self.peer is not None and self.peer.serving

    @property
    def takes_connections(self) -> bool:
        """Would the other server also continue connections that are open here?"""
        return self.peer is not None and self.peer.serving and self.peer.shares_hand_off

    def is_shared(self, passed: Passed) -> bool:
        """Does the other server listen there, too?"""
        return passed.number in self.shared

    @property
    def shared(self) -> frozenset[int]:
        """The numbers of the listeners that the other server has, too."""
        return self.peer.kept if self.peer is not None else frozenset()

    def pidfile(self, path: str) -> str:
        """Where this server's pid file is for now: the plain name belongs to the older of two servers."""
        return f"{path}.2" if self.predecessor is not None else path

    # The old server

    def start(
        self,
        passed: Sequence[Passed],
        hand_off: HandOff,
        shared_files: PassedFiles,
        title: str,
        passed_admin: Sequence[Passed] = (),
        workers: int = 0,
    ) -> int | None:
        """Start a new server on these listeners and files; its pid, or None when that is refused, which is logged.

        Log lines begin with the title of who has requested it. ``workers`` is with how many it may start at once.
        """
        refusal = self._refusal()
        if refusal:
            self._log.warning("%s: no new server is started: %s", title, refusal)
            return None
        ours, theirs = UpgradeChannel.pair()
        before = Predecessor(os.getpid(), theirs.fileno(), hand_off, workers)

        def run() -> NoReturn:
            self.before_exec()
            try:
                self._execute(before, tuple(passed), shared_files, tuple(passed_admin))
            except OSError as error:
                theirs.send(
                    UpgradeMessage(
                        error=f"cannot execute {self._origin.command[0]} in {self._origin.directory}: {error.strerror}"
                    )
                )
            os._exit(_CANNOT_EXECUTE)

        try:
            pid = fork.fork(run, self._log)
        except OSError as error:
            ours.close()
            self._log.error("%s: no new server can be started: %s; try again later", title, error.strerror)
            return None
        finally:
            theirs.close()
        # Until it tells which of them it keeps, all of them may be in use there.
        kept = _numbers([*passed, *passed_admin])
        self._meet(UpgradePeer(pid, ours, is_successor=True, serving=False, kept=kept))
        self._log.info("%s: a new server is started beside this one (pid %d)", title, pid)
        return pid

    def _refusal(self) -> str:
        if self.successor is not None:
            return f"an upgrade is under way (pid {self.successor}); end it with TERM to one of the two"
        if self.predecessor is not None:
            return f"the server before this one (pid {self.predecessor}) still runs; end it first"
        if os.getpid() == 1:
            return "this one is process 1 of a container, which ends with it; start a new container"
        if not self._origin.command or not self._origin.command[0]:
            return "the command that has started this one is not known"
        return ""

    def _execute(
        self,
        before: Predecessor,
        passed: tuple[Passed, ...],
        shared_files: PassedFiles,
        passed_admin: tuple[Passed, ...],
    ) -> NoReturn:
        """In the new process: become a new server. Raises OSError."""
        given = self._origin
        hand_off = before.hand_off
        keep = {before.channel, hand_off.receive, hand_off.send, *(each.fd for each in (*passed, *passed_admin))}
        keep |= shared_files.descriptors()
        keep.update(number for number in (hand_off.retained, hand_off.turns) if number >= 0)
        descriptors.close_descriptors_except(keep)
        os.chdir(given.directory)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        pid = os.getpid()
        environ = {**given.environ, **launch.service_variables(given.service, pid)}
        environ[launch.UPGRADE_VARIABLE] = launch.announce(pid, before, passed, shared_files, passed_admin)
        # What is blocked stays blocked across an exec, and a new server may take long until it has handlers.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        os.execve(given.command[0], given.command, environ)

    def ended(self, ended: Exit) -> None:
        """The process of the new server has ended."""
        self.read()
        peer = self.peer
        if peer is None or not peer.is_successor:
            return
        meaning = peer.error or ("" if ended.signal_number else _MEANINGS.get(ended.code, "its log says why"))
        how = f"{ended}: {report.shown(meaning)}" if meaning else str(ended)
        if peer.has_served:
            self._log.warning("The new server (pid %d) has exited (%s); this one keeps serving", peer.pid, how)
        else:
            self._log.error(
                "The new server (pid %d) cannot start (%s); this one keeps serving: "
                "correct the cause, then send SIGUSR2 again",
                peer.pid,
                how,
            )
        self._part()
        self.happened.append(Happened.LOST)

    def hand_over(self) -> None:
        """Tell the new server that it is the service's main process from now on."""
        if self.peer is not None and self.peer.is_successor:
            self.peer.channel.send(UpgradeMessage(main=True))

    # The new server

    def keep(
        self, listeners: Sequence[Passed], kind: str, admin: Sequence[Passed] = ()
    ) -> tuple[socket.socket, socket.socket] | None:
        """Tell which listeners this server has; returns the hand-off socket if it shares the old one's.

        It does where the packets on it mean the same here and there, and where both listen at the same sockets for
        clients of the application; ``admin`` are those of the admin worker.
        """
        before, peer = self._origin.predecessor, self.peer
        if before is None or peer is None:
            return None
        offered, kept = _numbers(self._origin.passed), _numbers(listeners)
        peer.kept = (kept & offered) | (_numbers(admin) & _numbers(self._origin.passed_admin))
        peer.shares_hand_off = kept == offered and kind == before.hand_off.kind
        peer.channel.send(UpgradeMessage(kept=tuple(peer.kept), hand_off=peer.shares_hand_off))
        if not peer.shares_hand_off:
            os.close(before.hand_off.receive)
            os.close(before.hand_off.send)
            return None
        ends = socket.socket(fileno=before.hand_off.receive), socket.socket(fileno=before.hand_off.send)
        for end in ends:
            end.set_inheritable(False)
        return ends

    def call_back(self) -> bool:
        """Before a stop: ask the old server to serve again; True when it is worth waiting until it does."""
        peer = self.peer
        if peer is None or peer.is_successor or peer.serving or not peer.shares_hand_off:
            return False
        peer.is_awaited = peer.channel.send(UpgradeMessage(leaving=True))
        return peer.is_awaited

    # Both

    def still_keep(self, numbers: Collection[int]) -> None:
        """Tell that listeners have been closed, but for those with these numbers."""
        if self.peer is not None and not self.shared <= set(numbers):
            self.peer.kept = self.shared & set(numbers)
            self.peer.channel.send(UpgradeMessage(kept=tuple(self.peer.kept)))

    def tell_serving(self, serving: bool) -> None:
        """Tell the other server whether workers here take connections, when that has changed."""
        if self.peer is not None and serving is not self._sent_serving:
            self._sent_serving = serving
            self.peer.channel.send(UpgradeMessage(serving=serving))

    def read(self) -> None:
        """Take in what the other server has sent."""
        while self.peer is not None:
            try:
                message = self.peer.channel.receive()
            except ValueError as error:
                self._log.warning("The other server (pid %d) sent an invalid message: %s", self.peer.pid, error)
                continue
            except UpgradeChannelClosed:
                self._closed(self.peer)
                return
            if message is None:
                return
            self._received(self.peer, message)

    def _closed(self, peer: UpgradePeer) -> None:
        if peer.is_successor:
            # How it ended is known when it is reaped.
            self._inbox.unwatch(peer.channel)
            return
        self._log.info("The old server (pid %d) has exited: this one is the server now", peer.pid)
        self.former = peer.pid
        self._part()
        self.happened.append(Happened.ALONE)
        if peer.is_awaited:
            self.happened.append(Happened.REPLACED)

    def _received(self, peer: UpgradePeer, message: UpgradeMessage) -> None:
        if message.error is not None:
            peer.error = message.error
        if message.kept is not None:
            peer.kept = frozenset(message.kept)
        if message.hand_off is not None:
            peer.shares_hand_off = message.hand_off
        if message.main and not peer.is_successor:
            self.happened.append(Happened.MAIN)
        if message.serving is not None:
            peer.serving = message.serving
            if peer.serving and peer.is_awaited:
                self.happened.append(Happened.REPLACED)
        if message.leaving and peer.is_successor:
            self.happened.append(Happened.LEAVING)
        if message.serving and peer.is_successor and not peer.has_served:
            peer.has_served = True
            self._log.info(
                "The new server (pid %d) serves: TERM to this one (pid %d) completes the upgrade, "
                "TERM to the new one cancels it",
                peer.pid,
                os.getpid(),
            )


def _numbers(listeners: Iterable[Passed]) -> frozenset[int]:
    return frozenset(each.number for each in listeners if each.number is not None)


def report_failure(given: Origin, error: ServerError) -> None:
    """Tell the server before this one, if there is one, why this one cannot start."""
    if given.predecessor is None:
        return
    try:
        channel = UpgradeChannel.inherited(given.predecessor.channel)
    except OSError:
        return  # the old server has exited
    channel.send(UpgradeMessage(error=str(error)))
    channel.close()


def _nothing() -> None:
    """Nothing is called before a new server."""
