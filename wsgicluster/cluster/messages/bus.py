"""Which bus between machines this process is on, if any; only then is the package imported that it needs."""

from typing import TYPE_CHECKING

from wsgicluster.cluster.messages.packets import Address
from wsgicluster.cluster.server.standing import Standing

if TYPE_CHECKING:
    from wsgicluster.cluster.redis.bus import RedisBus

_known: "tuple[Standing, RedisBus] | None" = None


def bus_of(here: Standing) -> "RedisBus | None":
    """The bus of this process, None without one; makes no connection yet."""
    global _known
    if here.member is None or here.member.bus is None:
        return None
    if _known is None or _known[0] is not here:
        from wsgicluster.cluster.redis.bus import RedisBus

        _known = here, RedisBus(here.member.bus, here.member.node_name)
    return _known[1]


def seen_from_elsewhere(node: str, sender: Address) -> Address:
    """How other machines call a sender of this one."""
    return sender if "/" in str(sender) else f"{node}/{sender}"
