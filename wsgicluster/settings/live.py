"""Settings that change while the server runs: the scheduling policy without a reload, the smoke test for one reload.

What is given is read and checked as at start, with the same errors.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wsgicluster.errors import UsageError
from wsgicluster.settings.checks import DEFAULT, check_scheduling, policy_of
from wsgicluster.settings.fields import SETTINGS, Settings
from wsgicluster.settings.sources.merge import read_value
from wsgicluster.settings.types.scheduling import POLICIES
from wsgicluster.settings.wording import complaint, nearest, raise_all

SCHEDULING_SETTINGS = ("scheduling", "weights", "sticky")
LIVE_SETTINGS = (*SCHEDULING_SETTINGS, "workers")
"""What can be changed without a reload, and holds until the next one."""


def with_scheduling(present: Settings, given: Mapping[str, object], where: str) -> Settings:
    """The present settings with what is ``given`` of `SCHEDULING_SETTINGS`; ``where`` is the source for errors.

    As on a command line, weights or a form of stickiness alone choose their policy. What is not given stays as it is
    for the policy that uses it. Raises UsageError.
    """
    values: dict[str, Any] = {}
    complaints = []
    for name, raw in given.items():
        try:
            values[name] = read_value(_setting(name, where), raw, where)
        except UsageError as error:
            complaints.append(error)
    raise_all(complaints)
    if not values:
        raise complaint(where, "scheduling", "not given", "one of " + ", ".join(POLICIES))
    if "weights" not in values and len(present.weights) != present.workers_most:
        values["weights"] = ()
    wanted = dataclasses.replace(present, **values)
    sources = {name: where if name in given else DEFAULT for name in SCHEDULING_SETTINGS}
    wanted = dataclasses.replace(wanted, scheduling=policy_of(wanted, sources)[0])
    check_scheduling(wanted, sources)
    return wanted


def smoke_for_reload(given: str) -> tuple[str, ...]:
    """The smoke test of one reload; ``given`` is as on the command line. Raises UsageError."""
    found: tuple[str, ...] = read_value(SETTINGS["smoke"], given, "reload")
    return found


def _setting(name: str, where: str) -> Any:
    if name not in SCHEDULING_SETTINGS:
        near = nearest(name, SCHEDULING_SETTINGS)
        expected = "" if near else "one of " + ", ".join(SCHEDULING_SETTINGS)
        raise complaint(where, name, "not a setting that changes live", expected, near)
    return SETTINGS[name]
