"""The WSGI applications that every server of a comparison serves."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

Start = Callable[..., Any]
Environ = dict[str, Any]

BLOCK = b"x" * 65536
FILE = os.environ.get("BENCHMARK_FILE", "/tmp/wsgicluster-benchmark-10m.bin")


def hello(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Thirteen bytes: what is measured is the server."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


def upload(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Read the whole body in blocks of 64 KiB and answer with its length."""
    read = environ["wsgi.input"].read
    total = 0
    while block := read(65536):
        total += len(block)
    body = b"%d" % total
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def stream(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """10 MiB in blocks of 64 KiB, with a length."""
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(160 * len(BLOCK)))])
    return (BLOCK for _ in range(160))


def sendfile(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A file of 10 MiB through ``wsgi.file_wrapper``."""
    headers = [("Content-Type", "application/octet-stream"), ("Content-Length", str(os.path.getsize(FILE)))]
    start_response("200 OK", headers)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](open(FILE, "rb"), 65536)
    return wrapped


def chunked(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """1,000 blocks of 16 bytes without a length."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (b"0123456789abcdef" for _ in range(1000))


def sleep10(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Wait 10 ms, as for a database."""
    time.sleep(0.01)
    return hello(environ, start_response)


def sized(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """``/upload`` reads a body; ``/length/N`` and ``/chunked/N`` send so many bytes, ``/file/PATH`` a file."""
    way, _, argument = environ["PATH_INFO"][1:].partition("/")
    if way == "upload":
        return upload(environ, start_response)
    size = os.path.getsize("/" + argument) if way == "file" else int(argument)
    start_response("200 OK", [] if way == "chunked" else [("Content-Length", str(size))])
    if way == "file":
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](open("/" + argument, "rb"), 65536)
        return wrapped
    return (BLOCK[: size - at] for at in range(0, size, len(BLOCK)))


def _flask() -> Any:
    from flask import Flask, jsonify, request

    app = Flask("benchmark")

    @app.get("/")
    def index() -> Any:
        return jsonify(hello="world", q=request.args.get("q"))

    return app


def _django() -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    class Urls:
        urlpatterns = (path("", lambda request: JsonResponse({"hello": "world"})),)

    settings.configure(
        DEBUG=False,
        SECRET_KEY="benchmark",
        ROOT_URLCONF=Urls,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    )
    django.setup()
    return get_wsgi_application()


def __getattr__(name: str) -> Any:
    # A framework is imported only where it is served, so that it costs the others nothing.
    makers = {"flask_app": _flask, "django_app": _django}
    if name not in makers:
        raise AttributeError(name)
    globals()[name] = app = makers[name]()
    return app
