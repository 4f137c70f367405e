"""A connection to the control server that several threads use at a time, each for commands of its own.

One thread reads all replies, so that a command that takes long, or never ends, keeps no other one waiting.
"""

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from wsgicluster.control import protocol
from wsgicluster.control.protocol import ControlError, ErrorCode, Request

SEND_S = 5.0
"""A server that takes nothing for so long is stopped, or hangs."""


class _Pending:
    """One command, until it is answered."""

    def __init__(self, on_item: Callable[[Any], object] | None) -> None:
        self.on_item = on_item
        self.over = threading.Event()
        self.result: Any = None
        self.error: ControlError | None = None


class SharedConnection:
    """The client's end; ``sock`` is its own from now on. ``on_end`` is called once the server has closed its end."""

    def __init__(self, sock: socket.socket, on_end: Callable[[], object] = lambda: None) -> None:
        sock.settimeout(None)
        self._sock = sock
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._read, name="wsgicluster-control", daemon=True)

    def start(self) -> None:
        """Read replies from now on."""
        self._thread.start()

    def call(self, command: str, args: dict[str, Any] | None = None, timeout_s: float = 5.0) -> Any:
        """Send a command and wait for its result; raises ControlError, ``timed_out`` where none comes in time."""
        number, pending = self._send(command, args, None, timeout_s)
        if not pending.over.wait(timeout_s):
            with self._lock:
                self._pending.pop(number, None)
            raise ControlError(ErrorCode.TIMED_OUT, f"no answer from the arbiter within {timeout_s:g} s")
        if pending.error is not None:
            raise pending.error
        return pending.result

    def follow(self, command: str, args: dict[str, Any], on_item: Callable[[Any], object]) -> None:
        """Send a command, and have ``on_item`` called with each of its items, in the thread that reads."""
        self._send(command, args, on_item, SEND_S)

    def close(self) -> None:
        """Send and receive nothing more."""
        with contextlib.suppress(OSError):  # closed by the server
            self._sock.shutdown(socket.SHUT_RDWR)

    def _send(
        self, command: str, args: dict[str, Any] | None, on_item: Callable[[Any], object] | None, timeout_s: float
    ) -> tuple[int, _Pending]:
        pending = _Pending(on_item)
        with self._lock:
            if self._is_over:
                raise ControlError(ErrorCode.STOPPING, "the server has closed the connection")
            number = next(self._numbers)
            self._pending[number] = pending
        line = protocol.encode_request(Request(number, command, args or {}))
        if not self._sending.acquire(timeout=timeout_s):
            self._forget(number)
            raise ControlError(ErrorCode.TIMED_OUT, f"the arbiter has taken no command for {timeout_s:g} s")
        try:
            # Never waits, and never sends half a line: so short a one is one packet of a Unix socket.
            self._sock.send(line, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except BlockingIOError as error:
            self._forget(number)
            raise ControlError(ErrorCode.TIMED_OUT, "the arbiter takes no more commands") from error
        except OSError as error:
            self._forget(number)
            raise ControlError(ErrorCode.STOPPING, f"the server has gone: {error.strerror or error}") from error
        finally:
            self._sending.release()
        return number, pending

    def _forget(self, number: int) -> None:
        with self._lock:
            self._pending.pop(number, None)

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._sock.makefile("rb") as lines:  # a reset counts as an end
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._take(line)
        with self._lock:
            self._is_over = True
            left, self._pending = list(self._pending.values()), {}
        with self._sending:
            self._sock.close()
        for pending in left:
            pending.error = ControlError(ErrorCode.STOPPING, "the server has closed the connection")
            pending.over.set()
        self._on_end()

    def _take(self, line: bytes) -> None:
        reply = json.loads(line)
        with self._lock:
            pending = self._pending.get(reply.get("id"))
            if pending is None:
                return  # of a command that was given up
            if "item" not in reply:
                del self._pending[reply["id"]]
        if "item" in reply:
            if pending.on_item is not None:
                pending.on_item(reply["item"])
            return
        if reply.get("ok"):
            pending.result = reply.get("result")
        else:
            pending.error = protocol.error_in(reply)
        pending.over.set()
