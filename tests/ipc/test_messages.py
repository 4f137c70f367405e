"""Messages: each comes out as it went in, and every one fits its packet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgicluster.ipc.messages import (
    PACKET_BYTES,
    TEXT_BYTES,
    BootFailed,
    Channel,
    Forked,
    MemoryLimit,
    Message,
    Ready,
    RecycleWanted,
    decode,
    encode,
)

LONGEST = 4 * TEXT_BYTES


@pytest.mark.parametrize(
    "message",
    [Ready(0.5), BootFailed(4, "é\n\udcff", "Traceback"), RecycleWanted("memory", "\0"), MemoryLimit(3), Forked(3, 99)],
)
def test_there_and_back(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("character", ["x", "é", "\N{GRINNING FACE}", "\0", "\udcff", '"'])
def test_the_longest_texts_fit_and_keep_their_ends(character: str) -> None:
    """A report that does not fit is lost, and the server would end with the wrong exit code."""
    ours, theirs = Channel.pair()
    assert theirs.send(BootFailed(4, character * LONGEST + "summary", character * LONGEST + "error"))
    received = ours.receive()
    assert isinstance(received, BootFailed)
    assert received.exit_code == 4
    assert received.summary.endswith(character + "summary")
    assert received.trace.endswith(character + "error")
    assert len(encode(received)) > TEXT_BYTES
    ours.close()
    theirs.close()


@given(st.text(), st.integers(0, LONGEST), st.text())
def test_any_text_fits(text: str, times: int, end: str) -> None:
    long = text * (times // (len(text) or 1)) + end
    packet = encode(BootFailed(4, long, long))
    assert len(packet) <= PACKET_BYTES
    message = decode(packet)
    assert isinstance(message, BootFailed)
    assert long.endswith(message.trace)
    assert len(packet) > TEXT_BYTES or message.trace == long


@pytest.mark.parametrize("packet", [b"", b"[]", b"{}", b'{"type": "Ready"}', b'{"type": "Nothing"}', b"\xff"])
def test_invalid_packets(packet: bytes) -> None:
    with pytest.raises(ValueError):
        decode(packet)
