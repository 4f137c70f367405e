"""Listening sockets: real ones."""

import dataclasses
import os
import pathlib
import re
import select
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest

from tests.conftest import ROOT
from wsgicluster.arbiter.listeners.matching import ListenTarget
from wsgicluster.arbiter.listeners.sockets import Backlog, Listener, Owner, backlog_limit, open_listeners
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, FdAddress, TcpAddress, UnixAddress
from wsgicluster.system.network import address_holders

QUEUE = Backlog(16)
NOBODY = Owner()


@pytest.fixture
def opened() -> Iterator[list[Listener]]:
    listeners: list[Listener] = []
    yield listeners
    for listener in listeners:
        listener.close()


def open_all(addresses: Iterable[Address], queue: Backlog = QUEUE, owner: Owner = NOBODY) -> list[Listener]:
    return open_listeners([ListenTarget(address) for address in addresses], queue, owner)


def listen(opened: list[Listener], *addresses: Address) -> list[Listener]:
    made = open_all(addresses)
    opened += made
    return made


def connects(target: object, family: int = socket.AF_INET) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(target) == 0  # type: ignore[arg-type]


def test_tcp(opened: list[Listener]) -> None:
    (listener,) = listen(opened, TcpAddress("127.0.0.1", 0))
    port = listener.sock.getsockname()[1]
    assert listener.address == f"127.0.0.1:{port}"
    assert listener.url("https") == f"https://127.0.0.1:{port}"
    assert connects(("127.0.0.1", port))
    assert not listener.sock.getblocking()
    assert not listener.sock.get_inheritable()
    listener.close()
    assert not connects(("127.0.0.1", port))
    listen(opened, TcpAddress("127.0.0.1", port))


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux shows it")
def test_the_kernel_has_the_backlog(opened: list[Listener]) -> None:
    """(Node 30: net-listen-backlog)"""
    opened += open_all([TcpAddress("127.0.0.1", 0)], queue=Backlog(77))
    # struct tcp_info: of a listening socket tcpi_sacked, behind 8 bytes and 5 numbers, is its backlog.
    info = opened[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    assert int.from_bytes(info[28:32], sys.byteorder) == 77


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0"])
def test_every_address(opened: list[Listener], host: str) -> None:
    (listener,) = listen(opened, TcpAddress(host, 0))
    assert listener.sock.getsockname()[0] == "0.0.0.0"


def test_a_host_name(opened: list[Listener]) -> None:
    (listener,) = listen(opened, TcpAddress("localhost", 0))
    assert listener.sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("name", ["no.such.host.invalid", "no..such.host", f"{'a' * 64}.invalid"])
def test_an_unknown_host_name(name: str) -> None:
    with pytest.raises(AddressError, match=rf"'{re.escape(name)}' has no address"):
        open_all([TcpAddress(name, 0)])


def test_a_plain_address_needs_no_table_of_international_names() -> None:
    code = (
        "import sys; from wsgicluster.arbiter.listeners.sockets import *; "
        "from wsgicluster.arbiter.listeners.matching import ListenTarget; from wsgicluster.settings import TcpAddress; "
        "open_listeners([ListenTarget(TcpAddress('127.0.0.1', 0))], Backlog(16), Owner()); "
        "print('encodings.idna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_both_families_on_one_port(opened: list[Listener]) -> None:
    """(Node 31)"""
    (four,) = listen(opened, TcpAddress("0.0.0.0", 0))
    port = four.sock.getsockname()[1]
    (six,) = listen(opened, TcpAddress("::", port))
    assert six.address == f"[::]:{port}"
    assert connects(("::1", port), socket.AF_INET6)


@pytest.mark.usefixtures("no_collection")
def test_a_taken_address_names_its_holder_and_closes_the_others(opened: list[Listener]) -> None:
    (listener,) = listen(opened, TcpAddress("127.0.0.1", 0))
    port = listener.sock.getsockname()[1]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AddressError) as caught:
        open_all([TcpAddress("127.0.0.1", 0), TcpAddress("127.0.0.1", port)])
    assert len(os.listdir("/proc/self/fd")) == before
    text = str(caught.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{port}: the address is in use by process {os.getpid()} (")
    assert text.endswith("; stop what listens there, or choose another address (bind)")
    assert "\n" not in text
    assert caught.value.exit_code == 1


def test_workers_of_a_killed_arbiter_are_waited_for(opened: list[Listener], free_port: int) -> None:
    """(Node 22)"""
    code = """
import socket, sys
from wsgicluster.system import process
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    process.set_title("worker 1", "test")
    print("listens", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(free_port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdin is not None
        assert orphan.stdout.readline() == b"listens\n"
        assert address_holders.pids(address_holders.tcp_inodes(free_port)) == [orphan.pid]
        # It learns only now that it has to go, and needs a moment.
        orphan.stdin.close()
        listen(opened, TcpAddress("127.0.0.1", free_port))


def test_unix(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    (listener,) = listen(opened, UnixAddress(str(path), mode=0o660))
    assert listener.address == listener.url("uwsgi") == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert connects(str(path), socket.AF_UNIX)
    assert address_holders.pids(address_holders.unix_inodes(str(path))) == [os.getpid()]
    listener.close()
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owners_of_a_socket_file(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    named, default = tmp_path / "named", tmp_path / "default"
    addresses = [UnixAddress(str(named), user="nobody", group="65533"), UnixAddress(str(default))]
    opened += open_all(addresses, owner=Owner(65532, 65531))
    assert (named.stat().st_gid, default.stat().st_uid, default.stat().st_gid) == (65533, 65532, 65531)
    assert named.owner() == "nobody"
    with pytest.raises(AddressError, match="no_such_user"):
        open_all([UnixAddress(str(tmp_path / "s"), user="no_such_user")])


def test_a_stale_socket_file_is_taken_over(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listen(opened, UnixAddress(str(path)))
    assert connects(str(path), socket.AF_UNIX)


def test_a_live_socket_file_is_refused(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    """(Node 23)"""
    path = tmp_path / "socket"
    listen(opened, UnixAddress(str(path)))
    with pytest.raises(AddressError, match=f"in use by process {os.getpid()} "):
        open_all([UnixAddress(str(path))])
    assert connects(str(path), socket.AF_UNIX)


def test_a_full_socket_is_live(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(AddressError, match="in use"):
            open_all([UnixAddress(str(path))])


def test_other_files_are_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(AddressError, match="another file of that name"):
        open_all([UnixAddress(str(path))])
    assert path.read_text() == "keep me"


def test_a_successor_s_socket_file_is_not_removed(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    """(Node 27)"""
    path = tmp_path / "socket"
    (old,) = listen(opened, UnixAddress(str(path)))
    path.unlink()
    listen(opened, UnixAddress(str(path)))
    old.close()
    assert connects(str(path), socket.AF_UNIX)


def test_a_socket_file_in_no_folder(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AddressError, match="No such file"):
        open_all([UnixAddress(str(tmp_path / "nowhere" / "socket"))])


def test_inherited_sockets(opened: list[Listener]) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    target = bound.getsockname()
    (listener,) = listen(opened, FdAddress(bound.detach()))
    assert listener.address == f"127.0.0.1:{target[1]}"
    assert connects(target)


def test_inherited_descriptors_that_are_no_listeners() -> None:
    reading, writing = os.pipe()
    with pytest.raises(AddressError, match=f"cannot listen on fd://{reading}: this is not a socket"):
        open_all([FdAddress(reading)])
    os.close(reading)
    os.close(writing)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with pytest.raises(AddressError, match="not a stream socket"):
        open_all([FdAddress(datagrams.detach())])
    with pytest.raises(AddressError, match="not a socket: Bad file descriptor"):
        open_all([FdAddress(900)])


def test_backlog_limit(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "proc/sys/net/core/somaxconn"
    assert backlog_limit(str(tmp_path)) is None
    file.parent.mkdir(parents=True)
    file.write_text("128\n")
    assert backlog_limit(str(tmp_path)) == 128


def test_holders_without_proc(tmp_path: pathlib.Path) -> None:
    assert address_holders.tcp_inodes(80, str(tmp_path)) == set()
    assert address_holders.unix_inodes("/x", str(tmp_path)) == set()
    assert address_holders.pids({"1"}, str(tmp_path)) == []


def test_servers_that_share_a_port(opened: list[Listener]) -> None:
    shared = Backlog(16, reuse_port=True)
    opened += open_all([TcpAddress("127.0.0.1", 0)], shared)
    port = opened[0].sock.getsockname()[1]
    opened += open_all([TcpAddress("127.0.0.1", port)], shared)
    with pytest.raises(AddressError, match="the address is in use"):
        open_all([TcpAddress("127.0.0.1", port)], QUEUE)


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="only Linux defers")
def test_a_silent_connection_stays_with_the_kernel(opened: list[Listener]) -> None:
    """(Node 98)"""
    opened += open_all([TcpAddress("127.0.0.1", 0)], Backlog(16, defer_s=60))
    listener = opened[0].sock
    with socket.create_connection(listener.getsockname()) as silent, select.epoll() as watch:
        watch.register(listener, select.EPOLLIN)
        assert watch.poll(0) == []
        silent.sendall(b"G")
        assert watch.poll(5) == [(listener.fileno(), select.EPOLLIN)]


def test_without_deferring_a_silent_connection_is_seen(opened: list[Listener]) -> None:
    opened += open_all([TcpAddress("127.0.0.1", 0)])
    with socket.create_connection(opened[0].sock.getsockname()), select.epoll() as watch:
        watch.register(opened[0].sock, select.EPOLLIN)
        assert watch.poll(5)


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="only Linux defers")
def test_sockets_of_a_service_manager_are_left_as_they_are(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    tcp, local = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    local.bind(str(path))
    passed = [Passed(each.detach(), name="web", activated=True) for each in (tcp, local)]
    opened += open_listeners([ListenTarget(None, each) for each in passed], Backlog(16, defer_s=60), NOBODY)
    assert opened[0].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == 0
    assert connects(str(path), socket.AF_UNIX)
    for listener in opened:
        listener.close()
    assert path.exists()


def test_what_is_taken_over_is_set_anew_and_removed_by_the_last(opened: list[Listener], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "socket"
    (old,) = listen(opened, UnixAddress(str(path)))
    passed = dataclasses.replace(old.passed, fd=os.dup(old.sock.fileno()))
    (new,) = open_listeners([ListenTarget(UnixAddress(str(path), mode=0o600), passed)], QUEUE, NOBODY)
    opened.append(new)
    assert path.stat().st_mode & 0o777 == 0o600
    old.close(remove_file=False)
    assert connects(str(path), socket.AF_UNIX)
    new.close()
    assert not path.exists()


def test_a_socket_that_cannot_be_taken_over_leaves_the_files_of_others(
    opened: list[Listener], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "socket"
    (old,) = listen(opened, UnixAddress(str(path)))
    passed = dataclasses.replace(old.passed, fd=os.dup(old.sock.fileno()))
    with pytest.raises(AddressError, match="fd://web: this is not a socket"):
        open_listeners(
            [ListenTarget(UnixAddress(str(path)), passed), ListenTarget(None, Passed(900, name="web"))], QUEUE, NOBODY
        )
    assert connects(str(path), socket.AF_UNIX)
