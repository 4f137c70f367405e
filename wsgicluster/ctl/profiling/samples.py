"""Stacks as ``faulthandler`` writes them, many times one after the other, counted by where they were. Pure.

A stack is a tuple of frames, the outermost first. A frame is ``function (file)``: all lines of a function are one.
"""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence

from wsgicluster.dataclass import dataclass

Stack = tuple[str, ...]

_HEADER = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):")
_FRAME = re.compile(r'  File "(.*)", line \S+ in (.*)')
_INHERITED = "wsgicluster/arbiter/children/fork.py"
"""Frames around one of this file are the arbiter's, which the worker has inherited at its fork."""
_OTHERS = {"  ...": "[more than 100 frames]", "  Garbage-collecting": "[garbage collection]"}
_AROUND = re.compile(r".* \((wsgicluster/.*|threading\.py|gevent/hub\.py)\)")
"""What is around a wait of the server: nothing of an application."""
_WAIT = re.compile(
    r"(turn \(wsgicluster/worker/loop/loop|(_sleep|_rest) \(wsgicluster/worker/kinds/gthread"
    r"|\w+ \(wsgicluster/worker/kinds/sync/(notifying_loop|slow_request_monitor|slow_request_watch)"
    r"|\w+ \(wsgicluster/worker/kinds/gevent/worker|\w+ \(gevent/hub"
    r"|(wait|_wait_for_tstate_lock|run|_bootstrap) \(threading)\.py\)"
)
"""Functions in which a thread of the server waits for something to do."""
_LIBRARY = re.compile(r".*/(?:site-packages|dist-packages|lib/python\d+\.\d+(?:/lib-dynload)?)/(.*)")
_OURS = re.compile(r".*/(wsgicluster/(?:worker|arbiter|support|wsgi|http|ipc|cluster|cli)\b.*)")


def short_path(path: str) -> str:
    """A file by the end of its path that tells it apart: below a folder of packages, or its last two parts."""
    for pattern in (_OURS, _LIBRARY):
        found = pattern.fullmatch(path)
        if found:
            return found[1]
    return "/".join(path.rsplit("/", 2)[-2:])


def is_idle(stack: Stack) -> bool:
    """Is it a wait of the server itself for something to do, with no code of an application around it?"""
    return _WAIT.fullmatch(stack[-1]) is not None and all(map(_AROUND.fullmatch, stack))


@dataclass
class StackSamples:
    """What has been read so far; ``counts`` has the stacks, ``looks`` how often the process was looked at."""

    counts: collections.Counter[Stack] = dataclasses.field(default_factory=collections.Counter)
    looks: int = 0
    _rest: str = ""
    _frames: list[str] | None = None

    def feed(self, text: str) -> None:
        """Take in what was written next, which may end within a line."""
        *lines, self._rest = (self._rest + text.replace("\0", "")).split("\n")
        for line in lines:
            self._line(line)

    def finish(self) -> None:
        """Nothing more comes."""
        self.feed("\n")
        self._end()

    def _line(self, line: str) -> None:
        header = _HEADER.fullmatch(line)
        if header is not None:
            self._end()
            self.looks += header[1] == "Current thread"
            self._frames = []
            return
        if not line.startswith("  "):
            self._end()
        elif self._frames is not None:
            self._frame(line, self._frames)

    def _frame(self, line: str, frames: list[str]) -> None:
        found = _FRAME.fullmatch(line)
        if found is None:
            frames += [_OTHERS[line]] if line in _OTHERS else []
        elif found[1].endswith(_INHERITED):
            self._end()
        else:
            frames.append(f"{found[2]} ({short_path(found[1])})")

    def _end(self) -> None:
        if self._frames:
            self.counts[tuple(reversed(self._frames))] += 1
        self._frames = None


def without_idle(counts: Mapping[Stack, int]) -> tuple[dict[Stack, int], int]:
    """The stacks that are no waits for requests, and how many were."""
    busy = {stack: count for stack, count in counts.items() if not is_idle(stack)}
    return busy, sum(counts.values()) - sum(busy.values())


def folded(counts: Mapping[Stack, int]) -> str:
    """A line for each stack, as other tools for flame graphs read them: frames with semicolons between, and a count."""
    lines = [f"{';'.join(frame.replace(';', ':') for frame in stack)} {count}" for stack, count in counts.items()]
    return "".join(f"{line}\n" for line in sorted(lines))


def share(counts: Mapping[Stack, int], function: str) -> float:
    """Which share of the samples has this function on its stack."""
    total = sum(counts.values())
    return sum(count for stack, count in counts.items() if _has(stack, function)) / total if total else 0.0


def _has(stack: Sequence[str], function: str) -> bool:
    return any(frame.partition(" ")[0] == function for frame in stack)
