"""Statuses and events as text for a terminal. Pure: values in, lines out."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wsgicluster.dataclass import dataclass

Row = Mapping[str, Any]
NARROW = 80


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``right`` aligns numbers."""

    title: str
    text: Callable[[Row], str]
    right: bool = True


def seconds_text(seconds: float | None) -> str:
    """A short duration: ``850us``, ``12ms``, ``3.5s``; a dash for none."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g}ms"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"


def age_text(seconds: float) -> str:
    """A long duration in at most two units: ``45s``, ``3m12s``, ``5h02m``, ``12d04h``."""
    whole = max(0, int(seconds))
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{below}"
    return f"{whole}s"


def bytes_text(count: int | None) -> str:
    """Bytes in binary units: ``512K``, ``43M``, ``1.2G``; a dash for none."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "K", "M"):
        if size < 1024:
            return f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


def since(moment: str, now: datetime.datetime) -> float:
    """Seconds since a moment in RFC 3339."""
    return (now - datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))).total_seconds()


def columns(now: datetime.datetime, rates: Mapping[int, Mapping[str, float]]) -> list[Column]:
    """The columns of the list, those first that stay where a terminal is narrow."""

    def rate(row: Row, name: str) -> float | None:
        return rates.get(row.get("pid") or 0, {}).get(name)

    def share(row: Row) -> str:
        found = rate(row, "cpu")
        return "-" if found is None else f"{found * 100:.0f}"

    def frequency(row: Row) -> str:
        found = rate(row, "requests")
        return "-" if found is None else f"{found:.0f}" if found >= 10 else f"{found:.1f}"

    return [
        Column("SLOT", lambda row: str(row["slot"])),
        Column("PID", lambda row: str(row.get("pid") or "-")),
        Column("GEN", lambda row: str(row["generation"])),
        Column("STATE", lambda row: str(row["state"]), right=False),
        Column("UP", lambda row: age_text(since(row["started"], now))),
        Column("\u21ba", lambda row: str(row["restarts"])),
        Column("REQ", lambda row: str(row.get("requests", "-"))),
        Column("REQ/S", frequency),
        Column("P99", lambda row: seconds_text(row.get("latency_seconds", {}).get("p99"))),
        Column("ERR", lambda row: str(row.get("failed", "-"))),
        Column("CONN", lambda row: str(sum(row["connections"].values())) if "connections" in row else "-"),
        Column("CPU%", share),
        Column("MEM", lambda row: bytes_text(row.get("pss_bytes") or row.get("rss_bytes"))),
        Column("NOW", now_text, right=False),
    ]


def now_text(row: Row) -> str:
    """The oldest request in progress: method, path, seconds."""
    oldest = row.get("oldest_request")
    if not oldest:
        return ""
    return f"{oldest['method']} {oldest['path']} {seconds_text(oldest['seconds'])}"


def table(rows: Sequence[Row], wanted: Sequence[Column], width: int, header: bool) -> list[str]:
    """Lines of aligned columns; where ``width`` characters do not hold them all, those on the right are left out."""
    cells = [[column.text(row) for row in rows] for column in wanted]
    widths = [
        max([len(text) for text in texts] + [len(column.title) * header])
        for column, texts in zip(wanted, cells, strict=True)
    ]
    kept, used = 0, 0
    for column, size in zip(wanted, widths, strict=True):
        least = min(size, 12) if column is wanted[-1] else size
        if kept and used + 2 + least > width:
            break
        used += size + 2 * bool(kept)
        kept += 1
    lines = []
    titles = [[column.title for column in wanted]] if header else []
    for texts in [*titles, *zip(*cells, strict=True)]:
        parts = [
            text.rjust(size) if column.right else text.ljust(size)
            for text, size, column in zip(texts[:kept], widths, wanted, strict=False)
        ]
        lines.append("  ".join(parts)[:width].rstrip())
    return lines


def headline(server: Row) -> str:
    """One line for a server: name, version, addresses, state, workers."""
    workers = server["workers"]
    state = server["state"]
    if state == "reloading":
        state = f"reloading, {workers['ready']}/{workers['wanted']} ready"
    parts = [
        f"{server['name']} (pid {server['pid']})",
        f"wsgicluster {server['version']}",
        ", ".join(server["addresses"]) or "no address",
        state,
        f"{workers['ready']}/{workers['wanted']} workers" + (f" ({workers['range']})" if workers.get("range") else ""),
        server["scheduling"],
    ]
    last = server.get("last_reload")
    if last is not None and last["result"] in ("aborted", "refused"):
        parts.append(f"last reload {last['result']}")
    return " \u00b7 ".join(parts)


def event_line(event: Row) -> str:
    """One line for an event."""
    parts = [event["at"], event["event"]]
    if event.get("role"):
        place = f"{event['role']} {event['slot']}" if event.get("slot") else event["role"]
        parts.append(f"{place} (pid {event['pid']}, generation {event['generation']})")
    elif event.get("generation"):
        parts.append(f"generation {event['generation']}")
    if event.get("result"):
        parts.append(event["result"])
    if event.get("workers") is not None and "before" in event:
        parts.append(f"{event['before']} -> {event['workers']} workers")
    for name in ("signal", "request"):
        if event.get(name):
            parts.append(str(event[name]))
    if event.get("reason"):
        parts.append(f": {event['reason']}")
    if event.get("by"):
        parts.append(f"(by {event['by']})")
    return "  ".join(parts).replace("  : ", ": ")


def details(found: Row, now: datetime.datetime) -> list[str]:
    """All that is known about a slot, a fact a line."""
    lines: list[str] = []
    for worker in found["workers"]:
        latency = worker.get("latency_seconds", {})
        connections = worker.get("connections", {})
        lines += _facts(
            {
                "slot": worker["slot"],
                "pid": worker.get("pid") or "-",
                "generation": worker["generation"],
                "state": worker["state"],
                "up": age_text(since(worker["started"], now)),
                "requests": _counts(worker, "requests", "failed", "shed", "cut"),
                "latency": ", ".join(f"{name} {seconds_text(value)}" for name, value in latency.items()),
                "in progress": worker.get("in_progress", "-"),
                "oldest request": now_text(worker) or "-",
                "connections": ", ".join(f"{count} {name}" for name, count in connections.items()) or "-",
                "memory": f"RSS {bytes_text(worker.get('rss_bytes'))}, PSS {bytes_text(worker.get('pss_bytes'))}",
                "processor time": seconds_text(worker.get("cpu_seconds")),
                "descriptors": worker.get("open_fds") or "-",
                "threads": worker.get("threads") or "-",
                "ends": ", ".join(f"{count} {reason}" for reason, count in worker["ends"].items()) or "none",
            }
        )
        lines.append("")
    for slot in found.get("slots", ()):
        lines += _facts(_totals(slot["totals"]))
        lines.append("")
    if found["last_exits"]:
        lines.append("last ends:")
        for end in reversed(found["last_exits"]):
            how = end["signal"] or f"exit code {end['code']}"
            request = f", in {end['request']}" if end["request"] else ""
            lines.append(
                f"  {end['at']}  pid {end['pid']}, generation {end['generation']}: {end['reason']}, {how}{request}"
            )
        lines.append("")
    if found["settings"]:
        lines.append("settings other than the defaults:")
        lines += [f"  {name} = {value}" for name, value in found["settings"].items()]
    return lines


def _totals(totals: Row) -> dict[str, object]:
    cpu = totals["cpu_seconds"]
    return {
        "since the start": f"{totals['requests']} requests",
        "responses": _not_zero(totals["responses"]),
        "failures": _not_zero(totals["failures"]),
        "exits": _not_zero(totals["exits"]),
        "processor time of all": seconds_text(cpu["user"] + cpu["system"]),
    }


def _not_zero(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "none"


def _facts(facts: Mapping[str, object]) -> list[str]:
    size = max(map(len, facts)) + 1
    return [f"{name + ':':<{size}}  {value}" for name, value in facts.items()]


def _counts(worker: Row, *names: str) -> str:
    return ", ".join(f"{worker.get(name, 0)} {name if name != 'requests' else 'in all'}" for name in names)


def memory(found: Row, width: int) -> list[str]:
    """Where a worker's memory was allocated: the largest lines, and those that have grown most."""
    traced, peak = bytes_text(found["traced_bytes"]), bytes_text(found["peak_bytes"])
    name, since_start = f"worker {found['slot']} (pid {found['pid']})", age_text(found["seconds"])
    lines = [f"{name}: {traced} in use that was allocated in {since_start} of tracing; {peak} at most"]
    wanted = [
        Column("BYTES", lambda row: bytes_text(row["bytes"])),
        Column("GROWTH", lambda row: _signed(row["growth_bytes"])),
        Column("BLOCKS", lambda row: str(row["blocks"])),
        Column("LINE", lambda row: f"{row['file']}:{row['line']}", right=False),
    ]
    for title, rows in (("largest:", found["largest"]), ("grown most since the last call:", found["grown"])):
        lines += ["", title if rows else f"{title} none", *table(rows, wanted, width, header=bool(rows))]
    return lines


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{bytes_text(abs(count))}"
