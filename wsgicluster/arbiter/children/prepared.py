"""A child that has all that it is given, but no process yet."""

from collections.abc import Callable

from wsgicluster.arbiter.children.link import ChildLink
from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.messages import Channel


@dataclass(frozen=True, slots=True)
class PreparedChild:
    """The child behind ``link``, whose own end of the channel is ``channel``.

    ``run`` forks it, or has it forked; ``close`` frees what it was given.
    """

    link: ChildLink
    channel: Channel
    run: Callable[[], object]
    close: Callable[[], object]

    def start(self) -> None:
        """Make the process. Raises OSError or ServerError when there is no room for it; then all is freed."""
        try:
            self.run()
        except BaseException:
            self.close()
            raise
