"""The configuration file: finds it, executes it, and tells settings from other names in it.

What the values mean is not known here.
"""

import ast
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from wsgicluster.errors import UsageError
from wsgicluster.settings import gunicorn_names
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.wording import complaint, nearest

DEFAULT_NAMES = ("wsgicluster.conf.py", "gunicorn.conf.py")


@dataclass(frozen=True)
class ConfigFile:
    """What a configuration file (or module) gave: ``source`` names it, ``names`` are its settings."""

    source: str
    names: Mapping[str, Any] = field(default_factory=dict)


def read_config(location: str | None, directory: str) -> ConfigFile | None:
    """Execute the file or module at a location, or the first default one that is there.

    Raises UsageError when a named one is missing, when it raises, or when it holds a name that is no setting.
    """
    if location is None:
        paths = (os.path.join(directory, name) for name in DEFAULT_NAMES)
        path = next(filter(os.path.exists, paths), None)
        return None if path is None else _execute(path, directory)
    if location.startswith("python:"):
        return _import(location.removeprefix("python:"), directory)
    return _execute(os.path.join(directory, location.removeprefix("file:")), directory)


def _execute(path: str, directory: str) -> ConfigFile:
    path = os.path.normpath(path)
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        raise UsageError(f"configuration file {path}: cannot be read: {error.strerror}") from error
    names: dict[str, Any] = {"__name__": "__config__", "__file__": path, "__doc__": None, "__package__": None}
    with _searched(directory), _blamed_on(path):
        tree = compile(source, path, "exec", ast.PyCF_ONLY_AST)
        exec(compile(source, path, "exec"), names)
    return _settings(f"file {path}", names, _imported_names(tree))


def _import(name: str, directory: str) -> ConfigFile:
    # Executed anew on each reload, as a file is.
    known = sys.modules.pop(name, None)
    try:
        with _searched(directory), _blamed_on(name):
            module = importlib.import_module(name)
    except UsageError:
        if known is not None:
            sys.modules[name] = known
        raise
    path = getattr(module, "__file__", None)
    imported: set[str] = set()
    if isinstance(path, str) and path.endswith(".py"):
        with contextlib.suppress(OSError), open(path, "rb") as file:  # it may live in an archive
            imported = _imported_names(compile(file.read(), path, "exec", ast.PyCF_ONLY_AST))
    return _settings(f"module {name}", vars(module), imported)


@contextlib.contextmanager
def _searched(directory: str) -> Iterator[None]:
    """Modules beside the configuration can be imported while it is executed."""
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file has changed the path itself
            sys.path.remove(directory)


@contextlib.contextmanager
def _blamed_on(origin: str) -> Iterator[None]:
    """Whatever the operator's code raises becomes one line with the place in that code."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"configuration {_place(error, origin)}: {_summary(error)}") from error


def _place(error: BaseException, origin: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == origin]
    if own:
        return f"file {origin}:{own[-1].lineno}"
    # Of a module: the place at which it was raised, unless that is within the machinery of imports.
    other = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename != __file__]
    outside = [frame for frame in other if os.path.basename(os.path.dirname(frame.filename)) != "importlib"]
    return f"module {origin}" + (f" ({outside[-1].filename}:{outside[-1].lineno})" if outside else "")


def _summary(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".removesuffix(": ").split())


def _imported_names(tree: ast.AST) -> set[str]:
    """Names that an import statement binds."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return found


def _settings(source: str, names: Mapping[str, Any], imported: set[str]) -> ConfigFile:
    settings = {}
    for name, value in names.items():
        if name in SETTINGS:
            settings[name] = value
        elif name in gunicorn_names.HOOKS or name in gunicorn_names.SETTINGS:
            kind = "hook" if name in gunicorn_names.HOOKS else "setting"
            raise complaint(source, name, f"a {kind} that Gunicorn has and wsgicluster does not have yet")
        elif not (_is_own(name) or name in imported or callable(value) or isinstance(value, ModuleType)):
            near = nearest(name, SETTINGS)
            raise complaint(source, name, "no such setting", "" if near else "_NAME for a name of your own", near)
    return ConfigFile(source, settings)


def _is_own(name: str) -> bool:
    return name.startswith("_") or name.isupper()
