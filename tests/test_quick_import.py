"""Modules that are imported quickly are the same modules, and what is unusual is imported as usual."""

import importlib.util
import inspect
import os
import pathlib
import py_compile
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

import pytest

from wsgicluster.quick_import import quick_imports

SOURCE = "import sys\n\nNAME = __name__\n\n\ndef shown():\n    return 1\n"


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """A package ``quickly`` with a module and a package in it, compiled; nothing of it is imported afterwards."""
    package = tmp_path / "quickly"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "module.py", "inner/__init__.py", "inner/deep.py"):
        (package / name).write_text(SOURCE)
        py_compile.compile(str(package / name), doraise=True)
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "quickly"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def imported(name: str) -> Any:
    before = list(sys.meta_path)
    with quick_imports("quickly"):
        found = importlib.import_module(name)
    assert sys.meta_path == before
    return found


def is_quick(module: Any) -> bool:
    return type(module.__spec__.loader).__module__ == "wsgicluster.quick_import"


def facts(module: Any) -> dict[str, Any]:
    spec = module.__spec__
    return {
        "names": sorted(vars(module)),
        "file": module.__file__,
        "cached": spec.cached,
        "package": module.__package__,
        "path": getattr(module, "__path__", None),
        "origin": (spec.origin, spec.has_location, spec.parent, spec.submodule_search_locations),
        "code": module.shown.__code__,
        "source": inspect.getsource(module.shown),
        "value": module.NAME,
    }


@pytest.mark.parametrize("name", ["quickly.module", "quickly.inner", "quickly.inner.deep"])
def test_the_same_module(folder: pathlib.Path, name: str) -> None:
    quick = imported(name)
    assert is_quick(quick)
    found = facts(quick)
    forget()
    usual = importlib.import_module(name)
    assert not is_quick(usual)
    assert found == facts(usual)


@pytest.mark.parametrize("what", ["missing", "older", "longer", "by_hash", "empty", "extension", "no_source"])
def test_left_to_others(folder: pathlib.Path, what: str) -> None:
    source = folder / "module.py"
    compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
    if what == "missing":
        compiled.unlink()
    elif what == "older":
        os.utime(source, (1, 1))
    elif what == "longer":
        before = source.stat()
        source.write_text(SOURCE + "# more\n")
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif what == "by_hash":
        py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    elif what == "empty":
        compiled.write_bytes(b"")
    elif what == "extension":
        (folder / f"module{EXTENSION_SUFFIXES[0]}").write_bytes(b"not one")
        with pytest.raises(ImportError):
            imported("quickly.module")
        return
    else:
        source.unlink()
        with pytest.raises(ModuleNotFoundError):
            imported("quickly.module")
        return
    module = imported("quickly.module")
    assert not is_quick(module)
    assert module.NAME == "quickly.module"


def test_in_an_archive(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for path in folder.rglob("*.py"):
            archive.write(path, path.relative_to(tmp_path))
    monkeypatch.syspath_prepend(tmp_path / "archive.zip")
    importlib.invalidate_caches()
    assert "archive.zip" in imported("quickly.inner.deep").__file__


def test_a_reload_reads_what_has_changed(folder: pathlib.Path) -> None:
    module = imported("quickly.module")
    (folder / "module.py").write_text("NAME = 'changed'\n")
    importlib.invalidate_caches()
    assert importlib.reload(module).NAME == "changed"


def test_a_second_execution_has_code_too(folder: pathlib.Path) -> None:
    module = imported("quickly.module")
    module.__spec__.loader.exec_module(module)
    assert module.shown() == 1


def test_other_places_for_compiled_files(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "elsewhere"))
    assert not is_quick(imported("quickly.module"))
