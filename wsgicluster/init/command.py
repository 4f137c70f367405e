"""The command: its arguments, what it prints, and the file that is written whole or not at all."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

from wsgicluster.errors import ServerError, UsageError
from wsgicluster.init.detection import Candidate, Certainty, find_applications
from wsgicluster.init.template import common, full
from wsgicluster.settings.sources.command_line import ArgumentReader
from wsgicluster.settings.sources.config_file import DEFAULT_NAMES

NAME, GUNICORN_NAME = DEFAULT_NAMES


def parser() -> argparse.ArgumentParser:
    """What reads the arguments, for pages that describe them."""
    found = ArgumentReader(
        "init",
        prog="wsgicluster init",
        description=f"Write a commented configuration file for the application in this folder, {NAME}.",
        allow_abbrev=False,
    )
    found.add_argument(
        "application", nargs="?", metavar="APPLICATION",
        help="module:attribute or module:factory(); without it, Flask, Django and other applications are looked for",
    )  # fmt: skip
    found.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=NAME,
        help=f"where to write it; - for standard output (default: {NAME})",
    )
    found.add_argument("-f", "--force", action="store_true", help="replace a file that is there")
    found.add_argument("--full", action="store_true", help="write every setting, each with its default, as comments")
    return found


def main(argv: Sequence[str]) -> int:
    """Run with the arguments after ``init``; returns the exit code. Raises ServerError."""
    given = parser().parse_args(argv)
    found = _applications(given.application)
    text = (full if given.full else common)(found)
    if given.output == "-":
        sys.stdout.write(text)
        return 0
    _protect(given.output, given.force)
    write(given.output, text, given.force)
    print(_report(given.output, found))
    return 0


def _applications(named: str | None) -> list[Candidate]:
    if named is not None:
        if not named.strip() or '"' in named or "\\" in named or not named.isprintable():
            raise UsageError(f"init: {named!r}: not an application; expected module:attribute or module:factory()")
        return [Candidate(named, "", "as it was named", Certainty.USUAL_NAME)]
    try:
        return find_applications(os.curdir)
    except OSError as error:
        raise ServerError(f"init: cannot read this folder: {error.strerror}") from error


def _protect(path: str, force: bool) -> None:
    """Raise ServerError where a file would be replaced, or no longer be read."""
    if force:
        return
    if os.path.lexists(path):
        raise ServerError(f"init: {path} exists; give --force to replace it, or --output for another file")
    if path == NAME and os.path.exists(GUNICORN_NAME):
        raise ServerError(
            f"init: {GUNICORN_NAME} is here, which the server reads as it is; {NAME} would be read in its place: give "
            "--force if that is meant, or --output for another file"
        )


def write(path: str, text: str, force: bool) -> None:
    """Write a file whole; a failure leaves none, or the one that was there. Raises ServerError."""
    target = os.path.realpath(path)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".wsgicluster-init-")
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, _usual_mode(target))
            os.fsync(descriptor)
        if force:
            os.replace(temporary, target)
        else:
            os.link(temporary, target)  # unlike a rename, never over a file that has appeared meanwhile
            os.unlink(temporary)
        temporary = ""
    except OSError as error:
        raise ServerError(f"init: cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary:
            os.unlink(temporary)


def _usual_mode(path: str) -> int:
    """The mode of a file that is replaced, or that a new one has."""
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def _report(path: str, found: Sequence[Candidate]) -> str:
    start = "wsgicluster" if path == NAME else f"wsgicluster -c {path}"
    served = [each for each in found if each.certainty is not Certainty.ASGI]
    if not served:
        asgi = f"; ASGI applications, as in {found[0].path}, cannot be served" if found else ""
        return f"wrote {path}; no application was found here: name it as wsgi_app in the file{asgi}"
    first = served[0]
    kind = f", {first.framework}" if first.framework else ""
    return f"wrote {path} for {first.target} ({first.path}{kind})\nstart it with: {start}"
