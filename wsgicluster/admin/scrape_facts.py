"""What the metrics show that neither the arbiter nor a worker tells: the system's counters, and the certificate."""

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from wsgicluster.clock import Clock
from wsgicluster.ipc.scoreboard import Cell, Page, Scoreboard
from wsgicluster.ipc.slot_totals import read_slots, together
from wsgicluster.system.network.certificate import validity
from wsgicluster.system.network.listen_queues import listen_overflows


def certificate_expiry(path: str | None) -> float | None:
    """When the certificate in a file expires, in seconds since the epoch; None without one that can be read."""
    if path is None:
        return None
    with contextlib.suppress(OSError, ValueError):  # the workers log what is wrong with it
        with open(path, encoding="utf-8") as file:
            return validity(file.read())[1]
    return None


class ScrapeErrors:
    """Scrapes that have failed since the server was started, whichever admin worker they have reached."""

    def __init__(self, page: Page, board: Scoreboard) -> None:
        self._page = page
        self._board = board
        self._lock = threading.Lock()

    def note(self) -> None:
        """One more; in whatever thread."""
        with self._lock:
            self._page.cells[Cell.SCRAPE_ERRORS] += 1

    @property
    def total(self) -> int:
        """All of them."""
        return together(read_slots(self._board)).of(Cell.SCRAPE_ERRORS)


class ScrapeFacts:
    """For the metrics of one admin worker, whose settings have the certificate in the file ``certfile``, if any."""

    def __init__(self, certfile: str | None, errors: ScrapeErrors, clock: Clock) -> None:
        self.errors = errors
        # Read once: a renewed certificate is used from the next reload on, which replaces this process, too.
        self._expiry = certificate_expiry(certfile)
        self._clock = clock

    def look(self) -> Mapping[str, Any]:
        """Entries beside those of a status; None where something is not known."""
        return {
            "now": self._clock.time(),
            "scrape_errors": self.errors.total,
            "listen_overflows": listen_overflows(),
            "certificate_expiry": self._expiry,
        }
