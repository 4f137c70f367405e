"""Where the records of a TLS stream begin, which their headers say in the clear (RFC 8446, section 5.1).

Pure: nothing is decrypted here, and what is wrong with a record is left to those who do that.
"""

from collections.abc import Iterator

HEADER_BYTES = 5
"""Type, version, and the size of what follows."""


class Records:
    """One stream, from its first byte on."""

    __slots__ = ("_begun", "_left")

    def __init__(self) -> None:
        self._left = 0
        self._begun = b""
        """An unfinished header."""

    def cut(self, data: bytes, most: int) -> Iterator[tuple[bytes, int]]:
        """The next bytes of the stream, in pieces in which at most ``most`` records begin; and how many do.

        There is always a piece, even if it is empty. A record begins with the end of its header.
        """
        known = len(self._begun)
        stream = self._begun + data
        start, place, count = known, 0 if known else self._left, 0
        end = len(stream)
        while place + HEADER_BYTES <= end:
            if count == most:
                yield stream[start:place], count
                start, count = place, 0
            count += 1
            place += HEADER_BYTES + int.from_bytes(stream[place + 3 : place + HEADER_BYTES], "big")
        self._begun, self._left = (stream[place:], 0) if place < end else (b"", place - end)
        yield stream[start:], count
