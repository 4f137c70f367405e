"""The pages for contributors name files, classes and functions that are there, and each room says what it is for."""

import ast
import pathlib
import re

import pytest

from tests.test_architecture import ALLOWED

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs" / "contributing").glob("*.rst")), ROOT / "CONTRIBUTING.rst"]
REFERENCE = re.compile(r"``([\w./-]+\.(?:py|pyx|rst|sh|cfg))(?::([\w.]+))?``|``([\w/-]+/)``")


def place_of(name: str, page: pathlib.Path) -> pathlib.Path | None:
    """The file or folder that a page means: of the package, of the repository, or beside the page."""
    found = (folder / name for folder in (ROOT / "wsgicluster", ROOT, ROOT / "docs" / "contributing", page.parent))
    return next((path for path in found if path.exists()), None)


def names_in(path: pathlib.Path) -> set[str]:
    """Classes, functions and methods of a file, methods with the name of their class in front."""
    text = path.read_text("utf-8")
    if path.suffix == ".pyx":
        return names_in_cython(text)
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return found


def names_in_cython(text: str) -> set[str]:
    found, holder = set(), ""
    for line in text.splitlines():
        if match := re.match(r"(?:cdef )?class (\w+)|( *)c?p?def (?:.*\W)?(\w+)\(", line):
            holder = match[1] or (holder if match[2] else "")
            found.add(match[1] or ".".join(filter(None, [holder, match[3]])))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_is_there(page: pathlib.Path) -> None:
    missing = []
    for path_name, name, folder_name in REFERENCE.findall(page.read_text("utf-8")):
        path = place_of(path_name or folder_name, page)
        if path is None or (name and name not in names_in(path)):
            missing.append(f"{path_name or folder_name}{':' if name else ''}{name}")
    assert not missing


def test_references_are_found() -> None:
    text = "``tests/conftest.py:LiveServer.start``, ``http/`` and ``http/_parser.pyx``; not ``os._exit`` or ``-w``"
    assert REFERENCE.findall(text) == [
        ("tests/conftest.py", "LiveServer.start", ""),
        ("", "", "http/"),
        ("http/_parser.pyx", "", ""),
    ]
    assert "LiveServer.start" in names_in(ROOT / "tests" / "conftest.py")
    assert {"Peer", "Peer.meet", "Peer.is_kept", "free", "count"} <= names_in_cython(
        "cdef class Peer:\n    cdef inline bint is_kept(self) noexcept:\n    def meet(self, contact):\n"
        "def free():\ncdef int count(char *x) except -1:\n"
    )


@pytest.mark.parametrize("room", [room for room in ALLOWED if room != "__main__"])
def test_each_room_says_what_it_is_for(room: str) -> None:
    path = ROOT / "wsgicluster" / room.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert len((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split()) > 3
