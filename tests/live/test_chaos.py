"""Random faults under load for some seconds; ``benchmarks/chaos.py`` does the same for longer and for all kinds."""

import pathlib

import pytest

from tests.conftest import StartServer
from tests.live.chaos import ARGUMENTS, KINDS, Chaos

pytestmark = pytest.mark.live

SEED = 7
SECONDS = 8.0
GROWTH_KIB = 3000
"""More than what Python's allocator may keep of a busy time, less than a leak at every death would cost."""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["preload"])
def test_chaos(server: StartServer, tmp_path: pathlib.Path, kind: str) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    live = server(*ARGUMENTS, *KINDS[kind], source=Chaos.source(1), environ={"TMPDIR": str(temporary)})
    chaos = Chaos(live, kind, SEED, temporary)
    chaos.run(SECONDS)
    chaos.end()
    print(chaos.summary())
    assert chaos.complaints == []
    assert chaos.memory_after_kib - chaos.memory_before_kib < GROWTH_KIB
