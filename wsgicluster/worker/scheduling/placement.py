"""Which slot serves a client, by the policy of the settings and the workers as their pages show them.

What is asked, and when, is decided here once for each policy; how a connection gets to its slot is not known.
"""

import enum
import struct
from collections.abc import Callable, Sequence
from typing import Any

from wsgicluster.ipc.mailbox import Mailboxes
from wsgicluster.ipc.scoreboard import Cell, Scoreboard, WorkerState
from wsgicluster.ipc.turns import Turns
from wsgicluster.settings import Settings
from wsgicluster.settings.types.scheduling import SHARED, STICKY_POLICY
from wsgicluster.worker.scheduling.policies import SlotLoad, least_connections, round_robin, weighted
from wsgicluster.worker.scheduling.sticky import COOKIE, Rendezvous, StickyCookie

VACANT_S = 1.0
"""How long a client that belongs to a slot waits for the slot's next worker, where it has none."""

WAITING_S = 0.1
"""A worker that has not taken a connection for this long has more to do than any that has."""

UNTAKEN_S = 1.1
"""A worker that has not taken a connection for this long hangs; a moment more than the arbiter takes to give it to
others, which also finds out where it has been taken without being noted."""

_READY, _HELD = int(WorkerState.READY), int(WorkerState.HELD)

Choose = Callable[["SlotTable", float], int | None]


class Asked(enum.Enum):
    """When a policy is asked."""

    AT_ACCEPT = enum.auto()
    AFTER_PROXY_HEADER = enum.auto()
    AFTER_HEAD = enum.auto()
    """For each request."""


def asked_when(settings: Settings) -> Asked | None:
    """When the policy of the settings is asked: as soon as what it wants to know is known; None for never."""
    if settings.scheduling == SHARED:
        return None
    if settings.scheduling != STICKY_POLICY:
        return Asked.AT_ACCEPT
    # A connection cannot move once it is encrypted, and what is in heads is not known before.
    if not settings.has_tls:
        if settings.sticky.form != "address" or settings.forwarded_hops or settings.protocol == "uwsgi":
            return Asked.AFTER_HEAD
    return Asked.AT_ACCEPT if settings.proxy_protocol == "off" else Asked.AFTER_PROXY_HEADER


class SlotTable:
    """The wanted slots of a server, read from the pages of the living workers, once for each moment.

    ``held_too``: workers that leave new clients to others still take those that belong to them.
    """

    def __init__(self, board: Scoreboard, held_too: bool = False) -> None:
        self._board = board
        self._takes = frozenset((_READY, _HELD) if held_too else (_READY,))
        self._moment = -1.0
        self._loads: list[SlotLoad] = []
        self._pages: list[int] = []
        """The numbers of the workers' pages, 0 for none."""
        self._given: dict[int, int] = {}
        """How many clients were given to a slot since it has taken all that it was given, as far as is known here."""

    @property
    def wanted(self) -> int:
        """How many slots there are to be."""
        return int(self._board.server.cells[Cell.WANTED])

    def loads(self, moment: float) -> list[SlotLoad]:
        """All wanted slots, in order; the same list for the same moment."""
        if moment != self._moment:
            self._moment = moment
            self._loads = self._read(moment)
        return self._loads

    def add(self, slot: int) -> None:
        """A client has just been given to a slot, whose page does not show it yet."""
        self._given[slot] = self._given.get(slot, 0) + 1
        load = self._loads[slot - 1]
        self._loads[slot - 1] = SlotLoad(slot, load.takes, load.requests, load.connections + 1, load.late, load.hangs)

    def note_mail(self, slot: int, now: float) -> None:
        """A connection is about to be put into the mailbox of a slot."""
        page = self._pages[slot - 1] if slot <= len(self._pages) else 0
        if page:
            self._board.note_mail(page, now)

    def _read(self, now: float) -> list[SlotLoad]:
        wanted = self.wanted
        found: list[SlotLoad | None] = [None] * wanted
        self._pages = pages = [0] * wanted
        takes, now_bits = self._takes, _bits(now)
        waiting_bits, late_bits = _bits(now - WAITING_S), _bits(now - UNTAKEN_S)
        for page, state, slot, running, started, connections, deadline, mail_since in self._board.children(
            Cell.STATE, Cell.SLOT, Cell.RUNNING, Cell.STARTED, Cell.CONNECTIONS, Cell.DEADLINE, Cell.MAIL_SINCE
        ):
            # Of two workers of a slot the newer one counts: the other one leaves.
            if 1 <= slot <= wanted and state in takes:
                pages[slot - 1] = page
                requests = running or (1 if started else 0)
                if not mail_since:
                    self._given.pop(slot, None)
                given = self._given.get(slot, 0)
                hangs = 0 < deadline < now_bits or 0 < mail_since < late_bits
                found[slot - 1] = SlotLoad(
                    slot, not hangs, requests, connections + given, 0 < mail_since < waiting_bits, hangs
                )
        return [load or SlotLoad(slot, False) for slot, load in enumerate(found, 1)]


class Balance:
    """A policy that knows nothing of the client: round-robin, weighted or least-connections.

    Each that is ever asked has a row here, so that a new one cannot be forgotten and act as another.
    """

    def __init__(self, settings: Settings, turns: Turns) -> None:
        self._turns = turns
        self._weights = settings.weights
        policies: dict[str, Choose] = {
            SHARED: self._round_robin,  # not asked until another policy is set
            "round-robin": self._round_robin,
            "weighted": self._weighted,
            "least-connections": self._least_connections,
            STICKY_POLICY: self._round_robin,  # for clients of which nothing is known
        }
        self.choose = policies[settings.scheduling]

    def in_turn(self, slots: Sequence[SlotLoad]) -> int | None:
        """One of these slots after the other, whatever the policy."""
        return round_robin(self._turns.next(), slots)

    def _round_robin(self, table: SlotTable, moment: float) -> int | None:
        return self.in_turn(table.loads(moment))

    def _weighted(self, table: SlotTable, moment: float) -> int | None:
        return weighted(self._turns.next(), table.loads(moment), self._weights)

    def _least_connections(self, table: SlotTable, moment: float) -> int | None:
        slot = least_connections(self._turns.next(), table.loads(moment))
        if slot is not None:
            table.add(slot)
        return slot


class Stickiness:
    """Which slot a client belongs to: by its address, a header field or a cookie."""

    def __init__(self, settings: Settings, salt: bytes, key: bytes) -> None:
        form = "address" if settings.has_tls else settings.sticky.form
        name = settings.sticky.name
        self._rendezvous = Rendezvous(salt)
        self._field = ""
        self.cookie: StickyCookie | None = None
        if form == "header":
            self._field = "HTTP_" + name.upper().replace("-", "_")
        elif form == "cookie":
            self.cookie = StickyCookie(name or COOKIE, key)
        self._absent: dict[int, float] = {}
        """Since when a slot has been seen without a worker."""

    @property
    def by_address(self) -> bool:
        """Whether the client is known by its address."""
        return self.cookie is None and not self._field

    def of_address(self, address: str, loads: Sequence[SlotLoad], now: float) -> int | None:
        """The slot of an address; None for a client without one."""
        if not address:
            return None
        # An IPv4 client on an IPv6 socket; and a link-local one, whose interface says nothing of it.
        address = address.removeprefix("::ffff:").partition("%")[0]
        return self._of_key(address.encode("latin-1", "replace"), loads, now)

    def of_request(self, environ: dict[str, Any], address: str, loads: Sequence[SlotLoad], now: float) -> int | None:
        """The slot of a request's client; None where it may be served by any worker."""
        if self.cookie is not None:
            slot = self.cookie.slot(environ.get("HTTP_COOKIE", ""), len(loads))
            return slot if slot is not None and self._is_manned(slot, loads, now) else None
        if not self._field:
            return self.of_address(address, loads, now)
        value = environ.get(self._field)
        return self._of_key(value.encode("latin-1"), loads, now) if value else None

    def _of_key(self, key: bytes, loads: Sequence[SlotLoad], now: float) -> int | None:
        vacant: list[int] = []
        while len(vacant) < len(loads):
            slot = self._rendezvous.slot(key, len(loads), vacant)
            if self._is_manned(slot, loads, now):
                return slot
            vacant.append(slot)
        return None

    def _is_manned(self, slot: int, loads: Sequence[SlotLoad], now: float) -> bool:
        """Whether a slot has a worker that does not hang, or is about to have one."""
        if loads[slot - 1].hangs:
            return False
        if loads[slot - 1].takes:
            self._absent.pop(slot, None)
            return True
        return now - self._absent.setdefault(slot, now) < VACANT_S


class Crowd:
    """Notices when most clients have one address: that of a proxy, behind which stickiness binds all to one worker."""

    def __init__(self, enough: int = 200) -> None:
        self._enough = enough
        self._counts: dict[str, int] = {}
        self._seen = 0

    def add(self, address: str) -> str:
        """One more client; returns the address of more than half of the last ones when that is found, once."""
        if self._seen < 0:
            return ""
        self._seen += 1
        count = self._counts[address] = self._counts.get(address, 0) + 1
        if self._seen < self._enough:
            return ""
        found = address if count * 2 > self._seen else ""
        if not found:
            found = next((each for each, count in self._counts.items() if count * 2 > self._seen), "")
        self._counts.clear()
        self._seen = -1 if found else 0
        return found


def _bits(moment: float) -> int:
    """The bits of a time as a page's cell has them; those of two times above 0 are in the same order as these."""
    return struct.unpack("=Q", struct.pack("=d", max(0.0, moment)))[0]  # type: ignore[no-any-return]


def turns_of(mailboxes: Mailboxes) -> Turns:
    """The turns of a server."""
    return Turns(mailboxes.turns_fd)
