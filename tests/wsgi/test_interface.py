"""What is accepted as a WSGI application, and what is refused before there is a request."""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import demo_app
from wsgiref.validate import validator

import pytest

from wsgicluster.errors import AppLoadError
from wsgicluster.wsgi.interface import check_application, misfit

Wsgi = Any


def application(environ: Wsgi, start_response: Wsgi) -> list[bytes]:
    return []


def with_defaults(environ: Wsgi = None, start_response: Wsgi = None) -> list[bytes]:
    return []


def with_more(environ: Wsgi, start_response: Wsgi, config: Wsgi = None, *, loud: bool = False) -> list[bytes]:
    return []


def generator(environ: Wsgi, start_response: Wsgi) -> Iterator[bytes]:
    yield b""


def decorated(view: Callable[[Wsgi], Wsgi]) -> Callable[..., Wsgi]:
    """As werkzeug's Request.application: the wrapper has other parameters than what it wraps."""

    @functools.wraps(view)
    def wrapper(*arguments: Wsgi) -> Wsgi:
        return view(arguments[0])

    return wrapper


@decorated
def view(request: Wsgi) -> Wsgi: ...


@decorated
async def asynchronous_view(request: Wsgi) -> Wsgi: ...


class Instance:
    def __call__(self, environ: Wsgi, start_response: Wsgi) -> list[bytes]:
        return []

    def method(self, environ: Wsgi, start_response: Wsgi) -> list[bytes]:
        return []

    @classmethod
    def of_class(cls, _environ: Wsgi, _start_response: Wsgi) -> list[bytes]:
        return []

    @staticmethod
    def alone(_environ: Wsgi, _start_response: Wsgi) -> list[bytes]:
        return []


class OfAny:
    def __call__(self, *arguments: Wsgi, **named: Wsgi) -> list[bytes]:
        return []


class PerRequest:
    """PEP 3333's other kind of application: a class whose instances are what is returned."""

    def __init__(self, environ: Wsgi, start_response: Wsgi) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        return iter([])


class PerRequestOld:
    def __init__(self, environ: Wsgi, start_response: Wsgi) -> None: ...

    def __getitem__(self, index: int) -> bytes:
        raise IndexError


class Made:
    def __new__(cls, _environ: Wsgi, _start_response: Wsgi) -> Any:
        return []


class Meta(type):
    def __call__(cls, environ: Wsgi, start_response: Wsgi) -> list[bytes]:
        return []


class OfMeta(metaclass=Meta): ...


class Both:
    """Serves any caller."""

    def __call__(self, *arguments: Wsgi) -> Any:
        return [] if len(arguments) == 2 else self.asgi(*arguments)

    async def asgi(self, scope: Wsgi, receive: Wsgi, send: Wsgi) -> None: ...


class Proxy:
    """Answers no question, as a proxy of something that is not there yet."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("working outside of context")

    def __call__(self, environ: Wsgi, start_response: Wsgi) -> list[bytes]:
        return []


TAKEN = {
    "function": application,
    "defaults": with_defaults,
    "more": with_more,
    "generator": generator,
    "lambda": lambda environ, start_response: [],
    "short names": lambda e=None, s=None: [],
    "anything": lambda *arguments: [],
    "one and anything": lambda environ, *rest: [],
    "partial": functools.partial(with_more, loud=True),
    "partial of more": functools.partial(lambda config, environ, start_response: [], {}),
    "instance": Instance(),
    "method": Instance().method,
    "class method": Instance.of_class,
    "static method": Instance.alone,
    "instance of any": OfAny(),
    "class": PerRequest,
    "old class": PerRequestOld,
    "class with new": Made,
    "metaclass": OfMeta,
    "both": Both(),
    "decorator": view,
    "decorator of async": asynchronous_view,
    "validator": validator(application),
    "demo": demo_app,
    "cached": functools.lru_cache(with_more),
    "C": operator.methodcaller("anything"),
    "C without a signature": dict.fromkeys,
}


async def asgi(scope: Wsgi, receive: Wsgi, send: Wsgi) -> None: ...


async def asgi_of_any(*arguments: Wsgi) -> None: ...


async def asynchronous(environ: Wsgi, start_response: Wsgi) -> list[bytes]:
    return []


async def asynchronous_generator(environ: Wsgi, start_response: Wsgi) -> Any:
    yield b""


def asgi_2(scope: Wsgi) -> Any: ...


def asgi_plain(scope: Wsgi, receive: Wsgi, send: Wsgi) -> Any: ...


class Asgi:
    async def __call__(self, scope: Wsgi, receive: Wsgi, send: Wsgi) -> None: ...

    async def method(self, scope: Wsgi, receive: Wsgi, send: Wsgi) -> None: ...


class AsgiChild(Asgi): ...


class Asgi2:
    def __init__(self, scope: Wsgi) -> None: ...

    async def __call__(self, receive: Wsgi, send: Wsgi) -> None: ...


class NotIterable:
    def __init__(self, name: str, folder: str = "") -> None: ...

    def __call__(self, environ: Wsgi, start_response: Wsgi) -> list[bytes]:
        return []


def create_app() -> Any: ...


def create_app_of(config: Wsgi) -> Any: ...


def create_app_maybe(config: Wsgi = None, testing: bool = False, **named: Wsgi) -> Any: ...


class SelfMade:
    """As aiohttp's: a call of it gives itself."""

    def __call__(self) -> Any:
        return self


IS_ASGI = "is an ASGI application (async def"
FACTORY = "is probably a factory: it can be called without arguments; name what it returns: shop:app()"
REFUSED = {
    "asgi": (asgi, IS_ASGI),
    "asgi of any": (asgi_of_any, IS_ASGI),
    "asgi instance": (Asgi(), f"{IS_ASGI} __call__), and wsgicluster serves WSGI: wrap it"),
    "asgi child": (AsgiChild(), IS_ASGI),
    "asgi class": (Asgi, IS_ASGI),
    "asgi method": (Asgi().method, IS_ASGI),
    "asgi partial": (functools.partial(Asgi()), IS_ASGI),
    "asgi partial function": (functools.partial(asgi_of_any, 1), IS_ASGI),
    "asgi 2": (asgi_2, "is an ASGI application (its parameters are scope)"),
    "asgi 2 class": (Asgi2, IS_ASGI),
    "asgi without async": (asgi_plain, "is an ASGI application (its parameters are scope, receive, send)"),
    "asynchronous": (asynchronous, "is asynchronous (async def)"),
    "asynchronous generator": (asynchronous_generator, "is asynchronous (async def)"),
    "factory": (create_app, FACTORY),
    "factory lambda": (lambda: None, FACTORY),
    "factory with defaults": (create_app_maybe, FACTORY),
    "factory cached": (functools.lru_cache(create_app), FACTORY),
    "factory partial": (functools.partial(create_app_of, 1), FACTORY),
    "factory with arguments": (create_app_of, "its parameters are (config: Any); name a call of it"),
    "self-made": (SelfMade(), FACTORY),
    "class of instances": (
        Instance,
        "is a class: it can be called without arguments; name what it returns: shop:app()",
    ),
    "class of applications": (NotIterable, "is a class whose instances are not iterable"),
    "one": (lambda environ: [], "its parameters are (environ)"),
    "three": (lambda a, b, c: [], "its parameters are (a, b, c)"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    check_application("shop:app", TAKEN[name])
    check_application("shop:make()", TAKEN[name])


def test_a_proxy_that_answers_no_question_is_taken() -> None:
    # Not kept: what looks at all objects of a process, as gevent does, meets its exception.
    proxy = Proxy()
    check_application("shop:app", proxy)
    check_application("shop:make()", proxy)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    given, says = REFUSED[name]
    with pytest.raises(AppLoadError) as caught:
        check_application("shop:app", given)
    assert str(caught.value).startswith("shop:app: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_what_a_factory_returns_is_not_to_be_called_once_more() -> None:
    assert "cannot be called with environ and start_response: its parameters are ()" in misfit(SelfMade(), "shop:app()")
    assert "shop:application()" in misfit(create_app, "shop")


@pytest.mark.parametrize(
    ("package", "source", "says"),
    [
        ("flask", "flask.Flask('x')", ""),
        ("flask", "flask.Flask", "is a class"),
        ("flask", "flask.Flask('x').wsgi_app", ""),
        ("werkzeug.wrappers", "werkzeug.wrappers.Request.application(lambda request: None)", ""),
        (
            "django.core.handlers.wsgi",
            "django.core.handlers.wsgi.WSGIHandler.__new__(django.core.handlers.wsgi.WSGIHandler)",
            "",
        ),
        ("django.core.handlers.asgi", "django.core.handlers.asgi.ASGIHandler", "is an ASGI application"),
    ],
)
def test_frameworks(package: str, source: str, says: str) -> None:
    pytest.importorskip(package)
    found = misfit(eval(source, {package.partition(".")[0]: __import__(package)}), "shop:app")
    assert says in found
    assert bool(says) == bool(found)
