"""What probes get, by plain values."""

from typing import Any

import pytest

from wsgicluster.admin import probes


def status(state: str, ready: int = 2) -> dict[str, Any]:
    server = {"state": state, "generation": 1, "workers": {"wanted": 2, "ready": ready}, "pid": 1, "version": "1"}
    return {"server": server, "workers": [], "others": []}


@pytest.mark.parametrize(
    ("state", "ready", "is_ready", "is_started"),
    [
        ("starting", 0, False, False),
        ("starting", 1, False, False),
        ("serving", 2, True, True),
        ("reloading", 2, True, True),
        ("degraded", 1, True, True),
        ("degraded", 0, False, True),
        ("serving", 0, False, True),
        ("draining", 2, False, True),
        ("stopping", 2, False, True),
    ],
)
def test_states(state: str, ready: int, is_ready: bool, is_started: bool) -> None:
    given = status(state, ready)
    assert probes.live(given).ok
    assert probes.ready(given).ok is is_ready
    assert probes.started(given).ok is is_started


def test_reasons_name_what_is_missing() -> None:
    assert probes.ready(status("draining", 0)).reasons == ("server: draining", "workers: none of 2 is ready")
    assert probes.started(status("starting", 1)).reasons == ("workers: 1 of 2 ready",)
    shown = probes.ready(status("serving")).as_json()
    assert shown == {
        "status": "ok",
        "reasons": [],
        "state": "serving",
        "generation": 1,
        "workers": {"wanted": 2, "ready": 2},
        "pid": 1,
        "version": "1",
    }
    assert probes.unreachable("too slow").as_json() == {"status": "unavailable", "reasons": ["arbiter: too slow"]}
