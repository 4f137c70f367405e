"""Requests in the packets of the uwsgi protocol, as gateways send them."""

from collections.abc import Mapping

Pairs = Mapping[str, str] | list[tuple[str, str]]


def pairs_of(variables: Pairs) -> bytes:
    content = b""
    for pair in variables.items() if isinstance(variables, Mapping) else variables:
        for text in pair:
            raw = text.encode("latin-1")
            content += len(raw).to_bytes(2, "little") + raw
    return content


def packet(variables: Pairs, extra: bytes = b"", size: int | None = None, modifiers: tuple[int, int] = (0, 0)) -> bytes:
    """A packet; ``size`` is what it says of its own size where that is a lie."""
    content = pairs_of(variables) + extra
    size = len(content) if size is None else size
    return bytes((modifiers[0],)) + size.to_bytes(2, "little") + bytes((modifiers[1],)) + content


def plain(**more: str | None) -> dict[str, str]:
    """The least that a request needs, with some variables more or, where None, fewer."""
    variables = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/p", "PATH_INFO": "/p", "SERVER_PROTOCOL": "HTTP/1.1"}
    return {key: value for key, value in {**variables, **more}.items() if value is not None}


def nginx(**more: str) -> dict[str, str]:
    """What nginx sends for a simple request with the parameters that come with it."""
    variables = {
        "QUERY_STRING": "a=%20b",
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "REQUEST_URI": "/caf%C3%A9?a=%20b",
        "PATH_INFO": "/caf\xc3\xa9",
        "DOCUMENT_ROOT": "/usr/share/nginx/html",
        "SERVER_PROTOCOL": "HTTP/2.0",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "50000",
        "SERVER_PORT": "443",
        "SERVER_NAME": "example.com",
        "REQUEST_SCHEME": "https",
        "HTTPS": "on",
        "HTTP_HOST": "example.com",
        "HTTP_COOKIE": "a=b; c=\xe9",
        "HTTP_X_EMPTY": "",
    }
    return {**variables, **more}
