"""How to wait without keeping others from running: threads wait in the kernel, greenlets never do."""

import sys
import time
from collections.abc import Callable

SHORTEST_S = 0.0002
LONGEST_S = 0.01
"""The most that a lock's next holder comes too late where it cannot wait in the kernel."""


def has_greenlets() -> bool:
    """Whether threads of this process are greenlets: a wait in the kernel would stop all of them."""
    # Not imported: it is there already in a process that it has patched.
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def poll(attempt: Callable[[], bool], deadline: float | None, longest_s: float = LONGEST_S) -> bool:
    """Attempt again and again, ever less often, until it succeeds or ``time.monotonic`` is past the deadline."""
    pause_s = SHORTEST_S
    while not attempt():
        left_s = pause_s if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, longest_s)
    return True
