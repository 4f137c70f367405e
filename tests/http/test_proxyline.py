"""The PROXY protocol: a table of headers, whole, byte by byte and with a tail, and generated headers."""

import ipaddress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsgicluster.errors import ProtocolError
from wsgicluster.http.proxyline import BLOCK_BYTES, NO_PEER, Address, ProxiedPeer, ProxyMode, crc32c, read_proxy_line

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TAILS = (b"", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\r\n", b"PROXY UNKNOWN\r\n", SIGNATURE, b"\xff")

LOCAL = 0x20
PROXY = 0x21
INET = 0x11
INET6 = 0x21
UNIX = 0x31


@dataclass(frozen=True)
class Case:
    """A header and what it says, or None if it is refused."""

    name: str
    raw: bytes
    peer: ProxiedPeer | None


def peer_of(source: Address, destination: Address) -> ProxiedPeer:
    return ProxiedPeer(source, destination)


def block(command: int, family: int, content: bytes = b"", size: int | None = None) -> bytes:
    """A header of version 2; ``size`` is what it says of its own length where that is a lie."""
    size = len(content) if size is None else size
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + content


def extra(kind: int, value: bytes = b"") -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def checked(command: int, family: int, content: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A header of version 2 with its checksum between other extras."""
    blank = block(command, family, content + before + extra(3, bytes(4)) + after)
    place = len(blank) - len(after) - 4
    return blank[:place] + crc32c(blank).to_bytes(4, "big") + blank[place + 4 :]


def ports(source: int, destination: int) -> bytes:
    return source.to_bytes(2, "big") + destination.to_bytes(2, "big")


V4 = bytes((192, 168, 0, 1, 10, 0, 0, 2)) + ports(56324, 443)
V4_PEER = peer_of(("192.168.0.1", 56324), ("10.0.0.2", 443))
V6_SOURCE = ipaddress.IPv6Address("2001:db8::7").packed
V6 = V6_SOURCE + ipaddress.IPv6Address("::1").packed + ports(0, 65535)
V6_PEER = peer_of(("2001:db8::7", 0), ("::1", 65535))
PATHS = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
LONGEST_V6 = b":".join([b"ffff"] * 8)

LINES = [
    Case("v4", b"PROXY TCP4 192.168.0.1 10.0.0.2 56324 443\r\n", V4_PEER),
    Case(
        "v4-longest",
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        peer_of(("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    Case("v4-least", b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", peer_of(("0.0.0.0", 0), ("0.0.0.0", 0))),
    Case("v6", b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", V6_PEER),
    Case(
        "v6-longest",
        b"PROXY TCP6 %b %b 65535 65535\r\n" % (LONGEST_V6, LONGEST_V6),
        peer_of((LONGEST_V6.decode(), 65535), (LONGEST_V6.decode(), 65535)),
    ),
    Case("v6-canonical", b"PROXY TCP6 2001:0DB8:0:0::0007 0::1 0 65535\r\n", V6_PEER),
    Case("v6-mapped", b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n", peer_of(("::ffff:1.2.3.4", 1), ("::1", 2))),
    Case("v6-mapped-hex", b"PROXY TCP6 ::ffff:102:304 ::1 1 2\r\n", peer_of(("::ffff:1.2.3.4", 1), ("::1", 2))),
    Case("unknown", b"PROXY UNKNOWN\r\n", NO_PEER),
    Case("unknown-space", b"PROXY UNKNOWN \r\n", NO_PEER),
    Case("unknown-ignored", b"PROXY UNKNOWN any  thing \x00\xff at all\r\n", NO_PEER),
    Case("unknown-longest", b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (LONGEST_V6, LONGEST_V6), NO_PEER),
]
assert len(LINES[-1].raw) == 107

LINES += [
    Case(f"refused-{number}", raw, None)
    for number, raw in enumerate(
        (
            b"\r\nPROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 \r\n",
            b"PROXY TCP\r\n",
            b"PROXY TCP44 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY UNKNOW\r\n",
            b"PROXY TCP4 1.2.3.4\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            b"PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1  2\r\n",
            b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4.5 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.08 1 2\r\n",
            b"PROXY TCP4 0x1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 1.2.3.\xb2 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 h 5.6.7.8 1 2\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY TCP6 ::1 5.6.7.8 1 2\r\n",
            b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            b"PROXY TCP6 [::1] ::1 1 2\r\n",
            b"PROXY TCP6 ::1/128 ::1 1 2\r\n",
            b"PROXY TCP6 ::g ::1 1 2\r\n",
            b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
            b"PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n",
            b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n",
            b"PROXY TCP6 00001::1 ::1 1 2\r\n",
            b"PROXY TCP6 " + b"0" * 46 + b" ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 00 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 02\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \xb2\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\t\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rX",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n",
            b"PROXY TCP4\r1.2.3.4 5.6.7.8 1 2\r\n",
            b"PROXY UNKNOWN\n",
            b"PROXY UNKNOWN\rX",
            b"PROXY UNKNOWN a\nb\r\n",
            b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
            b"PROXY UNKNOWN " + b"x" * 93,
        )
    )
]

BLOCKS = [
    Case("v4", block(PROXY, INET, V4), V4_PEER),
    Case("v6", block(PROXY, INET6, V6), V6_PEER),
    Case(
        "v6-mapped",
        block(PROXY, INET6, ipaddress.IPv6Address("::ffff:1.2.3.4").packed + V6[16:]),
        peer_of(("::ffff:1.2.3.4", 0), ("::1", 65535)),
    ),
    Case("unix", block(PROXY, UNIX, PATHS), peer_of("/run/a.sock", "/run/b.sock")),
    Case("unix-unnamed", block(PROXY, UNIX, bytes(216)), peer_of("", "")),
    Case(
        "unix-odd",
        block(PROXY, UNIX, b"\0abstract".ljust(108, b"\0") + b"/\xff\0rubbish".ljust(108, b"x")),
        peer_of("\0abstract", "/\udcff"),
    ),
    Case("unix-longest", block(PROXY, UNIX, b"a" * 108 + b"b" * 108), peer_of("a" * 108, "b" * 108)),
    Case("local", block(LOCAL, 0x00), NO_PEER),
    Case("local-with-addresses", block(LOCAL, INET, V4), NO_PEER),
    Case("local-short", block(LOCAL, INET, V4[:5]), NO_PEER),
    Case("local-any-family", block(LOCAL, 0xFF, b"whatever"), NO_PEER),
    Case("unspec", block(PROXY, 0x00), NO_PEER),
    Case("unspec-stream", block(PROXY, 0x01), NO_PEER),
    Case("unspec-with-addresses", block(PROXY, 0x00, b"\x01\xff\xff"), NO_PEER),
    Case("extras", block(PROXY, INET, V4 + extra(4) + extra(1, b"h2") + extra(0xEE, b"x" * 300)), V4_PEER),
    Case("unix-extra", block(PROXY, UNIX, PATHS + extra(4, b"x")), peer_of("/run/a.sock", "/run/b.sock")),
    Case("longest", block(PROXY, INET, V4 + extra(4, bytes(BLOCK_BYTES - 15))), V4_PEER),
    Case("checksum", checked(PROXY, INET, V4), V4_PEER),
    Case("checksum-between", checked(PROXY, INET6, V6, extra(1, b"h2"), extra(4, bytes(9))), V6_PEER),
]

BLOCKS += [
    Case(f"refused-{name}", raw, None)
    for name, raw in (
        ("signature", b"\r\n\r\n\x00\r\nQUIT\r"),
        ("empty-lines", b"\r\n\r\nGET / HTTP/1.1\r\n"),
        ("version-1", block(0x11, INET, V4)),
        ("version-3", block(0x31, INET, V4)),
        ("version-0", block(0x01, INET, V4)),
        ("command", block(0x22, INET, V4)),
        ("family", block(PROXY, 0x41, V4)),
        ("transport", block(PROXY, 0x13, V4)),
        ("transport-unspec", block(PROXY, 0x10, V4)),
        ("datagram-4", block(PROXY, 0x12, V4)),
        ("datagram-6", block(PROXY, 0x22, V6)),
        ("datagram-unix", block(PROXY, 0x32, PATHS)),
        ("datagram-unspec", block(PROXY, 0x02)),
        ("no-addresses", block(PROXY, INET)),
        ("short-4", block(PROXY, INET, V4[:-1])),
        ("short-6", block(PROXY, INET6, V4)),
        ("short-unix", block(PROXY, UNIX, PATHS[:-1])),
        ("too-long", block(PROXY, INET, V4 + extra(4, bytes(BLOCK_BYTES - 14)))),
        ("too-long-said", block(PROXY, INET, b"", 0xFFFF)),
        ("too-long-local", block(LOCAL, 0x00, b"", BLOCK_BYTES + 1)),
        ("extra-one-byte", block(PROXY, INET, V4 + b"\x04")),
        ("extra-two-bytes", block(PROXY, INET, V4 + b"\x04\x00")),
        ("extra-overrun", block(PROXY, INET, V4 + extra(4, b"abc")[:-1])),
        ("extra-overrun-far", block(PROXY, INET, V4 + b"\x01\xff\xff")),
        ("second-extra-overrun", block(PROXY, INET, V4 + extra(4) + b"\x01\x00\x01")),
        ("checksum-wrong", block(PROXY, INET, V4 + extra(3, bytes(4)))),
        ("checksum-other-bytes", checked(PROXY, INET, V4).replace(b"\xc0\xa8", b"\xc0\xa9")),
        ("checksum-short", block(PROXY, INET, V4 + extra(3, bytes(3)))),
        ("checksum-long", block(PROXY, INET, V4 + extra(3, bytes(5)))),
        ("checksum-twice", checked(PROXY, INET, V4, after=extra(3, bytes(4)))),
    )
]

TABLE = [(ProxyMode.V1, case) for case in LINES] + [(ProxyMode.V2, case) for case in BLOCKS]


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, ProxyMode | Case) else None


def outcome(data: bytes, mode: ProxyMode) -> tuple[ProxiedPeer, int] | str | None:
    """What becomes of the bytes: a result, None, or why they are refused."""
    try:
        return read_proxy_line(data, mode)
    except ProtocolError as error:
        assert error.status == 400
        assert error.detail
        return error.detail


def first_outcome(data: bytes, mode: ProxyMode) -> tuple[ProxiedPeer, int] | str | None:
    """What becomes of the bytes when they come one by one."""
    for end in range(len(data)):
        found = outcome(data[:end], mode)
        if found is not None:
            return found
    return outcome(data, mode)


@pytest.mark.parametrize(("mode", "case"), TABLE, ids=name_of)
def test_table(mode: ProxyMode, case: Case) -> None:
    """Read alike where only this version is expected, and where either is."""
    for each in (mode, ProxyMode.AUTO):
        _check_outcomes(each, case)


def _check_outcomes(mode: ProxyMode, case: Case) -> None:
    if case.peer is None:
        assert isinstance(outcome(case.raw, mode), str)
        assert isinstance(first_outcome(case.raw, mode), str)
        for tail in TAILS:
            assert isinstance(outcome(case.raw + tail, mode), str)
        return
    wanted = case.peer, len(case.raw)
    assert first_outcome(case.raw, mode) == wanted
    for tail in TAILS:
        assert outcome(case.raw + tail, mode) == wanted


def test_a_line_is_refused_where_only_blocks_are_expected() -> None:
    for case in LINES:
        assert isinstance(outcome(case.raw, ProxyMode.V2), str), case.name


def test_a_block_is_refused_where_only_lines_are_expected() -> None:
    for case in BLOCKS:
        assert isinstance(outcome(case.raw[:1], ProxyMode.V1), str), case.name


@pytest.mark.parametrize("mode", ProxyMode)
def test_nothing_is_waited_for(mode: ProxyMode) -> None:
    assert read_proxy_line(b"", mode) is None


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"\x16",
        b"\n",
        b" ",
        b"PO",
        b"PROXY\r",
        b"PROXY  ",
        b"PROXY X",
        b"PROXY TCP4X",
        b"PROXY TCP4\r",
        b"PROXY TCP4 :",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 00",
        b"PROXY TCP4 1.2.3.4\r",
        b"PROXY TCP4 1.2.3.256 ",
        b"PROXY TCP4 1.2.3.4 " + b"1" * 16,
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
        b"PROXY TCP6 g",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN " + b"x" * 92,
        b"\r\r",
        b"\r\n\r\n\x00\r\nQUIT\n\x22",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x12",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0b",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x10\x01",
    ],
)
def test_what_can_never_become_a_header_is_refused_at_once(data: bytes) -> None:
    assert outcome(data[:-1], ProxyMode.AUTO) is None
    assert isinstance(outcome(data, ProxyMode.AUTO), str)


def test_checksum() -> None:
    # RFC 3720, appendix B.4, and the check value of the catalogues.
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


BOUNDED = settings(max_examples=300)
PORTS = st.integers(0, 65535)


@BOUNDED
@given(st.ip_addresses(), st.data(), PORTS, PORTS)
def test_whatever_is_written_is_read(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject, source_port: int, port: int
) -> None:
    destination = data.draw(st.ip_addresses(v=source.version))
    line = f"PROXY TCP{source.version} {source} {destination} {source_port} {port}\r\n".encode()
    binary = block(
        PROXY,
        INET if source.version == 4 else INET6,
        source.packed + destination.packed + ports(source_port, port) + data.draw(st.sampled_from((b"", extra(4)))),
    )
    tail = data.draw(st.binary(max_size=4))
    for raw, mode in ((line, ProxyMode.V1), (binary, ProxyMode.V2)):
        found = read_proxy_line(raw + tail, mode)
        assert found is not None
        peer, used = found
        assert used == len(raw)
        for given_address, given_port, end in (
            (source, source_port, peer.source),
            (destination, port, peer.destination),
        ):
            assert isinstance(end, tuple)
            assert (ipaddress.ip_address(end[0]), end[1]) == (given_address, given_port)


@BOUNDED
@given(st.sampled_from([case.raw for case in LINES + BLOCKS if len(case.raw) < 400]), st.data())
def test_cutting_changes_nothing(base: bytes, data: st.DataObject) -> None:
    """However mutated bytes are cut: the same peer, or refused either way; and never anything else."""
    place = data.draw(st.integers(0, len(base)))
    noise = data.draw(st.binary(max_size=4))
    raw = base[:place] + noise + base[place + data.draw(st.integers(0, 4)) :]
    for mode in ProxyMode:
        whole, piecewise = outcome(raw, mode), first_outcome(raw, mode)
        if isinstance(whole, str) or isinstance(piecewise, str):
            assert isinstance(whole, str)
            assert isinstance(piecewise, str)
        else:
            assert whole == piecewise
            assert whole is None or whole[1] <= len(raw)


@BOUNDED
@given(st.binary(max_size=40))
def test_noise_is_never_anything_but_refused_or_waited_for(noise: bytes) -> None:
    for mode in ProxyMode:
        for raw in (noise, b"PROXY " + noise, b"PROXY TCP6 " + noise, SIGNATURE + noise):
            found = outcome(raw, mode)
            assert found is None or isinstance(found, str) or found[1] <= len(raw)
