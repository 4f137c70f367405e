"""The table of workers that is renewed: keys and screen."""

import contextlib
import datetime
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsgicluster.control.client import ControlConnection
from wsgicluster.control.status import complete, rates
from wsgicluster.ctl import tables

SORTS = ("SLOT", "REQ/S", "CPU%", "MEM", "P99")
SHOWN_EVENTS = 6
SPARKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
HISTORY = 60
_STYLES = {"booting": "yellow", "draining": "cyan", "held": "yellow", "killed": "red"}
_HELP = "q quit   s sort   r requests only"


def sparkline(values: list[float]) -> str:
    """One character for each value, as high as it is beside the largest."""
    most = max(values, default=0.0)
    return "".join(SPARKS[round(value / most * (len(SPARKS) - 1))] if most else SPARKS[0] for value in values)


class Top:
    """The screen of one server."""

    def __init__(self, connection: ControlConnection, interval_s: float) -> None:
        self._connection = connection
        self._interval_s = max(0.1, interval_s)
        self._sort = 0
        self._busy_only = False
        self._rates: list[float] = []

    def run(self) -> int:
        """Show it until q; returns the exit code."""
        console = Console()
        with _single_keys() as has_keys, Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            before, at = complete(self._connection.call("status")), time.monotonic()
            while True:
                if self._wait(has_keys):
                    return 0
                after, now = complete(self._connection.call("status")), time.monotonic()
                found = rates(before, after, now - at)
                requests = after["server"]["totals"]["requests"] - before["server"]["totals"]["requests"]
                self._rates = [*self._rates, requests / (now - at)][-HISTORY:]
                live.update(self._screen(after, found), refresh=True)
                before, at = after, now

    def _wait(self, has_keys: bool) -> bool:
        """Take keys until it is time to look again; True for the end."""
        until = time.monotonic() + self._interval_s
        while (left := until - time.monotonic()) > 0:
            if not has_keys:
                time.sleep(left)
                continue
            if not select.select([sys.stdin], [], [], left)[0]:
                break
            key = sys.stdin.read(1)
            if key in ("q", "\x03", "\x04", ""):
                return True
            if key == "s":
                self._sort = (self._sort + 1) % len(SORTS)
            if key == "r":
                self._busy_only = not self._busy_only
        return False

    def _screen(self, status: dict[str, Any], found: dict[int, dict[str, float]]) -> Group:
        server = status["server"]
        rows = [each for each in status["workers"] if each.get("oldest_request") or not self._busy_only]
        rows.sort(key=lambda row: self._key(row, found), reverse=self._sort > 0)
        table = Table(box=None, pad_edge=False, header_style="bold")
        wanted = tables.columns(datetime.datetime.now(datetime.timezone.utc), found)
        for column in wanted:
            title = f"{column.title}\u25be" if column.title == SORTS[self._sort] else column.title
            table.add_column(title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis")
        for row in rows:
            cells = [column.text(row) for column in wanted]
            table.add_row(
                *[Text(cell) for cell in cells], style=_STYLES.get(row["state"], "") * (row["state"] != "ready")
            )
        totals, rate = server["totals"], self._rates[-1] if self._rates else 0.0
        lines: list[RenderableType] = [
            Text(tables.headline(server), style="bold", no_wrap=True, overflow="ellipsis"),
            Text(f"{rate:8.0f} requests/s  {sparkline(self._rates)}", no_wrap=True, overflow="crop"),
            Text(f"{totals['requests']} requests, {totals['failed']} failed, {totals['shed']} shed since the start"),
            Text(""),
            table,
            Text(""),
        ]
        for event in self._connection.items("events", {"last": SHOWN_EVENTS}):
            lines.append(Text(tables.event_line(event), style="dim", no_wrap=True, overflow="ellipsis"))
        lines.append(Text(_HELP, style="reverse"))
        return Group(*lines)

    def _key(self, row: dict[str, Any], found: dict[int, dict[str, float]]) -> tuple[float, int]:
        rate = found.get(row.get("pid") or 0, {})
        values = {
            "SLOT": row["slot"],
            "REQ/S": rate.get("requests", 0.0),
            "CPU%": rate.get("cpu", 0.0),
            "MEM": row.get("pss_bytes") or row.get("rss_bytes") or 0,
            "P99": row.get("latency_seconds", {}).get("p99") or 0.0,
        }
        return values[SORTS[self._sort]], row["slot"]


@contextlib.contextmanager
def _single_keys() -> Iterator[bool]:
    """Have keys arrive without Enter; False where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
