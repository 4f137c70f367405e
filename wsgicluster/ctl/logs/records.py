"""Records of the error log, as they stand in its file, and which of them are wanted. Pure.

A record begins with a line that has time, pid and level, as text, JSON or logfmt. Lines without these belong to the
record in front of them: tracebacks, and what applications write to ``wsgi.errors``.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from wsgicluster.dataclass import dataclass

LEVELS = ("debug", "info", "warning", "error", "critical")
_HEAD = re.compile(
    r"\[(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d\d)(\d\d)\] \[(\d+)\] \[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\] (.*)"
)
_JSON = '{"time":"'
_LOGFMT = re.compile(r'time=(\S+) level=(\w+) logger=\S+ pid=(\d+) message=("(?:[^"\\]|\\.)*"|\S*)(?: .*)?')
_WORKER = re.compile(r"\b[Ww]orker (\d+)\b(?: \(pid (\d+))?")


@dataclass(slots=True)
class Record:
    """One record; ``lines`` as they are in the file. Without a head ``at`` and ``level`` are empty and ``pid`` is 0."""

    lines: list[str]
    at: str = ""
    pid: int = 0
    level: str = ""
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        message = "\n".join([self.message, *self.lines[1:]]) if self.at else "\n".join(self.lines)
        return {"at": self.at or None, "pid": self.pid or None, "level": self.level or None, "message": message}


def _begun(line: str) -> Record | None:
    """The record that a line begins; None for a line that belongs to the one before."""
    found = _HEAD.fullmatch(line)
    if found is None:
        return _begun_with_fields(line)
    day, time, hours, minutes, pid, level, message = found.groups()
    return Record([line], f"{day}T{time}{hours}:{minutes}", int(pid), level.lower(), message)


def _begun_with_fields(line: str) -> Record | None:
    try:
        if line.startswith(_JSON):
            fields = json.loads(line)
        elif (found := _LOGFMT.fullmatch(line)) is not None:
            time, level, pid, message = found.groups()
            text = json.loads(message) if message.startswith('"') else message
            fields = {"time": time, "level": level, "pid": pid, "message": text}
        else:
            return None
        at, pid, level = str(fields["time"]), int(fields["pid"]), str(fields["level"])
        message = "\n".join(str(fields[name]) for name in ("message", "exception") if name in fields)
    except (ValueError, KeyError, TypeError):  # an application has printed something alike
        return None
    return Record([line], at, pid, level, message) if level in LEVELS else None


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of a text, each with all of its lines; those in front of the first head are one without a head."""
    record: Record | None = None
    for line in lines:
        begun = _begun(line)
        if begun is not None or record is None:
            if record is not None:
                yield record
            record = begun or Record([line])
        else:
            record.lines.append(line)
    if record is not None:
        yield record


class RecordFilter:
    """Which records are wanted; all by default.

    Those of a slot are what its workers have logged, and what the arbiter has logged about them: the pids that it names
    belong to the slot from then on. ``pids`` are those that are known already.
    """

    def __init__(
        self,
        level: str | None = None,
        pattern: re.Pattern[str] | None = None,
        slot: int | None = None,
        pids: Iterable[int] = (),
    ) -> None:
        self._least = LEVELS.index(level) if level is not None else 0
        self._pattern = pattern
        self._slot = slot
        self._pids = set(pids)
        self._had = level is None and pattern is None and slot is None

    def has(self, record: Record) -> bool:
        """Is it wanted? To be asked in the order of the log: what has no head belongs to the record in front."""
        if record.at:
            self._had = self._has(record)
        return self._had

    def _has(self, record: Record) -> bool:
        if self._slot is not None and not self._is_of_slot(record, self._slot):
            return False
        if LEVELS.index(record.level) < self._least:
            return False
        return self._pattern is None or any(self._pattern.search(line) for line in record.lines)

    def _is_of_slot(self, record: Record, slot: int) -> bool:
        named = [(int(number), int(pid or 0)) for number, pid in _WORKER.findall(record.message)]
        self._pids.update(pid for number, pid in named if number == slot and pid)
        # A pid that another slot's worker has got since is not this one's any more.
        self._pids.difference_update(pid for number, pid in named if number != slot)
        return record.pid in self._pids or any(number == slot for number, _ in named)
