"""Keys for TLS session tickets that all workers have, so that a client resumes its session with any of them.

They are inherited: made here before workers are forked, kept over reloads for as long as that is safe. Certificates and
their keys are read by the workers and not known here.
"""

import os
from typing import TYPE_CHECKING

from wsgicluster.clock import Clock
from wsgicluster.settings import Settings

if TYPE_CHECKING:
    from wsgicluster.settings.tls_context import ContextBase


class TicketKeys:
    """The newest keys of one server, which was started in ``directory``."""

    def __init__(self, directory: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._newest: ContextBase | None = None

    def for_workers(self, settings: Settings) -> "ContextBase | None":
        """What workers with these settings make their TLS contexts of, None without TLS.

        Those that have been made of it already are not changed, and neither are their keys.
        """
        if not settings.has_tls:
            self._newest = None
            return None
        # Late: a server without TLS saves several megabytes.
        from wsgicluster.settings.tls_context import base_for

        directory = os.path.join(self._directory, settings.chdir)
        self._newest = base_for(settings, directory, self._newest, self._clock.monotonic())
        return self._newest
