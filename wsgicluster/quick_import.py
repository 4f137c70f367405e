"""Imports the modules of this package in less time, while the command starts.

The import system looks at every finder, searches a folder, and reads a compiled file in ten system calls, for each of
three hundred modules. This finder lists each folder once, and reads a compiled file in three. It knows the usual case
only, a folder with compiled files beside their sources, and leaves everything else to the finders behind it: compiled
files that are missing, older than their source or checked by a hash, extension modules, archives.
"""

import contextlib
import marshal
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType

_MOST_BYTES = 96 * 1024
"""Longer compiled files are left alone; from 128 KiB on, the C library maps memory for each read."""


class _Loader(SourceFileLoader):
    """The usual loader, which has the code already when a module is executed for the first time."""

    code: CodeType | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        code, self.code = self.code, None
        return super().get_code(fullname) if code is None else code


class _CompiledFileFinder:
    def __init__(self, package: str) -> None:
        self._prefix = f"{package}."
        self._suffix = f".{sys.implementation.cache_tag}.pyc"
        self._listings: dict[str, frozenset[str]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if not path or not name.startswith(self._prefix):
            return None
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            return self._found(name, path[0])
        return None

    def _found(self, name: str, folder: str) -> ModuleSpec | None:
        last = name.rpartition(".")[2]
        if folder not in self._listings:
            self._listings[folder] = frozenset(os.listdir(folder))
        names = self._listings[folder]
        is_package = last in names
        if is_package:
            folder, last = f"{folder}/{last}", "__init__"
        elif f"{last}.py" not in names or any(f"{last}{suffix}" in names for suffix in EXTENSION_SUFFIXES):
            return None
        source, compiled = f"{folder}/{last}.py", f"{folder}/__pycache__/{last}{self._suffix}"
        stat = os.stat(source)
        descriptor = os.open(compiled, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _MOST_BYTES)
        finally:
            os.close(descriptor)
        # PEP 552: four numbers of 32 bits. Without flags the last two are those of the source.
        of_source = [int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF]
        if data[:16] != MAGIC_NUMBER + b"".join(each.to_bytes(4, "little") for each in (0, *of_source)):
            return None
        if len(data) == _MOST_BYTES:
            return None
        loader = _Loader(name, source)
        loader.code = marshal.loads(memoryview(data)[16:])
        spec = ModuleSpec(name, loader, origin=source, is_package=is_package)
        spec.cached, spec.has_location = compiled, True
        if is_package:
            spec.submodule_search_locations = [folder]
        return spec


@contextlib.contextmanager
def quick_imports(package: str) -> Iterator[None]:
    """Import modules of this package quickly in this context, where compiled files are as Python writes them."""
    if sys.flags.optimize or sys.pycache_prefix is not None:
        yield
        return
    finder = _CompiledFileFinder(package)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
