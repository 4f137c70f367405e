"""A client of the control socket, for programs that may wait. Every reply is read to its end."""

import contextlib
import json
import os
import select
import socket
from collections.abc import Generator
from typing import Any

from wsgicluster.control import address, protocol
from wsgicluster.control.protocol import ControlError, ErrorCode, Request

CONNECT_S = 5.0


class NoServer(Exception):
    """Nobody, or somebody else, listens there."""


class OtherUsers(NoServer):
    """Somebody listens there who is neither root nor this user."""


class ControlConnection:
    """One connection; a context manager. Raises NoServer when there is no server at the address, or OtherUsers.

    ``users`` are those that the server may run as, besides root: any process may take an abstract name, and whoever
    has it would read what is sent.
    """

    def __init__(self, where: str, users: frozenset[int] | None = None) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(CONNECT_S)
        try:
            self._sock.connect(where)
        except OSError as error:
            self._sock.close()
            raise NoServer(f"no server answers at {address.shown(where)}: {error.strerror or error}") from error
        found = address.peer_of(self._sock)
        trusted = {0, os.geteuid(), *(users or ())}
        if found is not None and os.geteuid() != 0 and found[1] not in trusted:
            self._sock.close()
            raise OtherUsers(f"{address.shown(where)} belongs to user {found[1]}, who is not trusted")
        named = address.pid_in(where)
        if found is not None and named is not None and found[0] != named:
            self._sock.close()
            raise NoServer(f"{address.shown(where)} belongs to another process (pid {found[0]})")
        self._lines = self._sock.makefile("rb")
        self._number = 0

    def __enter__(self) -> "ControlConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._sock.close()

    def items(self, command: str, args: dict[str, Any] | None = None) -> Generator[Any, None, Any]:
        """Send a command, and give each item as it comes. Raises ControlError; returns at the result."""
        self._sock.settimeout(CONNECT_S)
        self._number += 1
        try:
            # A server that turns this user away says so and closes, perhaps before anything was sent.
            with contextlib.suppress(BrokenPipeError):
                self._sock.sendall(protocol.encode_request(Request(self._number, command, args or {})))
            self._sock.settimeout(None)  # what is waited for may take long
            while True:
                reply = self._reply()
                if reply.get("id") not in (self._number, None):
                    continue  # of a command that was given up
                if "item" in reply:
                    yield reply["item"]
                elif reply.get("ok"):
                    return reply.get("result")
                else:
                    raise protocol.error_in(reply)
        except OSError as error:
            raise ControlError(ErrorCode.STOPPING, f"the server has gone: {error.strerror or error}") from error

    def call(self, command: str, args: dict[str, Any] | None = None) -> Any:
        """Send a command; its result. Raises ControlError."""
        found = self.items(command, args)
        while True:
            try:
                next(found)
            except StopIteration as end:
                return end.value

    def is_readable(self) -> bool:
        """Has something come since the last reply, or has the connection ended? Does not wait."""
        return bool(select.select([self._sock], [], [], 0)[0])

    def _reply(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ControlError(ErrorCode.STOPPING, "the server has closed the connection")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ControlError(ErrorCode.INVALID, f"the server speaks another protocol: {line[:80]!r}")
        return found
