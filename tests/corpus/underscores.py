"""Field names with underscores: dropped, refused or taken, and a forwarder's SCRIPT_NAME."""

from collections.abc import Iterator

from tests.corpus.head_case import Head, environ, get, post
from wsgicluster.http.limits import EVERY_NAME, HeadLimits, Underscores

REFUSE = HeadLimits(underscores=Underscores.REFUSE)
DANGEROUS = HeadLimits(underscores=Underscores.DANGEROUS)
FORWARDER = HeadLimits(forwarder_names=frozenset(("SCRIPT_NAME", "X_USER")))
REFUSING_FORWARDER = HeadLimits(underscores=Underscores.REFUSE, forwarder_names=frozenset(("SCRIPT_NAME",)))
ANY = HeadLimits(forwarder_names=frozenset((EVERY_NAME,)))
PLACE = b"GET /shop/cart?a=b HTTP/1.1"


def _switched() -> Iterator[Head]:
    yield Head("underscore-refused", get(b"X_A: v"), refused=400, limits=REFUSE)
    yield Head("underscore-refused-length", get(b"Content_Length: 5"), refused=400, limits=REFUSE)
    yield Head("underscore-refuse-none", get(b"X-A: v"), added=environ(HTTP_X_A="v"), limits=REFUSE)
    yield Head("underscore-malformed", get(b"X_A : v"), refused=400)
    yield Head("underscore-dangerous", get(b"x_A:  v\t"), added=environ(HTTP_X_A="v"), limits=DANGEROUS)
    again = get(b"X_A: 1", b"X-B: v", b"X_A: 2")
    yield Head("underscore-dangerous-twice", again, added=environ(HTTP_X_A="1,2", HTTP_X_B="v"), limits=DANGEROUS)
    # The names above are known to no parser: with other limits they stay what they were.
    yield Head("underscore-dropped-after", again, added=environ(HTTP_X_B="v"))
    for limits, name in ((DANGEROUS, "dangerous"), (ANY, "any")):
        for line in (b"Content_Length: 3", b"Content_Type: a/b", b"Transfer_Encoding: chunked", b"content_LENGTH: x"):
            raw = post(line, b"Content-Length: 5")
            added = environ(method="POST", CONTENT_LENGTH="5")
            yield Head(f"underscore-{name}-{line.decode()}", raw, added=added, length=5, limits=limits)
    for limits, name in ((DANGEROUS, "dangerous"), (FORWARDER, "forwarder"), (ANY, "any")):
        for lines in ((b"X_User: a", b"X-User: b"), (b"X-User: b", b"X_User: a")):
            yield Head(f"underscore-{name}-and-{lines[0].decode()}", get(*lines), refused=400, limits=limits)


def _forwarded() -> Iterator[Head]:
    known = {"HTTP_X_USER": "u"}
    yield Head("forwarder-named", get(b"X_User: u", b"X_Other: v"), added=environ(**known), limits=FORWARDER)
    yield Head("forwarder-any", get(b"X_User: u"), added=environ(**known), limits=ANY)
    yield Head("forwarder-half", get(b"X_Us-er: u"), added=environ(), limits=FORWARDER)
    raw = get(b"SCRIPT_NAME: /shop", b"X_Other: v")
    yield Head("forwarder-and-refused", raw, refused=400, limits=REFUSING_FORWARDER)
    place = get(b"SCRIPT_NAME: /shop", line=PLACE)
    yield Head("script-of-a-stranger", place, added=environ("/shop/cart?a=b", "/shop/cart", "a=b"))
    added = environ("/shop/cart?a=b", "/shop/cart", "a=b", HTTP_SCRIPT_NAME="/shop")
    yield Head("script-dangerous", place, added=added, limits=DANGEROUS)
    yield Head("script-hyphen", get(b"Script-Name: /shop"), added=environ(HTTP_SCRIPT_NAME="/shop"), limits=FORWARDER)
    added = environ("/shop/cart?a=b", "/cart", "a=b", HTTP_SCRIPT_NAME="/shop", SCRIPT_NAME="/shop")
    for limits, name in ((FORWARDER, "named"), (REFUSING_FORWARDER, "refusing"), (ANY, "any")):
        yield Head(f"script-{name}", place, added=added, limits=limits)
    for name, sent, path, script, rest in (
        ("slash", b"/shop/", "/shop/x", "/shop", "/x"),
        ("root", b"/", "/shop", "", "/shop"),
        ("empty", b"", "/shop", "", "/shop"),
        ("whole", b"/shop", "/shop", "/shop", ""),
        ("deep", b"/a/b", "/a/b/c", "/a/b", "/c"),
        ("encoded", b"/caf%C3%A9", "/caf%C3%A9/x", "/caf\xc3\xa9", "/x"),
        ("raw", b"/caf\xc3\xa9", "/caf%C3%A9/x", "/caf\xc3\xa9", "/x"),
    ):
        raw = get(b"script_name: " + sent, line=b"GET " + path.encode() + b" HTTP/1.1")
        added = environ(path, rest, SCRIPT_NAME=script, HTTP_SCRIPT_NAME=sent.decode("latin-1"))
        yield Head(f"script-{name}", raw, added=added, limits=FORWARDER)
    for name, value in (("other", b"/other"), ("part", b"/sho"), ("bare", b"shop"), ("longer", b"/shop/cart/x")):
        raw = get(b"SCRIPT_NAME: " + value, line=PLACE)
        yield Head(f"script-mismatch-{name}", raw, refused=500, limits=FORWARDER)
    for lines in ((b"SCRIPT_NAME: /shop", b"script_name: /shop"), (b"Script-Name: /x", b"SCRIPT_NAME: /shop")):
        yield Head(f"script-twice-{lines[0].decode()}", get(*lines, line=PLACE), refused=400, limits=FORWARDER)
    yield Head("script-instead", place, added=_added_in("/shop", "/cart"), limits=FORWARDER, script_name="/elsewhere")
    yield Head("path-header", get(b"PATH_INFO: /y"), added=environ(HTTP_PATH_INFO="/y"), limits=ANY)


def _added_in(script: str, path: str) -> dict[str, str]:
    return environ(f"{script}{path}?a=b", path, "a=b", SCRIPT_NAME=script, HTTP_SCRIPT_NAME=script)


UNDERSCORES = [*_switched(), *_forwarded()]
