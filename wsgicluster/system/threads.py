"""Which threads this process has, those of C libraries too: what a process that forks itself has to know.

Those of ours that may be there at a fork say so: they sleep, and hold nothing that the child would wait for.
"""

import contextlib
import os
import threading
from collections.abc import Mapping

ASLEEP = "wsgicluster-own"
"""The name that the system has of such a thread; at most 15 characters."""

_TASKS = "/proc/self/task"


def mark_as_own() -> None:
    """Say of the calling thread that it is ours, and may be there at a fork, where the system keeps names."""
    with contextlib.suppress(OSError):
        with open(f"{_TASKS}/{threading.get_native_id()}/comm", "w") as file:
            file.write(ASLEEP)


def others() -> list[str]:
    """The names of all threads but the main one and those of ours that have said so."""
    # What Python has noted of the main thread may be from before this process was forked.
    main = os.getpid()
    python = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    known = {thread.native_id or 0: thread.name for thread in python}
    return foreign(_tasks() or dict.fromkeys(known, ""), known, main)


def foreign(tasks: Mapping[int, str], known: Mapping[int, str], main: int) -> list[str]:
    """Of the system's threads, by number and name, the names of those that are neither ``main`` nor ours, each once.

    ``known`` are Python's, with the names that these have there.
    """
    rest = {number: name for number, name in tasks.items() if number != main and name != ASLEEP}
    return sorted({known.get(number) or f"{name or 'unnamed'} of a library" for number, name in rest.items()})


def _tasks() -> dict[int, str]:
    """The system's; empty where it does not tell."""
    found = {}
    with contextlib.suppress(OSError):
        for number in os.listdir(_TASKS):
            with contextlib.suppress(OSError), open(f"{_TASKS}/{number}/comm") as file:  # it may have ended
                found[int(number)] = file.read().strip()
    return found
