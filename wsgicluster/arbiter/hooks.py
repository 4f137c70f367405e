"""The hooks of the configuration file as the arbiter calls them, each at its moment.

They are the one exception from the rule that the arbiter runs nothing of the user's while it serves. What carries them
out is given as a value, so that a server without hooks imports none of it.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from wsgicluster.settings import Settings


class HookedChild(Protocol):
    """A worker as the arbiter has it; ``pid`` is 0 until it is known."""

    key: int
    pid: int

    @property
    def alive(self) -> bool:
        """Is there, or will be, a process?"""


class ArbiterHooks(Protocol):
    """What is called; only `starting` and `listening` raise, and what they raise is HookError."""

    def starting(self) -> None:
        """First of all."""

    def listening(self, sockets: Sequence[socket.socket]) -> None:
        """The addresses are open, and there is no worker yet."""

    def reloaded(self, sockets: Sequence[socket.socket]) -> None:
        """New settings are in force, and none of their workers is there yet."""

    def workers_changed(self, wanted: int, before: int) -> None:
        """Another number of workers is wanted."""

    def before_fork(self, child: HookedChild, settings: Settings, requests: Callable[[], int]) -> object:
        """A worker is about to be forked; returns what it has to be given."""

    def packed(self, given: object, settings: Settings) -> str:
        """The same as text, for a worker that another process forks."""

    def exited(self, child: HookedChild) -> None:
        """A worker has exited, or will never be."""

    def executing(self) -> None:
        """In a process that is about to become a new server."""

    def stopped(self) -> None:
        """Last of all."""

    def descriptors(self) -> frozenset[int]:
        """Those that hooks have opened, which children keep."""


class NoHooks:
    """Nothing is called."""

    def starting(self) -> None:
        """Nothing."""

    def listening(self, sockets: Sequence[socket.socket]) -> None:
        """Nothing."""

    def reloaded(self, sockets: Sequence[socket.socket]) -> None:
        """Nothing."""

    def workers_changed(self, wanted: int, before: int) -> None:
        """Nothing."""

    def before_fork(self, child: HookedChild, settings: Settings, requests: Callable[[], int]) -> object:
        """Nothing is given."""
        return None

    def packed(self, given: object, settings: Settings) -> str:
        """Nothing."""
        return ""

    def exited(self, child: HookedChild) -> None:
        """Nothing."""

    def executing(self) -> None:
        """Nothing."""

    def stopped(self) -> None:
        """Nothing."""

    def descriptors(self) -> frozenset[int]:
        """None."""
        return frozenset()


NO_HOOKS = NoHooks()


def no_hooks(_settings: Settings) -> ArbiterHooks:
    """Of a server that never has any."""
    return NO_HOOKS
