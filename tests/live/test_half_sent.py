"""A response that the socket does not take at once is sent later, and its connection serves the next request.

Every way in which a response can end up half sent is tried: the table is the product of what the application does,
how the response is framed, where its request stands among others, and what the client does meanwhile. Hundreds of
cases run side by side on one worker, which must neither use processor time while its clients do nothing nor keep a
descriptor of those that have left.
"""

import itertools
import pathlib

import pytest

from tests.conftest import StartServer
from tests.live.half_sent import FRAMINGS, MANNERS, PLACES, SHAPES, Case, try_all

pytestmark = pytest.mark.live


@pytest.mark.timeout(180)  # a machine may have more to do than this
@pytest.mark.parametrize("places", [PLACES[:2], PLACES[2:]], ids=["alone", "pipelined"])
def test_every_half_sent_response_is_completed_and_the_next_request_answered(
    server: StartServer, tmp_path: pathlib.Path, places: tuple[str, ...]
) -> None:
    try_all(
        server,
        tmp_path,
        [
            [
                Case(shape, framing, place, manner)
                for shape, framing, manner in itertools.product(SHAPES, FRAMINGS, MANNERS)
            ]
            for place in places
        ],
    )
