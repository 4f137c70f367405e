"""Settings that are read again while the server runs: what has changed, and what of that has to wait for a restart."""

import dataclasses
import logging

from wsgicluster.settings import Settings
from wsgicluster.settings.declaration import Applies
from wsgicluster.settings.difference import changed
from wsgicluster.settings.fields import SETTINGS


def _fixed(present: Settings) -> set[str]:
    """The settings that cannot change while the server runs."""
    names = {name for name, setting in SETTINGS.items() if setting.about.applies is Applies.RESTART}
    # With capture_output, standard output and error lead to its file, and to nowhere else any more.
    return names | {"errorlog"} if present.capture_output else names


def permitted(present: Settings, wanted: Settings) -> Settings:
    """The settings that are wanted, as far as they can be had without a restart."""
    return dataclasses.replace(wanted, **{name: getattr(present, name) for name in _fixed(present)})


def say_changes(log: logging.Logger, present: Settings, wanted: Settings) -> None:
    """Log what is different from now on, and what is not although it was wanted."""
    changes, fixed = changed(present, wanted), _fixed(present)
    now = [f"{name}: {change}" for name, change in changes.items() if name not in fixed]
    if now:
        log.info("Changed settings: %s", "; ".join(now))
    for name in sorted(fixed & changes.keys()):
        log.warning("%s has changed, which needs a restart; the present value stays in force (%s)", name, changes[name])
