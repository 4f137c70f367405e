"""How long one request may go on, of those that run beside each other; a pure rule over times.

A request whose application gives blocks is no hang, however long it takes.
"""


class TimeLimit:
    """The limit of the request that began at ``started``: ``limit_s`` for each block, or what its application has set.

    It is checked from time to time, and a block counts from the look that finds it. ``passed`` says which limit has
    passed, or nothing. All times are of the monotonic clock.
    """

    __slots__ = ("_blocks", "_deadline", "_limit_s", "_own", "_text", "_waited_s", "passed", "started")

    def __init__(self, started: float, limit_s: float) -> None:
        self.started = started
        self.passed = ""
        self._limit_s = limit_s
        self._deadline = started + limit_s
        self._text = f"timeout of {limit_s:g} s passed"
        self._blocks = 0
        self._own: float | None = None
        self._waited_s = 0.0

    def look(self, now: float, blocks: int, waited_s: float, own: float | None) -> None:
        """Look at the request: it has given so many blocks, its client was waited for so long.

        ``own`` is the deadline that its application has set last, or None; ``math.inf`` lifts the limit.
        """
        if own != self._own and own is not None:
            self._own = self._deadline = own
            self._waited_s = waited_s
            self._text = "the deadline that the application has set passed"
        if blocks != self._blocks:
            self._blocks = blocks
            if now + self._limit_s > self._deadline + waited_s - self._waited_s:
                self._deadline = now + self._limit_s
                self._waited_s = waited_s
                self._text = f"timeout of {self._limit_s:g} s passed since its last block"
        # The time for which the client is waited for is none of the application's.
        self.passed = self._text if now >= self._deadline + waited_s - self._waited_s else ""
