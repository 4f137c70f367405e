"""Addresses as the kernel writes them, beside what Python makes of the same."""

import socket
import struct

import pytest

from wsgicluster.system.network.addresses import read_address


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        (struct.pack("=H", socket.AF_INET) + bytes((0x1F, 0x90, 192, 0, 2, 7)) + bytes(20), ("192.0.2.7", 8080)),
        (
            struct.pack("=H", socket.AF_INET6)
            + b"\x00\x50\x00\x00\x00\x09"
            + bytes(15)
            + b"\x01"
            + struct.pack("=I", 3),
            ("::1", 80, 9, 3),
        ),
        (struct.pack("=H", socket.AF_UNIX) + bytes(26), ""),
    ],
)
def test_an_address_reads_as_python_gives_it(raw: bytes, address: object) -> None:
    assert len(raw) == 28
    assert read_address(raw) == address
