"""The command: reads the settings, prints or checks them, or joins all parts and serves.

The only module that may import every room; it does nothing but join them.
"""

import dataclasses
import functools
import importlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from wsgicluster.arbiter.arbiter import Arbiter, Roles
from wsgicluster.arbiter.children import fork
from wsgicluster.arbiter.children.entry_points import PreparedWorker
from wsgicluster.arbiter.children.promoted_mold import MoldForker
from wsgicluster.arbiter.hooks import NO_HOOKS, ArbiterHooks
from wsgicluster.arbiter.reload import log_options
from wsgicluster.arbiter.service.launch import Origin, take
from wsgicluster.arbiter.upgrade.upgrade import report_failure
from wsgicluster.cluster.redis.reachable import check_store
from wsgicluster.errors import AppLoadError, HookError, ServerError, UsageError
from wsgicluster.http import core
from wsgicluster.ipc import membership
from wsgicluster.ipc.assignment import Assignment
from wsgicluster.logs.loggers import claim_names
from wsgicluster.logs.logs import Logs, check_options
from wsgicluster.settings import Action, Loaded, Settings, load, resolve
from wsgicluster.settings.reference import listing
from wsgicluster.settings.types.scheduling import STICKY_POLICY
from wsgicluster.subcommands import SUBCOMMANDS
from wsgicluster.system import cgroup, forks, privileges, process
from wsgicluster.system.descriptors import OpenedDescriptors
from wsgicluster.version import __version__
from wsgicluster.worker.boot import BootInputs, boot_worker, load_application
from wsgicluster.worker.kinds.built import BuiltWorker, build_before_fork
from wsgicluster.worker.kinds.registry import check_kind, import_kind
from wsgicluster.worker.lifecycle.promotion import ForkMold

if TYPE_CHECKING:
    from wsgicluster.gunicorn.arbiter_calls import ArbiterCalls

MIGRATE = "migrate"
"""The first argument that asks for something else than a server; a module of that name is ``migrate:application``."""

INTERRUPTED = 130
"""The exit code of a process that Ctrl-C has ended, by the convention of shells: 128 + SIGINT."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); returns the exit code."""
    process.open_missing_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    origin = take(os.environ, os.getpid())
    try:
        # Late imports: a server that serves must not spend memory on other commands.
        match arguments:
            case ["ctl", *rest]:
                from wsgicluster.ctl import command as ctl

                return ctl.main(rest, "wsgicluster ctl")
            case ["init", *rest]:
                from wsgicluster.init import command as init

                return init.main(rest)
            case ["completion", *rest]:
                from wsgicluster.settings.sources import completion

                return completion.main(rest, SUBCOMMANDS)
            case ["doctor", *rest]:
                arguments = [*rest, "--doctor"]
        return Command(arguments, origin).run()
    except ServerError as error:
        report_failure(origin, error)
        if isinstance(error, AppLoadError | HookError) and error.trace:
            print(error.trace, file=sys.stderr)
        for line in str(error).splitlines():
            print(f"wsgicluster: error: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


class Command:
    """One run of the command: its arguments, and the folder and environment that it began with.

    ``read`` reads the settings in place of that, in a program that embeds a server.
    """

    def __init__(self, argv: Sequence[str], origin: Origin, read: Callable[[], Loaded] | None = None) -> None:
        self._argv = tuple(argv)
        self._read = read
        # A copy: a reload must not read what we have set since.
        self._environ = dict(os.environ)
        self._directory = _current_folder(self._environ)
        # The command as the operator started it, with the options of Python, by whatever entry point.
        self._origin = dataclasses.replace(
            origin, command=(sys.executable, *sys.orig_argv[1:]), directory=self._directory, environ=self._environ
        )
        real = os.path.realpath(self._directory)
        self._path = [entry for entry in sys.path if entry and os.path.realpath(entry) != real]
        self._changed: frozenset[str] = frozenset()
        self._logs: Logs | None = None
        self._roles: Roles | None = None
        self._hooks: ArbiterCalls | None = None
        self._opened = OpenedDescriptors()
        """What the configuration file has opened: its hooks may use it in workers."""
        self._said: frozenset[str] = frozenset()
        """Remarks on the settings in force."""
        self._registered: object | None = None
        """What the configuration file has registered when it was read last, None for nothing."""

    def run(self) -> int:
        """Do what the arguments ask for; returns the exit code. Raises ServerError."""
        claim_names()
        membership.expect()  # no job of the configuration file begins here
        if self._argv[:1] == (MIGRATE,) and self._read is None:
            # Late: a server that serves must not spend memory on it.
            from wsgicluster.migrate.command import run

            return run(self._argv[1:], self._environ, self._directory)
        loaded = self._load()
        self._registered = _take_registered()
        match loaded.action:
            case Action.SHOW_HELP:
                # Late: a start does not need it.
                from wsgicluster.settings.sources.help import common_help

                print(common_help(SUBCOMMANDS, shutil.get_terminal_size().columns), end="")
            case Action.SHOW_WHOLE_HELP:
                from wsgicluster.settings.sources.command_line import whole_help

                print(whole_help(), end="")
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

    def _load(self) -> Loaded:
        """Read the settings, now."""
        with self._opened.noted():
            return load(self._argv, self._environ, self._directory) if self._read is None else self._read()

    def _check(self, settings: Settings) -> None:
        self._enter(settings)
        Logs(log_options(settings))
        self._load_application(settings)
        print("OK: the settings are valid and the application can be loaded")

    def _examine(self, loaded: Loaded) -> int:
        # Late: a server that serves must not spend memory on it.
        from wsgicluster.doctor.examination import examine

        if loaded.settings.print_config:
            print(listing(loaded), end="")
        settings = _resolved(loaded.settings)
        check_kind(settings.worker_class)
        self._enter(settings)
        check_options(log_options(settings))
        return examine(settings, loaded.remarks, lambda: self._load_as_worker(settings), fork.fork)

    def _load_as_worker(self, settings: Settings) -> object:
        privileges.drop_privileges(settings.user, settings.group, settings.initgroups)
        return self._load_application(settings)

    def _serve(self, loaded: Loaded) -> int:
        settings = _resolved(loaded.settings)
        self._enter(settings)
        self._logs = logs = Logs(log_options(settings))
        self._log_remarks(loaded)
        _check_here(settings)
        if core.missing:
            logs.error.warning(
                "The compiled modules cannot be imported (%s); serving with plain Python, which takes more time for "
                "each request: install a C compiler and reinstall wsgicluster, or run python setup.py build_ext "
                "--inplace in a checkout; set WSGICLUSTER_PURE=1 if plain Python is intended",
                core.missing,
            )
        self._roles = roles = Roles(
            self._boot_worker,
            self._load_application,
            core.description(),
            self._boot_jobs,
            self._boot_steward,
            self._boot_admin,
            lambda: self._registered,
            self._hooks_of,
            self._prepare_worker,
        )
        try:
            return Arbiter(settings, self._reload, roles, logs, origin=self._origin).run()
        except ServerError as error:
            if settings.errorlog != "-" or logs.is_configured:
                logs.error.error("%s", error)  # a log file is read later, when the terminal is closed
            raise

    def _reload(self) -> Settings:
        try:
            loaded = self._load()
        finally:
            registered = _take_registered()
        settings = _resolved(loaded.settings)
        self._registered = registered
        _check_here(settings)
        self._log_remarks(loaded)
        return settings

    def _log_remarks(self, loaded: Loaded) -> None:
        """Say what is new: a reload repeats nothing that has been said."""
        assert self._logs is not None, "a server has logs before it says anything"
        for remark in loaded.remarks:
            if remark not in self._said:
                self._logs.error.warning("%s", remark)
        self._said = frozenset(loaded.remarks)

    def _boot_worker(
        self,
        settings: Settings,
        assignment: Assignment,
        application: object = None,
        built: BuiltWorker | None = None,
    ) -> NoReturn:
        assert self._logs is not None, "no worker boots before there are logs"
        if application is None:  # else the mold has entered for the application already
            self._enter_for_application(settings)
        configured = None
        if self._hooks is not None and settings.has_hooks:
            from wsgicluster.gunicorn.worker_calls import WorkerCalls

            view = self._hooks.unpacked(assignment.hooked, settings)
            configured = WorkerCalls(self._hooks.server, view, settings, self._logs.error)
        fork_mold = self._mold_forker(settings, assignment)
        boot_worker(self._logs, settings, assignment, BootInputs(application, configured, fork_mold, built))

    def _prepare_worker(
        self, settings: Settings, assignment: Assignment, application: object | None
    ) -> PreparedWorker | None:
        assert self._logs is not None, "no worker is prepared before there are logs"
        built = build_before_fork(self._logs, settings, assignment)
        if built is None:
            return None
        boot = functools.partial(self._boot_worker, settings, assignment, application, built)
        return PreparedWorker(boot, built.descriptors, built.close)

    def _mold_forker(self, settings: Settings, assignment: Assignment) -> ForkMold | None:
        """What a worker forks a mold with that it is ordered to make of itself; None where none is."""
        if not settings.refork_after:
            return None
        assert self._logs is not None, "no worker boots before there are logs"
        assert self._roles is not None, "a server has roles before it has workers"
        return MoldForker(assignment, settings, self._roles, self._logs)

    def _hooks_of(self, settings: Settings) -> ArbiterHooks:
        """What calls the hooks of the newest settings; once there were any it stays, and so does what they have set."""
        if self._hooks is None and settings.has_hooks:
            # Late: only a server that has hooks spends memory on them.
            from wsgicluster.gunicorn.arbiter_calls import ArbiterCalls

            assert self._logs is not None, "no hook is called before there are logs"
            self._hooks = ArbiterCalls(self._logs.error, self._opened, self._logs.user_logger)
        if self._hooks is None:
            return NO_HOOKS
        self._hooks.use(settings)
        return self._hooks

    def _boot_jobs(self, settings: Settings, assignment: Assignment) -> NoReturn:
        # Late: only a server that has such a process spends memory on it.
        from wsgicluster.worker.jobs import boot_jobs

        assert self._logs is not None, "no child boots before there are logs"
        self._enter_for_application(settings)
        boot_jobs(self._logs, settings, assignment)

    def _boot_steward(self, settings: Settings, assignment: Assignment, registered: object | None) -> NoReturn:
        from wsgicluster.steward.process import boot_steward

        assert self._logs is not None, "no child boots before there are logs"
        self._enter_for_application(settings)
        boot_steward(self._logs, settings, assignment, registered)

    def _boot_admin(self, settings: Settings, assignment: Assignment) -> NoReturn:
        from wsgicluster.admin.process import boot_admin

        assert self._logs is not None, "no child boots before there are logs"
        self._enter(settings)
        boot_admin(self._logs, settings, assignment)

    def _load_application(self, settings: Settings) -> object:
        self._enter_for_application(settings)
        return load_application(settings)

    def _enter_for_application(self, settings: Settings) -> None:
        """Enter, and set the umask: only where the application runs; the arbiter sets the modes of its files."""
        if self._read is not None:
            forks.forget_exit_functions()
        self._enter(settings)
        # Applications look for Gunicorn's name in it, to find out whether they run below a server.
        os.environ.setdefault("SERVER_SOFTWARE", f"wsgicluster/{__version__} (gunicorn compatible)")
        if settings.umask is not None:
            os.umask(settings.umask)

    def _enter(self, settings: Settings) -> None:
        """Set the current folder, module path and environment for the application.

        Done in each child: so a failed reload changes nothing, and a folder that is a symbolic link is
        resolved each time.
        """
        folder = os.path.join(self._directory, settings.chdir) if settings.chdir != "." else self._directory
        try:
            os.chdir(folder)
        except OSError as error:
            raise ServerError(f"chdir: cannot change to {folder}: {error.strerror}") from error
        # As in Gunicorn, modules are found in the start folder as well, by the user's name for it.
        start = [] if os.path.realpath(folder) == os.path.realpath(self._directory) else [self._directory]
        more = (os.path.join(folder, entry) for entry in settings.pythonpath)
        sys.path[:] = [folder, *more, *start, *self._path]
        for name in self._changed:
            if name in self._environ:
                os.environ[name] = self._environ[name]
            else:
                os.environ.pop(name, None)
        changes = dict(_assignment(entry) for entry in settings.raw_env)
        os.environ.update(changes)
        self._changed = frozenset(changes)


def _take_registered() -> object | None:
    """What the configuration file that was just read has registered for the steward, None for nothing.

    Raises UsageError where it has registered periodic jobs.
    """
    registered = None
    if (
        "wsgicluster.cluster.events.subscriptions" in sys.modules
        or "wsgicluster.cluster.messages.handlers" in sys.modules
    ):
        # Late: a configuration file that does not use the cluster costs nothing.
        from wsgicluster.cluster.events import subscriptions

        registered = subscriptions.take()
    if "wsgicluster.cluster.state.schedule" in sys.modules:
        from wsgicluster.cluster.state import state

        jobs = state.take_jobs()
        if jobs:
            raise UsageError(f"every: {', '.join(jobs)}: register periodic jobs in the application, not here")
    return registered


def versions() -> str:
    """The text of ``--version --verbose``."""
    # Late: only this needs them.
    import platform
    import sysconfig

    threading = ", free-threaded" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return "\n".join(
        [
            f"wsgicluster {__version__}",
            f"python: {platform.python_implementation()} {platform.python_version()}{threading}",
            f"http core: {'compiled' if core.compiled else 'plain Python'}",
        ]
    )


def _resolved(settings: Settings) -> Settings:
    return resolve(settings, cgroup.usable_processors(), cgroup.memory_limit_bytes())


def _check_here(settings: Settings) -> None:
    """Whether what the settings ask for can be had on this machine. Raises UsageError."""
    check_kind(settings.worker_class)
    check_store(settings.store)
    # Here, although only workers use it: they share its memory, and may not be allowed to read its files.
    import_kind(settings.worker_class)
    if settings.scheduling == STICKY_POLICY:
        for module in ("hashlib", "hmac"):
            importlib.import_module(module)


def _remark(loaded: Loaded) -> None:
    for remark in loaded.remarks:
        print(f"wsgicluster: remark: {remark}", file=sys.stderr)


def _assignment(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _current_folder(environ: dict[str, str]) -> str:
    """The current folder by the user's name for it, which may be a symbolic link that is changed before a reload."""
    present = os.getcwd()
    named = environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, present) else present
    except OSError:  # PWD is stale
        return present
