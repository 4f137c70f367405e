"""What the kernel says of those who wait to be accepted."""

import contextlib
import pathlib
import socket

import pytest

from tests.conftest import wait_until
from wsgicluster.system.network.listen_queues import listen_overflows, queue_of, waiting_connections


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_queue(tmp_path: pathlib.Path, family: socket.AddressFamily) -> None:
    with contextlib.ExitStack() as owned:
        listener = owned.enter_context(socket.socket(family))
        try:
            listener.bind(
                {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, str(tmp_path / "s"))
            )
        except OSError as error:
            pytest.skip(f"no such address here: {error}")
        listener.listen(5)
        assert queue_of(listener) == (0, 5)
        for count in (1, 2, 3):
            owned.enter_context(socket.socket(family)).connect(listener.getsockname())
            wait_until(lambda count=count: queue_of(listener) == (count, 5), 5, "it waits")  # type: ignore[misc]
        listener.accept()[0].close()
        assert queue_of(listener) == (2, 5)
        assert waiting_connections(listener) == 2


def test_what_is_closed_has_no_queue() -> None:
    for family in (socket.AF_INET, socket.AF_UNIX):
        with socket.socket(family) as sock:
            pass
        assert queue_of(sock) is None
        assert waiting_connections(sock) == 0


def test_overflows(tmp_path: pathlib.Path) -> None:
    assert listen_overflows() is None or listen_overflows() >= 0  # type: ignore[operator]
    file = tmp_path / "netstat"
    file.write_text("TcpExt: A ListenOverflows B\nTcpExt: 1 23 4\nIpExt: C\nIpExt: 5\n")
    assert listen_overflows(str(file)) == 23
    file.write_text("IpExt: C\nIpExt: 5\n")
    assert listen_overflows(str(file)) is None
    assert listen_overflows(str(tmp_path / "none")) is None
