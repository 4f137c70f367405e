"""Packets: each is read as it was written, and other bytes are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgicluster.cluster.messages.packets import Kind, Packet, decode_packet, encode_packet


@given(
    st.sampled_from(Kind),
    st.binary(max_size=100),
    st.text(st.characters()).filter(lambda text: text.isprintable()).map(lambda text: text[:20]),
    st.integers(1, 500) | st.sampled_from(["steward", "jobs", "host/3"]),
    st.integers(0, 2**64 - 1),
)
def test_packets_there_and_back(kind: Kind, content: bytes, topic: str, sender: int | str, number: int) -> None:
    packet = Packet(kind, 0, content, topic, sender, number, number // 2, retained=bool(number % 2))
    assert decode_packet(encode_packet(packet)) == packet


@given(st.binary(max_size=60))
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        packet = decode_packet(data)
    except ValueError:
        return
    assert len(packet.content) <= len(data)


def test_a_topic_has_a_limit() -> None:
    with pytest.raises(ValueError, match="topic takes 1000 bytes"):
        encode_packet(Packet(Kind.SEND, 0, b"", "x" * 1000))
