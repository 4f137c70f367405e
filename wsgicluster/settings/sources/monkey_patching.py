"""Keeps a configuration file from patching the standard library of the process that reads it.

Files for gevent begin with ``gevent.monkey.patch_all()``, although workers of that kind do the same before the
application is imported. In the arbiter it would replace what forks processes and waits for them.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    # As in `wsgicluster.gunicorn.imports`: not imported by each start.
    Loader = MetaPathFinder = object

MODULE = "gevent.monkey"


@contextlib.contextmanager
def prevented() -> Iterator[Sequence[str]]:
    """Have the functions that patch do nothing; yields the names of those that are called, as they are."""
    called: list[str] = []
    replaced: list[tuple[ModuleType, str, object]] = []

    def replace(module: ModuleType) -> None:
        for name, value in list(vars(module).items()):
            if name.startswith("patch_") and callable(value):
                replaced.append((module, name, value))
                setattr(module, name, _recorder(name, called))

    finder = _PatchFinder(replace)
    if MODULE in sys.modules:
        replace(sys.modules[MODULE])
    sys.meta_path.insert(0, finder)
    try:
        yield called
    finally:
        sys.meta_path.remove(finder)
        for module, name, value in replaced:
            setattr(module, name, value)


def _recorder(name: str, called: list[str]) -> Callable[..., bool]:
    def patch(*_arguments: object, **_named_arguments: object) -> bool:
        called.append(name)
        return False

    return patch


class _PatchFinder(MetaPathFinder):
    def __init__(self, loaded: Callable[[ModuleType], None]) -> None:
        self._loaded = loaded

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchLoader(spec.loader, self._loaded)
        return spec


class _PatchLoader(Loader):
    """Loads as another loader does, and then says so."""

    def __init__(self, loader: Loader, loaded: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._loaded = loaded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._loaded(module)
