"""A plain WSGI application with one route for each thing that a test wants to see."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

VERSION = os.environ.get("APP_VERSION", "1")
_kept: list[bytes] = []


def blocks(count: int) -> Iterator[bytes]:
    """So many blocks of 64 KiB, without a length."""
    for _ in range(count):
        yield b"x" * 65536


def fail_late() -> Iterator[bytes]:
    """One block, then an error."""
    yield b"first"
    raise RuntimeError("failed after the head was sent")


def describe(environ: "WSGIEnvironment") -> bytes:
    """What is in the environ, as JSON; other values are shown as text."""
    plain = (str, int, bool, tuple)
    return json.dumps(
        {key: value if isinstance(value, plain) else repr(value) for key, value in environ.items()}
    ).encode()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Routes: ``/NAME`` or ``/NAME/ARGUMENT``."""
    name, _, argument = environ["PATH_INFO"].lstrip("/").partition("/")
    headers = [("Content-Type", "text/plain")]
    body: Any = f"{VERSION} {os.getpid()}\n".encode()
    status = "200 OK"
    if name == "slow":
        time.sleep(float(argument))
    elif name == "mark":  # tells the test that the application has begun, then is slow
        path, _, seconds = argument.rpartition("/")
        with open(path, "x", encoding="ascii"):
            time.sleep(float(seconds))
    elif name == "hold":  # the same, until the test releases it
        with open(f"/{argument}", "x", encoding="ascii"):
            while not os.path.exists(f"/{argument}.go"):
                time.sleep(0.01)
    elif name == "hang":
        time.sleep(3600)
    elif name == "spin":
        while True:
            pass
    elif name == "environ":
        body = describe(environ)
    elif name == "ready":
        status = "200 OK" if environ["wsgicluster.ready"]() else "503 Leaving"
    elif name == "echo":
        body = environ["wsgi.input"].read()
    elif name == "lines":
        body = b"|".join(environ["wsgi.input"])
    elif name == "raise":
        raise RuntimeError("the application's own mistake")
    elif name == "raise-late":
        start_response(status, headers)
        return fail_late()
    elif name == "blocks":
        start_response(status, headers)
        return blocks(int(argument))
    elif name == "file":
        file = open(argument and f"/{argument}", "rb")
        start_response(status, [*headers, ("Content-Length", str(os.fstat(file.fileno()).st_size))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped
    elif name == "keep":  # memory that is never given back
        _kept.append(b"\1" * (int(argument) << 20))
    elif name == "exit":
        os._exit(int(argument))
    elif name == "status":
        status = f"{argument} Some Reason"
        body = b"" if argument in ("204", "304") else body
        headers = [] if argument in ("204", "304") else headers
    elif name == "header":
        key, _, value = argument.partition("/")
        headers.append((key, value))
    elif name == "too-much":
        headers.append(("Content-Length", "3"))
    elif name == "too-little":
        headers.append(("Content-Length", "1000"))
    elif name == "too-little-late":
        start_response(status, [*headers, ("Content-Length", "1000000")])
        return blocks(1)
    elif name == "write":
        write = start_response(status, headers)
        write(b"written ")
        return [b"returned"]
    if name not in ("too-much", "too-little", "status"):
        headers.append(("Content-Length", str(len(body))))
    start_response(status, headers)
    return [body]
