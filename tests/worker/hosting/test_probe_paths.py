"""What probes get, and why."""

import json

import pytest

from wsgicluster.ipc.scoreboard import ServerState
from wsgicluster.worker.hosting.probe_paths import healthy, probe_response, unready


def test_a_worker_that_responds_is_healthy() -> None:
    assert healthy() == []


@pytest.mark.parametrize(
    ("state", "reasons"),
    [
        (ServerState.STARTING, ["server: starting"]),
        (ServerState.SERVING, []),
        (ServerState.LEAVING, ["server: draining"]),
        (ServerState.STOPPING, ["server: stopping"]),
    ],
)
def test_readiness(state: ServerState, reasons: list[str]) -> None:
    assert unready(state, orphaned=False) == reasons
    assert unready(state, orphaned=True) == ["arbiter: has exited"]


@pytest.mark.parametrize(("reasons", "code"), [([], "200 OK"), (["server: stopping"], "503 Service Unavailable")])
def test_a_response(reasons: list[str], code: str) -> None:
    status, fields, body = probe_response(reasons)
    assert status == code
    assert dict(fields)["Content-Length"] == str(len(body))
    assert json.loads(body) == {"status": "ok" if not reasons else "unavailable", "reasons": reasons}
