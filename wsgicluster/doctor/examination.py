"""The doctor's round: gathers the facts, has all checks look at them, and writes one line for each finding."""

import os
import sys
from collections.abc import Callable, Iterable

from wsgicluster.doctor import application_checks, settings_checks, surroundings_checks
from wsgicluster.doctor.facts import Facts, Finding
from wsgicluster.doctor.inspection import inspect_application
from wsgicluster.doctor.survey import survey
from wsgicluster.doctor.visit import Fork, visit
from wsgicluster.errors import ServerError
from wsgicluster.settings import Settings

FINDINGS = 10
"""Exit code when there is a finding."""

CHECKS = (*application_checks.CHECKS, *settings_checks.CHECKS, *surroundings_checks.CHECKS)


def examine(settings: Settings, remarks: tuple[str, ...], load: Callable[[], object], fork: Fork) -> int:
    """Print the findings on a server that ``load`` makes the application for; answers the exit code.

    ``settings`` have plain numbers; the current folder is the application's. What the application prints goes to
    standard error. Raises ServerError when no process can be made.
    """
    surroundings = survey(settings, os.environ)
    try:
        application = visit(lambda: inspect_application(load), fork, _show, settings.timeout)
    except OSError as error:
        raise ServerError(f"doctor: no process can be made to load the application: {error.strerror}") from error
    findings = consult(Facts(settings, surroundings, application, remarks))
    print(report(findings), end="")
    return FINDINGS if findings else 0


def consult(facts: Facts) -> list[Finding]:
    """What all checks find, each thing once."""
    return list(dict.fromkeys(finding for check in CHECKS for finding in check(facts)))


def report(findings: Iterable[Finding]) -> str:
    """The findings as they are printed."""
    lines = [str(finding) for finding in findings]
    count = f"{len(lines)} finding{'s' if len(lines) > 1 else ''}" if lines else "no findings"
    return "\n".join([*lines, count]) + "\n"


def _show(line: str) -> None:
    print(f"application prints: {line}", file=sys.stderr, flush=True)
