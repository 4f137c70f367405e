"""Whether an object is a WSGI application, as far as that can be seen without calling it.

Refuses only objects with which every request would fail: one with unknown or arbitrary parameters is accepted.
"""

import functools
import inspect
import types
from typing import Any

from wsgicluster.errors import AppLoadError

_ASGI = (
    "is an ASGI application ({}), and wsgicluster serves WSGI: wrap it (application = a2wsgi.ASGIMiddleware(app)), or "
    "use an ASGI server"
)
_ASYNCHRONOUS = (
    "is asynchronous ({}), and wsgicluster serves WSGI: make it a plain function of environ and start_response"
)

_KNOWN = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type, functools.partial)
_CACHED = type(functools.lru_cache(lambda: None))
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ASGI_NAMES = ["scope", "receive", "send"]
_UNUSUAL = inspect.CO_VARARGS | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_SHORT_NAME = 2
"""As in ``lambda e, s: ...``."""


def check_application(specification: str, application: object) -> None:
    """Raise AppLoadError, with the remedy, when what a specification names is not a WSGI application."""
    found = misfit(application, specification)
    if found:
        raise AppLoadError(f"{specification}: {found}")


def misfit(application: Any, specification: str) -> str:
    """Why this cannot be called as in PEP 3333, and the remedy; or empty."""
    if _is_usual(application):
        return ""
    application = _called(application)
    signature = None if application is None else _signature(application)
    asynchronous = _asynchronous(application)
    if signature is None:
        return _ASGI.format(asynchronous) if asynchronous else ""
    parameters = signature.parameters.values()
    names = [each.name for each in parameters if each.kind in _POSITIONAL]
    takes_any = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    if asynchronous:
        is_asgi = takes_any or len(names) == len(_ASGI_NAMES) or names[:1] == _ASGI_NAMES[:1]
        return (_ASGI if is_asgi or isinstance(application, type) else _ASYNCHRONOUS).format(asynchronous)
    if names in (_ASGI_NAMES, _ASGI_NAMES[:1]):
        return _ASGI.format(f"its parameters are {', '.join(names)}")
    if takes_any:
        return ""
    if _is_factory(signature, names) and not specification.endswith(")"):
        call = specification if ":" in specification else f"{specification}:application"
        what = "a class" if isinstance(application, type) else "probably a factory"
        return f"is {what}: it can be called without arguments; name what it returns: {call}()"
    return _mismatch(application, signature)


def _is_usual(application: Any) -> bool:
    """Whether this is a function of just two parameters, or an object whose class has such a method ``__call__``.

    What is asked below is answered for these, without `inspect`: it runs in each worker, whose pages it would touch.
    """
    kind, own = type(application), 0
    if kind is not types.FunctionType:
        if issubclass(kind, (type, *_KNOWN, _CACHED)):
            return False
        own = 1
        application = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    if type(application) is not types.FunctionType or hasattr(application, "__signature__"):
        return False
    code = application.__code__
    two = code.co_argcount == 2 + own and not code.co_kwonlyargcount and not application.__defaults__
    return two and not code.co_flags & _UNUSUAL


def _called(application: Any) -> Any:
    """The function that a call of an object runs, or None when it cannot be inspected.

    Attributes of the object itself are not read: those of a proxy may fail, or be those of another object.
    """
    kind = type(application)
    if issubclass(kind, _CACHED):
        return _called(application.__wrapped__)  # is called with the same arguments
    if issubclass(kind, _KNOWN):
        return application
    call = inspect.getattr_static(kind, "__call__", None)
    return types.MethodType(call, application) if isinstance(call, types.FunctionType) else None


def _mismatch(application: Any, signature: inspect.Signature) -> str:
    try:
        signature.bind({}, None)
    except TypeError:
        signature = signature.replace(return_annotation=inspect.Signature.empty)
        return (
            f"cannot be called with environ and start_response: its parameters are {signature}; name a call of it, "
            'such as module:factory("text", key=1), if it is a factory'
        )
    if isinstance(application, type) and _makes_no_iterable(application):
        return "is a class whose instances are not iterable, as what an application returns must be; name an instance"
    return ""


def _signature(application: Any) -> inspect.Signature | None:
    try:
        # A wrapped function may have other parameters than the decorator's.
        return inspect.signature(application, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C, without a signature
        return None


def _asynchronous(called: Any) -> str:
    if isinstance(called, type):
        called = inspect.getattr_static(called, "__call__", None)  # of its instances
    while isinstance(called, functools.partial):
        called = _called(called.func)
    if not (inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)):
        return ""
    return "async def __call__" if called.__name__ == "__call__" else "async def"


def _is_factory(signature: inspect.Signature, names: list[str]) -> bool:
    """Whether it needs no arguments, unless its second parameter looks like ``start_response=None``."""
    try:
        signature.bind()
    except TypeError:
        return False
    return len(names) < 2 or not (names[1].startswith("start") or len(names[1]) <= _SHORT_NAME)


def _makes_no_iterable(application: type) -> bool:
    find = inspect.getattr_static
    usual_call = find(type(application), "__call__") is find(type, "__call__")
    usual = usual_call and find(application, "__new__") is find(object, "__new__")
    return usual and not (hasattr(application, "__iter__") or hasattr(application, "__getitem__"))
