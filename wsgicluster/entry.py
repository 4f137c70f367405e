"""Where the ``wsgicluster`` command begins: it imports the rest in the cheapest way.

A module of its own, since what a module imports is imported before any line of it runs.
"""

import gc


def main() -> int:
    """Run the command with the arguments of the process; returns the exit code."""
    # What a module defines stays. Collections would find next to nothing, and go through all of it: dozens of times
    # during the import, and twice before the first worker is forked.
    gc.disable()
    try:
        from wsgicluster import cli
    finally:
        gc.freeze()
        gc.enable()
    return cli.main()
