"""Which socket serves which address."""

import pytest

from wsgicluster.arbiter.listeners.matching import ListenTarget, plan
from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.errors import AddressError
from wsgicluster.settings import FdAddress, NamedFdAddress, TcpAddress, UnixAddress

TCP, TCP_PASSED = TcpAddress("127.0.0.1", 80), Passed(5, "127.0.0.1:80")
UNIX, UNIX_PASSED = UnixAddress("/s", mode=0o600), Passed(6, "unix:/s", made=(7, 8))
WEB, OTHER_WEB = Passed(3, name="web", activated=True), Passed(4, name="web", activated=True)
ADMIN = Passed(7, name="admin", activated=True)
ANY_PORT = TcpAddress("127.0.0.1", 0)


def test_nothing_was_passed() -> None:
    assert plan([TCP, UNIX], ()).targets == (ListenTarget(TCP), ListenTarget(UNIX))


def test_addresses_that_both_have_are_taken_over() -> None:
    made = plan([UNIX, ANY_PORT], [TCP_PASSED, UNIX_PASSED])
    assert made.targets == (ListenTarget(UNIX, UNIX_PASSED), ListenTarget(ANY_PORT))
    assert made.unused == (TCP_PASSED,)
    assert not made.replaces_bind


def test_any_port_twice() -> None:
    passed = [Passed(5, "127.0.0.1:0"), Passed(6, "127.0.0.1:0")]
    assert plan([ANY_PORT, ANY_PORT], passed).targets == (
        ListenTarget(ANY_PORT, passed[0]),
        ListenTarget(ANY_PORT, passed[1]),
    )


def test_sockets_of_a_service_manager_replace_bind() -> None:
    made = plan([TCP], [WEB, ADMIN])
    assert made.targets == (ListenTarget(None, WEB), ListenTarget(None, ADMIN))
    assert made.replaces_bind
    # So they do for the server after one that had an address before it got them.
    assert plan([TCP], [TCP_PASSED, WEB]).unused == (TCP_PASSED,)


def test_sockets_by_name_and_number() -> None:
    web, fourth = NamedFdAddress("web"), FdAddress(7)
    made = plan([web, TCP], [WEB, OTHER_WEB, ADMIN])
    assert made.targets == (ListenTarget(web, WEB), ListenTarget(web, OTHER_WEB), ListenTarget(TCP))
    assert made.unused == (ADMIN,)
    assert not made.replaces_bind
    assert plan([fourth], [WEB, ADMIN]).targets == (ListenTarget(fourth, ADMIN),)
    assert plan([fourth], []).targets == (ListenTarget(fourth),)
    assert plan([fourth], [Passed(7, "fd://7")]).targets == (ListenTarget(fourth, Passed(7, "fd://7")),)


def test_a_name_that_no_socket_has() -> None:
    with pytest.raises(AddressError, match="fd://app: no socket of that name was passed; there is admin, web"):
        plan([NamedFdAddress("app")], [WEB, OTHER_WEB, ADMIN])
    with pytest.raises(AddressError, match="fd://web: no sockets were passed by a service manager"):
        plan([NamedFdAddress("web")], [])
