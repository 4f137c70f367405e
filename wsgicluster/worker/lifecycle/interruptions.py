"""Signal handlers of the application: what one raises ends a request that runs, and never the worker.

Python runs a handler between any two steps of the main thread, in the middle of the worker's own code, too, which could
not continue there. So handlers are called through a `Guard`, which looks where that is: within a call of the
application an exception is raised, as the application means it, and anywhere else it is logged.
"""

import logging
import signal
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


_ALL = tuple(signal.valid_signals())
"""Found when this is imported: each worker would make them anew, on pages that it shares otherwise."""


class Guard:
    """Stands for one handler of the application."""

    def __init__(self, handler: Handler, guards: "Guards") -> None:
        self.handler = handler
        self._guards = guards

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """What Python calls."""
        if self._guards.may_raise(frame):
            self.handler(number, frame)
            return
        try:
            self.handler(number, frame)
        except BaseException:  # noqa: BLE001
            # Whatever it is, KeyboardInterrupt and SystemExit as well: there is no request that it could end.
            self._guards.say_ignored(number)


class Guards:
    """All of them in one worker.

    ``serving`` are the functions whose frames are on the stack while a worker serves, ``calling`` those of them and
    within them that call the application and catch what it raises.
    """

    def __init__(self, log: logging.Logger, name: str) -> None:
        self.serving: frozenset[CodeType] = frozenset()
        self.calling: frozenset[CodeType] = frozenset()
        self._log = log
        self._name = name
        self._installed: Callable[..., Any] | None = None

    def install(self) -> None:
        """Guard the handlers that are there, and those that are set from now on.

        Harmless when repeated, as it has to be where other code has replaced ``signal.signal`` meanwhile.
        """
        if signal.signal is not self._installed:
            self._replace(signal.signal, signal.getsignal)
        for number in _ALL:
            found = signal.getsignal(number)
            if self._guarded(found) is not found:
                signal.signal(number, found)

    def watch(self, serving: frozenset[CodeType], calling: frozenset[CodeType]) -> None:
        """Say which functions serve, and which of them call the application."""
        self.serving, self.calling = serving, calling

    def _replace(self, set_handler: Callable[..., Any], get_handler: Callable[..., Any]) -> None:
        def guarded_signal(signalnum: int, handler: Any) -> Any:
            """``signal.signal``, with the same result: the handler before, as the application has set it."""
            return _bare(set_handler(signalnum, self._guarded(handler)))

        def guarded_getsignal(signalnum: int) -> Any:
            """``signal.getsignal``."""
            return _bare(get_handler(signalnum))

        self._installed = signal.signal = guarded_signal
        signal.getsignal = guarded_getsignal

    def _guarded(self, handler: Any) -> Any:
        ours = _is_ours(getattr(handler, "__module__", None))
        return handler if ours or not callable(handler) or isinstance(handler, Guard) else Guard(handler, self)

    def may_raise(self, frame: FrameType | None) -> bool:
        """Whether an exception would come from within a call of the application that catches all exceptions."""
        calling: CodeType | None = None
        ours = serving = False
        inner_is_ours = True
        name: str | None = None
        while frame is not None:
            name = frame.f_globals.get("__name__")
            is_ours = _is_ours(name)
            if is_ours:
                ours = True
                serving = serving or frame.f_code in self.serving
                if not inner_is_ours:
                    calling = frame.f_code
            inner_is_ours = is_ours
            frame = frame.f_back
        if not ours:
            # A greenlet of the application's own, or the hub, which would end the main greenlet.
            return name != "gevent.hub"
        return calling is not None and (not serving or calling in self.calling)

    def say_ignored(self, number: int) -> None:
        """Log the exception that is being handled."""
        self._log.exception(
            "%s: the application's handler of %s raised while none of its code ran; the worker keeps serving",
            self._name, signal.Signals(number).name,
        )  # fmt: skip


def _bare(handler: Any) -> Any:
    return handler.handler if isinstance(handler, Guard) else handler


def _is_ours(module: str | None) -> bool:
    return module is not None and module.startswith("wsgicluster.")
