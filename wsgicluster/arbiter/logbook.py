"""Where the arbiter logs: what the settings say about that, and what is in force.

A generation that is tried logs by its own settings, as its workers do; one that does not work takes them along.
"""

import os

from wsgicluster.errors import ServerError
from wsgicluster.logs import LogOptions, Logs
from wsgicluster.settings import Settings


def log_options(settings: Settings) -> LogOptions:
    """What the settings say about logs; new files belong to whom workers run as."""
    changes_user = (settings.user, settings.group) != (os.geteuid(), os.getegid())
    return LogOptions(
        errorlog=settings.errorlog,
        loglevel=settings.loglevel,
        accesslog=settings.accesslog,
        access_log_format=settings.access_log_format,
        logconfig_dict=settings.logconfig_dict,
        capture_output=settings.capture_output,
        owner=(settings.user, settings.group) if changes_user else None,
    )


class Logbook:
    """The logs of one server, which are open as the ``settings`` say."""

    def __init__(self, logs: Logs, settings: Settings) -> None:
        self._logs = logs
        self._options = log_options(settings)

    def apply(self, settings: Settings) -> None:
        """Log as these settings say; raises ServerError when that is not possible."""
        options = log_options(settings)
        if options != self._options:
            self._logs.apply(options)
            self._options = options

    def take_back(self, settings: Settings) -> None:
        """Log as these settings say, which have been in force before; remarks when that is not possible any more."""
        try:
            self.apply(settings)
        except ServerError as error:
            self._options = log_options(settings)
            self._logs.error.error("%s", error)

    def reopen(self) -> None:
        """Open log files anew, under their names."""
        try:
            self._logs.reopen()
        except OSError as error:
            self._logs.error.error("logs could not be reopened: %s", error.strerror)
