"""Which functions of ours are on the stack while a worker serves, and which of them call the application.

A signal's handler of the application may raise where one of these catches that, and nowhere else.
"""

from types import CodeType

from wsgicluster.worker.connection.reading import Reading
from wsgicluster.worker.hooks import WorkerHooks
from wsgicluster.worker.intake import acceptor
from wsgicluster.worker.kinds.offloading import Offloading
from wsgicluster.worker.kinds.sync import worker as sync
from wsgicluster.worker.kinds.worker import Worker
from wsgicluster.worker.request import cycle
from wsgicluster.wsgi import begun

SERVING_CODE = frozenset((Worker.serve.__code__,))
"""One of them is on the stack of the loop's thread while a worker serves."""

CALLS_APPLICATION = (
    cycle.CALLS_APPLICATION
    | sync.CALLS_APPLICATION
    | acceptor.CALLS_APPLICATION
    | begun.CALLS_APPLICATION
    | {Reading.receive.__code__, Offloading.answer.__code__, WorkerHooks.call_application.__code__}
)
"""The functions that call the application and catch what it raises; compiled ones stand as their callers."""


def calling_code(application: object) -> frozenset[CodeType]:
    """`CALLS_APPLICATION`, and what is called as the application, if that is ours: it may only call another one."""
    named = getattr(application, "__code__", None)
    ours = str(getattr(application, "__module__", "")).startswith("wsgicluster.")
    return CALLS_APPLICATION | {named} if ours and named is not None else CALLS_APPLICATION
