"""Control sockets: their names, who listens, and who is at the other end."""

import os
import pathlib
import socket
import stat

import pytest

from wsgicluster.control import address
from wsgicluster.control.client import ControlConnection, NoServer

TABLE = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 23610 @wsgicluster/5/812
0000000000000000: 00000003 00000000 00000000 0001 03 23611 @wsgicluster/5/812
0000000000000000: 00000002 00000000 00010000 0001 01 23612 /run/wsgicluster/7
0000000000000000: 00000002 00000000 00010000 0001 01 23613 @wsgicluster/5/12x
0000000000000000: 00000002 00000000 00010000 0001 01 23614 @other/9
0000000000000000: 00000002 00000000 00010000 0001 01 23615 @wsgicluster/5/44
0000000000000000: 00000002 00000000 00010000 0001 01 23616 @wsgicluster/6/45
0000000000000000: 00000002 00000000 00010000 0001 01 23617 @wsgicluster/46
"""


def test_listening_sockets_of_ours_are_found() -> None:
    assert address.pids_in(TABLE, 5) == [44, 812]


def test_without_abstract_sockets_it_is_beside_the_pid_file() -> None:
    assert address.address_of(7, "/run/app.pid", abstract=False) == "/run/app.pid.control"
    assert address.address_of(7, None, abstract=False) is None
    found = address.address_of(7, None, abstract=True)
    assert found is not None
    assert address.shown(found) == f"@wsgicluster/{address.namespace()}/7"
    assert address.pid_in(found) == 7
    assert address.pid_in("/run/7") is None


@pytest.mark.skipif(not address.ABSTRACT, reason="there are no abstract sockets")
def test_an_abstract_one_is_found_and_ends_with_its_owner() -> None:
    where = address.address_of(os.getpid())
    assert where is not None
    listener = address.open_listener(where)
    assert os.getpid() in address.servers()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(where)
        peer = address.peer_of(client)
    assert peer == (os.getpid(), os.geteuid())
    address.close_listener(listener)
    assert os.getpid() not in address.servers()


def test_a_file_is_private_and_a_stale_one_is_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "app.pid.control"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    listener = address.open_listener(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError, match="in use"):
        address.open_listener(str(path))
    address.close_listener(listener)
    assert not path.exists()


@pytest.mark.skipif(not address.ABSTRACT, reason="there are no abstract sockets")
def test_a_name_that_another_process_has_taken_is_not_believed() -> None:
    where = address.address_of(os.getppid())
    assert where is not None
    listener = address.open_listener(where)
    with pytest.raises(NoServer, match=rf"belongs to another process \(pid {os.getpid()}\)"):
        ControlConnection(where)
    address.close_listener(listener)
