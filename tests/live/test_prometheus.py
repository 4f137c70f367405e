"""A real Prometheus that scrapes a server: what it sums up is what was sent, over reloads and kills."""

import pathlib
import shutil

import pytest

from tests.conftest import StartServer

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]


def test_sums_are_what_was_sent_over_reloads_and_kills(server: StartServer, tmp_path: pathlib.Path) -> None:
    """Few of them; ``benchmarks/operating.py --only sums`` does the same with 20 reloads and 20 kills."""
    pytest.importorskip("prometheus_client", reason="--admin needs prometheus-client")
    from tests.live.prometheus import ARGUMENTS, COUNTING, check_sums

    check_sums(server(*ARGUMENTS, source=COUNTING), tmp_path / "prometheus", 3)
