"""A supervisor with children that are records: no process is started, and a test sets what they have sent."""

import contextlib
import dataclasses
import errno
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NoReturn

from wsgicluster.arbiter.children.entry_points import Roles
from wsgicluster.arbiter.children.link import ChildLink
from wsgicluster.arbiter.children.prepared import PreparedChild
from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.inbox import Inbox
from wsgicluster.arbiter.listeners.registry import ListenerSet
from wsgicluster.arbiter.plan.child import Child, Input, Role
from wsgicluster.arbiter.plan.orders import Spawn
from wsgicluster.arbiter.plan.rollout import Generation
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.arbiter.supervision.supervisor import Supervisor
from wsgicluster.ipc.messages import Channel, Message, Ready
from wsgicluster.ipc.scoreboard import Scoreboard
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.settings import Settings, TcpAddress

END = Exit(0, 0, 1 << 20)


def settings(**wanted: object) -> Settings:
    """Settings of a server with these values."""
    return Settings(wsgi_app="app", bind=(TcpAddress("127.0.0.1", 0),), **wanted)  # type: ignore[arg-type]


class Hands:
    """A clock whose hands are moved by the test; the one on the wall runs backwards."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 - 2 * self.now


class RecordedLink(ChildLink):
    """A link to no process: ``sent`` are the signals that it would have got."""

    deadline = 0.0
    taken_s = 0.0

    def __init__(self, child: Child, board: Scoreboard) -> None:
        self.ours, self.theirs = Channel.pair()
        super().__init__(child, board.take(child.slot, child.generation), self.ours, os.memfd_create("stacks"))
        self.sent: list[int] = []

    def signal(self, number: int) -> None:
        self.sent.append(number)

    def processor_s(self) -> float:
        return self.taken_s

    @property
    def beat_deadline(self) -> float:
        return self.deadline

    def close(self) -> None:
        super().close()
        self.theirs.close()


class RecordedChildren(ChildProcesses):
    """Children that are records. ``refusal`` is raised instead of making one; ``unclaimed`` is how each has exited
    whose pid is only reported.
    """

    def __init__(self, board: Scoreboard, inbox: Inbox, roles: Roles, logs: Logs) -> None:
        super().__init__(board, inbox, roles, logs, lambda numbers: ())
        self.refusal: BaseException | None = None
        self.refused_slot: int | None = None
        """The slot whose worker is prepared, but finds no room for its process."""
        self.fault_at = 0
        """The slot whose worker cannot be prepared for a reason that nobody has thought of."""
        self.steps: list[tuple[str, int]] = []
        """What was done, in order, and for which slot."""
        self.unclaimed: dict[int, Exit] = {}
        self.via_mold = False
        self.asked_at: list[float] = []
        self.made: list[RecordedLink] = []
        self._not_exited: list[RecordedLink] = []
        self.exits: list[tuple[Child, Exit]] = []
        self.board = board

    def prepare(self, order: Spawn, generation: Generation, now: float) -> PreparedChild:
        self.asked_at.append(now)
        if self.refusal is not None:
            raise self.refusal
        child = Child(len(self.made) + 1, order.slot, order.generation, now, order.role)
        if self.fault_at and child.slot == self.fault_at:
            raise ZeroDivisionError
        link = RecordedLink(child, self.board)
        self.made.append(link)
        self.steps.append(("prepare", child.slot))
        return PreparedChild(link, link.theirs, lambda: self._start(link), link.close)

    def _start(self, link: RecordedLink) -> None:
        child = link.child
        self.steps.append(("start", child.slot))
        if child.slot == self.refused_slot:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if self.via_mold and child.role is Role.WORKER:
            child.mold = next(link.child.key for link in self.made if link.child.role is Role.MOLD)
        else:
            child.pid = 10_000 + child.key
        self._not_exited.append(link)

    def adopt(self, started: PreparedChild) -> Child:
        child = started.link.child
        self.steps.append(("adopt", child.slot))
        if child.pid:
            child.take(Input.STARTED)
        return child

    @property
    def living(self) -> list[RecordedLink]:
        """The links to all children that have not exited."""
        # An exit is final, and a test that makes thousands of children does not look at all of them each time.
        self._not_exited = [link for link in self._not_exited if link.child.alive]
        return self._not_exited.copy()

    def watch(self, child: Child, handle: Callable[[], object]) -> None:
        pass

    def mute(self, child: Child) -> None:
        pass

    def link(self, child: Child) -> RecordedLink:
        return self.made[child.key - 1]

    def listeners_of(self, child: Child) -> ListenerSet:
        return ()

    def claim(self, child: Child, pid: int) -> Exit | None:
        child.pid = pid
        child.take(Input.STARTED)
        return self.unclaimed.pop(pid, None)

    def reap(self) -> Iterator[tuple[Child, Exit]]:
        while self.exits:
            yield self.exits.pop(0)

    def release(self, child: Child) -> None:
        self.link(child).close()
        self.board.free(self.link(child).page)

    def close(self) -> None:
        for link in self.living:
            link.close()
        self.mailboxes.close()
        self.events.close()


@dataclasses.dataclass
class Supervised:
    """A supervisor, its children, its clock and its log."""

    supervisor: Supervisor
    children: RecordedChildren
    hands: Hands
    log: pathlib.Path
    logs: Logs
    board: Scoreboard
    inbox: Inbox

    @property
    def living(self) -> list[RecordedLink]:
        """The links to all children that have not exited."""
        return self.children.living

    @property
    def lines(self) -> list[str]:
        """What has been logged, without time and process."""
        return [line.split("] ")[-1] for line in self.log.read_text().splitlines()]

    def say(self, link: RecordedLink, *messages: Message) -> None:
        """Have a child send messages, and the supervisor read them."""
        for message in messages:
            link.theirs.send(message)
        self.supervisor.messages.read(link.child.key)

    def turn(self, passed_s: float = 0.0) -> None:
        """Let time pass, then act."""
        self.hands.now += passed_s
        self.supervisor.check()
        self.supervisor.carry_out()

    def ready(self) -> None:
        """All that boot are ready."""
        for link in self.living:
            if link.child.coming and link.child.pid:
                self.say(link, Ready(0.5))
        self.turn()

    def exit(self, link: RecordedLink, ended: Exit = END) -> None:
        """A child exits."""
        self.children.exits.append((link.child, ended))
        self.supervisor.reap()


@contextlib.contextmanager
def supervised(folder: pathlib.Path) -> Iterator[Supervised]:
    """A supervisor that logs to a file in this folder."""
    with contextlib.ExitStack() as owned:
        board = Scoreboard(str(folder))
        owned.callback(board.close)
        inbox = Inbox({})
        owned.callback(inbox.close)
        log = folder / "log"
        logs = Logs(LogOptions(errorlog=str(log)))
        children = RecordedChildren(board, inbox, Roles(boot_worker=_never, load_application=_never), logs)
        owned.callback(children.close)
        hands = Hands()
        supervisor = Supervisor(children, logs, hands)
        owned.callback(supervisor.close)
        yield Supervised(supervisor, children, hands, log, logs, board, inbox)
        logs.error.handlers.clear()


def _never(*_: object) -> NoReturn:
    raise AssertionError("no process is started here")
