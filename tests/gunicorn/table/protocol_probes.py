"""Probes of settings that are not for WSGI: accepted by both, and what is not done is said here."""

from collections.abc import Mapping
from typing import Any

from tests.gunicorn.table.comparison import Subject, differ, probe, same

Observed = Mapping[str, Any]

SAID = {
    "http_protocols": '"h2,h1"',
    "http2_cleartext": '"upgrade"',
    "asgi_loop": '"asyncio"',
    "asgi_lifespan": '"on"',
    "asgi_disconnect_grace_period": "5",
    "root_path": '"/shop"',
    "dirty_apps": '["probed:Application"]',
    "dirty_workers": "1",
    "on_dirty_starting": "lambda arbiter: None",
    "dirty_post_fork": "lambda arbiter, worker: None",
    "dirty_worker_init": "lambda worker: None",
    "dirty_worker_exit": "lambda arbiter, worker: None",
}
"""What has an effect of its own in Gunicorn."""

IN_SILENCE = {
    "http2_max_concurrent_streams": "50",
    "http2_initial_window_size": "70000",
    "http2_max_frame_size": "20000",
    "http2_max_header_list_size": "70000",
    "websocket_max_message_size": "1000",
    "dirty_timeout": "20",
    "dirty_threads": "2",
    "dirty_graceful_timeout": "20",
}
"""What has one only beside another of these settings."""


def lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in values.items())


@probe(**{name: differ(True, False) for name in SAID}, **{name: same(False) for name in IN_SILENCE})
def other_protocols(subject: Subject) -> Observed:
    done = subject.check(lines({**SAID, **IN_SILENCE}))
    assert done.returncode == 0, done.stderr
    return {name: f" {name}: " in done.stderr for name in (*SAID, *IN_SILENCE)}


PASTE = """
[app:main]
paste.app_factory = paste_app:factory

[server:main]
use = egg:gunicorn#main
"""


@probe(paste=same(True), raw_paste_global_conf=same("blue"))
def paste(subject: Subject) -> Observed:
    (subject.folder / "shop.ini").write_text(PASTE)
    (subject.folder / "paste_app.py").write_text(
        "import probed\n"
        "def factory(global_conf, **local_conf):\n"
        "    probed.COLOUR = global_conf.get('colour')\n"
        "    return probed.application\n"
    )
    running = subject.start("", "--paste", str(subject.folder / "shop.ini"), "--paste-global", "colour=blue")
    if running.live.process.poll() is not None:
        return {"paste": False, "raw_paste_global_conf": None}
    return {"paste": running.ask("True"), "raw_paste_global_conf": running.ask("COLOUR")}
