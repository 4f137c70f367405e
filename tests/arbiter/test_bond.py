"""What two servers tell each other."""

import json

import pytest

from wsgicluster.arbiter.bond import Bond, BondClosed, Word, decode, encode

WORDS = [
    Word(),
    Word(serving=True),
    Word(serving=False),
    Word(kept=(3, 5), hand_off=True),
    Word(kept=(), hand_off=False),
    Word(main=True),
    Word(leaving=True),
    Word(error="bind: 'x'; expected an address"),
]


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_words_are_read_back(word: Word) -> None:
    assert decode(encode(word)) == word


def test_fields_of_a_newer_version_are_passed_over() -> None:
    assert decode(b'{"serving": true, "mood": "fine"}') == Word(serving=True)


@pytest.mark.parametrize("packet", [b"", b"[]", b"\xff", b'{"kept": 3}', b'{"kept": ["3"]}'])
def test_nonsense(packet: bytes) -> None:
    with pytest.raises(ValueError):
        decode(packet)


def test_a_long_error_is_cut() -> None:
    assert len(json.loads(encode(Word(error="x" * 100_000)))["error"]) == 2000


def test_both_ends() -> None:
    one, other = Bond.pair()
    assert one.hear() is None
    assert other.say(Word(serving=True))
    assert one.hear() == Word(serving=True)
    other.close()
    with pytest.raises(BondClosed):
        one.hear()
    assert not one.say(Word())
    one.close()
