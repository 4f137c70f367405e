"""Races between what asks for a worker's exit: whatever comes first, an exit that was requested is never a death.

(Node 72: disconnect-exitedAfterDisconnect-race)
"""

import pathlib
import random
import signal
from collections.abc import Callable

from tests.arbiter.supervised import END, RecordedLink, Supervised, settings, supervised
from wsgicluster.arbiter.plan.child import End, Role
from wsgicluster.arbiter.postmortem.diagnosis import Exit
from wsgicluster.ipc.messages import RecycleWanted

RACES = 1000
REQUESTED = {
    End.ASKED, End.CUT, End.RECYCLED_APPLICATION, End.RECYCLED_HANG, End.RECYCLED_MEMORY, End.RECYCLED_REQUESTS,
}  # fmt: skip
BY_TERM = Exit(0, signal.SIGTERM, 1 << 20)
"""A worker that had no handler yet."""


def recycle(world: Supervised, link: RecordedLink, luck: random.Random) -> None:
    """The worker asks for its replacement; its message is read now, or when it has exited."""
    message = RecycleWanted(luck.choice(["memory", "requests", "hang", "application"]), "race")
    if luck.random() < 0.5:
        world.say(link, message)
    else:
        link.theirs.send(message)


def race(world: Supervised, luck: random.Random) -> None:
    """Ask for the exit of workers in all ways there are, in some order, while they ask for it themselves."""
    supervisor = world.supervisor
    steps: list[Callable[[], object]] = [
        lambda: recycle(world, luck.choice(world.living), luck),
        lambda: recycle(world, luck.choice(world.living), luck),
        lambda: supervisor.replace(luck.choice([1, 2]), "steward"),
        lambda: supervisor.scale(-1),
        lambda: supervisor.scale(+1),
        world.turn,
        lambda: world.turn(luck.choice([0.1, 1.0, 40.0])),
        world.ready,
    ]
    if luck.random() < 0.2:
        steps.append(lambda: supervisor.reload(settings(workers=2), ()))
    luck.shuffle(steps)
    for step in steps:
        step()
        asked = [link for link in world.living if link.sent]
        if asked and luck.random() < 0.5:
            leave(world, luck.choice(asked), luck)


def leave(world: Supervised, link: RecordedLink, luck: random.Random) -> None:
    """A worker that has been sent a signal exits as that makes it."""
    if signal.SIGKILL in link.sent:
        world.exit(link, Exit(0, signal.SIGKILL, 1 << 20))
    else:
        world.exit(link, BY_TERM if link.child.ready_at is None and luck.random() < 0.5 else END)
    child = link.child
    assert child.end in REQUESTED, f"{child.end} after {link.sent}"
    assert child.by in {"operator", "steward", "application", "arbiter"}
    world.turn()


def test_a_thousand_races(tmp_path: pathlib.Path) -> None:
    """(Node 72)"""
    with supervised(tmp_path) as world:
        world.supervisor.reload(settings(workers=2), ())
        world.turn()
        world.ready()
        for seed in range(RACES):
            race(world, random.Random(seed))
            world.turn(1.0)
            world.ready()
        ended = [link.child for link in world.children.made if not link.child.alive]
        assert len(ended) > RACES, "each race ends workers"
        assert {child.end for child in ended} >= REQUESTED - {End.CUT}
        assert not world.supervisor.failures.deaths
        assert all(child.role is Role.WORKER for child in ended)
