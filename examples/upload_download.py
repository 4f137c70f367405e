"""Store files and return them, with WSGI only.

wsgicluster --chdir examples -e UPLOAD_FOLDER=/tmp/uploads upload_download

``POST /NAME`` stores the body, ``GET /NAME`` returns it through
``wsgi.file_wrapper``, which the server turns into ``sendfile``.
"""

import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

FOLDER = pathlib.Path(os.environ.get("UPLOAD_FOLDER", "uploads"))
FOLDER.mkdir(parents=True, exist_ok=True)
NAME = re.compile(r"/([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})")
BLOCK_BYTES = 64 * 1024

StartResponse = Callable[..., Any]


def plain(start_response: StartResponse, status: str, text: str, *extra: tuple[str, str]) -> Iterable[bytes]:
    """A short text."""
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *extra])
    return [body]


def store(environ: dict[str, Any], start_response: StartResponse, name: str) -> Iterable[bytes]:
    """Write the body beside its place and rename it, so that no client reads half a file."""
    stream, size = environ["wsgi.input"], 0
    with tempfile.NamedTemporaryFile(dir=FOLDER, prefix=".incoming-", delete=False) as target:
        while block := stream.read(BLOCK_BYTES):
            target.write(block)
            size += len(block)
    os.replace(target.name, FOLDER / name)
    return plain(start_response, "201 Created", f"{size} bytes", ("Location", f"/{name}"))


def give(environ: dict[str, Any], start_response: StartResponse, name: str) -> Iterable[bytes]:
    """The stored file; the server closes it once it is sent."""
    try:
        file = open(FOLDER / name, "rb")
    except FileNotFoundError:
        return plain(start_response, "404 Not Found", f"no file {name}")
    size = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    content: Iterable[bytes] = environ["wsgi.file_wrapper"](file, BLOCK_BYTES)
    return content


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Route by method."""
    match = NAME.fullmatch(environ["PATH_INFO"])
    if match is None:
        return plain(start_response, "404 Not Found", "POST or GET /NAME; letters, digits, dot, dash, underscore")
    if environ["REQUEST_METHOD"] == "POST":
        return store(environ, start_response, match[1])
    if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        return give(environ, start_response, match[1])
    return plain(start_response, "405 Method Not Allowed", "GET or POST", ("Allow", "GET, HEAD, POST"))
