"""What becomes of a profile: the file that it is written to, and the lines about it."""

import datetime
import os
import sys
from collections.abc import Mapping
from typing import Any

from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.ctl.profiling import flame_graph
from wsgicluster.ctl.profiling.samples import StackSamples, folded, without_idle

STANDARD_OUTPUT = "-"


def write(
    facts: Mapping[str, Any],
    samples: StackSamples,
    output: str | None,
    collapsed: bool,
    idle: bool,
    now: datetime.datetime,
) -> str:
    """Write the profile; returns the line about it. Raises ControlError where that cannot be done, or it is empty."""
    slot, pid = facts["slot"], facts["pid"]
    if not samples.counts:
        message = f"worker {slot} (pid {pid}) has written no stacks: it is stopped, or waits in the kernel"
        raise ControlError(ErrorCode.FAILED, message)
    counts, waits = (samples.counts, 0) if idle else without_idle(samples.counts)
    total = sum(samples.counts.values())
    about = f"worker {slot} (pid {pid}), {samples.looks} looks, {now:%Y-%m-%d %H:%M:%S}"
    left_out = "" if idle else f"; waits for requests ({100 * waits / total:.0f} %) are left out"
    if collapsed:
        text, where = folded(counts), output or STANDARD_OUTPUT
    else:
        text = flame_graph.svg(counts, f"Where worker {slot} spends its time", about + left_out)
        where = output or f"profile-{slot}-{now:%Y%m%d-%H%M%S}.svg"
    _write(where, text)
    place = "standard output" if where == STANDARD_OUTPUT else where
    return f"{place}: {samples.looks} looks at worker {slot} (pid {pid}){left_out}"


def _write(where: str, text: str) -> None:
    if where == STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        with open(where, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        message = f"cannot write {os.path.abspath(where)}: {error.strerror}; name another file with -o"
        raise ControlError(ErrorCode.FAILED, message) from error
