"""What two servers tell each other."""

import json

import pytest

from wsgicluster.arbiter.upgrade.channel import UpgradeChannel, UpgradeChannelClosed, UpgradeMessage, decode, encode

WORDS = [
    UpgradeMessage(),
    UpgradeMessage(serving=True),
    UpgradeMessage(serving=False),
    UpgradeMessage(kept=(3, 5), hand_off=True),
    UpgradeMessage(kept=(), hand_off=False),
    UpgradeMessage(main=True),
    UpgradeMessage(leaving=True),
    UpgradeMessage(error="bind: 'x'; expected an address"),
]


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_words_are_read_back(word: UpgradeMessage) -> None:
    assert decode(encode(word)) == word


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert decode(b'{"serving": true, "mood": "fine"}') == UpgradeMessage(serving=True)


@pytest.mark.parametrize("packet", [b"", b"[]", b"\xff", b'{"kept": 3}', b'{"kept": ["3"]}'])
def test_nonsense(packet: bytes) -> None:
    with pytest.raises(ValueError):
        decode(packet)


def test_a_long_error_is_cut() -> None:
    assert len(json.loads(encode(UpgradeMessage(error="x" * 100_000)))["error"]) == 2000


def test_both_ends() -> None:
    one, other = UpgradeChannel.pair()
    assert one.receive() is None
    assert other.send(UpgradeMessage(serving=True))
    assert one.receive() == UpgradeMessage(serving=True)
    other.close()
    with pytest.raises(UpgradeChannelClosed):
        one.receive()
    assert not one.send(UpgradeMessage())
    one.close()
