"""Runs a program that imports Gunicorn, unchanged: ``python -m wsgicluster.gunicorn PROGRAM [ARG ...]``.

What it imports of Gunicorn is wsgicluster's own, whether or not Gunicorn is installed.
"""

import os
import runpy
import sys

from wsgicluster.gunicorn.imports import importable

USAGE = "python -m wsgicluster.gunicorn (PROGRAM.py | -m MODULE) [ARG ...]"
WRONG_USAGE = 2
"""The exit code, as that of `wsgicluster.errors.UsageError`."""


def main(arguments: list[str]) -> int:
    """Run the program, which may end the process itself; returns the exit code if it does not."""
    is_module = arguments[:1] == ["-m"]
    name = arguments[is_module] if len(arguments) > is_module else ""
    if not name or (not is_module and not os.path.exists(name)):
        text = f"{name}: no such file" if name and not is_module else "no program is named"
        print(f"wsgicluster.gunicorn: error: {text}; expected {USAGE}", file=sys.stderr)
        return WRONG_USAGE
    sys.argv[:] = arguments[is_module:]
    with importable(always=True):
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = os.path.dirname(os.path.abspath(name))
            runpy.run_path(name, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
