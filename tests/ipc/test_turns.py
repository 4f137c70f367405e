"""Turns that processes share: each number once, in any process and however that ends."""

import os
import signal

from wsgicluster.ipc.turns import Turns

EACH = 20_000


def test_turns_grow_from_zero() -> None:
    turns = Turns.new()
    assert [turns.next() for _ in range(3)] == [0, 1, 2]
    turns.close()
    turns.close()


def test_no_two_processes_get_the_same_turn() -> None:
    turns = Turns.new()
    read, write = os.pipe()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            found = b"".join(turns.next().to_bytes(4, "big") for _ in range(EACH))
            os.write(write, found)
            os._exit(0)
        children.append(child)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    for child in children:
        os.waitpid(child, 0)
    numbers = [int.from_bytes(found[at : at + 4], "big") for at in range(0, len(found), 4)]
    assert sorted(numbers) == list(range(4 * EACH))
    turns.close()


def test_a_killed_process_leaves_the_turns_usable() -> None:
    turns = Turns.new()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready_write, b"x")
        while True:
            turns.next()
    os.read(ready_read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    first = turns.next()
    assert turns.next() == first + 1
    os.close(ready_read)
    os.close(ready_write)
    turns.close()
