"""Lets code import ``gunicorn`` where that is not installed, for as long as a configuration file is executed.

The modules are made of the table `VIEWS` when they are asked for, and removed afterwards: an application that checks
whether Gunicorn is there must not find it. Where it is installed the real one is imported, but for its worker classes:
those of ours are what a class has to be derived from here.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # Their module imports those of resources, archives and paths, which take a hundredth of a start.
    Loader = MetaPathFinder = object

_NAMES = "wsgicluster.gunicorn.names:"
_WORKERS = "wsgicluster.gunicorn.workers:"
_APPLICATIONS = "wsgicluster.gunicorn.app."

VIEWS: Mapping[str, Mapping[str, str]] = {
    "gunicorn": {name: _NAMES + name for name in ("SERVER", "SERVER_SOFTWARE", "__version__", "version_info")},
    "gunicorn.app": {},
    "gunicorn.app.base": {
        "Application": _APPLICATIONS + "base:Application",
        "BaseApplication": _APPLICATIONS + "base:BaseApplication",
    },
    "gunicorn.app.wsgiapp": {"WSGIApplication": _APPLICATIONS + "wsgiapp:WSGIApplication"},
    "gunicorn.arbiter": {"Arbiter": _NAMES + "ArbiterView"},
    "gunicorn.config": {"Config": _NAMES + "ConfigView"},
    "gunicorn.glogging": {
        name: "wsgicluster.gunicorn.glogging:" + name
        for name in ("CONFIG_DEFAULTS", "SYSLOG_FACILITIES", "Logger", "SafeAtoms")
    },
    "gunicorn.http": {},
    "gunicorn.http.message": {"Request": _NAMES + "GunicornRequest"},
    "gunicorn.http.wsgi": {"Response": _NAMES + "GunicornResponse"},
    "gunicorn.instrument": {},
    "gunicorn.instrument.statsd": {"Statsd": "wsgicluster.gunicorn.glogging:Statsd"},
    "gunicorn.util": {name: _NAMES + name for name in ("bytes_to_str", "getcwd", "import_app", "to_bytestring")},
    "gunicorn.workers": {"SUPPORTED_WORKERS": _WORKERS + "SUPPORTED_WORKERS"},
    "gunicorn.workers.base": {"Worker": _WORKERS + "GunicornWorker"},
    "gunicorn.workers.base_async": {"AsyncWorker": _WORKERS + "GunicornWorker"},
    "gunicorn.workers.sync": {"SyncWorker": _WORKERS + "GunicornSyncWorker"},
    "gunicorn.workers.gthread": {"ThreadWorker": _WORKERS + "GunicornThreadWorker"},
    "gunicorn.workers.ggevent": {
        "GeventWorker": _WORKERS + "GunicornGeventWorker",
        "GeventPyWSGIWorker": _WORKERS + "GunicornGeventWorker",
    },
}
"""Module of Gunicorn to its names, and where each is in ours, as ``module:name``."""

_PACKAGES = frozenset(name.rpartition(".")[0] for name in VIEWS)


@contextlib.contextmanager
def importable(always: bool = False) -> Iterator[Sequence[str]]:
    """Make the modules importable; yields the names of those that are imported, as they are.

    Where Gunicorn is installed its own are imported, unless these are ``always`` wanted; see above for its workers.
    """
    finder = _Finder(always)
    installed = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_replaced(name)}
    sys.meta_path.insert(0, finder)
    try:
        yield finder.imported
    finally:
        sys.meta_path.remove(finder)
        for name in finder.imported:
            sys.modules.pop(name, None)
        sys.modules.update(installed)


def _is_replaced(name: str) -> bool:
    """Whether a module is ours even where Gunicorn is installed."""
    return name in VIEWS and (name + ".").startswith("gunicorn.workers.")


def server_name() -> str | None:
    """The name that a file has given to the server by assigning to a constant of Gunicorn, None for none."""
    module = sys.modules.get("gunicorn")
    for constant in ("SERVER", "SERVER_SOFTWARE"):
        value = getattr(module, constant, None)
        if isinstance(value, str) and value.partition("/")[0] != "gunicorn":
            return value
    return None


class _Finder(MetaPathFinder):
    def __init__(self, always: bool) -> None:
        self.imported: list[str] = []
        self._always = always

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in VIEWS:
            if fullname.startswith("gunicorn.") and "gunicorn" in self.imported:
                why = "used" if self._always else "installed"
                text = f"Gunicorn is not {why}, and wsgicluster has no {fullname} in its place; leave the import out"
                raise ModuleNotFoundError(text, name=fullname)
            return None
        if fullname == "gunicorn":
            # A folder of that name, without __init__.py, is not Gunicorn: configuration files live in such ones.
            installed = PathFinder.find_spec(fullname)
            if not self._always and installed is not None and installed.origin is not None:
                return None
        elif "gunicorn" not in self.imported and not _is_replaced(fullname):
            return None
        self.imported.append(fullname)
        return ModuleSpec(fullname, _ViewLoader(), origin="wsgicluster", is_package=fullname in _PACKAGES)


class _ViewLoader(Loader):
    def create_module(self, _spec: ModuleSpec) -> None:
        """As modules are made usually."""

    def exec_module(self, module: ModuleType) -> None:
        for name, place in VIEWS[module.__name__].items():
            home, _, attribute = place.partition(":")
            setattr(module, name, getattr(importlib.import_module(home), attribute))
