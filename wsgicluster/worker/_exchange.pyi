from typing import Any

from wsgicluster.http.limits import HeadLimits
from wsgicluster.worker.connection import Connection
from wsgicluster.worker.cycle import Cycle
from wsgicluster.wsgi.trust import Trust

class Peer:
    def __init__(self, descriptor: int, template: dict[str, Any], client: bytes, trusted: bool) -> None: ...

class Exchange:
    received_bytes: int
    serving: Connection | None
    def __init__(self, cycle: Cycle, limits: HeadLimits, trust: Trust, keepalive_s: float, slow_s: float) -> None: ...
    def accept(self, listener: int) -> tuple[int, Any] | None: ...
    def receive(self, connection: Connection, peer: Peer) -> bytes | memoryview | None: ...
