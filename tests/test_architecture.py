"""The layers and habits that hold the code together, read from the sources themselves, compiled ones included.

Each rule is a function from parsed files to complaints, so that the rules are tested on
samples too: a rule that finds nothing because it looks at nothing would go unnoticed.
How large files, classes and folders are is not a rule: ``make house`` reports it.
"""

import ast
import collections
import configparser
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "wsgicluster"

BASE = frozenset({"errors", "clock", "counting", "dataclass", "pattern", "version"})
LEVEL_1 = BASE | {"settings", "http", "system", "logs"}
LEVEL_2 = LEVEL_1 | {"ipc", "wsgi"}
ALLOWED: dict[str, frozenset[str]] = {
    # Level 0: import nothing of ours.
    "errors": frozenset(),
    "clock": frozenset(),
    "counting": frozenset(),
    "dataclass": frozenset(),
    "pattern": frozenset(),
    "version": frozenset(),
    # Level 0, too: its table names modules of ours, which are imported when a configuration file asks for them.
    "gunicorn.imports": BASE,
    # Level 1: each knows only level 0.
    "settings": BASE | {"gunicorn.imports"},
    "http": BASE,
    "system": BASE,
    "logs": BASE,
    # Level 2: what processes share; WSGI.
    "ipc": BASE | {"system"},
    "wsgi": BASE | {"http"},
    # Level 3: below those children that serve no connection.
    "support": BASE | {"settings", "system", "logs", "ipc"},
    # Level 3: the worker's rooms, from those that know least to those that join them.
    "worker.from_settings": LEVEL_2,
    "worker.hooks": BASE | {"settings"},
    "worker.loop": LEVEL_2,
    "worker.request": LEVEL_2,
    "worker.transport": LEVEL_2 | {"worker.loop"},
    "worker.connection": LEVEL_2 | {"worker.loop", "worker.request", "worker.transport"},
    "worker.lifecycle": LEVEL_2 | {"worker.from_settings", "worker.loop", "worker.request"},
    "worker.context": LEVEL_2 | {"worker.loop", "worker.transport", "worker.connection", "worker.lifecycle"},
    "worker.runner": LEVEL_2 | {"worker.loop", "worker.request", "worker.transport", "worker.connection"},
    "worker.scheduling": LEVEL_2 | {"worker.request", "worker.transport", "worker.connection", "worker.context"},
    "worker.hosting": LEVEL_2
    | {
        "worker.from_settings", "worker.loop", "worker.request", "worker.connection", "worker.lifecycle",
        "worker.transport", "worker.context", "worker.runner",
    },
    "worker.intake": LEVEL_2
    | {
        "worker.from_settings", "worker.loop", "worker.request", "worker.connection", "worker.lifecycle",
        "worker.transport", "worker.context", "worker.runner", "worker.scheduling", "worker.hosting",
    },
    "worker.kinds": LEVEL_2
    | {
        "worker.from_settings", "worker.loop", "worker.request", "worker.connection", "worker.lifecycle",
        "worker.transport", "worker.context", "worker.runner", "worker.scheduling", "worker.hosting", "worker.intake",
        "worker.hooks", "gunicorn.imports",
    },
    "worker.boot": LEVEL_2
    | {
        "worker.from_settings", "worker.request", "worker.connection", "worker.lifecycle", "worker.kinds",
        "worker.transport", "worker.hooks",
    },
    "worker.jobs": LEVEL_2 | {"support", "worker.lifecycle", "worker.boot"},
    "worker": frozenset({"worker.hooks"}),
    # Level 2: what code written for Gunicorn expects; imported late, where a setting asks for it.
    "gunicorn.glogging": BASE | {"logs", "settings"},
    "gunicorn.configuration": BASE | {"settings", "worker.hooks"},
    "gunicorn.user_logger": BASE | {"logs", "gunicorn.glogging", "gunicorn.configuration", "gunicorn.imports"},
    # Level 3: the arbiter's rooms; never the worker's.
    "arbiter.hooks": BASE | {"settings"},
    "arbiter.inbox": LEVEL_1,
    "arbiter.plan": LEVEL_1,
    "arbiter.service": LEVEL_1 | {"ipc", "arbiter.plan"},
    "arbiter.listeners": LEVEL_1 | {"arbiter.service"},
    "arbiter.postmortem": LEVEL_1 | {"ipc", "arbiter.plan"},
    "arbiter.children": LEVEL_1
    | {"ipc", "arbiter.hooks", "arbiter.inbox", "arbiter.plan", "arbiter.listeners", "arbiter.postmortem"},
    "arbiter.supervision": LEVEL_1 | {"ipc", "arbiter.plan", "arbiter.postmortem", "arbiter.children"},
    "arbiter.upgrade": LEVEL_1
    | {"ipc", "arbiter.inbox", "arbiter.children", "arbiter.listeners", "arbiter.postmortem", "arbiter.service"},
    "arbiter.control": LEVEL_1
    | {
        "control", "arbiter.inbox", "arbiter.plan", "arbiter.supervision", "arbiter.operations",
    },
    "arbiter.operations": LEVEL_1
    | {
        "ipc", "arbiter.plan", "arbiter.service", "arbiter.listeners", "arbiter.children", "arbiter.supervision",
        "arbiter.upgrade", "arbiter.reload", "arbiter.startup", "arbiter.ticket_keys",
    },
    "arbiter.reload": LEVEL_1
    | {"gunicorn.user_logger", "ipc", "arbiter.listeners", "arbiter.startup", "arbiter.service"},
    "arbiter.ticket_keys": LEVEL_1,
    "arbiter.server_metrics": BASE,
    "arbiter.startup": LEVEL_1 | {"ipc", "arbiter.listeners", "arbiter.service"},
    "arbiter": LEVEL_1
    | {
        "ipc", "control", "arbiter.control", "arbiter.operations", "arbiter.reload", "arbiter.startup",
        "arbiter.inbox", "arbiter.plan", "arbiter.service", "arbiter.listeners", "arbiter.postmortem",
        "arbiter.children", "arbiter.supervision", "arbiter.upgrade", "arbiter.ticket_keys",
        "arbiter.server_metrics",
    },
    # Level 3: how a server is seen and steered from outside; over what its processes share.
    "control": BASE | {"system", "ipc"},
    # Level 3: what applications import; over what their processes share, never the worker's rooms nor the arbiter's.
    "cluster.errors": BASE,
    "cluster.waiting": BASE,
    "cluster.values": BASE | {"cluster.errors"},
    "cluster.server": BASE | {"settings", "ipc", "cluster.errors"},
    "cluster.embedded": BASE | {"ipc", "cluster.errors", "cluster.waiting", "cluster.values"},
    "cluster.redis": BASE | {"settings", "system", "cluster.errors", "cluster.waiting", "cluster.values"},
    "cluster.messages": BASE
    | {"system", "ipc", "cluster.errors", "cluster.values", "cluster.server", "cluster.redis"},
    "cluster.events": BASE | {"ipc", "cluster.messages"},
    "cluster.state": BASE
    | {"ipc", "cluster.errors", "cluster.waiting", "cluster.values", "cluster.embedded", "cluster.redis"},
    "cluster": BASE
    | {
        "ipc", "cluster.errors", "cluster.values", "cluster.server", "cluster.messages", "cluster.events",
        "cluster.state",
    },
    # Level 3: the child that runs the cluster code of the configuration file.
    "steward": BASE | {"settings", "system", "logs", "ipc", "support", "cluster.events"},
    # Level 3: the child that responds to operators and monitoring.
    "admin": BASE | {"settings", "http", "system", "logs", "ipc", "support", "control"},
    # Level 4: what files for Gunicorn import, and what hooks of the configuration file are given.
    "gunicorn": LEVEL_2 | {"gunicorn.imports", "gunicorn.configuration", "worker", "worker.hooks", "arbiter.hooks"},
    # Level 2: what a configuration of Gunicorn means; cli imports it where it is asked for.
    "migrate": BASE | {"settings"},
    # Level 4: beside cli, which alone knows it.
    "doctor": LEVEL_1 | {"ipc", "arbiter.listeners", "arbiter.children"},
    # Level 5: a server within a program of the user's.
    "embedding": BASE | {"settings", "system", "wsgi", "arbiter.service", "cli"},
    "__init__": frozenset({"version", "embedding"}),  # when it is asked for
    "testing": BASE | {"logs", "arbiter.children", "embedding"},
    "gunicorn.app": BASE | {"settings", "wsgi", "embedding", "gunicorn", "gunicorn.configuration"},
    # Level 2: what comes first on the command line, and the command that writes a configuration file.
    "subcommands": BASE,
    "init": BASE | {"settings"},
    # Level 5: the command that talks to servers.
    "ctl": BASE | {"control"},
    "__main__": frozenset({"entry"}),
    "entry": frozenset({"cli"}),
}  # fmt: skip
"""Room to the rooms it may import besides itself; ``cli`` joins all of them."""

ONLY_IN: dict[str, frozenset[str]] = {
    "gevent": frozenset({"worker/kinds/gevent/worker.py"}),
    "redis": frozenset(
        {
            "cluster/redis/backend.py",
            "cluster/redis/bus.py",
            "cluster/redis/connection.py",
            "cluster/redis/sentinels.py",
        }
    ),
    "sqlite3": frozenset({"cluster/embedded/sqlite_store.py"}),
    "setproctitle": frozenset({"system/process.py"}),
    "psutil": frozenset({"system/process.py", "system/usage.py"}),
    "rich": frozenset({"ctl/top.py"}),
    "paste": frozenset({"wsgi/paste.py"}),
    "prometheus_client": frozenset({"admin/app_metrics.py", "admin/exposition.py", "worker/lifecycle/app_metrics.py"}),
    "opentelemetry": frozenset({"worker/kinds/spans.py"}),
    "Cython": frozenset(),
    "cython": frozenset(
        {
            "worker/kinds/sync/_fast_path.pyx",
            "worker/request/_bodies.pyx",
            "worker/request/_coalesce.pyx",
            "worker/request/_leaves.pyx",
        }
    ),
    "pyximport": frozenset(),
    "multiprocessing": frozenset(),
}
"""Import to the only files that may have it."""

FORK_IN = frozenset({"arbiter/children/fork.py", "arbiter/service/daemonize.py"})
"""The one place that makes children, and the step into the background before there is anything to share."""

NOT_IN_FOLDER: dict[str, frozenset[str]] = {
    "http/": frozenset({"asyncio", "logging", "select", "selectors", "socket", "ssl", "subprocess", "threading"}),
    "arbiter/": frozenset({"asyncio", "concurrent", "threading", "_thread"}),
}
"""The protocol does no I/O; the arbiter is one loop without a thread."""

THREADS_COUNTED_IN = "arbiter/children/mold.py"
"""Checks whether an application has started threads before it is forked; starts none."""

FUNCTION_LINES = 60
PARAMETERS = 6
SUFFIXES = (".py", ".pyx", ".pxd", ".pyi")


@dataclasses.dataclass(frozen=True)
class Source:
    """One product file: ``name`` relative to the package, with slashes."""

    name: str
    text: str
    tree: ast.Module

    @classmethod
    def of(cls, name: str, text: str) -> "Source":
        """Parse a file; of Cython's only the imports are read, which are Python's but for ``cimport``."""
        python = text if name.endswith((".py", ".pyi")) else "\n".join(cython_imports(text))
        return cls(name, text, ast.parse(python))

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree; most rules go through them."""
        return list(ast.walk(self.tree))

    @functools.cached_property
    def imports(self) -> list[tuple[int, str]]:
        """Line and dotted name of everything that is imported, late imports and those for annotations included."""
        return list(_imported(self.nodes))

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0].replace("/", ".").removesuffix(".__init__")

    @property
    def room(self) -> str:
        return room_of(self.module)


Rule = Callable[[Source], Iterator[str]]


def cython_imports(text: str) -> Iterator[str]:
    """The lines of a Cython file, with everything but imports at their beginning left out."""
    for line in text.splitlines():
        found = re.match(r"(from [\w.]+ )?c?import .*", line)
        yield (
            line.replace(" cimport ", " import ").replace("cimport ", "import ", line.startswith("cimport"))
            if found
            else ""
        )


def room_of(module: str) -> str:
    """The room of a module of ours: of ``worker.kinds.sync.worker`` it is ``worker.kinds``."""
    parts = module.split(".")
    for room in (".".join(parts[:2]), parts[0]):
        if room in ALLOWED:
            return room
    return parts[0]


def _imported(nodes: Sequence[ast.AST]) -> Iterator[tuple[int, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names] if module.startswith("wsgicluster") else []
            modules = [name for name in names if is_module(name)]
            if not modules or len(modules) < len(names):
                yield node.lineno, module
            for name in modules:
                yield node.lineno, name


@functools.cache
def is_module(dotted: str) -> bool:
    """Whether something of ours is a module or a room, not a name in one."""
    path = ROOT / dotted.replace(".", "/")
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in SUFFIXES)


def functions(source: Source) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Every function of a file, and whether it is a method that receives its object first."""
    for parent in source.nodes:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
                yield node, isinstance(parent, ast.ClassDef) and not static


def layers(source: Source) -> Iterator[str]:
    room = source.room
    if room == "cli":
        allowed = None
    elif room in ALLOWED:
        allowed = ALLOWED[room] | {room}
    else:
        yield f"{source.name}: in no layer; name its room in tests/test_architecture.py"
        return
    for line, name in source.imports:
        if name.startswith("."):
            yield f"{source.name}:{line}: relative import"
        first, _, module = name.partition(".")
        if first != "wsgicluster" or not module:
            continue
        if allowed is not None and room_of(module) not in allowed:
            yield f"{source.name}:{line}: {room} must not import {name}"


def outside_imports(source: Source) -> Iterator[str]:
    for line, name in source.imports:
        first = name.split(".")[0]
        if first in ONLY_IN and source.name not in ONLY_IN[first]:
            yield f"{source.name}:{line}: {first} is imported only in {sorted(ONLY_IN[first])}"
        for folder, banned in NOT_IN_FOLDER.items():
            counts_threads = source.name == THREADS_COUNTED_IN and first == "threading"
            if source.name.startswith(folder) and first in banned and not counts_threads:
                yield f"{source.name}:{line}: nothing in {folder} imports {first}"


def forks(source: Source) -> Iterator[str]:
    names = {"fork", "forkpty"}
    for node in source.nodes:
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
    # Of functions only: a limit for files was kept by cutting one responsibility into several of them.
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
    declares = source.name.endswith((".pyi", ".pxd"))  # what a module of the same name explains
    compiled = source.name.endswith(".pyx") and re.match(r'(#.*\n)*"""', source.text)
    if not (declares or compiled or ast.get_docstring(source.tree)):
        yield f"{source.name}: no module docstring"


def caught_names(kind: ast.expr | None) -> set[str]:
    if kind is None:
        return {"BaseException"}
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return {node.id for node in kinds if isinstance(node, ast.Name)}


def swallowed_errors(source: Source) -> Iterator[str]:
    wide = {"Exception", "BaseException"}
    for node in source.nodes:
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


STANDARD = frozenset({"atexit", "os", "sys", "tempfile", "threading"})
OTHERS_IN = frozenset({"system/forks.py"})
"""What `multiprocessing` keeps to itself and a forked process has to forget has no public name."""
NAMED_TUPLE = frozenset({"_replace", "_asdict", "_fields", "_make"})


def private_attributes(source: Source) -> Iterator[str]:
    """Uses of what another class, or another module, keeps to itself."""
    if source.name in OTHERS_IN:
        return
    for holder in source.nodes:
        if not isinstance(holder, ast.ClassDef | ast.Module):
            continue
        nodes = source.nodes if holder is source.tree else list(ast.walk(holder))
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_self(node.value)}
        for node in nodes if isinstance(holder, ast.ClassDef) else direct(holder):
            if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr) and not is_self(node.value):
                if node.attr in NAMED_TUPLE or ast.unparse(node.value) in STANDARD or node.attr in own:
                    continue
                yield f"{source.name}:{node.lineno}: {ast.unparse(node)} is private"


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def direct(module: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a module that are in no class."""
    for node in ast.iter_child_nodes(module):
        if not isinstance(node, ast.ClassDef):
            yield node
            yield from direct(node)


def circles(sources: Sequence[Source]) -> Iterator[str]:
    """Modules that import each other, by whatever way, for annotations too."""
    modules = {source.module for source in sources}
    edges: dict[str, set[str]] = collections.defaultdict(set)
    for source in sources:
        for _, name in source.imports:
            module = name.removeprefix("wsgicluster.")
            if name != module and module in modules:
                edges[source.module].add(module)
            elif name == "wsgicluster":
                edges[source.module].add("__init__")
    reached = {module: reachable(module, edges) for module in sorted(edges)}
    told: set[str] = set()
    for module, others in reached.items():
        circle = {other for other in others if module in reached.get(other, ())}
        if circle and module not in told:
            told |= circle
            yield f"import circle: {', '.join(sorted(circle))}"


def reachable(module: str, edges: Mapping[str, set[str]]) -> set[str]:
    """All modules that an import of this one leads to."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for other in edges.get(ahead.pop(), ()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def class_names(sources: Sequence[Source]) -> Iterator[str]:
    """Names that two classes of the package share."""
    places: Mapping[str, set[str]] = collections.defaultdict(set)
    for source in sources:
        # An interface file says again what its compiled module holds.
        if not source.name.endswith(".pyi"):
            for node in source.tree.body:
                if isinstance(node, ast.ClassDef):
                    places[node.name].add(source.name)
            for name in re.findall(r"^cdef class (\w+)", source.text, re.MULTILINE):
                places[name].add(source.name)
    for name, files in sorted(places.items()):
        # What a name is declared to be stands in a .pxd beside its .pyx.
        if len({file.rpartition(".")[0] for file in files}) > 1:
            yield f"class {name}: in {', '.join(sorted(files))}"


RULES: tuple[Rule, ...] = (
    layers, outside_imports, forks, sizes, module_docstring, private_attributes, swallowed_errors,
)  # fmt: skip
WHOLE_RULES = (circles, class_names)


@functools.cache
def product() -> tuple[Source, ...]:
    """All files of the package; parsed once, since every rule reads all of them."""
    paths = sorted(path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES and "__pycache__" not in path.parts)
    return tuple(Source.of(path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")) for path in paths)


def test_the_package_is_looked_at() -> None:
    names = {source.name for source in product()}
    assert {"__init__.py", "errors.py", "ipc/assignment.py", "worker/kinds/sync/_fast_path.pyx"} <= names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_product_keeps(rule: Rule) -> None:
    complaints = [complaint for source in product() for complaint in rule(source)]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("rule", WHOLE_RULES, ids=lambda rule: rule.__name__)
def test_the_package_as_a_whole_keeps(rule: Callable[[Sequence[Source]], Iterator[str]]) -> None:
    assert list(rule(product())) == []


def test_circles_are_found() -> None:
    cycle, host, sender = "worker/request/cycle.py", "worker/connection/host.py", "worker/connection/sender.py"
    typing_only = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wsgicluster.worker.connection.host import Host"
    )
    found = [
        Source.of(cycle, typing_only),
        Source.of(host, "from wsgicluster.worker.request.cycle import Cycle"),
        Source.of(sender, "from wsgicluster.worker.connection import host"),
    ]
    assert list(circles(found)) == ["import circle: worker.connection.host, worker.request.cycle"]
    assert not list(circles(found[1:]))
    package = [
        Source.of("__init__.py", "from wsgicluster.embedding import serve"),
        Source.of("embedding.py", "from wsgicluster import __version__"),
    ]
    assert list(circles(package)) == ["import circle: __init__, embedding"]


def test_names_of_two_classes_are_found() -> None:
    compiled = Source.of("worker/kinds/sync/_fast_path.pyx", "cdef class Peer:\n    pass\n")
    interface = Source.of("worker/kinds/sync/_fast_path.pyi", "class Peer: ...")
    assert not list(class_names([compiled, interface]))
    assert list(class_names([compiled, Source.of("ipc/messages.py", "class Peer: ...")]))


def test_every_extra_installs_what_is_imported() -> None:
    declared = configparser.ConfigParser()
    declared.read(ROOT / "setup.cfg")
    extras = {name: text.split() for name, text in declared["options.extras_require"].items()}
    # Tests and documentation are not part of the product; their tools are run, not imported.
    for_users = {name: wanted for name, wanted in extras.items() if name not in ("test", "docs")}
    imported = {name for source in product() for _, name in source.imports}
    # Of several packages that share one name, each is imported by its part of that: opentelemetry.sdk, paste.deploy.
    parts = [name.split(".") for name in imported]
    names = {each[0] for each in parts} | {"_".join(each[:2]) for each in parts} | {"".join(each[:2]) for each in parts}
    unused = {
        name: requirement
        for name, wanted in for_users.items()
        for requirement in wanted
        if re.split(r"[<>=\[]", requirement)[0].replace("-", "_").lower() not in names
    }
    assert for_users
    assert not unused


LONG_FUNCTION = "def f() -> None:\n" + "    print()\n" * FUNCTION_LINES


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (layers, "http/head.py", "from wsgicluster.wsgi import environ"),
        (layers, "http/head.py", "from wsgicluster import wsgi"),
        (layers, "http/head.py", "def late():\n    import wsgicluster.settings"),
        (layers, "arbiter/plan/pool.py", "import wsgicluster.worker.boot"),
        (layers, "settings/fields.py", "from wsgicluster.process import resident_bytes"),
        (layers, "logs.py", "from wsgicluster.settings import Settings"),
        (layers, "clock.py", "from wsgicluster import errors"),
        (layers, "wsgi/input.py", "from .response import Response"),
        (layers, "__init__.py", "from wsgicluster.errors import ServerError"),
        (layers, "drawer.py", ""),
        (outside_imports, "worker/kinds/sync/worker.py", "import gevent.socket"),
        (outside_imports, "logs.py", "from psutil import Process"),
        (outside_imports, "arbiter/postmortem/report.py", "import setproctitle"),
        (outside_imports, "http/head.py", "import Cython"),
        (outside_imports, "http/head.py", "from socket import socket"),
        (outside_imports, "arbiter/arbiter.py", "import threading"),
        (forks, "arbiter/arbiter.py", "import os\nos.fork()"),
        (forks, "worker/boot.py", "from os import fork"),
        (sizes, "http/head.py", LONG_FUNCTION),
        (sizes, "http/head.py", "def f(a, b, c, d, e, f, g): ..."),
        (sizes, "http/head.py", "def f(a, b, /, c, *, d, e, f, **g): ..."),
        (sizes, "http/head.py", "class A:\n    def f(self, a, b, c, d, e, f, g): ..."),
        (module_docstring, "http/head.py", "import os"),
        (private_attributes, "http/head.py", "def f(reader: object) -> None:\n    reader._rest = b''"),
        (private_attributes, "http/head.py", "class A:\n    def f(self) -> None:\n        self.other._state = 1"),
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
        (layers, "worker/boot.py", "from wsgicluster.http.head import parse_head\nimport wsgicluster.errors"),
        (layers, "logs.py", "from wsgicluster.logs.access_log import AccessLog"),
        (layers, "cli.py", "from wsgicluster.arbiter.arbiter import Arbiter\nfrom wsgicluster import __version__"),
        (layers, "arbiter/arbiter.py", "from wsgicluster import __version__"),
        (outside_imports, "system/process.py", "import psutil\nimport setproctitle"),
        (forks, "arbiter/children/fork.py", "import os\nos.fork()"),
        (
            private_attributes,
            "http/head.py",
            "class A:\n    def f(self, other: 'A') -> bool:\n        return self._a == other._a",
        ),
        (private_attributes, "http/head.py", "import os\nos._exit(1)"),
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
        text = path.read_text("utf-8")
        if "sleep" not in text and "mock" not in text:
            continue  # to parse all of them takes a second
        source = Source.of(name, text)
        complaints += [f"{name}:{line}: no mocks" for line, module in source.imports if module == "unittest.mock"]
        for node in source.nodes:
            sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
            if sleeps and name != "tests/conftest.py":
                complaints.append(f"{name}:{getattr(node, 'lineno', 0)}: sleeps instead of waiting for a condition")
    assert not complaints, "\n" + "\n".join(complaints)
