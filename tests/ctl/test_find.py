"""Which server is meant, where it cannot be found: one line that says what runs, and what to do."""

import os
import threading

import pytest

from wsgicluster.control import address, protocol
from wsgicluster.control.client import ControlConnection, NoServer
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.ctl import find
from wsgicluster.ctl.find import Wanted, connect

SHOP, MAIL = find.FoundServer(11, "shop"), find.FoundServer(12, "mail")
SECOND_SHOP = find.FoundServer(13, "shop")


@pytest.mark.parametrize(
    ("name", "found", "of_others", "message"),
    [
        (
            None, [], [],
            "no server runs here; start one with wsgicluster, or name its socket with --socket or its pid file with -p",
        ),
        (
            None, [], [7, 8],
            "no server runs here that this user may control (another user's: pid 7, 8); ask as its user or as root",
        ),
        (
            "7", [], [7],
            "no server is called 7 that this user may control (another user's: pid 7); ask as its user or as root",
        ),
        ("post", [SHOP, MAIL], [7], "no server is called post; running: shop (pid 11), mail (pid 12)"),
        (
            None, [SHOP, MAIL], [],
            "several servers run here: shop (pid 11), mail (pid 12); choose one with -n NAME or -n PID",
        ),
        (
            "shop", [SHOP, MAIL, SECOND_SHOP], [],
            "several servers run here: shop (pid 11), shop (pid 13); choose one with -n PID",
        ),
    ],
)  # fmt: skip
def test_the_message_says_what_runs_and_what_to_do(
    name: str | None, found: list[find.FoundServer], of_others: list[int], message: str
) -> None:
    with pytest.raises(NoServer) as caught:
        find.choose(name, found, of_others)
    assert str(caught.value) == message


def test_the_server_is_chosen_by_name_or_pid_or_because_it_is_the_only_one() -> None:
    assert find.choose(None, [SHOP], [7]) is SHOP
    assert find.choose("mail", [SHOP, MAIL], []) is MAIL
    assert find.choose("13", [SHOP, SECOND_SHOP], []) is SECOND_SHOP


@pytest.mark.skipif(not address.ABSTRACT, reason="servers are found by their abstract sockets")
def test_a_server_that_answers_only_others_is_named() -> None:
    pid = os.getpid()
    where = address.address_of(pid)
    assert where is not None
    refusal = protocol.encode_error(None, ControlError(ErrorCode.NOT_ALLOWED, "user 1 may not control this server"))
    with address.open_listener(where) as listener:
        listener.setblocking(True)

        def refuse() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(refusal)

        server = threading.Thread(target=refuse)
        server.start()
        with pytest.raises(NoServer, match=rf"that this user may control \(another user's: pid .*\b{pid}\b"):
            connect(Wanted(name=str(pid)))
        server.join()


@pytest.mark.skipif(not address.ABSTRACT, reason="the address is an abstract one")
def test_a_refusal_is_read_though_the_server_has_closed_before_the_request() -> None:
    refusal = protocol.encode_error(None, ControlError(ErrorCode.NOT_ALLOWED, "user 1 may not control this server"))
    where = f"\0wsgicluster-test-{os.getpid()}"
    with address.open_listener(where) as listener, ControlConnection(where) as connection:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(refusal)
        with pytest.raises(ControlError, match="may not control") as caught:
            connection.call("hello")
    assert caught.value.code is ErrorCode.NOT_ALLOWED
