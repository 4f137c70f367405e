"""Whether a mold may be forked from this worker, and what it was ordered with for that.

A fork copies one thread and every descriptor: with other threads, or with connections of the application's, the workers
of that mold would wait for locks that no thread releases, and all of them use one connection to a database.
"""

import os
import socket
from collections.abc import Callable, Collection

from wsgicluster.ipc.messages import MoldOrdered, PromotionAnswered
from wsgicluster.system import threads
from wsgicluster.system.descriptors import open_sockets

_SHOWN = 5

ForkMold = Callable[[MoldOrdered, object, Callable[[], object] | None], None]
"""Called with the order, the application, and what is to be called in the mold first, if anything; raises OSError."""


class Promotion:
    """Of one worker; ``sockets`` are those that were open when its boot began.

    ``threads_of_kind`` is how the names of threads begin that its kind ends before a fork; ``refused`` is why no worker
    of its kind may be promoted, empty where it may.
    """

    def __init__(self, sockets: Collection[str] = (), threads_of_kind: str = "", refused: str = "") -> None:
        self.order: MoldOrdered | None = None
        self._threads_of_kind = threads_of_kind
        self._refused = refused
        self._sockets = sockets

    def take(self, order: MoldOrdered) -> None:
        """A mold is to be forked once the worker has drained."""
        self.decline()
        self.order = order

    def answer(self) -> PromotionAnswered:
        """Whether that may be, as far as it can be known before the worker has drained."""
        return PromotionAnswered(self._refused or self._because_of_threads(ended=False))

    def refusal(self) -> str:
        """Why no mold may be forked now, when the worker has drained and its kind's threads have ended; else empty."""
        return self._refused or self._because_of_threads(ended=True) or self._because_of_connections()

    def decline(self) -> None:
        """Close what came with the order: so the arbiter knows that there will be no mold."""
        for number in self.order.descriptors if self.order is not None else ():
            os.close(number)
        self.order = None

    def _because_of_threads(self, ended: bool) -> str:
        prefix = self._threads_of_kind
        found = [name for name in threads.others() if ended or not (prefix and name.startswith(prefix))]
        return f"it has other threads ({_shown(found)}), which a fork would not copy" if found else ""

    def _because_of_connections(self) -> str:
        peers = [
            peer for name, number in open_sockets().items() if name not in self._sockets and (peer := _peer_of(number))
        ]
        return (
            f"the application has connections (to {_shown(peers)}), which all workers would share; close them in "
            "before_mold_fork"
            if peers
            else ""
        )


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _peer_of(number: int) -> str:
    """Who is at the other end of a connected stream; empty for any other socket."""
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            if sock.type != socket.SOCK_STREAM:
                return ""
            peer = sock.getpeername()
    except OSError:  # it is not connected, or closed by now
        return ""
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    # Both ends of a pair without names may be in this process.
    return peer.decode("utf-8", "replace").lstrip("\0") if isinstance(peer, bytes) else str(peer)
