"""Runs the doctor: gathers the facts, runs all checks on them, and prints one line for each finding."""

import os
import sys
from collections.abc import Callable, Iterable

from wsgicluster.counting import count_of
from wsgicluster.doctor import application_checks, settings_checks, surroundings_checks
from wsgicluster.doctor.facts import Facts, Finding
from wsgicluster.doctor.inspection import inspect_application
from wsgicluster.doctor.isolation import Fork, run_isolated
from wsgicluster.doctor.survey import survey
from wsgicluster.errors import ServerError
from wsgicluster.settings import Settings

FINDINGS = 10
"""Exit code when there is a finding."""

CHECKS = (*application_checks.CHECKS, *settings_checks.CHECKS, *surroundings_checks.CHECKS)


def examine(settings: Settings, remarks: tuple[str, ...], load: Callable[[], object], fork: Fork) -> int:
    """Print the findings on a server whose application ``load`` returns; returns the exit code.

    ``settings`` have plain numbers; the current folder is the application's. What the application prints goes to
    standard error. Raises ServerError when no process can be made.
    """
    surroundings = survey(settings, os.environ)
    try:
        application = run_isolated(lambda: inspect_application(load), fork, _show, settings.timeout)
    except OSError as error:
        raise ServerError(f"doctor: no process can be made to load the application: {error.strerror}") from error
    findings = consult(Facts(settings, surroundings, application, remarks))
    print(report(findings), end="")
    return FINDINGS if findings else 0


def consult(facts: Facts) -> list[Finding]:
    """The findings of all checks, each one once."""
    return list(dict.fromkeys(finding for check in CHECKS for finding in check(facts)))


def report(findings: Iterable[Finding]) -> str:
    """The findings as they are printed."""
    lines = [str(finding) for finding in findings]
    count = count_of(len(lines), "finding") if lines else "no findings"
    return "\n".join([*lines, count]) + "\n"


def _show(line: str) -> None:
    print(f"application prints: {line}", file=sys.stderr, flush=True)
