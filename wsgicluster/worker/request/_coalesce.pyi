from collections.abc import Iterable
from typing import Any, final

from wsgicluster.ipc.scoreboard import Page
from wsgicluster.wsgi.response import Response

@final
class Coalescer:
    def __init__(self, page: Page, beat_s: float) -> None: ...
    def send(self, response: Response, connection: Any, blocks: Iterable[bytes]) -> None: ...
    def settle(self) -> None: ...
