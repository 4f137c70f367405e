"""Finds the applications in a folder by reading its sources. Nothing is imported: that could have any effect.

What is found is a guess for a file that its user edits; so the usual shapes are known, and no others.
"""

import ast
import enum
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

MODULES_FIRST = ("wsgi", "app", "application", "main", "server")
"""Modules that are looked at before others, in this order."""
_IN_PACKAGES = ("__init__", *MODULES_FIRST)
_NO_APPLICATIONS = frozenset({"setup", "conftest", "manage", "noxfile", "tasks", "fabfile", "wsgicluster", "gunicorn"})
_NO_PACKAGES = frozenset({"tests", "test", "docs", "doc", "venv", "env", "build", "dist", "node_modules", "migrations"})
_NAMES = ("application", "app")
_FACTORIES = ("create_app", "make_app", "create_application", "make_application", "get_app")
_MADE_BY = {
    "Flask": "Flask",
    "get_wsgi_application": "Django",
    "Bottle": "Bottle",
    "default_app": "Bottle",
    "make_wsgi_app": "Pyramid",
    "falcon.App": "Falcon",
    "falcon.API": "Falcon",
}
_ASGI_MADE_BY = {
    "FastAPI": "FastAPI",
    "Starlette": "Starlette",
    "Quart": "Quart",
    "Litestar": "Litestar",
    "Sanic": "Sanic",
    "get_asgi_application": "Django (ASGI)",
}
_MOST_FILES = 200
_MOST_BYTES = 1_000_000


class Certainty(enum.IntEnum):
    """How sure it is that something is a WSGI application; the lower the surer."""

    KNOWN_FRAMEWORK = 0
    USUAL_NAME = 1
    FACTORY = 2
    ASGI = 3


@dataclass(frozen=True)
class Candidate:
    """Something that may be an application: ``target`` is what the server is given, ``path`` is where it was read."""

    target: str
    framework: str
    path: str
    certainty: Certainty


def find_applications(folder: str) -> list[Candidate]:
    """The WSGI applications in a folder, the likeliest first; after them those that are ASGI. Raises OSError."""
    found: list[Candidate] = []
    for module, path in _modules(folder):
        shown = os.path.relpath(path, folder)
        found += candidates(_source(path), module, shown)
    return sorted(found, key=lambda each: each.certainty)  # stable: modules are in their order already


def candidates(source: str, module: str, path: str) -> Iterator[Candidate]:
    """What may be an application in a module, by its source; nothing in one that is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in strings: for their author, not for who runs this
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        for name, framework, certainty in _of_statement(node):
            yield Candidate(f"{module}:{name}", framework, path, certainty)


def _of_statement(node: ast.stmt) -> Iterator[tuple[str, str, Certainty]]:
    match node:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=value)
            | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
        ):
            yield from _of_value(name, value)
        case ast.FunctionDef(name=name, args=args) if name in _NAMES and len(args.posonlyargs + args.args) == 2:
            yield name, "", Certainty.USUAL_NAME
        case ast.AsyncFunctionDef(name=name) if name in _NAMES:
            yield name, "", Certainty.ASGI
        case ast.FunctionDef(name=name, args=args) if name in _FACTORIES and not _required(args):
            yield f"{name}()", "", Certainty.FACTORY


def _of_value(name: str, value: ast.expr) -> Iterator[tuple[str, str, Certainty]]:
    """What a name is that this is assigned to; a framework's application may be wrapped in middleware."""
    calls = [_dotted(node.func) for node in ast.walk(value) if isinstance(node, ast.Call)]
    for called in calls:
        last = called.rpartition(".")[2]
        if last in _ASGI_MADE_BY or called == "falcon.asgi.App":
            yield name, _ASGI_MADE_BY.get(last, "Falcon (ASGI)"), Certainty.ASGI
            return
        if last in _MADE_BY or called in _MADE_BY:
            yield name, _MADE_BY.get(last) or _MADE_BY[called], Certainty.KNOWN_FRAMEWORK
            return
    if name in _NAMES and not isinstance(value, ast.Constant):
        yield name, "", Certainty.USUAL_NAME


def _dotted(node: ast.expr) -> str:
    """``falcon.App`` of that expression; only the last part where it begins with something else than a name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value)}.{name}"
    return ""


def _required(args: ast.arguments) -> int:
    """How many arguments a function cannot be called without."""
    needed = len(args.posonlyargs + args.args) - len(args.defaults)
    return needed + sum(default is None for default in args.kw_defaults)


def _modules(folder: str) -> Iterator[tuple[str, str]]:
    """Name and path of the modules to look at, the usual ones first, those in packages last."""
    names = sorted(entry.name for entry in os.scandir(folder))
    modules = [name[:-3] for name in names if name.endswith(".py") and _is_module(name[:-3])]
    paths = [(name, os.path.join(folder, f"{name}.py")) for name in sorted(modules, key=_usual_first)]
    packages = [name for name in names if name.isidentifier() and name.lower() not in _NO_PACKAGES]
    for package in packages:
        for name in _IN_PACKAGES:
            path = os.path.join(folder, package, f"{name}.py")
            if os.path.isfile(path):
                paths.append((package if name == "__init__" else f"{package}.{name}", path))
    yield from paths[:_MOST_FILES]


def _is_module(name: str) -> bool:
    return name.isidentifier() and name not in _NO_APPLICATIONS and not name.startswith("test_")


def _usual_first(name: str) -> int:
    return MODULES_FIRST.index(name) if name in MODULES_FIRST else len(MODULES_FIRST)


def _source(path: str) -> str:
    """The text of a file; nothing where it cannot be read or is too large to have been written by hand."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:  # a pipe would be waited for
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
