"""Log settings that change with a reload, one by one, and wrong ones that change nothing."""

import pathlib
import re
import signal

import pytest

from tests.conftest import LiveServer, StartServer, wait_until
from tests.live.client import fetch

pytestmark = pytest.mark.live


class Configured:
    """A server with a configuration file that can be changed."""

    def __init__(self, live: LiveServer, **values: object) -> None:
        self.live = live
        self.values = values
        self.reloads = 0

    def change(self, **values: object) -> None:
        """Reload with these changes, and wait until all workers are new."""
        self.values.update(values)
        self.write()
        self.reloads += 1
        self.live.send(signal.SIGHUP)

    def write(self) -> None:
        text = "".join(f"{name} = {value!r}\n" for name, value in self.values.items())
        (self.live.folder / "wsgicluster.conf.py").write_text(text)

    def wait(self, log: pathlib.Path, pattern: str) -> None:
        """Wait for a line in any file; the log that the server began with is not the one that it ends with."""
        wait_until(lambda: log.exists() and re.search(pattern, log.read_text()), 15, f"{pattern} in {log.name}")


def test_each_of_them_applies_at_once(server: StartServer, tmp_path: pathlib.Path) -> None:
    live = server("tests.apps.basic")
    live.wait_log("Started")
    server_of = Configured(live)
    # accesslog and access_log_format
    access = tmp_path / "access.log"
    server_of.change(accesslog=str(access), access_log_format="first %(U)s")
    live.wait_log(r"Changed settings: accesslog: none -> \S+; access_log_format: ")
    live.wait_log("Reload complete", count=1)
    live.wait_children(1)
    assert fetch(live.port, "/one").status == 200
    server_of.wait(access, "first /one")
    server_of.change(access_log_format="second %(U)s")
    live.wait_log("Reload complete", count=2)
    live.wait_children(1)
    assert fetch(live.port, "/two").status == 200
    server_of.wait(access, "second /two")
    # loglevel
    server_of.change(loglevel="debug")
    live.wait_log("started")
    live.wait_log("Reload complete", count=3)
    # wrong ones, of each
    for name, wrong, says in (
        ("access_log_format", "%(nonsense", "access_log_format"),
        ("accesslog", str(tmp_path / "none" / "access.log"), "none/access.log"),
        ("errorlog", str(tmp_path / "none" / "error.log"), "none/error.log"),
        ("loglevel", "loud", "loglevel: 'loud'"),
        ("logconfig_dict", {"version": 1, "handlers": {"a": {"class": "no.such.Handler"}}}, "logconfig_dict"),
    ):
        before = server_of.values.get(name)
        server_of.change(**{name: wrong})
        live.wait_log(rf"Reload aborted: .*{says}.*; the present settings stay in force")
        del server_of.values[name]
        server_of.values.update({} if before is None else {name: before})
    assert fetch(live.port, "/three").status == 200
    server_of.wait(access, "second /three")
    # logconfig_dict
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "configured.log")}
    loggers = {"wsgicluster.access": {"handlers": ["file"], "level": "INFO"}}
    server_of.change(logconfig_dict={"version": 1, "handlers": {"file": handler}, "loggers": loggers})
    live.wait_log("Reload complete", count=4)
    wait_until(lambda: fetch(live.port, "/four").status and (tmp_path / "configured.log").read_text(), 10)
    # errorlog
    other = tmp_path / "other.log"
    server_of.change(errorlog=str(other))
    server_of.wait(other, "Reload complete")
    assert not live.said("Traceback")
