"""Requests of the uwsgi protocol: a table of packets, whole, byte by byte and with a tail, and random ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uwsgi_packets import Pairs, nginx, packet, pairs_of, plain
from wsgicluster.errors import ProtocolError
from wsgicluster.http.head import IS_HEAD
from wsgicluster.http.limits import HeadLimits
from wsgicluster.http.uwsgi import read_uwsgi

TEMPLATE: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "here",
    "SERVER_PORT": "8000",
    "REMOTE_ADDR": "",
    "wsgi.url_scheme": "http",
    "wsgi.version": (1, 0),
}
SMALL = HeadLimits(line_bytes=64, fields=4, field_bytes=32, head_bytes=100, body_bytes=1000)
TAILS = (b"", b"hello", b"\x00\x05\x00\x00", b"\xff")


@dataclass(frozen=True)
class Case:
    """A packet and what it adds to the template, or the status it is refused with."""

    name: str
    raw: bytes
    added: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    length: int = 0
    flags: int = 0
    refused: int = 0
    limits: HeadLimits = field(default_factory=HeadLimits)
    script_name: str = ""


def accepted(
    name: str, variables: dict[str, str], missing: tuple[str, ...] = (), script_name: str = "", **more: Any
) -> Case:
    """A case whose variables are in the environ, but for those that are ``missing`` or other in ``more``."""
    limits = more.pop("limits", HeadLimits())
    length, flags = more.pop("length", 0), more.pop("flags", 0)
    added = {"QUERY_STRING": "", "RAW_URI": variables.get("REQUEST_URI"), **variables, **more}
    scheme = added.pop("scheme", None)
    if scheme:
        added["wsgi.url_scheme"] = scheme
    for key in missing:
        added.pop(key, None)
    return Case(name, packet(variables), added, missing, length, flags, 0, limits, script_name)


def repeated(name: str, keys: Sequence[str], **added: str) -> Case:
    """A case with these keys besides, the first with the value 0, the next with 1, and so on."""
    raw = packet([*plain().items(), *((key, str(number)) for number, key in enumerate(keys))])
    return Case(name, raw, {**plain(), "QUERY_STRING": "", "RAW_URI": "/p", **added})


ACCEPTED = [
    accepted("plain", plain()),
    accepted("nginx", nginx(), length=5, scheme="https"),
    accepted(
        "nginx-fields-of-the-body",
        nginx(HTTP_CONTENT_LENGTH="5", HTTP_CONTENT_TYPE="text/plain"),
        missing=("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"),
        length=5,
        scheme="https",
    ),
    accepted(
        "fields-of-a-body-alone", plain(HTTP_CONTENT_LENGTH="5"), missing=("HTTP_CONTENT_LENGTH", "CONTENT_LENGTH")
    ),
    accepted("head", plain(REQUEST_METHOD="HEAD"), flags=IS_HEAD),
    accepted("method-of-its-own", plain(REQUEST_METHOD="M-SEARCH")),
    accepted("never-kept", plain(HTTP_CONNECTION="keep-alive", HTTP_EXPECT="100-continue")),
    accepted("http-1.0", plain(SERVER_PROTOCOL="HTTP/1.0")),
    accepted("http-3", plain(SERVER_PROTOCOL="HTTP/3.0")),
    accepted("query", plain(REQUEST_URI="/p?a=b?c", QUERY_STRING=None), QUERY_STRING="a=b?c"),
    accepted("query-given", plain(REQUEST_URI="/p?a=b", QUERY_STRING="c=d")),
    accepted(
        "path-derived",
        plain(REQUEST_URI="/a%20%c3%A9%2Fb?%20", PATH_INFO=None),
        PATH_INFO="/a \xc3\xa9/b",
        QUERY_STRING="%20",
    ),
    accepted("path-given", plain(REQUEST_URI="/a%20b", PATH_INFO="/other\t%20")),
    accepted("path-empty", plain(PATH_INFO="")),
    accepted("path-star", plain(REQUEST_METHOD="OPTIONS", REQUEST_URI="*", PATH_INFO=None), PATH_INFO="*"),
    accepted("path-star-given", plain(REQUEST_METHOD="OPTIONS", REQUEST_URI="*", PATH_INFO="*")),
    accepted("path-star-placed", plain(REQUEST_METHOD="OPTIONS", REQUEST_URI="*", PATH_INFO="*"), script_name="/s"),
    accepted("value-with-space-around", plain(HTTP_A=" a b\t "), HTTP_A="a b"),
    accepted("variable-with-space-around", plain(X=" a ")),
    accepted("uri-absolute", plain(REQUEST_URI="http://h/p")),
    accepted("uri-none", plain(REQUEST_URI=None), RAW_URI="/p"),
    accepted("uri-empty", plain(REQUEST_URI=""), RAW_URI="/p"),
    accepted(
        "uri-quoted",
        plain(REQUEST_URI=None, PATH_INFO="/a b%\xe9\t/~(c)", QUERY_STRING="d=%20", SCRIPT_NAME="/s"),
        RAW_URI="/s/a%20b%25%E9%09/~(c)?d=%20",
    ),
    accepted("uri-none-path-empty", plain(REQUEST_URI=None, PATH_INFO=""), RAW_URI="/"),
    accepted("script-given", plain(REQUEST_URI="/s/p", SCRIPT_NAME="/s")),
    accepted("script-given-path-derived", plain(REQUEST_URI="/s/p", SCRIPT_NAME="/s", PATH_INFO=None), PATH_INFO="/p"),
    accepted(
        "script-of-the-template",
        plain(REQUEST_URI="/s/p?q", PATH_INFO=None),
        script_name="/s",
        PATH_INFO="/p",
        QUERY_STRING="q",
    ),
    accepted("script-alone", plain(REQUEST_URI="/s", PATH_INFO=None), script_name="/s", PATH_INFO=""),
    accepted("script-path-taken-off", plain(REQUEST_URI="/s/p"), script_name="/s"),
    accepted("script-path-whole", plain(REQUEST_URI="/%73/p", PATH_INFO="/s/p"), script_name="/s", PATH_INFO="/p"),
    accepted(
        "script-path-no-uri", plain(REQUEST_URI=None, PATH_INFO="/s"), script_name="/s", PATH_INFO="", RAW_URI="/s"
    ),
    accepted("script-of-both", plain(REQUEST_URI="/t/p", SCRIPT_NAME="/t"), script_name="/s"),
    accepted("https-empty", plain(HTTPS="", REQUEST_SCHEME="https"), scheme="https"),
    accepted("https-off", plain(HTTPS="off")),
    accepted("https-on", plain(HTTPS="ON"), scheme="https"),
    accepted("https-over-scheme", plain(HTTPS="on", REQUEST_SCHEME="http"), scheme="https"),
    accepted("scheme-http", plain(REQUEST_SCHEME="http")),
    accepted("scheme-empty", plain(REQUEST_SCHEME="")),
    accepted("server-unnamed", plain(SERVER_NAME="", SERVER_PORT=""), SERVER_NAME="here", SERVER_PORT="8000"),
    repeated("field-again", ("HTTP_A", "HTTP_B", "HTTP_A", "HTTP_A"), HTTP_A="0,2,3", HTTP_B="1"),
    repeated("cookie-again", ("HTTP_COOKIE", "HTTP_COOKIE"), HTTP_COOKIE="0; 1"),
    repeated("fields-again-most", ("HTTP_A",) * 100, HTTP_A=",".join(map(str, range(100)))),
    accepted("length-empty", plain(CONTENT_LENGTH=""), missing=("CONTENT_LENGTH",)),
    accepted("length-zero", plain(CONTENT_LENGTH="0")),
    accepted("length-zeros", plain(CONTENT_LENGTH="000"), CONTENT_LENGTH="0"),
    accepted("length-octal", plain(CONTENT_LENGTH="010"), CONTENT_LENGTH="10", length=10),
    accepted("length-most", plain(CONTENT_LENGTH="1000"), length=1000, limits=HeadLimits(body_bytes=1000)),
    accepted("length-18", plain(CONTENT_LENGTH="9" * 18), length=10**18 - 1, limits=HeadLimits(body_bytes=0)),
    accepted("type-empty", plain(CONTENT_TYPE="")),
    accepted(
        "coding-decoded",
        plain(CONTENT_LENGTH="7", HTTP_TRANSFER_ENCODING="chunked"),
        missing=("HTTP_TRANSFER_ENCODING",),
        length=7,
    ),
    accepted(
        "coding-decoded-to-nothing",
        plain(CONTENT_LENGTH="0", HTTP_TRANSFER_ENCODING="chunked"),
        missing=("HTTP_TRANSFER_ENCODING",),
    ),
    accepted("coding-taken-back", plain(HTTP_TRANSFER_ENCODING=""), missing=("HTTP_TRANSFER_ENCODING",)),
    accepted("host-port", plain(HTTP_HOST="[::1]:8000")),
    accepted("host-empty", plain(HTTP_HOST="")),
    accepted("own-parameters", plain(X="1", SSL_CLIENT_S_DN="CN=\xe9\t", UWSGI_SCHEME="https", A_9_="")),
    accepted("value-of-lengths", plain(X="v" * 255, Y="v" * 256, Z="v" * 10, LONG="v" * 0x0D0A)),
    accepted("key-long", plain(**{"K" * 300: "v"})),
    accepted("fields-most", plain(**{f"HTTP_{n}": "v" for n in range(100)}, **{f"P{n}": "v" for n in range(200)})),
    accepted("field-most", plain(HTTP_A="v" * (8190 - 3))),
    accepted("line-most", plain(REQUEST_URI="/" + "u" * (8190 - 14))),
    accepted("parameter-over-a-field's-limit", plain(SSL_CLIENT_RAW_CERT="v" * 20000)),
    accepted("largest", plain(X="v" * (65535 - len(pairs_of(plain())) - 5))),
]


def refused(name: str, status: int, variables: Pairs, limits: HeadLimits | None = None, **more: Any) -> Case:
    return Case(name, packet(variables, **more), refused=status, limits=limits or HeadLimits())


WHOLE = pairs_of(plain())
REFUSED = [
    refused("modifier1", 400, plain(), modifiers=(5, 0)),
    refused("modifier2", 400, plain(), modifiers=(0, 1)),
    Case("http", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", refused=400),
    Case("tls", b"\x16\x03\x01\x02\x00", refused=400),
    refused("empty", 400, {}),
    refused("no-method", 400, plain(REQUEST_METHOD=None)),
    refused("empty-method", 400, plain(REQUEST_METHOD="")),
    refused("method-with-space", 400, plain(REQUEST_METHOD="GET /")),
    refused("connect", 501, plain(REQUEST_METHOD="CONNECT")),
    refused("no-protocol", 400, plain(SERVER_PROTOCOL=None)),
    refused("empty-protocol", 400, plain(SERVER_PROTOCOL="")),
    refused("malformed-protocol", 400, plain(SERVER_PROTOCOL="HTTP/1")),
    refused("no-path", 400, plain(REQUEST_URI=None, PATH_INFO=None)),
    refused("empty-uri-no-path", 400, plain(REQUEST_URI="", PATH_INFO=None)),
    refused("path-without-slash", 400, plain(PATH_INFO="p")),
    refused("uri-with-space", 400, plain(REQUEST_URI="/a b")),
    refused("uri-with-high-byte", 400, plain(REQUEST_URI="/\xe9")),
    refused("uri-with-fragment", 400, plain(REQUEST_URI="/a#b")),
    refused("uri-star", 400, plain(REQUEST_URI="*", PATH_INFO=None)),
    refused("uri-absolute-no-path", 400, plain(REQUEST_URI="http://h/p", PATH_INFO=None)),
    refused("host", 400, plain(HTTP_HOST="a b")),
    refused("path-star-of-get", 400, plain(REQUEST_URI="*", PATH_INFO="*")),
    replace(refused("script-not-derived", 500, plain(REQUEST_URI="/sp", PATH_INFO=None)), script_name="/s"),
    replace(refused("script-not-given", 500, plain(REQUEST_URI="/sp", PATH_INFO="/sp")), script_name="/s"),
    replace(refused("script-not-in-path", 500, plain(REQUEST_URI=None)), script_name="/s"),
    refused("scheme", 400, plain(REQUEST_SCHEME="ftp")),
    refused("twice", 400, [*plain().items(), ("PATH_INFO", "/p")]),
    *(
        refused(f"twice-{key}", 400, [*plain().items(), (key, "1"), (key, "1")])
        for key in ("HTTP_HOST", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING", "CONTENT_LENGTH")
    ),
    refused("parameter-twice", 400, [*plain().items(), ("X", "1"), ("X", "1")]),
    refused("port-of-the-client", 400, plain(REMOTE_ADDR="192.0.2.1", REMOTE_PORT="4711\x1b[2J")),
    refused("script-without-slash", 400, plain(SCRIPT_NAME="shop")),
    refused("over-fields-again", 431, [*plain().items(), *([("HTTP_A", "v")] * 101)]),
    refused("over-field-limit-again", 431, [*plain().items(), ("HTTP_A", "v"), ("HTTP_A", "v" * (8190 - 2))]),
    refused("key-empty", 400, plain(**{"": "v"})),
    refused("key-lower", 400, plain(key="v")),
    refused("key-wsgi", 400, plain(**{"wsgi.input": "v"})),
    refused("key-scheme", 400, plain(**{"wsgi.url_scheme": "https"})),
    refused("key-dot", 400, plain(**{"HTTP_A.B": "v"})),
    refused("key-hyphen", 400, plain(**{"HTTP_A-B": "v"})),
    refused("key-digit-first", 400, plain(**{"1A": "v"})),
    refused("key-underscore-first", 400, plain(_A="v")),
    refused("key-line-end", 400, plain(**{"A\n": "v"})),
    refused("key-high", 400, [*plain().items(), ("\xc9", "v")]),
    refused("value-nul", 400, plain(HTTP_A="a\0b")),
    refused("value-cr", 400, plain(HTTP_A="a\r")),
    refused("value-lf", 400, plain(X="\nb")),
    refused("length-plus", 400, plain(CONTENT_LENGTH="+5")),
    refused("length-minus", 400, plain(CONTENT_LENGTH="-1")),
    refused("length-space", 400, plain(CONTENT_LENGTH=" 5")),
    refused("length-list", 400, plain(CONTENT_LENGTH="5, 5")),
    refused("length-underscore", 400, plain(CONTENT_LENGTH="5_0")),
    refused("length-superscript", 400, plain(CONTENT_LENGTH="\xb2")),
    refused("length-beyond-limit", 413, plain(CONTENT_LENGTH="1001"), HeadLimits(body_bytes=1000)),
    refused("length-19", 413, plain(CONTENT_LENGTH="1" * 19), HeadLimits(body_bytes=0)),
    refused("length-5000", 413, plain(CONTENT_LENGTH="1" * 5000), HeadLimits(body_bytes=0)),
    refused("coding-no-length", 411, plain(HTTP_TRANSFER_ENCODING="chunked")),
    refused("coding-empty-length", 411, plain(HTTP_TRANSFER_ENCODING="chunked", CONTENT_LENGTH="")),
    refused("over-head-limit", 431, plain(X="v" * 100), SMALL),
    refused("over-head-limit-said", 431, {}, SMALL, size=101),
    refused("over-line-limit", 414, plain(REQUEST_URI="/" + "u" * (8190 - 13))),
    refused("over-field-limit", 431, plain(HTTP_A="v" * (8190 - 2))),
    refused("over-fields", 431, plain(**{f"HTTP_{n}": "v" for n in range(101)})),
    refused("one-byte-more", 400, plain(), extra=b"\x00"),
    refused("two-bytes-more", 400, plain(), extra=b"\x01\x00"),
    refused("key-without-value", 400, plain(), extra=b"\x01\x00X"),
    refused("key-and-half-a-size", 400, plain(), extra=b"\x01\x00X\x00"),
    refused("key-overrun", 400, plain(), extra=b"\x02\x00X"),
    refused("key-overrun-far", 400, plain(), extra=b"\xff\xffX\x00\x00"),
    refused("value-overrun", 400, plain(), extra=b"\x01\x00X\x02\x00v"),
    refused("value-overrun-far", 400, plain(), extra=b"\x01\x00X\xff\xffv"),
    refused("size-short", 400, plain(), size=len(WHOLE) - 1),
]

CASES = ACCEPTED + REFUSED


def read(case: Case, before: bytes, data: bytes) -> tuple[dict[str, Any], int, int, int] | None:
    template = {**TEMPLATE, "SCRIPT_NAME": case.script_name}
    kept = template.copy()
    try:
        return read_uwsgi(before + data, len(before), template, case.limits)
    finally:
        assert template == kept


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted(case: Case) -> None:
    wanted = {**TEMPLATE, "SCRIPT_NAME": case.script_name, **case.added}
    for tail in TAILS:
        for before in (b"", b"\xff" * 7):
            found = read(case, before, case.raw + tail)
            assert found == (wanted, case.length, case.flags, len(case.raw))
            assert not found[0].keys() & set(case.missing)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused(case: Case) -> None:
    for tail in TAILS:
        for before in (b"", b"\xff" * 7):
            with pytest.raises(ProtocolError) as caught:
                read(case, before, case.raw + tail)
            assert caught.value.status == case.refused
            assert caught.value.detail


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_part_is_taken_for_the_whole(case: Case) -> None:
    size = len(case.raw)
    cuts = range(size) if size < 1000 else [*range(60), *range(60, size - 20, 997), *range(size - 20, size)]
    for cut in cuts:
        try:
            assert read(case, b"", case.raw[:cut]) is None
        except ProtocolError as error:
            assert error.status == case.refused


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"G", 400),
        (b"\x01", 400),
        (b"\x00\x00\x00\x01", 400),
        (b"\x00\x00\x00\x00", 400),
        (b"\x00\x65\x00\x00", 431),
        (b"\x00\xff\xff\x00", 431),
    ],
)
def test_what_can_never_become_a_packet_is_refused_at_once(data: bytes, status: int) -> None:
    assert read_uwsgi(data[:-1], 0, TEMPLATE, SMALL) is None
    with pytest.raises(ProtocolError) as caught:
        read_uwsgi(data, 0, TEMPLATE, SMALL)
    assert caught.value.status == status


def test_more_keys_than_are_remembered() -> None:
    for number in range(1500):
        for _ in range(2):
            found = read_uwsgi(packet(plain(**{f"HTTP_N{number}": "v"})), 0, TEMPLATE, HeadLimits())
            assert found is not None
            assert found[0][f"HTTP_N{number}"] == "v"


BOUNDED = settings(max_examples=300)
KEYS = st.from_regex("[A-Z][A-Z0-9_]{0,20}", fullmatch=True).map("X_".__add__)
VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\x00\r\n"), max_size=40)


@pytest.mark.exhaustive
@BOUNDED
@given(st.dictionaries(KEYS, VALUES, max_size=12), st.binary(max_size=5), st.data())
def test_whatever_is_written_is_read(more: dict[str, str], tail: bytes, data: st.DataObject) -> None:
    variables = {**plain(), **more}
    raw = packet(data.draw(st.permutations(list(variables.items()))))
    found = read_uwsgi(raw + tail, 0, TEMPLATE, HeadLimits())
    wanted = {**TEMPLATE, **variables, "RAW_URI": "/p", "QUERY_STRING": ""}
    assert found == (wanted, 0, 0, len(raw))


@BOUNDED
@given(st.sampled_from([packet(nginx()), *(case.raw for case in CASES if len(case.raw) < 600)]), st.data())
def test_mutated_packets_give_a_result_or_are_refused_or_waited_for(base: bytes, data: st.DataObject) -> None:
    raw = base
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw)))
        raw = raw[:place] + data.draw(st.binary(max_size=3)) + raw[place + data.draw(st.integers(0, 3)) :]
    try:
        found = read_uwsgi(raw, 0, TEMPLATE, HeadLimits())
    except ProtocolError as error:
        assert error.status in {400, 411, 413, 414, 431, 501}
        return
    if found is None:
        assert len(raw) < 4 or len(raw) < 4 + int.from_bytes(raw[1:3], "little")
        return
    environ, length, flags, used = found
    assert used == 4 + int.from_bytes(raw[1:3], "little") <= len(raw)
    assert str(length) == environ.get("CONTENT_LENGTH", "0")
    assert flags == (IS_HEAD if environ["REQUEST_METHOD"] == "HEAD" else 0)
    assert environ["wsgi.version"] == (1, 0)
    assert {"PATH_INFO", "QUERY_STRING", "RAW_URI", "SERVER_PROTOCOL"} <= environ.keys()
    # Each part of what is accepted is waited for.
    assert read_uwsgi(raw[: data.draw(st.integers(0, used - 1))], 0, TEMPLATE, HeadLimits()) is None
