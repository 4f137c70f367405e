"""Texts and the values they stand for."""

import pytest

from wsgicluster.settings.types.values import (
    Address,
    Automatic,
    FdAddress,
    MemoryShare,
    NamedFdAddress,
    TcpAddress,
    UnixAddress,
    read_address,
    read_duration,
    read_share,
    read_size,
    show_duration,
    show_size,
    split_addresses,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("0", 0.0),
        ("1.5s", 1.5),
        (" 7 s ", 7.0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds
    assert read_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1 day", "1e3", "inf", "nan", "30ss", "३", "9" * 400])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "limit_bytes", "shown"),
    [
        ("8190", 8190, "8190"),
        ("512M", 512 << 20, "512M"),
        ("1G", 1 << 30, "1G"),
        ("1g", 1 << 30, "1G"),
        ("2KiB", 2048, "2K"),
        ("3 MB", 3 << 20, "3M"),
        ("1024M", 1 << 30, "1G"),
        ("0", 0, "0"),
    ],
)
def test_size(text: str, limit_bytes: int, shown: str) -> None:
    assert read_size(text) == limit_bytes
    assert show_size(limit_bytes) == shown
    assert read_size(shown) == limit_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1P", "10%", "0x10"])
def test_no_size(text: str) -> None:
    with pytest.raises(ValueError):
        read_size(text)


def test_share() -> None:
    share = read_share("80%")
    assert share == MemoryShare(80)
    assert share != MemoryShare(70)
    assert share != 0
    assert str(share) == show_size(share) == "80%"
    assert share.of(1000, 4) == 200
    assert share.of(1, 4) == 1, "0 would mean that there is no limit"
    assert int(share) == 0


@pytest.mark.parametrize("text", ["0%", "101%", "%", "80", "-1%"])
def test_no_share(text: str) -> None:
    with pytest.raises(ValueError):
        read_share(text)


def test_automatic() -> None:
    assert Automatic() == 1
    assert str(Automatic()) == "auto"


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80), "127.0.0.1:80"),
        ("localhost", TcpAddress("localhost", 8000), "localhost:8000"),
        (":0", TcpAddress("0.0.0.0", 0), "0.0.0.0:0"),
        ("*:80", TcpAddress("0.0.0.0", 80), "0.0.0.0:80"),
        ("tcp://a.example:65535", TcpAddress("a.example", 65535), "a.example:65535"),
        ("[::1]:443", TcpAddress("::1", 443), "[::1]:443"),
        ("[::]", TcpAddress("::", 8000), "[::]:8000"),
        ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1), "[fe80::1%eth0]:1"),
        ("unix:/run/a.sock", UnixAddress("/run/a.sock"), "unix:/run/a.sock"),
        ("/run/a.sock", UnixAddress("/run/a.sock"), "unix:/run/a.sock"),
        ("/run/a.sock,mode=0660", UnixAddress("/run/a.sock", 0o660), "unix:/run/a.sock,mode=0660"),
        ("unix:///run/a.sock", UnixAddress("/run/a.sock"), "unix:/run/a.sock"),
        (
            "unix:a.sock,mode=0660,user=root,group=daemon",
            UnixAddress("a.sock", 0o660, "root", "daemon"),
            "unix:a.sock,mode=0660,user=root,group=daemon",
        ),
        ("unix:a, mode=600", UnixAddress("a", 0o600), "unix:a,mode=0600"),
        ("fd://3", FdAddress(3), "fd://3"),
        ("fd://web.socket", NamedFdAddress("web.socket"), "fd://web.socket"),
    ],
)
def test_address(text: str, address: Address, shown: str) -> None:
    assert read_address(text) == address
    assert str(address) == shown
    assert read_address(shown) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "8000", "::1", "a:b", "a:65536", "a:-1", "a:80:81", "[::1", "[a]:80", "[::1]80", "a b:80", "http://a:80",
        "unix:", "unix:a,mode=9", "unix:a,mode=1777", "unix:a,size=1", "unix:a,user=", "unix:a,mode=1,mode=1",
        "unix:" + "a" * 108, "fd://", "fd://x:y", "fd://-1", "fd://८", "fd:3", "a:८०",
    ],
)  # fmt: skip
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        read_address(text)


def test_addresses_in_one_text() -> None:
    text = "a:1, unix:/x,mode=0600,group=g,b:2,unix:/y"
    assert split_addresses(text) == ["a:1", "unix:/x,mode=0600,group=g", "b:2", "unix:/y"]
