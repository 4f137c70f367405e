"""A reload up to the moment when workers are to be replaced: settings, listeners and logs, or why there are none.

Settings are read again while the server runs; what of them needs a restart stays as it is. A generation on trial logs
by its own settings, as its workers do; if it is aborted, the logs go back to those of the generation that serves.
"""

import dataclasses
import gc
import logging
import os
from collections.abc import Callable

from wsgicluster.arbiter import startup
from wsgicluster.arbiter.listeners.admin import AdminAddresses
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.errors import ServerError
from wsgicluster.logs.config import read_config
from wsgicluster.logs.logs import LogOptions, Logs
from wsgicluster.logs.options import UserLogger
from wsgicluster.logs.statsd import StatsdOptions
from wsgicluster.logs.syslog import SyslogOptions
from wsgicluster.settings import Settings
from wsgicluster.settings.declaration import Applies
from wsgicluster.settings.diff import changed
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.types.logs import FACILITIES


def log_options(settings: Settings) -> LogOptions:
    """What the settings say about logs; new files belong to the user that workers run as. Raises UsageError."""
    changes_user = (settings.user, settings.group) != (os.geteuid(), os.getegid())
    return LogOptions(
        errorlog=settings.errorlog,
        loglevel=settings.loglevel,
        accesslog=settings.accesslog,
        access_log_format=settings.access_log_format,
        config=read_config(settings.logconfig_dict, settings.logconfig_json, settings.logconfig),
        capture_output=settings.capture_output,
        owner=(settings.user, settings.group) if changes_user else None,
        structure=settings.log_format,
        to_stdout=settings.log_to_stdout,
        skipped=settings.access_log_skip,
        portion=settings.access_log_sample,
        syslog=_syslog(settings) if settings.syslog else None,
        statsd=_statsd(settings),
        user_logger=_user_logger(settings),
    )


def _user_logger(settings: Settings) -> Callable[[], UserLogger] | None:
    if settings.logger_class is None:
        return None
    # Late: only a server that has such a class spends memory on it.
    from wsgicluster.gunicorn.user_logger import maker_of

    return maker_of(settings)


def _syslog(settings: Settings) -> SyslogOptions:
    return SyslogOptions(
        target=(*settings.syslog_addr,),
        facility=FACILITIES[settings.syslog_facility],
        name=settings.syslog_prefix or settings.proc_name or settings.wsgi_app,
        access=not settings.disable_redirect_access_to_syslog,
    )


def _statsd(settings: Settings) -> StatsdOptions | None:
    if settings.statsd_host is None:
        return None
    return StatsdOptions((*settings.statsd_host,), settings.statsd_prefix, settings.dogstatsd_tags)


def _fixed(present: Settings) -> set[str]:
    """The settings that cannot change while the server runs."""
    names = {name for name, setting in SETTINGS.items() if setting.about.applies is Applies.RESTART}
    # With capture_output, standard output and error lead to its file, and to nowhere else any more.
    return names | {"errorlog"} if present.capture_output else names


def permitted(present: Settings, wanted: Settings) -> Settings:
    """The settings that are wanted, as far as they can be had without a restart."""
    return dataclasses.replace(wanted, **{name: getattr(present, name) for name in _fixed(present)})


def log_changes(log: logging.Logger, present: Settings, wanted: Settings) -> None:
    """Log what is different from now on, and what is not although it was wanted."""
    changes, fixed = changed(present, wanted), _fixed(present)
    now = [f"{name}: {change}" for name, change in changes.items() if name not in fixed]
    if now:
        log.info("Changed settings: %s", "; ".join(now))
    for name in sorted(fixed & changes.keys()):
        log.warning("%s has changed, which needs a restart; the present value stays in force (%s)", name, changes[name])


class Reload:
    """Reads the settings of one server anew; ``settings`` are those that it was started with.

    ``read`` raises ServerError when the settings are wrong; ``prepare`` is called with settings before children have
    them, and raises ServerError or OSError when it cannot do its part.
    """

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        addresses: Addresses,
        admin: AdminAddresses,
        prepare: Callable[[Settings], object],
        logs: Logs,
    ) -> None:
        self._first = settings
        self._read = read
        self._addresses = addresses
        self._admin = admin
        self._prepare = prepare
        self._logs = logs
        self._log = logs.error
        self._log_options = log_options(settings)
        self.settings = settings
        """The newest ones that could be applied."""
        self.changes: dict[str, str] = {}
        """What is different in these from those before, as log lines have it."""
        self.listeners: list[int] = []
        """The numbers of the listeners that these need."""

    def prepare(self, present: Settings, smoke: tuple[str, ...] | None = None) -> str:
        """Read and apply new settings, which differ from ``present``; returns why that failed, logged, or nothing.

        Where ``smoke`` is not None it takes the place of that setting.
        """
        before = self._addresses.numbers()
        try:
            wanted = self._read()
            if smoke is not None:
                wanted = dataclasses.replace(wanted, smoke=smoke)
            settings = permitted(self._first, wanted)
            self._prepare(settings)
            self._admin.open(settings)
            numbers = startup.open_addresses(settings, self._addresses)
            self._apply_logs(settings)
        except ServerError as error:
            self._log.error("Reload aborted: %s; the present settings stay in force", error)
            return str(error)
        except BaseException as error:  # noqa: BLE001
            # A configuration file is the user's program: whatever it raises, the server keeps serving.
            self._log.exception("Reload aborted: the settings could not be read; the present settings stay in force")
            return repr(error)
        finally:
            # Reading settings leaves cycles behind, so few that the collector would let them pile up for months.
            gc.collect()
        self.settings, self.listeners = settings, numbers
        self.changes = changed(present, settings)
        log_changes(self._log, present, wanted)
        self._addresses.say_listening((number for number in numbers if number not in before), settings.scheme)
        return ""

    def _apply_logs(self, settings: Settings) -> None:
        """Log as these settings say; raises ServerError when that is not possible."""
        options = log_options(settings)
        if options != self._log_options:
            self._logs.apply(options)
            self._log_options = options

    def revert_logs(self, settings: Settings) -> None:
        """Log as these settings say, which have been in force before; logs it when that is not possible any more."""
        try:
            self._apply_logs(settings)
        except ServerError as error:
            self._log_options = log_options(settings)
            self._log.error("%s", error)
