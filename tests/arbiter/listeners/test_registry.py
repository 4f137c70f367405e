"""Listeners by numbers: what a new list has in common with the present one stays the same socket."""

import logging
import os
import pathlib
import socket
from collections.abc import Iterator, Sequence

import pytest

from wsgicluster.arbiter.listeners.matching import ListenTarget
from wsgicluster.arbiter.listeners.registry import Addresses
from wsgicluster.arbiter.listeners.sockets import Backlog, Listener, Owner, open_listeners
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.errors import AddressError
from wsgicluster.settings import FdAddress, NamedFdAddress, TcpAddress, UnixAddress
from wsgicluster.system.network.listen_queues import handshakes

ANY = TcpAddress("127.0.0.1", 0)


def make(places: Sequence[ListenTarget]) -> list[Listener]:
    return open_listeners(places, Backlog(5), Owner())


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    made = Addresses(logging.getLogger("tests.addresses"))
    yield made
    made.keep(())


def test_what_is_wanted_again_stays(addresses: Addresses, tmp_path: pathlib.Path) -> None:
    path = UnixAddress(str(tmp_path / "s"))
    assert addresses.open([ANY, path], make) == [0, 1]
    first = dict(addresses.sockets([0, 1]))
    assert addresses.open([path, ANY, ANY], make) == [1, 0, 2]
    assert dict(addresses.sockets([1, 0])) == first
    assert addresses.numbers() == {0, 1, 2}


def test_numbers_are_never_used_twice(addresses: Addresses, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    assert addresses.open([UnixAddress(str(path)), ANY], make) == [0, 1]
    assert addresses.keep({1}) == [f"unix:{path}"]
    assert not path.exists()
    assert addresses.open([UnixAddress(str(path)), ANY], make) == [2, 1]


@pytest.mark.usefixtures("no_collection")
def test_addresses_that_come_and_go_leave_no_descriptor(addresses: Addresses, tmp_path: pathlib.Path) -> None:
    """(Node 33: child-index-net, child-index-dgram)"""
    stays = ANY
    addresses.open([stays], make)
    before = len(os.listdir("/proc/self/fd"))
    for turn in range(50):
        numbers = addresses.open([stays, ANY, UnixAddress(str(tmp_path / f"s{turn % 3}"))], make)
        assert numbers[0] == 0
        assert len(addresses.keep({0})) == 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_cannot_be_had_changes_nothing(addresses: Addresses) -> None:
    addresses.open([ANY], make)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(AddressError, match="in use"):
            addresses.open([ANY, ANY, TcpAddress("127.0.0.1", taken.getsockname()[1])], make)
    assert addresses.numbers() == {0}


def test_no_newcomer_is_let_in_but_who_has_begun_is(addresses: Addresses) -> None:
    (number,) = addresses.open([ANY], make)
    listener = dict(addresses.sockets([number]))[number]
    with socket.create_connection(listener.getsockname(), 5) as early:
        assert addresses.shut({os.getpid()}) == {number: listener.getsockname()[1]}
        with socket.socket() as late:
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(listener.getsockname())
        taken, _ = listener.accept()
        with taken:
            early.sendall(b"as usual")
            assert taken.recv(100) == b"as usual"
    addresses.open_again([number])
    with socket.create_connection(listener.getsockname(), 5):
        pass


def test_a_socket_that_others_have_is_left_alone(addresses: Addresses, tmp_path: pathlib.Path) -> None:
    inherited = FdAddress(socket.create_server(("127.0.0.1", 0)).detach())
    numbers = addresses.open([ANY, UnixAddress(str(tmp_path / "s")), inherited], make)
    # As if another server had the first one, too: this process is none of the family.
    assert addresses.shut({1}) == {}
    assert addresses.held() == set()
    for _, listener in addresses.sockets(numbers):
        with socket.socket(listener.family) as client:
            client.settimeout(5)
            client.connect(listener.getsockname())


def test_handshakes_that_are_not_over(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "proc/net"
    folder.mkdir(parents=True)
    rows = ["  0: 0100007F:1F90 0100007F:8A1C 03 rest", "  1: 0100007F:1F90 00000000:0000 0A rest"]
    (folder / "tcp").write_text("\n".join(["  sl  local_address", *rows, "  2: 0100007F:1F91 0100007F:1 03 rest", ""]))
    assert handshakes({8080}, str(tmp_path)) == 1
    assert handshakes({8080, 8081}, str(tmp_path)) == 2
    assert handshakes(set(), str(tmp_path)) == 0
    assert handshakes({8080}, str(tmp_path / "none")) == 0


def test_a_descriptor_can_only_be_taken_over_at_the_start(addresses: Addresses) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    inherited = FdAddress(sock.detach())
    assert addresses.open([inherited], make) == [0]
    assert addresses.open([inherited, ANY], make) == [0, 1]
    with pytest.raises(AddressError, match="only be taken over at the start"):
        addresses.open([inherited, FdAddress(250)], make)


def test_another_mode_is_the_same_address(
    addresses: Addresses, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    addresses.open([UnixAddress(str(tmp_path / "s"), 0o600)], make)
    assert addresses.open([UnixAddress(str(tmp_path / "s"), 0o660)], make) == [0]
    assert "mode and owner change with a restart only" in caplog.text


def listening(*, activated: bool = False, name: str = "", number: int | None = None) -> Passed:
    """A socket that another process has passed on."""
    sock = socket.create_server(("127.0.0.1", 0))
    place = "" if activated else f"127.0.0.1:{sock.getsockname()[1]}"
    return Passed(sock.detach(), place, name, activated, number=number)


def test_what_another_server_has_passed_on_keeps_its_number(addresses: Addresses) -> None:
    wanted, unwanted = listening(number=7), listening(number=0)
    address = TcpAddress("127.0.0.1", int(wanted.place.rpartition(":")[2]))
    assert addresses.open([ANY, address], make, [unwanted, wanted]) == [0, 7]
    assert sorted(each.number or 0 for each in addresses.passed()) == [0, 7]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(unwanted.fd)
    assert addresses.open([ANY, address, ANY], make) == [0, 7, 1]


def test_sockets_of_a_service_manager_stay_whatever_bind_says_later(addresses: Addresses) -> None:
    web, admin = listening(activated=True, name="web"), listening(activated=True, name="admin")
    assert addresses.open([ANY], make, [web, admin]) == [0, 1]
    assert addresses.open([TcpAddress("127.0.0.1", 1)], make) == [0, 1]
    # By name there may be fewer, and others beside them; what was closed does not come back.
    assert addresses.open([ANY, NamedFdAddress("web")], make) == [2, 0]
    assert addresses.keep({0, 2}) != []
    with pytest.raises(AddressError, match="no socket of that name was passed; there is web"):
        addresses.open([NamedFdAddress("admin")], make)
    # The process that made it keeps listening, even where that cannot be seen.
    assert addresses.shut({os.getpid()}).keys() == {2}


def test_a_descriptor_is_not_one_of_our_own(addresses: Addresses) -> None:
    (number,) = addresses.open([ANY], make)
    ours = dict(addresses.sockets([number]))[number].fileno()
    with pytest.raises(AddressError, match=f"fd://{ours}: a descriptor can only be taken over at the start"):
        addresses.open([FdAddress(ours)], make)


def test_what_another_server_has_as_well_is_left_to_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s"
    addresses = Addresses(logging.getLogger("tests.addresses"), 5, lambda passed: passed.number in {5, 6})
    assert addresses.open([ANY, UnixAddress(str(path)), ANY], make) == [5, 6, 7]
    assert addresses.shut({os.getpid()}).keys() == {7}
    addresses.keep(())
    assert path.exists()
