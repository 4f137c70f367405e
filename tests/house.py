"""A report on the tree: what is large, deep or crowded, to be read as a symptom of a second responsibility.

No limit, and no check: as limits such figures are kept by cutting one thing into two that touch each other's insides.
"""

import argparse
import ast
import collections
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Node = TypeVar("Node", ast.ClassDef, ast.FunctionDef)

SHOWN = 5
"""Of each figure so many are shown, the largest first."""


class House:
    """The sources of a package, parsed once."""

    def __init__(self, package: pathlib.Path) -> None:
        self._package = package
        self._trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(package.rglob("*.py"))}
        self._bases = {node.name: [ast.unparse(base) for base in node.bases] for _, node in self._classes()}

    def sections(self) -> Iterator[tuple[str, Iterable[tuple[int, str]]]]:
        """A title, with what good ones end up with, and the figures, each with what it is the figure of."""
        yield "files in a folder (good: a dozen)", self._folders()
        yield "lines of a file (400)", ((_newlines(path), self._name(path)) for path in self._files())
        yield "lines of a class (250)", self._measured(self._classes(), _lines)
        yield "public methods of a class (a dozen)", self._measured(self._classes(), _public)
        yield "levels of inheritance (3)", self._measured(self._classes(), lambda node: self._levels(node.name))
        yield "lines of a function (a screen)", self._measured(self._functions(), _lines)
        compiled = [_newlines(path) for path in self._package.rglob("*.pyx")]
        yield "lines of .pyx in all (1500)", [(sum(compiled), f"{len(compiled)} files")]
        yield "classes of one name (1)", self._names()

    def _measured(
        self, found: Iterable[tuple[pathlib.Path, Node]], measure: Callable[[Node], int]
    ) -> Iterator[tuple[int, str]]:
        return ((measure(node), f"{node.name}  {self._name(path)}:{node.lineno}") for path, node in found)

    def _files(self) -> list[pathlib.Path]:
        return [*self._trees, *sorted(self._package.rglob("*.pyx"))]

    def _folders(self) -> Iterator[tuple[int, str]]:
        counts = collections.Counter(path.parent for path in self._files() if path.name != "__init__.py")
        return ((count, f"{self._name(folder)}/") for folder, count in counts.items())

    def _classes(self) -> Iterator[tuple[pathlib.Path, ast.ClassDef]]:
        for path, tree in self._trees.items():
            yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef))

    def _names(self) -> Iterator[tuple[int, str]]:
        places = collections.defaultdict(list)
        for path, node in self._classes():
            places[node.name].append(self._name(path))
        return ((len(paths), f"{name}  {', '.join(paths)}") for name, paths in places.items() if len(paths) > 1)

    def _functions(self) -> Iterator[tuple[pathlib.Path, ast.FunctionDef]]:
        for path, tree in self._trees.items():
            yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))

    def _levels(self, name: str) -> int:
        above = [self._levels(base) for base in self._bases.get(name, ()) if base in self._bases and base != name]
        return 1 + max(above, default=0)

    def _name(self, path: pathlib.Path) -> str:
        return path.relative_to(self._package.parent).as_posix()


def _newlines(path: pathlib.Path) -> int:
    return path.read_text("utf-8").count("\n")


def _lines(node: ast.ClassDef | ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _public(node: ast.ClassDef) -> int:
    return sum(isinstance(item, ast.FunctionDef) and not item.name.startswith("_") for item in node.body)


def main() -> None:
    """Print the report of a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkout", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent)
    options = parser.parse_args()
    for title, rows in House(options.checkout.resolve() / "wsgicluster").sections():
        sys.stdout.write(f"{title}\n")
        for count, what in sorted(rows, reverse=True)[:SHOWN]:
            sys.stdout.write(f"  {count:6}  {what}\n")


if __name__ == "__main__":
    main()
