"""Which of the sockets that were passed on serves which address of ``bind``.

Pure: names and numbers in, a plan out. An old server's listeners are taken over for
the addresses that are still wanted; a service manager's sockets take the place of
``bind``, unless that names them.
"""

from collections.abc import Sequence

from wsgicluster.arbiter.service.launch import Passed
from wsgicluster.dataclass import dataclass
from wsgicluster.errors import AddressError
from wsgicluster.settings import Address, FdAddress, NamedFdAddress, UnixAddress

_DESCRIPTOR = "fd://"


@dataclass(frozen=True, slots=True)
class ListenTarget:
    """One listener that is needed: an address to open, a socket to take over, or a socket for an address."""

    address: Address | None
    passed: Passed | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All listeners that are needed, the sockets that are not, and whether sockets replace ``bind``."""

    targets: tuple[ListenTarget, ...]
    unused: tuple[Passed, ...] = ()
    replaces_bind: bool = False


def canonical_address(address: Address) -> str:
    """An address without what may change while it stays the same address."""
    return f"unix:{address.path}" if isinstance(address, UnixAddress) else str(address)


def is_inherited(passed: Passed) -> bool:
    """Was it made by another process than a server of ours, which may still have it?"""
    return passed.activated or passed.place.startswith(_DESCRIPTOR)


def plan(bind: Sequence[Address], passed: Sequence[Passed]) -> Plan:
    """What to listen on; raises AddressError for a name that no socket has."""
    activated = [each for each in passed if each.activated]
    named = any(isinstance(address, FdAddress | NamedFdAddress) for address in bind)
    if activated and not named:
        unused = tuple(each for each in passed if not each.activated)
        return Plan(tuple(ListenTarget(None, each) for each in activated), unused, replaces_bind=True)
    rest = list(passed)
    targets: list[ListenTarget] = []
    for address in bind:
        found = [each for each in rest if _serves(each, address)]
        if isinstance(address, NamedFdAddress):
            if not found:
                raise AddressError(f"cannot listen on {address}: {_no_such_name(activated)}")
        else:
            found = found[:1]
        targets += [ListenTarget(address, each) for each in found] or [ListenTarget(address)]
        rest = [each for each in rest if each not in found]
    return Plan(tuple(targets), tuple(rest))


def _serves(each: Passed, address: Address) -> bool:
    if isinstance(address, NamedFdAddress):
        return each.activated and each.name == address.name
    if isinstance(address, FdAddress):
        # Not one of a server's own that has this number by chance.
        return each.fd == address.fd and is_inherited(each)
    return not each.activated and each.place == canonical_address(address)


def _no_such_name(activated: Sequence[Passed]) -> str:
    if not activated:
        return "no sockets were passed by a service manager"
    names = ", ".join(sorted({each.name or "one without a name" for each in activated}))
    return f"no socket of that name was passed; there is {names}"
