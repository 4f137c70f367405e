"""How many clients wait at a listener, as the kernel tells."""

import pathlib
import socket

from wsgicluster.system.sockets import waiting_connections


def test_clients_of_a_tcp_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert waiting_connections(listener) == 0
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        assert waiting_connections(listener) == 3
        listener.accept()[0].close()
        assert waiting_connections(listener) == 2
        for each in clients:
            each.close()


def test_clients_of_a_unix_listener(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(8)
        assert waiting_connections(listener) == 0
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in clients:
            each.connect(listener.getsockname())
        # 0 where the kernel has no module for this.
        assert waiting_connections(listener) in (3, 0)
        for each in clients:
            each.close()


def test_a_socket_that_is_closed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.close()
    assert waiting_connections(listener) == 0
