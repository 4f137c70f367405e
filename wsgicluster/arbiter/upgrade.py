"""Two servers side by side: a new one is started on the listeners of the old one, and takes over from it.

Knows the other server, whichever of the two this one is; what becomes of this one's
own workers, pid file and listeners is decided by the arbiter.
"""

import collections
import dataclasses
import enum
import logging
import os
import signal
import socket
from collections.abc import Collection, Iterable, Sequence
from typing import NoReturn

from wsgicluster import process
from wsgicluster.arbiter import origin, report, spawn
from wsgicluster.arbiter.autopsy import Exit
from wsgicluster.arbiter.bond import Bond, BondClosed, Word
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.origin import HandOff, Origin, Passed, Predecessor
from wsgicluster.errors import AppLoadError, BootError, ForcedStop, ServerError, UsageError

BOND_KEY = 0
"""The bond's key in the inbox; children count from one."""

_CANNOT_EXECUTE = 126
"""What a shell answers for a program that cannot be executed."""

_MEANINGS = {
    0: "it ended without an error",
    UsageError.exit_code: "a setting is wrong",
    BootError.exit_code: "its workers cannot be made ready",
    AppLoadError.exit_code: "the application cannot be loaded",
    ForcedStop.exit_code: "it was stopped by force",
}


class Happened(enum.Enum):
    """What the arbiter has to react to."""

    ALONE = "alone"
    """The server before this one is gone: this one is the server now."""
    MAIN = "main"
    """The server before this one is about to go, and has told the service manager who comes next."""
    LEAVING = "leaving"
    """The server after this one is to stop, and waits until this one serves."""
    LOST = "lost"
    """The server after this one has ended."""
    RELIEVED = "relieved"
    """The server before this one serves again, or is gone, while this one waited for it in order to stop."""


@dataclasses.dataclass(slots=True)
class Peer:
    """The other server, as far as it is known; ``kept`` are the numbers of listeners that both have."""

    pid: int
    bond: Bond
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
        self._said_serving = False
        self.peer: Peer | None = None
        self.former = 0
        """The process of the server before this one, when that is gone."""
        self.happened: collections.deque[Happened] = collections.deque()
        before = given.predecessor
        if before is not None:
            try:
                bond = Bond.inherited(before.bond)
            except OSError as error:
                raise ServerError(f"the server before this one cannot be reached: {error.strerror}") from error
            self._meet(Peer(before.pid, bond, is_successor=False, serving=True, kept=frozenset()))

    def _meet(self, peer: Peer) -> None:
        self.peer = peer
        self._said_serving = peer.is_successor
        self._inbox.watch(peer.bond, BOND_KEY)

    def _part(self) -> None:
        if self.peer is not None:
            self._inbox.unwatch(self.peer.bond)
            self.peer.bond.close()
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
        """Would the other server also go on with connections that are open here?"""
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

    def start(self, passed: Sequence[Passed], hand_off: HandOff) -> int | None:
        """Start a new server on these listeners; its pid, or None when that is refused, which is logged."""
        refusal = self._refusal()
        if refusal:
            self._log.warning("SIGUSR2: no new server is started: %s", refusal)
            return None
        ours, theirs = Bond.pair()
        before = Predecessor(os.getpid(), theirs.fileno(), hand_off)

        def run() -> NoReturn:
            try:
                self._execute(before, tuple(passed))
            except OSError as error:
                theirs.say(
                    Word(
                        error=f"cannot execute {self._origin.command[0]} in {self._origin.directory}: {error.strerror}"
                    )
                )
            os._exit(_CANNOT_EXECUTE)

        try:
            pid = spawn.fork(run, self._log)
        except OSError as error:
            ours.close()
            self._log.error("SIGUSR2: no new server can be started: %s; try again later", error.strerror)
            return None
        finally:
            theirs.close()
        # Until it tells which of them it keeps, all of them may be in use there.
        kept = _numbers(passed)
        self._meet(Peer(pid, ours, is_successor=True, serving=False, kept=kept))
        self._log.info("SIGUSR2: a new server is started beside this one (pid %d)", pid)
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

    def _execute(self, before: Predecessor, passed: tuple[Passed, ...]) -> NoReturn:
        """In the new process: become a new server. Raises OSError."""
        given = self._origin
        keep = {before.bond, before.hand_off.receive, before.hand_off.send, *(each.fd for each in passed)}
        process.close_descriptors_except(keep)
        os.chdir(given.directory)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        pid = os.getpid()
        environ = {**given.environ, **origin.service_variables(given.service, pid)}
        environ[origin.UPGRADE_VARIABLE] = origin.announce(pid, before, passed)
        # What is blocked stays blocked across an exec, and a new server may take long until it has handlers.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, spawn.HELD)
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
            self._log.warning("The new server (pid %d) has ended (%s); this one goes on", peer.pid, how)
        else:
            self._log.error(
                "The new server (pid %d) cannot start (%s); this one goes on as it was: "
                "set right what is wrong, then send SIGUSR2 again",
                peer.pid,
                how,
            )
        self._part()
        self.happened.append(Happened.LOST)

    def hand_over(self) -> None:
        """Tell the new server that it is the service's main process from now on."""
        if self.peer is not None and self.peer.is_successor:
            self.peer.bond.say(Word(main=True))

    # The new server

    def keep(self, listeners: Sequence[Passed], kind: str) -> tuple[socket.socket, socket.socket] | None:
        """Tell which listeners this server has; answers the hand-off socket if it shares the old one's.

        It does where the packets on it mean the same here and there, and where both listen at the same sockets.
        """
        before, peer = self._origin.predecessor, self.peer
        if before is None or peer is None:
            return None
        offered, kept = _numbers(self._origin.passed), _numbers(listeners)
        peer.kept = kept & offered
        peer.shares_hand_off = kept == offered and kind == before.hand_off.kind
        peer.bond.say(Word(kept=tuple(peer.kept), hand_off=peer.shares_hand_off))
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
        peer.is_awaited = peer.bond.say(Word(leaving=True))
        return peer.is_awaited

    # Both

    def still_keep(self, numbers: Collection[int]) -> None:
        """Tell that listeners have been closed, but for those with these numbers."""
        if self.peer is not None and not self.shared <= set(numbers):
            self.peer.kept = self.shared & set(numbers)
            self.peer.bond.say(Word(kept=tuple(self.peer.kept)))

    def tell_serving(self, serving: bool) -> None:
        """Tell the other server whether workers here take connections, when that has changed."""
        if self.peer is not None and serving is not self._said_serving:
            self._said_serving = serving
            self.peer.bond.say(Word(serving=serving))

    def read(self) -> None:
        """Take in what the other server has said."""
        while self.peer is not None:
            try:
                word = self.peer.bond.hear()
            except ValueError as error:
                self._log.warning("The other server (pid %d) sent nonsense: %s", self.peer.pid, error)
                continue
            except BondClosed:
                self._closed(self.peer)
                return
            if word is None:
                return
            self._heard(self.peer, word)

    def _closed(self, peer: Peer) -> None:
        if peer.is_successor:
            # How it ended is known when it is reaped.
            self._inbox.unwatch(peer.bond)
            return
        self._log.info("The server before this one (pid %d) is gone: this is the server now", peer.pid)
        self.former = peer.pid
        self._part()
        self.happened.append(Happened.ALONE)
        if peer.is_awaited:
            self.happened.append(Happened.RELIEVED)

    def _heard(self, peer: Peer, word: Word) -> None:
        if word.error is not None:
            peer.error = word.error
        if word.kept is not None:
            peer.kept = frozenset(word.kept)
        if word.hand_off is not None:
            peer.shares_hand_off = word.hand_off
        if word.main and not peer.is_successor:
            self.happened.append(Happened.MAIN)
        if word.serving is not None:
            peer.serving = word.serving
            if peer.serving and peer.is_awaited:
                self.happened.append(Happened.RELIEVED)
        if word.leaving and peer.is_successor:
            self.happened.append(Happened.LEAVING)
        if word.serving and peer.is_successor and not peer.has_served:
            peer.has_served = True
            self._log.info(
                "The new server (pid %d) serves: TERM to this one (pid %d) completes the upgrade, "
                "TERM to the new one takes it back",
                peer.pid,
                os.getpid(),
            )


def _numbers(listeners: Iterable[Passed]) -> frozenset[int]:
    return frozenset(each.number for each in listeners if each.number is not None)


def say_failed(given: Origin, error: ServerError) -> None:
    """Tell the server before this one, if there is one, why this one cannot start."""
    if given.predecessor is None:
        return
    try:
        bond = Bond.inherited(given.predecessor.bond)
    except OSError:
        return  # there is nobody to be told
    bond.say(Word(error=str(error)))
