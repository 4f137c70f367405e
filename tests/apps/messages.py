"""An application that does with `wsgicluster.cluster` what a test tells it, in the worker that the test names.

``/do/SLOT/COMMAND?JSON`` runs a command with the JSON list as its arguments: in the worker that serves the request if
the slot is 0, else in the messenger thread of that slot's worker. What it raises comes back by name.
"""

import base64
import ctypes
import hashlib
import json
import os
import resource
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

from wsgicluster import cluster

Command = Callable[..., Any]
TIMEOUT_S = 20.0

AT_IMPORT = {
    "role": cluster.role,
    "slot": cluster.worker.slot if cluster.worker is not None else None,
    "variable": os.environ.get("WSGICLUSTER_SLOT"),
}
seen: list[list[Any]] = []
order = {"next": 0, "wrong": 0}


def note(message: cluster.Message) -> None:
    value = message.value
    if isinstance(value, bytes):
        value = ["bytes", len(value), hashlib.sha256(value).hexdigest()]
    seen.append([message.topic, value, message.sender, message.retained])


cluster.on_message("note")(note)
cluster.on_message("config")(note)
cluster.on_message(note)


@cluster.on_message("numbered")
def numbered(message: cluster.Message) -> None:
    order["wrong"] += message.value != order["next"]
    order["next"] += 1


@cluster.on_message("echo")
def echo(message: cluster.Message) -> Any:
    return message.value


@cluster.on_message("slow")
def slow(message: cluster.Message) -> Any:
    path, value = message.value
    assert cluster.worker is not None
    with open(f"{path}.{cluster.worker.slot}", "w"):
        pass  # it has begun
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


@cluster.on_message("fail")
def fail(message: cluster.Message) -> None:
    raise LookupError(f"refused {message.value}")


@cluster.on_message("fail")
def after_fail(message: cluster.Message) -> None:
    seen.append(["after", message.value, message.sender, message.retained])


@cluster.on_message("exhaust")
def exhaust(message: cluster.Message) -> None:
    """Have room for no other descriptor until there is a file of this name."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def restore() -> None:
        while not os.path.exists(message.value):
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    threading.Thread(target=restore, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))


@cluster.on_message("die")
def die(_message: cluster.Message) -> None:
    os._exit(7)


@cluster.on_message("not json")
def not_json(_message: cluster.Message) -> Any:
    return {"deep": [object()]}


@cluster.on_message("do")
def do(message: cluster.Message) -> Any:
    name, arguments = message.value
    return run(name, arguments)


def run(name: str, arguments: list[Any]) -> Any:
    """What a command returns, or ``{"raised": its name, "text": its text, "also": the names of its bases}``."""
    try:
        return COMMANDS[name](*arguments)
    except Exception as error:
        bases = [base.__name__ for base in type(error).__mro__]
        return {"raised": type(error).__name__, "text": str(error), "also": bases}


def who() -> dict[str, Any]:
    worker = cluster.worker
    assert worker is not None
    return {
        "role": cluster.role, "slot": worker.slot, "seat": worker.seat, "pid": worker.pid, "state": worker.state,
        "generation": worker.generation, "import": AT_IMPORT, "variable": os.environ.get("WSGICLUSTER_SLOT"),
        "threads": threading.active_count(), "text": repr(worker),
    }  # fmt: skip


def workers() -> list[list[Any]]:
    return [[each.slot, each.seat, each.generation, each.pid, each.state] for each in cluster.workers()]


def send_bytes(slot: int, size: int) -> str:
    value = os.urandom(size)
    cluster.send(slot, value, topic="note")
    return hashlib.sha256(value).hexdigest()


def echo_bytes(slot: int, size: int) -> bool:
    value = os.urandom(size)
    found: bytes = cluster.request(slot, value, TIMEOUT_S, topic="echo")
    return found == value


def send_numbers(slot: int, count: int) -> int:
    """Send so many numbers; how many times the mailbox was full."""
    full = 0
    for number in range(count):
        while True:
            try:
                cluster.send(slot, number, topic="numbered")
                break
            except cluster.QueueFull:
                full += 1
                time.sleep(0.0005)
    return full


def fill(slot: int) -> list[Any]:
    """Send until the mailbox is full: how many were taken, and how long that took."""
    began, count = time.monotonic(), 0
    try:
        while True:
            cluster.send(slot, "filling", topic="note")
            count += 1
    except cluster.QueueFull:
        return [count, time.monotonic() - began]


def send_and_exit(slot: int, count: int) -> None:
    for number in range(count):
        cluster.send(slot, number, topic="note")
    os._exit(3)


def in_fork() -> list[str]:
    """What calls raise in a process that the application has forked."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = []
        calls: list[Command] = [
            lambda: cluster.send(1, 1), lambda: cluster.broadcast("note", 1), lambda: cluster.request(1, 1, 1.0),
            cluster.workers,
        ]  # fmt: skip
        for call in calls:
            try:
                call()
                text.append("nothing")
            except cluster.NotInCluster:
                text.append("NotInCluster")
        text += [cluster.role, str(cluster.worker), str(len(os.listdir("/proc/self/fd")))]
        os.write(send, json.dumps(text).encode())
        os._exit(0)
    # Not to its end: gevent closes the other one only when its hub runs.
    found: list[str] = json.loads(os.read(receive, 65536))
    os.waitpid(pid, 0)
    os.close(send)
    os.close(receive)
    return found


def post_rubbish(slot: int) -> None:
    """Put something that is not a message into a mailbox."""
    from wsgicluster.ipc import membership

    member = membership.current()
    assert member is not None
    for packet in (b"\0", b"rubbish" * 100, bytes(4000)):
        member.mailboxes.messages[slot].send(packet)


def counted() -> list[int]:
    """Messages received, dropped, and late replies, as the page of this worker has them."""
    from wsgicluster.ipc import membership
    from wsgicluster.ipc.scoreboard import Cell

    member = membership.current()
    assert member is not None
    cells = member.page.cells
    return [cells[cell] for cell in (Cell.MESSAGES_RECEIVED, Cell.MESSAGES_DROPPED, Cell.LATE_REPLIES)]


def close_channel() -> None:
    from wsgicluster.ipc import membership

    member = membership.current()
    assert member is not None
    os.close(member.channel.fileno())


def recycle(reason: str) -> None:
    assert cluster.worker is not None
    cluster.worker.recycle(reason)


def subscribe(topic: str) -> None:
    cluster.on_message(topic)(note)


def timed_broadcast(value: Any) -> list[Any]:
    began = time.monotonic()
    return [cluster.broadcast("note", value), time.monotonic() - began]


def child() -> dict[str, Any]:
    """What a program that this worker starts is, with the worker's whole environment."""
    import subprocess
    import sys

    text = "from wsgicluster import cluster; print(cluster.role, cluster.worker, len(cluster.workers()))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, close_fds=False)
    return {"out": done.stdout, "error": done.stderr, "variable": os.environ["WSGICLUSTER_SLOT"]}


def orphaned(begun: str) -> list[str]:
    """What calls raise once the arbiter has died."""
    parent = os.getppid()
    with open(begun, "w"):
        pass
    while os.getppid() == parent:
        time.sleep(0.01)
    calls: tuple[tuple[str, list[Any]], ...] = (("recycle", [""]), ("send", ["steward", 1]))
    return [run(name, arguments)["raised"] for name, arguments in calls]


COMMANDS: dict[str, Command] = {
    "orphaned": orphaned,
    "who": who, "workers": workers, "child": child, "in_fork": in_fork, "counted": counted,
    "seen": lambda: list(seen), "clear": seen.clear, "order": lambda: dict(order),
    "send": lambda slot, value, topic="": cluster.send(slot, value, topic),
    "request": lambda slot, value, timeout, topic="": cluster.request(slot, value, timeout, topic),
    "broadcast": cluster.broadcast, "timed_broadcast": timed_broadcast, "subscribe": subscribe,
    "send_bytes": send_bytes, "echo_bytes": echo_bytes, "send_numbers": send_numbers, "fill": fill,
    "send_and_exit": send_and_exit, "post_rubbish": post_rubbish, "recycle": recycle, "close_channel": close_channel,
    "descriptors": lambda: len(os.listdir("/proc/self/fd")),
    "send_odd": lambda slot: cluster.send(slot, {"a": [1, ctypes]}),  # type: ignore[list-item]
    "base64": lambda slot, text: cluster.send(slot, base64.b64decode(text), "note"),
}  # fmt: skip


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Runs the command; anything else is answered with the slot."""
    parts = environ["PATH_INFO"].split("/")
    result: Any = environ["wsgicluster.slot"]
    if parts[1] == "do":
        slot, name = int(parts[2]), parts[3]
        arguments = json.loads(urllib.parse.unquote(environ["QUERY_STRING"]) or "[]")
        result = run(name, arguments) if slot == 0 else run("request", [slot, [name, arguments], TIMEOUT_S, "do"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(result).encode()]
