"""What the probes of orchestrators and load balancers are answered, from a status. Pure.

Live means that the arbiter responds: a restart would help where it does not. Ready means that clients should be sent
here. Started means that so many workers have been ready as the settings ask for.
"""

from collections.abc import Mapping
from typing import Any

from wsgicluster.dataclass import dataclass

_READY_STATES = frozenset({"serving", "reloading", "degraded"})


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The answer to one probe; ``reasons`` say why not, ``facts`` what is known of the server."""

    ok: bool
    reasons: tuple[str, ...]
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For the body of the response."""
        return {"status": "ok" if self.ok else "unavailable", "reasons": list(self.reasons), **self.facts}


def _result(status: Mapping[str, Any], reasons: list[str]) -> ProbeResult:
    server = status["server"]
    facts = {name: server.get(name) for name in ("state", "generation", "workers", "pid", "version")}
    return ProbeResult(not reasons, tuple(reasons), facts)


def unreachable(reason: str) -> ProbeResult:
    """The arbiter has not answered, for this reason."""
    return ProbeResult(False, (f"arbiter: {reason}",), {})


def live(status: Mapping[str, Any]) -> ProbeResult:
    """The arbiter has responded."""
    return _result(status, [])


def ready(status: Mapping[str, Any]) -> ProbeResult:
    """Whether clients should be sent here."""
    server, reasons = status["server"], []
    state, workers = server["state"], server["workers"]
    if state not in _READY_STATES:
        reasons.append(f"server: {state}")
    if workers["ready"] < 1:
        reasons.append(f"workers: none of {workers['wanted']} is ready")
    return _result(status, reasons)


def started(status: Mapping[str, Any]) -> ProbeResult:
    """Whether it has begun to serve."""
    server = status["server"]
    if server["state"] != "starting":
        return _result(status, [])
    workers = server["workers"]
    return _result(status, [f"workers: {workers['ready']} of {workers['wanted']} ready"])
