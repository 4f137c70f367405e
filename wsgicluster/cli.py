"""The command: reads the settings, answers questions about them, or joins all parts and serves.

The only module that knows every other one; nothing but joining is done here.
"""

import dataclasses
import os
import platform
import sys
import sysconfig
from collections.abc import Sequence
from typing import NoReturn

from wsgicluster import __version__, process
from wsgicluster.access_log import compile_format
from wsgicluster.arbiter import spawn
from wsgicluster.arbiter.arbiter import Arbiter, Roles
from wsgicluster.arbiter.logbook import log_options
from wsgicluster.arbiter.origin import Origin, take
from wsgicluster.arbiter.upgrade import say_failed
from wsgicluster.cluster.assignment import Assignment
from wsgicluster.errors import AppLoadError, ServerError
from wsgicluster.http.core import compiled
from wsgicluster.logs import Logs
from wsgicluster.settings import Action, Loaded, Settings, load, resolve
from wsgicluster.settings.command_line import help_text
from wsgicluster.settings.reference import listing
from wsgicluster.worker.base import boot_worker, load_application
from wsgicluster.worker.kinds import check_kind

INTERRUPTED = 130
"""What a shell expects of a process that Ctrl-C has ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); returns the exit code."""
    origin = take(os.environ, os.getpid())
    try:
        return Command(sys.argv[1:] if argv is None else argv, origin).run()
    except ServerError as error:
        say_failed(origin, error)
        if isinstance(error, AppLoadError) and error.trace:
            print(error.trace, file=sys.stderr)
        print(f"wsgicluster: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


class Command:
    """One run of the command: where it began, and what it was given."""

    def __init__(self, argv: Sequence[str], origin: Origin) -> None:
        self._argv = tuple(argv)
        # As they are now: what is read again on a reload must not be what we have set since.
        self._environ = dict(os.environ)
        self._directory = _current_folder(self._environ)
        # As the operator started it, with the options of Python, whichever way led here.
        self._origin = dataclasses.replace(
            origin, command=(sys.executable, *sys.orig_argv[1:]), directory=self._directory, environ=self._environ
        )
        real = os.path.realpath(self._directory)
        self._path = [entry for entry in sys.path if entry and os.path.realpath(entry) != real]
        self._changed: frozenset[str] = frozenset()
        self._logs: Logs | None = None

    def run(self) -> int:
        """Do what is asked for; returns the exit code. Raises ServerError."""
        loaded = load(self._argv, self._environ, self._directory)
        match loaded.action:
            case Action.SHOW_HELP:
                print(help_text(), end="")
            case Action.SHOW_VERSION:
                print(f"wsgicluster {__version__}")
            case Action.SHOW_VERSIONS:
                print(versions())
            case Action.PRINT_CONFIG:
                _remark(loaded)
                print(listing(loaded), end="")
            case Action.CHECK_CONFIG:
                _remark(loaded)
                self._check(loaded.settings)
            case Action.EXAMINE:
                return self._examine(loaded)
            case Action.SERVE:
                return self._serve(loaded)
        return 0

    def _check(self, settings: Settings) -> None:
        compile_format(settings.access_log_format)
        self._load_application(settings)
        print("OK: the settings are sound and the application can be loaded")

    def _examine(self, loaded: Loaded) -> int:
        # Late: no server that serves shall carry its memory.
        from wsgicluster.doctor.examination import examine

        if loaded.settings.print_config:
            print(listing(loaded), end="")
        settings = _resolved(loaded.settings)
        compile_format(settings.access_log_format)
        check_kind(settings.worker_class)
        self._enter(settings)
        return examine(settings, loaded.remarks, lambda: self._load_as_worker(settings), spawn.fork)

    def _load_as_worker(self, settings: Settings) -> object:
        process.drop_privileges(settings.user, settings.group, settings.initgroups)
        return self._load_application(settings)

    def _serve(self, loaded: Loaded) -> int:
        settings = _resolved(loaded.settings)
        self._enter(settings)
        self._logs = logs = Logs(log_options(settings))
        for remark in loaded.remarks:
            logs.error.warning("%s", remark)
        check_kind(settings.worker_class)
        roles = Roles(boot_worker=self._boot_worker, load_application=self._load_application)
        try:
            return Arbiter(settings, self._reload, roles, logs, origin=self._origin).run()
        except ServerError as error:
            if settings.errorlog != "-" or settings.logconfig_dict:
                logs.error.error("%s", error)  # whoever looks there later was not at the terminal
            raise

    def _reload(self) -> Settings:
        settings = _resolved(load(self._argv, self._environ, self._directory).settings)
        check_kind(settings.worker_class)
        return settings

    def _boot_worker(self, settings: Settings, assignment: Assignment, application: object = None) -> NoReturn:
        assert self._logs is not None, "no worker boots before there are logs"
        if application is None:  # else this process was entered when the application was loaded
            self._enter(settings)
        boot_worker(self._logs, settings, assignment, application)

    def _load_application(self, settings: Settings) -> object:
        self._enter(settings)
        return load_application(settings)

    def _enter(self, settings: Settings) -> None:
        """Give this process the folder, module path and environment that the application is to find.

        Done anew in each child: settings that were reloaded without success leave no trace, and a
        folder's name that is a link leads to what it links to by then.
        """
        folder = os.path.join(self._directory, settings.chdir) if settings.chdir != "." else self._directory
        try:
            os.chdir(folder)
        except OSError as error:
            raise ServerError(f"chdir: cannot change to {folder}: {error.strerror}") from error
        sys.path[:] = [folder, *(os.path.join(folder, entry) for entry in settings.pythonpath), *self._path]
        for name in self._changed:
            if name in self._environ:
                os.environ[name] = self._environ[name]
            else:
                os.environ.pop(name, None)
        changes = dict(_assignment(entry) for entry in settings.raw_env)
        os.environ.update(changes)
        self._changed = frozenset(changes)


def versions() -> str:
    """What ``--version --verbose`` shows."""
    threading = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return "\n".join(
        [
            f"wsgicluster {__version__}",
            f"python: {platform.python_implementation()} {platform.python_version()}{threading}",
            f"http core: {'compiled' if compiled else 'plain Python'}",
        ]
    )


def _resolved(settings: Settings) -> Settings:
    return resolve(settings, process.usable_processors(), process.memory_limit_bytes())


def _remark(loaded: Loaded) -> None:
    for remark in loaded.remarks:
        print(f"wsgicluster: remark: {remark}", file=sys.stderr)


def _assignment(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _current_folder(environ: dict[str, str]) -> str:
    """The current folder by the name the user knows it by, which may be a link that leads elsewhere later."""
    present = os.getcwd()
    named = environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, present) else present
    except OSError:  # PWD is left over from somewhere else
        return present
