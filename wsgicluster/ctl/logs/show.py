"""Prints the last records of the error log that are wanted, and with follow those that come."""

import argparse
import contextlib
import json
import re
import time
from collections.abc import Iterable

from wsgicluster.control.client import ControlConnection
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.ctl.logs.records import Record, RecordFilter, records
from wsgicluster.ctl.logs.source import log_path
from wsgicluster.ctl.logs.tail import MOST_BYTES, Tail

LOOK_S = 0.2
_FIRST_BYTES = 1 << 18


def show(connection: ControlConnection, given: argparse.Namespace) -> None:
    """Print what the arguments ask for; with follow it ends with the server. Raises ControlError."""
    path = log_path(connection.call("launch"))
    wanted = _wanted(connection, given)
    try:
        tail = Tail(path)
    except OSError as error:
        raise ControlError(ErrorCode.FAILED, f"cannot read the error log {path}: {error.strerror}") from error
    with contextlib.closing(tail):
        _print(_last(tail, wanted, given), given.json)
        while given.follow:
            # Before the log is read: what a server writes at its end is there once its connection has ended.
            ends = connection.is_readable()
            _print(filter(wanted.has, records(tail.more())), given.json)
            if ends:
                raise ControlError(ErrorCode.STOPPING, "the server has closed the connection")
            time.sleep(LOOK_S)


def _wanted(connection: ControlConnection, given: argparse.Namespace) -> RecordFilter:
    try:
        pattern = re.compile(given.grep) if given.grep is not None else None
    except re.error as error:
        raise ControlError(ErrorCode.INVALID, f"--grep: {given.grep!r} is no regular expression: {error}") from error
    pids: list[int] = []
    if given.slot is not None:
        workers = connection.call("status")["workers"]
        pids = [each["pid"] for each in workers if each["slot"] == given.slot and each["pid"]]
    return RecordFilter(given.level, pattern, given.slot, pids)


def _last(tail: Tail, wanted: RecordFilter, given: argparse.Namespace) -> list[Record]:
    """The last records that are wanted: looked for in more and more of the file's end."""
    size = _FIRST_BYTES
    while True:
        lines, is_whole = tail.last(size)
        found = [record for record in records(lines) if wanted.has(record)]
        if is_whole or len(found) > given.last or size >= MOST_BYTES:
            return found[-given.last :] if given.last else []
        size *= 4


def _print(found: Iterable[Record], as_json: bool) -> None:
    for record in found:
        print(json.dumps(record.as_json()) if as_json else "\n".join(record.lines), flush=True)
