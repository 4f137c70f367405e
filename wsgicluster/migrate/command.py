"""The command ``wsgicluster migrate``: reads a configuration of Gunicorn, says what changes, and starts nothing."""

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from wsgicluster.errors import UsageError
from wsgicluster.migrate import report
from wsgicluster.migrate.equivalent import equivalent
from wsgicluster.migrate.findings import findings, needs_hand
from wsgicluster.migrate.reading import read, split

NAME = "migrate"
NEEDS_HAND = 1
"""The exit code where something is lost, or has to be looked at before the move."""

_EPILOG = """\
exit codes:
  0  nothing is lost
  1  something is lost, or has to be looked at before the move
  2  the command line or the configuration file cannot be read
"""


class _MigrateParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"migrate: {message}")


def parser() -> argparse.ArgumentParser:
    """What reads the options of the command itself, which come first; also for the manual page."""
    found = _MigrateParser(
        prog=f"wsgicluster {NAME}",
        usage=f"wsgicluster {NAME} [--json] [NAME=VALUE ...] [gunicorn] [option of Gunicorn ...] [APPLICATION]",
        description=(
            "Read a configuration of Gunicorn (its command line, GUNICORN_CMD_ARGS, gunicorn.conf.py) and say what is "
            "the same, what differs and why, and the shortest equivalent. Starts nothing."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    found.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    found.add_argument("--json", action="store_true", help="Print JSON, whose fields stay.")
    return found


def run(words: Sequence[str], environ: Mapping[str, str], directory: str) -> int:
    """Read, print, and return the exit code. Raises UsageError for what cannot be read."""
    if any(word in ("-h", "--help") for word in words):
        print(parser().format_help(), end="")
        return 0
    # Anywhere: Gunicorn has no such flag.
    is_json = "--json" in words
    # What the file prints must not come between what we print.
    with contextlib.redirect_stdout(sys.stderr):
        reading = read(split([word for word in words if word != "--json"]), environ, directory)
        found, instead = findings(reading), equivalent(reading)
    print((report.as_json if is_json else report.text)(reading, found, instead), end="")
    return NEEDS_HAND if needs_hand(found) else 0
