"""Half sent responses as in `test_half_sent.py`, over TLS."""

import itertools
import pathlib

import pytest

from tests.certificates import make_certificates
from tests.conftest import StartServer
from tests.live.half_sent import MANNERS, PLACES, SHAPES, Case, try_all

pytestmark = pytest.mark.live

FRAMINGS = ("counted", "chunked, close", "until close")
"""To TLS all that is kept is the same, and all that is not, and all whole blocks."""


@pytest.mark.timeout(180)  # a machine may have more to do than this
@pytest.mark.parametrize("places", [PLACES[:2], PLACES[2:]], ids=["alone", "pipelined"])
def test_every_half_sent_response_is_completed_and_the_next_request_answered(
    server: StartServer, tmp_path: pathlib.Path, places: tuple[str, ...]
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    try_all(
        server,
        tmp_path,
        [
            [
                Case(shape, framing, place, manner)
                for shape, framing, manner in itertools.product(SHAPES[1:], FRAMINGS, MANNERS)
            ]
            for place in places
        ],
        certificates.flags(),
        certificates.client(),
    )
