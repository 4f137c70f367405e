"""The scheduling policy in force, on the server's page of the scoreboard: the arbiter writes it, workers read it.

A serial number beside it is odd while it changes, so that a worker that reads at that moment reads again. What a policy
does, and which values are valid, is not known here.
"""

import struct
import time

from wsgicluster.dataclass import dataclass
from wsgicluster.ipc.scoreboard import Cell, Page

SCHEDULING_OFFSET = 1280
"""Where it stands in the server's page."""

MOST_WEIGHTS = 500
MOST_NAME_BYTES = 256

_FIXED = struct.Struct(f"=24s16s{MOST_NAME_BYTES}sH")
_AGAIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Scheduling:
    """A policy, its weights by slot, and what a sticky client is known by; words as the settings have them."""

    policy: str = "shared"
    weights: tuple[int, ...] = ()
    form: str = "address"
    name: str = ""


def store_scheduling(page: Page, scheduling: Scheduling) -> None:
    """Write it to the server's page; only the arbiter does. Weights beyond `MOST_WEIGHTS` are not stored."""
    weights = scheduling.weights[:MOST_WEIGHTS]
    texts = (text.encode("latin-1") for text in (scheduling.policy, scheduling.form, scheduling.name))
    packed = _FIXED.pack(*texts, len(weights)) + struct.pack(f"={len(weights)}H", *weights)
    page.cells[Cell.SCHEDULING_SERIAL] += 1
    page.raw[SCHEDULING_OFFSET : SCHEDULING_OFFSET + len(packed)] = packed
    page.cells[Cell.SCHEDULING_SERIAL] += 1


def load_scheduling(page: Page) -> Scheduling:
    """What stands on the server's page; the default where nothing was written."""
    serial = 1
    while serial % 2 or serial != page.cells[Cell.SCHEDULING_SERIAL]:
        serial = page.cells[Cell.SCHEDULING_SERIAL]
        if serial % 2:
            time.sleep(_AGAIN_S)
            continue
        policy, form, name, count = _FIXED.unpack_from(page.raw, SCHEDULING_OFFSET)
        weights = struct.unpack_from(f"={min(count, MOST_WEIGHTS)}H", page.raw, SCHEDULING_OFFSET + _FIXED.size)
    if not serial:
        return Scheduling()
    return Scheduling(_text(policy), weights, _text(form), _text(name))


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("latin-1")
