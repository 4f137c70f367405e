"""The configuration file: finds it, executes it, and separates settings from other names in it.

What the values mean is not known here.
"""

import ast
import contextlib
import dataclasses
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from types import ModuleType
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import UsageError
from wsgicluster.gunicorn.imports import importable, server_name
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import gunicorn_names
from wsgicluster.settings.sources.monkey_patching import prevented
from wsgicluster.settings.sources.near_misses import near_miss
from wsgicluster.settings.types import hooks
from wsgicluster.settings.wording import complaint, quoted

DEFAULT_NAMES = ("wsgicluster.conf.py", "gunicorn.conf.py")
MODULE_NAME = "__config__"
"""What the file is called among the modules, as in Gunicorn, while it is executed and afterwards."""


@dataclass(frozen=True)
class ConfigFile:
    """The settings of a configuration file (or module): ``source`` names it, ``names`` are its settings.

    ``remarks`` are about names that may be misspelt settings, or that have no effect; ``path`` is empty for a module.
    ``accepted`` are settings of Gunicorn that have no effect here.
    ``views`` are the modules of Gunicorn that it has imported although Gunicorn is not installed, ``patches`` the
    functions of gevent that it has called, without effect, to patch the standard library.
    """

    source: str
    names: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    path: str = field(default="", compare=False)
    views: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    accepted: Mapping[str, Any] = field(default_factory=dict, compare=False)


class WrongNames(UsageError):
    """A file has hooks that cannot be imported: one line for each; ``file`` is the rest."""

    def __init__(self, complaints: Sequence[UsageError], file: ConfigFile) -> None:
        super().__init__("\n".join(map(str, complaints)))
        self.file = file


def read_config(location: str | None, directory: str, names: Sequence[str] = DEFAULT_NAMES) -> ConfigFile | None:
    """Execute the file or module at a location, or the first default one that is there, of these ``names``.

    Raises UsageError when a named one is missing or when it raises, and WrongNames when it names hooks that cannot be
    imported.
    """
    if location is None:
        paths = (os.path.join(directory, name) for name in names)
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
    module = ModuleType(MODULE_NAME)
    module.__file__ = path
    with (
        _on_module_path(directory), _in_place(module), _located_errors(path), importable() as views,
        prevented() as patches,
    ):  # fmt: skip
        tree = compile(source, path, "exec", ast.PyCF_ONLY_AST)
        exec(compile(source, path, "exec"), vars(module))
        _name_server(module)
    found = ConfigFile(f"file {path}", path=path, views=tuple(views), patches=tuple(patches))
    with _on_module_path(directory):  # hooks may be named by where they are
        return _with_settings(found, vars(module), _imported_names(tree))


def _name_server(module: ModuleType) -> None:
    """Have ``gunicorn.SERVER = "..."``, by which files hide what serves, be the setting for that."""
    name = server_name()
    if name is not None:
        vars(module).setdefault("server_header", name)


@contextlib.contextmanager
def _in_place(module: ModuleType) -> Iterator[None]:
    """Have the module be the one that is called so; the one before it returns if it fails."""
    name = module.__name__
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    except BaseException:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise


def _import(name: str, directory: str) -> ConfigFile:
    # Executed again on each reload, as a file is.
    known = sys.modules.pop(name, None)
    try:
        with _on_module_path(directory), _located_errors(name), importable() as views, prevented() as patches:
            module = importlib.import_module(name)
            _name_server(module)
    except UsageError:
        if known is not None:
            sys.modules[name] = known
        raise
    path = getattr(module, "__file__", None)
    imported: set[str] = set()
    if isinstance(path, str) and path.endswith(".py"):
        with contextlib.suppress(OSError), open(path, "rb") as file:  # it may live in an archive
            imported = _imported_names(compile(file.read(), path, "exec", ast.PyCF_ONLY_AST))
    found = ConfigFile(f"module {name}", views=tuple(views), patches=tuple(patches))
    with _on_module_path(directory):
        return _with_settings(found, vars(module), imported)


@contextlib.contextmanager
def _on_module_path(directory: str) -> Iterator[None]:
    """Let the configuration import modules beside it while it is executed."""
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file has changed the path itself
            sys.path.remove(directory)


@contextlib.contextmanager
def _located_errors(origin: str) -> Iterator[None]:
    """Turn any exception of the operator's code into one line with the position in that code."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(f"configuration {_place(error, origin)}: {_summary(error)}") from error


def _place(error: BaseException, origin: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"file {error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == origin]
    if own:
        return f"file {origin}:{own[-1].lineno}"
    # Of a module: where it was raised, unless that is within the import system.
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


def _with_settings(file: ConfigFile, names: Mapping[str, Any], imported: set[str]) -> ConfigFile:
    source = file.source
    settings, complaints, remarks = {}, [], []
    for name, value in names.items():
        if name in hooks.NAMES:
            try:
                settings[name] = (
                    hooks.imported(value) if isinstance(value, str) and value else value if value != "" else None
                )
            except Exception as error:  # noqa: BLE001
                # The named module is the user's program: whatever its import raises.
                complaints.append(complaint(source, name, quoted(value), f"a function ({_summary(error)})"))
        elif name in SETTINGS and not isinstance(value, ModuleType):  # as after import trace
            settings[name] = value
        elif name in gunicorn_names.ACCEPTED:
            remarks.append(gunicorn_names.ACCEPTED[name].remark(value, source))
    for name, value in names.items():
        is_own = name.startswith("_") or name in imported or callable(value) or isinstance(value, ModuleType)
        if not is_own and name not in gunicorn_names.ACCEPTED:
            near = near_miss(name, value, settings)
            remarks.append(str(complaint(source, name, "not a setting", near=near)) if near else None)
    said = tuple(remark for remark in remarks if remark is not None)
    accepted = {name: value for name, value in names.items() if name in gunicorn_names.ACCEPTED}
    file = dataclasses.replace(file, names=settings, remarks=said, accepted=accepted)
    if complaints:
        raise WrongNames(complaints, file)
    return file
