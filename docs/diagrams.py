"""What the diagrams of the pages show: processes, a request's way, a reload second by second, mailboxes.

A page names one with ``.. diagram:: NAME``. How they are drawn is in ``drawing.py``.
"""

from collections.abc import Callable

from drawing import Drawing


def processes() -> Drawing:
    """The arbiter, what it forks, and where clients come in."""
    drawing = Drawing(
        "processes",
        356,
        "The arbiter forks and watches the workers, and where they are used an admin worker, a steward and a jobs "
        "worker. All workers accept clients at the same listeners, which the arbiter has opened.",
    )
    optional = (("admin worker", "probes, metrics"), ("steward", "events, policies"), ("jobs worker", "no requests"))
    for at, lines in enumerate(optional):
        x = 4 + at * 162
        drawing.box(x, 4, 148, 48, *lines, kind="optional")
        drawing.arrow((x + 74, 100), (x + 74, 54), kind="dashed")
    drawing.text(85, 81, "only where used", anchor="start")
    drawing.box(4, 102, 472, 48, "arbiter", "opens listeners, forks, watches, replaces; no application code")
    for at in range(4):
        x = 4 + at * 121
        drawing.arrow((x + 54, 150), (x + 54, 186))
        drawing.box(x, 188, 109, 48, f"worker {at + 1}", "application", kind="accent")
        drawing.arrow((x + 54, 266), (x + 54, 238))
    drawing.box(4, 268, 472, 32, "listeners: one socket for each address, shared by all")
    drawing.arrow((240, 334), (240, 302))
    drawing.text(240, 350, "clients, or a proxy in front")
    return drawing


_LANES = {"client": 46, "kernel": 160, "worker": 290, "application": 424}


def request() -> Drawing:
    """One request of a sync worker, from the client's first byte to the line in the access log."""
    steps: tuple[tuple[str, str, str], ...] = (
        ("client", "kernel", "connect, first bytes"),
        ("kernel", "worker", "one wake-up for both"),
        ("worker", "worker", "parse the head, collect the body"),
        ("worker", "worker", "page: busy, silent until 12.3 s"),
        ("worker", "application", "call(environ, ...)"),
        ("application", "worker", "status, fields, blocks"),
        ("worker", "client", "head and blocks in one packet"),
        ("worker", "worker", "what is not taken is stored"),
        ("worker", "worker", "count it, write the access log"),
        ("client", "worker", "next request, same connection"),
    )
    drawing = Drawing(
        "request",
        74 + 38 * len(steps),
        "A request's way: the kernel passes the connection on with its first bytes; a worker parses the head and "
        "collects the body, notes on its page of the scoreboard that it is busy, calls the application, sends the "
        "response, stores what the client does not take yet, counts the request, and waits for the next one.",
    )
    for name, x in _LANES.items():
        drawing.box(x - 44, 4, 94, 30, name, kind="accent" if name == "worker" else "box")
        drawing.line((x, 34), (x, drawing.height - 4), kind="dashed")
    for at, (source, target, label) in enumerate(steps):
        y = 68 + 38 * at
        start, end = _LANES[source], _LANES[target]
        if source == target:
            drawing.box(start - 116, y - 19, 232, 28, label, kind="note")
            continue
        drawing.arrow((start, y), (end, y))
        drawing.text((start + end) / 2, y - 6, label, kind="over")
    return drawing


_SECOND = 72
_START = 92
"""Where the time 0 is, right of the workers' names."""


def _at(time_s: float) -> float:
    return _START + time_s * _SECOND


def reload() -> Drawing:
    """The reload of explanation/reload.rst: four workers, an application that is imported in a second."""
    ready = (1.0, 2.3, 3.35, 4.4)
    forked = (0.01, 1.25, 2.3, 3.35)
    retired = (1.25, 2.3, 3.35, 4.4)
    ends_s = 5.3
    drawing = Drawing(
        "reload",
        318,
        "A reload of four workers: the first worker of generation 2 boots for a second while all four of generation 1 "
        "serve; it takes over at 1.25 s. From then on one old worker retires as each new one is ready, until 4.4 s.",
    )
    for second in range(6):
        drawing.line((_at(second), 22), (_at(second), 262), kind="grid")
        drawing.text(_at(second), 16, f"{second} s")
    for at in range(4):
        old, new = 30 + at * 27, 150 + at * 27
        drawing.text(4, old + 15, f"old {at + 1}", anchor="start")
        drawing.bar(_at(0), old, retired[at] * _SECOND, 20, "serves-old")
        drawing.bar(_at(retired[at]), old, 0.6 * _SECOND, 20, "drains")
        drawing.text(4, new + 15, f"new {at + 1}", anchor="start")
        drawing.bar(_at(forked[at]), new, (ready[at] - forked[at]) * _SECOND, 20, "boots")
        drawing.bar(_at(ready[at]), new, (ends_s - ready[at]) * _SECOND, 20, "serves")
    for time_s, label, anchor in ((1.25, "generation 2 takes over", "start"), (4.4, "Reload complete", "middle")):
        drawing.line((_at(time_s), 22), (_at(time_s), 266), kind="moment")
        drawing.text(_at(time_s) - (10 if anchor == "start" else 0), 280, label, anchor)
    for x, kind, label in ((4, "boots", "boots"), (90, "serves", "serves"), (180, "serves-old", "serves, old code")):
        drawing.bar(x, 298, 14, 14, kind)
        drawing.text(x + 20, 310, label, anchor="start")
    drawing.bar(330, 298, 14, 14, "drains")
    drawing.text(350, 310, "finishes its last", anchor="start")
    return drawing


def mailboxes() -> Drawing:
    """Who may put what into which mailbox, and who keeps the sockets."""
    drawing = Drawing(
        "mailboxes",
        300,
        "Each slot has a mailbox, a pair of sockets whose ends the arbiter keeps. Worker 1 puts a message straight "
        "into the mailbox of worker 2; a broadcast goes into that of each worker with a handler; a request takes "
        "along a socket for its reply. Retained values lie in shared memory.",
    )
    for at in range(3):
        x = 4 + at * 164
        drawing.box(x, 4, 144, 46, f"worker {at + 1}", "handlers in a thread", kind="accent")
        drawing.box(x + 22, 132, 100, 36, f"mailbox {at + 1}")
    drawing.arrow((60, 52), (60, 92), (220, 92), (220, 130))
    drawing.text(66, 86, "send(2, value)", anchor="start", kind="over")
    for x in (76, 240, 404):
        drawing.arrow((x + 22, 130), (x + 22, 52))
    drawing.text(268, 74, "read", anchor="start", kind="over")
    drawing.text(432, 74, "read", anchor="start", kind="over")
    drawing.box(4, 196, 472, 46, "arbiter", "keeps both ends: what was accepted waits for a successor")
    for x in (76, 240, 404):
        drawing.line((x, 168), (x, 196), kind="dashed")
    drawing.box(4, 262, 472, 32, "retained values: memory that all processes share", kind="optional")
    return drawing


DIAGRAMS: dict[str, Callable[[], Drawing]] = {
    "processes": processes,
    "request": request,
    "reload": reload,
    "mailboxes": mailboxes,
}
