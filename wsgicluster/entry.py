"""Where the ``wsgicluster`` command begins: it imports the rest in the cheapest way.

A module of its own, since what a module imports is imported before any line of it runs.
"""

import gc


def main() -> int:
    """Run the command with the arguments of the process; returns the exit code."""
    # What a module defines stays. Collections would find nothing, and go through all of it dozens of times.
    gc.disable()
    try:
        from wsgicluster import cli
    finally:
        gc.enable()
    return cli.main()
