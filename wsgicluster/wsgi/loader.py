"""Loads the application that a specification names; errors are in terms of the application's own code.

Tracebacks contain the application's frames only. Where modules are searched, and how the
error is shown, is decided elsewhere.
"""

import ast
import importlib
import keyword
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import field
from types import ModuleType
from typing import Any

from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AppLoadError

DEFAULT_ATTRIBUTE = "application"
_LISTED = 8
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORT_FOLDER = os.path.dirname(os.path.abspath(importlib.__file__)) + os.sep


_given: dict[str, Callable[[], Any]] = {}


def give(spec: str, load: Callable[[], Any]) -> None:
    """From now on this text means what ``load`` returns: a program that embeds a server has the application itself."""
    _given[spec] = load


def made_by(load: Callable[[], Any], spec: str) -> Callable[..., Any]:
    """What ``load`` returns, for an application that is called ``spec``.

    Raises AppLoadError, whatever ``load`` raises, and where it returns something that is not callable.
    """
    try:
        found = load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failed(f"{spec}: the application cannot be loaded", error) from error
    if not callable(found):
        raise AppLoadError(f"{spec}: the application is not callable (got {_described(found)})")
    application: Callable[..., Any] = found
    return application


@dataclass(frozen=True)
class _Specification:
    """``module:attribute``, and the arguments where the attribute is to be called."""

    text: str
    module: str
    attribute: str
    is_factory: bool = False
    arguments: tuple[Any, ...] = ()
    named_arguments: dict[str, Any] = field(default_factory=dict)


def load_callable(spec: str) -> Callable[..., Any]:
    """The application of ``module``, ``module:attribute`` or ``module:factory("text", key=1)``.

    Arguments of a factory are literals. Raises AppLoadError, whatever the application raises.
    """
    if spec in _given:
        return made_by(_given[spec], spec)
    wanted = _parse(spec)
    module = _import(wanted)
    found = _attribute(module, wanted)
    if not wanted.is_factory:
        if not callable(found):
            raise AppLoadError(f"{spec}: {wanted.attribute!r} is not callable (got {_described(found)})")
        application: Callable[..., Any] = found
        return application
    return _made(found, wanted)


def load_object(text: str, module: str, attribute: str) -> Any:
    """An object of a module, by a name that may have dots; errors begin with ``text``. Raises AppLoadError."""
    wanted = _Specification(text, module, attribute)
    return _attribute(_import(wanted), wanted)


def failed(what: str, error: BaseException) -> AppLoadError:
    """The error for application code that raised: one line, and its traceback."""
    return AppLoadError(f"{what}: {summary_of(error)}", trace_of(error))


def _parse(spec: str) -> _Specification:
    module, colon, rest = spec.strip().partition(":")
    if module.endswith(".py") or "/" in module:
        folder, file = os.path.split(module) if os.path.isabs(module) else ("", module)
        name = file.removesuffix(".py").strip("./").replace("/", ".") + colon + rest
        where = f"--chdir {folder} " if folder else ""
        raise AppLoadError(f"{spec}: expected the name of a module, not that of a file; did you mean {where}{name}?")
    if not all(part.isidentifier() for part in module.split(".")):
        raise AppLoadError(f"{spec}: {module!r} is not a valid module name; expected module:application")
    if not rest:
        return _Specification(spec, module, DEFAULT_ATTRIBUTE)
    if rest.isidentifier() and not keyword.iskeyword(rest):
        return _Specification(spec, module, rest)  # as nearly all are: what parses the others takes memory to run
    try:
        tree = ast.parse(rest.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise _neither(spec, rest) from None
    if not isinstance(tree, ast.Call):
        return _Specification(spec, module, _name(tree, spec, rest))
    try:
        arguments = tuple(ast.literal_eval(argument) for argument in tree.args)
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords if keyword.arg}
    except ValueError:
        raise AppLoadError(f"{spec}: the arguments of a factory are literals, such as 'text' or 1") from None
    if len(named) != len(tree.keywords):
        raise _neither(spec, rest)
    return _Specification(spec, module, _name(tree.func, spec, rest), True, arguments, named)


def _name(tree: ast.expr, spec: str, rest: str) -> str:
    if isinstance(tree, ast.Name):
        return tree.id
    if isinstance(tree, ast.Attribute):
        return f"{_name(tree.value, spec, rest)}.{tree.attr}"
    raise _neither(spec, rest)


def _neither(spec: str, rest: str) -> AppLoadError:
    return AppLoadError(
        f'{spec}: {rest!r} is neither a name nor a call; expected application or factory("text", key=1)'
    )


def _import(wanted: _Specification) -> ModuleType:
    try:
        return importlib.import_module(wanted.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # An application may raise anything, SystemExit included; none of it may end the server without a message.
        if isinstance(error, ModuleNotFoundError) and _is_or_contains(error.name, wanted.module):
            folder = sys.path[0] if sys.path and sys.path[0] else os.getcwd()
            near = _similar(wanted.module, _modules_in(folder), 1, 0.6)
            hint = ""
            if near:
                hint = f"; did you mean {near[0]}?"
            elif error.name == wanted.module.partition(".")[0]:
                hint = "; --chdir names the folder to search"
            raise AppLoadError(
                f"{wanted.text}: no module named {error.name!r} in {folder}, nor elsewhere on the Python path{hint}"
            ) from error
        raise failed(f"{wanted.text}: cannot be imported", error) from error


def _is_or_contains(name: str | None, module: str) -> bool:
    return name is not None and (module + ".").startswith(name + ".")


def _modules_in(folder: str) -> list[str]:
    try:
        return [name.removesuffix(".py") for name in os.listdir(folder)]
    except OSError:  # not a folder but an archive, or removed
        return []


def _attribute(module: ModuleType, wanted: _Specification) -> Any:
    found: Any = module
    for part in wanted.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = ", ".join(_names_in(found, part)) or "nothing of its own"
            owner = found.__name__ if isinstance(found, ModuleType) else wanted.attribute
            raise AppLoadError(f"{wanted.text}: {owner} has no {part!r}; it has {names}") from None
    return found


def _names_in(owner: object, wanted: str) -> Iterable[str]:
    """Public names: those similar to the wanted one first, then callables made here, those imported, the rest."""
    members = dict(vars(owner)) if hasattr(owner, "__dict__") else {}
    names = [name for name, value in members.items() if not name.startswith("_") and not isinstance(value, ModuleType)]
    near = _similar(wanted, names, _LISTED, 0.5)
    callables = [name for name in names if callable(members[name])]
    own = [name for name in callables if not _is_imported(members[name], owner)]
    ordered = list(dict.fromkeys([*near, *own, *callables, *names]))
    return ordered if len(ordered) <= _LISTED else [*ordered[:_LISTED], "..."]


def _similar(word: str, known: list[str], most: int, likeness: float) -> list[str]:
    # Late: only an application that cannot be found needs it.
    import difflib

    return difflib.get_close_matches(word, known, most, likeness)


def _is_imported(value: object, module: object) -> bool:
    """Whether it is a function or class of another module; other objects do not say where they were made."""
    if not issubclass(type(value), (type, types.FunctionType, types.BuiltinFunctionType)):
        return False
    return getattr(value, "__module__", None) != getattr(module, "__name__", None)


def _made(factory: Any, wanted: _Specification) -> Callable[..., Any]:
    if not callable(factory):
        raise AppLoadError(f"{wanted.text}: {wanted.attribute!r} is not callable (got {_described(factory)})")
    try:
        application = factory(*wanted.arguments, **wanted.named_arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failed(f"{wanted.text}: the factory failed", error) from error
    if not callable(application):
        raise AppLoadError(f"{wanted.text}: the factory must return a callable (got {_described(application)})")
    made: Callable[..., Any] = application
    return made


def _described(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__qualname__
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def summary_of(error: BaseException) -> str:
    """An error in one line, as Python would end its traceback."""
    lines = list(traceback.TracebackException.from_exception(error).format_exception_only())
    # Of a syntax error the position comes first; of any other the notes come last.
    line = lines[-1] if isinstance(error, SyntaxError) else lines[0]
    place = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) and error.filename else ""
    return " ".join(line.split()) + place


def trace_of(error: BaseException) -> str:
    """The traceback without our frames and those of the import system."""
    whole = traceback.TracebackException.from_exception(error)
    pending: list[traceback.TracebackException | None] = [whole]
    while pending:
        part = pending.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if not _is_ours(frame)])
            pending += [part.__cause__, part.__context__]
    return "".join(whole.format()).rstrip()


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(("<frozen importlib", _OWN_FOLDER, _IMPORT_FOLDER))
