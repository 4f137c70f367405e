"""Applications on disk that load, and the many ways in which they do not."""

import itertools
import pathlib
import sys
from collections.abc import Callable, Iterator

import pytest

from wsgicluster.errors import AppLoadError
from wsgicluster.wsgi.loader import load_callable

Write = Callable[[str], str]
NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of a name never used before to a folder on the path; returns that name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write_module(source: str) -> str:
        name = f"loaded_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        names.append(name)
        return name

    yield write_module
    for name in names:
        sys.modules.pop(name, None)


def failure(spec: str) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        load_callable(spec)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(spec)
    return caught.value


GOOD = """
class Box: pass

def application(environ, start_response):
    return ["default"]

def other(environ, start_response):
    return ["other"]

box = Box()
box.inner = other

def make(*arguments, **named):
    return lambda environ, start_response: [arguments, named]

box.make = make
"""


@pytest.mark.parametrize(
    ("rest", "answer"),
    [
        ("", ["default"]),
        (":application", ["default"]),
        (":other", ["other"]),
        (":box.inner", ["other"]),
        (":make()", [(), {}]),
        (
            ':make("a", 1, key=[None, True], deep={"x": (1.5,)})',
            [("a", 1), {"key": [None, True], "deep": {"x": (1.5,)}}],
        ),
        (":box.make(-1)", [(-1,), {}]),
    ],
)
def test_loads(write: Write, rest: str, answer: object) -> None:
    assert load_callable(write(GOOD) + rest)({}, None) == answer


def test_package(write: Write, tmp_path: pathlib.Path) -> None:
    package = tmp_path / "package_of_test_loader"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wsgi.py").write_text("application = print\n")
    assert load_callable("package_of_test_loader.wsgi") is print
    error = failure("package_of_test_loader.wsgy:application")
    assert "no module named 'package_of_test_loader.wsgy'" in str(error)
    assert "--chdir" not in str(error), "the folder was found"
    assert error.trace == ""


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        (":make(x)", "the arguments of a factory are literals"),
        (":make(1 + x)", "the arguments of a factory are literals"),
        (":make(**{})", "neither a name nor a call"),
        (":make(", "neither a name nor a call"),
        (":1", "neither a name nor a call"),
        (":a b", "neither a name nor a call"),
        (":make()()", "neither a name nor a call"),
        (":box[0]", "neither a name nor a call"),
    ],
)
def test_wrong_specifications(write: Write, rest: str, says: str) -> None:
    assert says in str(failure(write(GOOD) + rest))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("app.py", "did you mean app?"),
        ("app.py:application", "did you mean app:application?"),
        ("./shop/wsgi.py", "did you mean shop.wsgi?"),
        ("app.py:app", "did you mean app:app?"),
        ("shop/app.py:make(1)", "did you mean shop.app:make(1)?"),
        ("/srv/shop/app.py:app", "did you mean --chdir /srv/shop app:app?"),
        (":application", "is not a valid module name"),
        ("a-b", "is not a valid module name"),
        ("a..b", "is not a valid module name"),
    ],
)
def test_wrong_modules(spec: str, says: str) -> None:
    assert says in str(failure(spec))


def test_module_that_is_not_there(write: Write, tmp_path: pathlib.Path) -> None:
    name = write("")
    error = failure("no_such_module_here:application")
    assert f"no module named 'no_such_module_here' in {tmp_path}" in str(error)
    assert str(error).endswith("; --chdir names the folder to search")
    assert error.trace == ""
    assert "did you mean loaded_" in str(failure(name.replace("loaded", "laoded")))


def test_what_the_module_has_made_itself_is_named_before_what_it_imports(write: Write) -> None:
    name = write("from os.path import join, split\n\ndef serve(environ, start_response): ...\n")
    assert str(failure(f"{name}:nosuch")).endswith("it has serve, join, split")


def test_import_of_the_application_fails(write: Write) -> None:
    helper = write("def connect():\n    raise RuntimeError('no database today')\n")
    name = write(f"import {helper}\n\n{helper}.connect()\n")
    error = failure(name)
    assert str(error) == f"{name}: cannot be imported: RuntimeError: no database today"
    lines = error.trace.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: no database today"
    files = [line for line in lines if line.startswith("  File")]
    assert len(files) == 2
    assert f"{name}.py" in files[0]
    assert f"{helper}.py" in files[1]


def test_module_that_the_application_misses(write: Write) -> None:
    name = write("import no_such_module_here\n")
    error = failure(name)
    assert "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_here'" in str(error)
    assert f"{name}.py" in error.trace


def test_causes_are_cut_as_well(write: Write) -> None:
    name = write(
        "try:\n    import no_such_module_here\nexcept ImportError as error:\n    raise KeyError('x') from error\n"
    )
    trace = failure(name).trace
    assert "direct cause" in trace
    assert "importlib" not in trace
    assert "wsgicluster/wsgi/loader.py" not in trace


def test_syntax_error(write: Write) -> None:
    name = write("def application(\n")
    error = failure(name)
    assert "SyntaxError: '(' was never closed (" in str(error)
    assert f"{name}.py:1)" in str(error)
    assert f"{name}.py" in error.trace


@pytest.mark.parametrize("source", ["raise SystemExit(0)", "import sys; sys.exit('bye')", "raise GeneratorExit"])
def test_an_application_may_raise_anything(write: Write, source: str) -> None:
    error = failure(write(source + "\n"))
    assert "cannot be imported: " in str(error)
    assert error.trace


def test_interrupts_pass(write: Write) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_callable(write("raise KeyboardInterrupt\n"))
    with pytest.raises(KeyboardInterrupt):
        load_callable(write("def make(): raise KeyboardInterrupt\n") + ":make()")


def test_missing_attribute_lists_what_there_is(write: Write) -> None:
    name = write("import os\n_hidden = 1\nnumber = 5\ndef zebra(): pass\napplicatoin = object()\n")
    assert str(failure(name)).endswith(f"{name} has no 'application'; it has applicatoin, zebra, number")
    assert str(failure(write(""))).endswith("it has nothing of its own")
    many = write("".join(f"def f{number}(): pass\n" for number in range(50)))
    assert str(failure(many)).endswith("f7, ...")
    inner = write("class Shop:\n    def serve(self): pass\nshop = Shop()\n")
    assert "shop.sreve has no 'sreve'" in str(failure(f"{inner}:shop.sreve"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("5", "an int"),
        ("'x'", "a str"),
        ("None", "None"),
        ("__import__('os')", "the module os"),
        ("object()", "an object"),
    ],
)
def test_what_cannot_be_called(write: Write, value: str, says: str) -> None:
    name = write(f"application = {value}\n\ndef make():\n    return application\n")
    assert str(failure(name)).endswith(f"'application' is not callable (got {says})")
    assert str(failure(f"{name}:make()")).endswith(f"the factory must return a callable (got {says})")
    assert str(failure(f"{name}:application()")).endswith(f"'application' is not callable (got {says})")


def test_factory_that_fails(write: Write) -> None:
    name = write("def make(size):\n    return {}[size]\n")
    error = failure(f"{name}:make(1)")
    assert str(error).endswith("the factory failed: KeyError: 1")
    assert "in make" in error.trace
    assert "loader.py" not in error.trace
    assert "missing 1 required positional argument: 'size'" in str(failure(f"{name}:make()"))
