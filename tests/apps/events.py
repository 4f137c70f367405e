"""An application for tests of events: each path does one thing to its worker, or sends the steward a message."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster import cluster

AT_IMPORT = cluster.role

while os.path.exists("held"):  # by a test that has something to do before this worker is ready
    time.sleep(0.01)


def _note(name: str) -> None:
    with open("own.log", "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {name}\n")


@cluster.on("ready")
def fail(event: cluster.ReadyEvent) -> None:
    raise LookupError("this handler fails")


@cluster.on("ready")
def note_ready(event: cluster.ReadyEvent) -> None:
    _note(event.name)


@cluster.on("draining")
def note_draining(event: cluster.DrainingEvent) -> None:
    _note(event.name)


@cluster.on("disconnect")
def note_disconnect(event: cluster.DisconnectEvent) -> None:
    _note(event.name)


@cluster.on_message("who")
def who(message: cluster.Message) -> Any:
    return {"role": cluster.role, "at import": AT_IMPORT, "pid": os.getpid()}


@cluster.on_message("slow")
def slow(message: cluster.Message) -> None:
    """Runs until the file ``released`` exists."""
    _note("slow began")
    while not os.path.exists("released"):
        time.sleep(0.01)
    _note("slow done")


@cluster.on_message("grow")
def grow(message: cluster.Message) -> None:
    kept.append(bytearray(message.value << 20))


kept: list[bytearray] = []


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/exit/N``, ``/hang``, ``/recycle``, ``/ask/TOPIC/N`` of the steward, ``/jobs`` (who is it?), ``/grow/N``."""
    command, *rest = environ["PATH_INFO"].strip("/").split("/")
    result: Any = "ok"
    match command:
        case "exit":
            os._exit(int(rest[0]))
        case "hang":
            threading.Event().wait()
        case "recycle":
            assert cluster.worker is not None
            cluster.worker.recycle("test")
        case "ask":
            cluster.send("steward", int(rest[1]), topic=rest[0])
        case "jobs":
            result = cluster.request("jobs", None, 5, topic="who")
        case "grow":
            cluster.send("jobs", int(rest[0]), topic="grow")
        case "slow":
            cluster.send("jobs", None, topic="slow")
        case "refused":
            try:
                cluster.scale(2)
            except cluster.ClusterError as error:
                result = str(error)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(result).encode()]
