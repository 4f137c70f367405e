"""The layers, sizes and habits that hold the code together, read from the sources themselves.

Each rule is a function from one parsed file to complaints, so that the rules are tested on
samples too: a rule that finds nothing because it looks at nothing would go unnoticed.
"""

import ast
import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "wsgicluster"

FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 6

LEVEL_0 = frozenset({"errors", "clock"})
ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "clock": frozenset(),
    "settings": LEVEL_0,
    "http": LEVEL_0,
    "scoreboard": LEVEL_0,
    "messages": LEVEL_0,
    "process": LEVEL_0,
    "logs": LEVEL_0,
    "wsgi": LEVEL_0 | {"http"},
    "cluster": LEVEL_0 | {"messages", "scoreboard"},
    "worker": LEVEL_0 | {"wsgi", "http", "messages", "scoreboard", "process", "settings", "logs", "cluster"},
    "arbiter": LEVEL_0 | {"messages", "scoreboard", "process", "settings", "logs", "cluster"},
    "admin": LEVEL_0 | {"messages", "scoreboard"},
    "control": LEVEL_0 | {"messages", "scoreboard"},
    # Beside cli: looks at what the others would do, and nobody but cli knows it.
    "doctor": LEVEL_0 | {"settings", "process", "http", "arbiter"},
    "__main__": frozenset({"cli"}),
}
"""Unit (file or folder of the package) to the units it may import besides itself; ``cli`` joins all of them."""

SAME_UNIT = {"access_log": "logs", "orphan": "process"}
"""Files that are one unit with another one, as if the two were a folder."""

ONLY_IN: dict[str, frozenset[str]] = {
    "gevent": frozenset({"worker/gevent.py"}),
    "setproctitle": frozenset({"process.py"}),
    "psutil": frozenset({"process.py"}),
    "Cython": frozenset(),
    "cython": frozenset(),
    "pyximport": frozenset(),
    "multiprocessing": frozenset(),
}
"""Import to the only files that may have it."""

FORK_IN = frozenset({"arbiter/spawn.py", "arbiter/daemon.py"})
"""The one place that makes children, and the step into the background before there is anything to share."""

NOT_IN_FOLDER: dict[str, frozenset[str]] = {
    "http/": frozenset({"asyncio", "logging", "select", "selectors", "socket", "ssl", "subprocess", "threading"}),
    "arbiter/": frozenset({"asyncio", "concurrent", "threading", "_thread"}),
}
"""The protocol does no I/O; the arbiter is one loop without a thread."""

THREADS_COUNTED_IN = "arbiter/mold.py"
"""Looks whether an application has started threads before it is forked; starts none."""


@dataclasses.dataclass(frozen=True)
class Source:
    """One product file: ``name`` relative to the package, with slashes."""

    name: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, name: str, text: str) -> "Source":
        return cls(name, text, ast.parse(text))

    @property
    def unit(self) -> str:
        first = self.name.split("/")[0].removesuffix(".py")
        return SAME_UNIT.get(first, first)


Rule = Callable[[Source], Iterator[str]]


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a file imports, late imports included."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
            if node.module == "wsgicluster":
                for alias in node.names:
                    yield node.lineno, f"wsgicluster.{alias.name}"


def functions(source: Source) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Every function of a file, and whether it is a method that receives its object first."""
    for parent in ast.walk(source.tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
                yield node, isinstance(parent, ast.ClassDef) and not static


def layers(source: Source) -> Iterator[str]:
    if source.unit in ("cli", "__init__"):
        allowed = None if source.unit == "cli" else frozenset[str]()
    elif source.unit in ALLOWED:
        allowed = ALLOWED[source.unit] | {source.unit}
    else:
        yield f"{source.name}: in no layer; name its unit in tests/test_architecture.py"
        return
    for line, name in imported(source):
        if name.startswith("."):
            yield f"{source.name}:{line}: relative import"
        parts = name.split(".")
        if parts[0] != "wsgicluster" or len(parts) == 1:
            continue
        unit = SAME_UNIT.get(parts[1], parts[1])
        if allowed is not None and unit not in allowed and parts[1] != "__version__":
            yield f"{source.name}:{line}: {source.unit} must not import {name}"


def outside_imports(source: Source) -> Iterator[str]:
    for line, name in imported(source):
        first = name.split(".")[0]
        if first in ONLY_IN and source.name not in ONLY_IN[first]:
            yield f"{source.name}:{line}: {first} is imported only in {sorted(ONLY_IN[first])}"
        for folder, banned in NOT_IN_FOLDER.items():
            counts_threads = source.name == THREADS_COUNTED_IN and first == "threading"
            if source.name.startswith(folder) and first in banned and not counts_threads:
                yield f"{source.name}:{line}: nothing in {folder} imports {first}"


def forks(source: Source) -> Iterator[str]:
    names = {"fork", "forkpty"}
    for node in ast.walk(source.tree):
        found = (
            isinstance(node, ast.Attribute) and node.attr in names and getattr(node.value, "id", "") in ("os", "pty")
        )
        found = found or (
            isinstance(node, ast.ImportFrom)
            and node.module in ("os", "pty")
            and any(alias.name in names for alias in node.names)
        )
        if found and source.name not in FORK_IN:
            yield f"{source.name}:{getattr(node, 'lineno', 0)}: forks; only {sorted(FORK_IN)} may"


def sizes(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield f"{source.name}: {lines} lines, at most {FILE_LINES}"
    for node, is_method in functions(source):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{source.name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}"
        given = node.args
        count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - is_method
        count += (given.vararg is not None) + (given.kwarg is not None)
        if count > PARAMETERS:
            yield f"{source.name}:{node.lineno}: {node.name} has {count} parameters, at most {PARAMETERS}"


def module_docstring(source: Source) -> Iterator[str]:
    if not ast.get_docstring(source.tree):
        yield f"{source.name}: no module docstring"


def caught_names(kind: ast.expr | None) -> set[str]:
    if kind is None:
        return {"BaseException"}
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return {node.id for node in kinds if isinstance(node, ast.Name)}


def swallowed_errors(source: Source) -> Iterator[str]:
    wide = {"Exception", "BaseException"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and caught_names(node.type) & wide:
            empty = all(
                isinstance(step, ast.Pass | ast.Continue | ast.Break)
                or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
                or (isinstance(step, ast.Return) and (step.value is None or isinstance(step.value, ast.Constant)))
                for step in node.body
            )
            if empty:
                yield f"{source.name}:{node.lineno}: an error of any kind is dropped"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
            if any(caught_names(argument) & wide for argument in node.args):
                yield f"{source.name}:{node.lineno}: an error of any kind is dropped"


RULES: tuple[Rule, ...] = (layers, outside_imports, forks, sizes, module_docstring, swallowed_errors)


def product() -> list[Source]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
    return [Source.of(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in paths]


def test_the_package_is_looked_at() -> None:
    names = {source.name for source in product()}
    assert {"__init__.py", "errors.py", "cluster/assignment.py"} <= names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_product_keeps(rule: Rule) -> None:
    complaints = [complaint for source in product() for complaint in rule(source)]
    assert not complaints, "\n" + "\n".join(complaints)


LONG_FUNCTION = "def f() -> None:\n" + "    print()\n" * FUNCTION_LINES


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (layers, "http/head.py", "from wsgicluster.wsgi import environ"),
        (layers, "http/head.py", "from wsgicluster import wsgi"),
        (layers, "http/head.py", "def late():\n    import wsgicluster.settings"),
        (layers, "arbiter/pool.py", "import wsgicluster.worker.base"),
        (layers, "settings/fields.py", "from wsgicluster.process import resident_bytes"),
        (layers, "logs.py", "from wsgicluster.settings import Settings"),
        (layers, "clock.py", "from wsgicluster import errors"),
        (layers, "wsgi/input.py", "from .response import Response"),
        (layers, "__init__.py", "from wsgicluster.errors import ServerError"),
        (layers, "drawer.py", ""),
        (outside_imports, "worker/sync.py", "import gevent.socket"),
        (outside_imports, "logs.py", "from psutil import Process"),
        (outside_imports, "arbiter/report.py", "import setproctitle"),
        (outside_imports, "http/head.py", "import Cython"),
        (outside_imports, "http/head.py", "from socket import socket"),
        (outside_imports, "arbiter/arbiter.py", "import threading"),
        (forks, "arbiter/arbiter.py", "import os\nos.fork()"),
        (forks, "worker/base.py", "from os import fork"),
        (sizes, "http/head.py", "pass\n" * (FILE_LINES + 1)),
        (sizes, "http/head.py", LONG_FUNCTION),
        (sizes, "http/head.py", "def f(a, b, c, d, e, f, g): ..."),
        (sizes, "http/head.py", "def f(a, b, /, c, *, d, e, f, **g): ..."),
        (sizes, "http/head.py", "class A:\n    def f(self, a, b, c, d, e, f, g): ..."),
        (module_docstring, "http/head.py", "import os"),
        (swallowed_errors, "http/head.py", "try:\n    f()\nexcept Exception:\n    pass"),
        (swallowed_errors, "http/head.py", "try:\n    f()\nexcept:\n    ..."),
        (
            swallowed_errors,
            "http/head.py",
            "for x in y:\n    try:\n        f()\n    except BaseException:\n        continue",
        ),
        (swallowed_errors, "http/head.py", "with contextlib.suppress(Exception):\n    f()"),
    ],
)
def test_each_rule_finds(rule: Rule, name: str, text: str) -> None:
    assert list(rule(Source.of(name, text)))


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (layers, "worker/base.py", "from wsgicluster.http.head import parse_head\nimport wsgicluster.errors"),
        (layers, "logs.py", "from wsgicluster.access_log import AccessLog"),
        (layers, "cli.py", "from wsgicluster.arbiter.arbiter import Arbiter\nfrom wsgicluster import __version__"),
        (layers, "arbiter/arbiter.py", "from wsgicluster import __version__"),
        (outside_imports, "process.py", "import psutil\nimport setproctitle"),
        (forks, "arbiter/spawn.py", "import os\nos.fork()"),
        (sizes, "http/head.py", "class A:\n    def f(self, a, b, c, d, e, f): ..."),
        (swallowed_errors, "http/head.py", "try:\n    f()\nexcept Exception:\n    log.exception('x')"),
        (swallowed_errors, "http/head.py", "try:\n    f()\nexcept FileNotFoundError:\n    pass"),
    ],
)
def test_each_rule_leaves_alone(rule: Rule, name: str, text: str) -> None:
    assert not list(rule(Source.of(name, text)))


def test_tests_wait_for_conditions() -> None:
    """No bare sleep and no replaced parts of ours in a test; applications under tests/apps may be slow."""
    complaints = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("tests/apps/"):
            continue
        source = Source.of(name, path.read_text("utf-8"))
        complaints += [f"{name}:{line}: no mocks" for line, module in imported(source) if module == "unittest.mock"]
        for node in ast.walk(source.tree):
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            if sleeps and name != "tests/conftest.py":
                complaints.append(f"{name}:{getattr(node, 'lineno', 0)}: sleeps instead of waiting for a condition")
    assert not complaints, "\n" + "\n".join(complaints)
