"""Where the admin worker listens, and its token: what is read, and what is never shown."""

import pathlib
import sys

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import Loaded, load
from wsgicluster.settings.reference import listing
from wsgicluster.settings.types.admin import ADMIN
from wsgicluster.settings.types.values import TcpAddress, UnixAddress

TOKEN = "correct-horse-battery"


def loaded(folder: pathlib.Path, *arguments: str, **variables: str) -> Loaded:
    return load(["app", *arguments], variables, str(folder))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        (9100, TcpAddress("127.0.0.1", 9100)),
        ("9100", TcpAddress("127.0.0.1", 9100)),
        (":9100", TcpAddress("127.0.0.1", 9100)),
        ("0.0.0.0:9100", TcpAddress("0.0.0.0", 9100)),
        ("*:9100", TcpAddress("0.0.0.0", 9100)),
        ("[::1]:9100", TcpAddress("::1", 9100)),
        ("unix:/run/admin.sock,mode=660", UnixAddress("/run/admin.sock", 0o660)),
    ],
)
def test_addresses(given: object, expected: object) -> None:
    assert ADMIN.read(given) == expected
    assert ADMIN.read(ADMIN.show(ADMIN.read(given))) == expected


@pytest.mark.parametrize("given", ["localhost", "fd://3", "fd://admin", "65536", "::1", "a b:1", True, 1.5, -1])
def test_what_is_not_an_address(given: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        ADMIN.read(given)


def test_it_may_come_from_the_environment(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, WSGICLUSTER_ADMIN="9100", WSGICLUSTER_ADMIN_TOKEN=TOKEN)
    assert (found.settings.admin, found.settings.admin_token) == (TcpAddress("127.0.0.1", 9100), TOKEN)


def test_a_token_is_never_shown(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, "--admin", "9100", "--admin-token", TOKEN, "--print-config")
    assert TOKEN not in listing(found)
    for bad in ("short", "with a space in it", "not-ascii-t\xf6ken-0123"):
        with pytest.raises(UsageError) as caught:
            loaded(tmp_path, "--admin", "9100", "--admin-token", bad)
        assert bad not in str(caught.value)
        assert "at least 16 printable" in str(caught.value)


def test_a_token_without_an_address_or_twice(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(UsageError, match="admin as well"):
        loaded(tmp_path, "--admin-token", TOKEN)
    with pytest.raises(UsageError, match="not both"):
        loaded(tmp_path, "--admin", "9100", "--admin-token", TOKEN, "--admin-token-file", "token")


def test_a_file_without_a_token_is_noticed_before_the_start(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(UsageError, match=r"admin_token_file: .*a file with at least 16") as caught:
        loaded(tmp_path, "--admin", "9100", "--admin-token-file", "token")
    assert "short" not in str(caught.value)
    with pytest.raises(UsageError, match=r"cannot read .*/missing: No such file"):
        loaded(tmp_path, "--admin", "9100", "--admin-token-file", "missing")


def test_the_missing_package_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for setting in (["--admin", "9100"], ["--app-metrics"]):
        with pytest.raises(UsageError, match=r"pip install 'wsgicluster\[admin\]'"):
            loaded(tmp_path, *setting)
    assert loaded(tmp_path).settings.admin is None


def test_hosts(tmp_path: pathlib.Path) -> None:
    found = loaded(tmp_path, "--admin", "9100", "--admin-host", "a,B.example.", "--admin-host", "c_d")
    assert found.settings.admin_host == ("a", "b.example", "c_d")
    for bad in ("a b", "a:9100", "http://a", "*", "-a", "a..b"):
        with pytest.raises(UsageError, match=r"admin_host: .*; expected names of hosts"):
            loaded(tmp_path, "--admin", "9100", f"--admin-host={bad}")
    with pytest.raises(UsageError, match="admin_host: given without admin"):
        loaded(tmp_path, "--admin-host", "a")
