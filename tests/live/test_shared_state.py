"""The shared state of a real server: it outlives reloads, deaths and upgrades, in all kinds of workers."""

import json
import os
import pathlib
import re
import signal

import pytest
import requests

from tests.conftest import LiveServer, StartServer, descriptors_of, is_alive, wait_until
from wsgicluster.ipc.shared_files import FOLDER_PREFIX

pytestmark = pytest.mark.live

KINDS = [["-k", "sync"], ["-k", "gthread", "--threads", "4"], ["-k", "gevent"]]
SOURCE = """
import json, os
from wsgicluster import cluster

hits = cluster.counter("hits")

@cluster.every(0.1, name="ticks")
def tick():
    cluster.counter("ticks").add()

def application(environ, start_response):
    hits.add()
    with cluster.lock("turn"):
        turn = cluster.store.get("turn", 0) + 1
        cluster.store.set("turn", turn)
    cluster.once("first", cluster.counter("firsts").add)
    seen = {
        "pid": os.getpid(), "hits": hits.value, "added": cluster.store.add("added"), "turn": turn,
        "firsts": cluster.counter("firsts").value, "ticks": cluster.counter("ticks").value,
        "kept": cluster.store.get("kept"),
    }
    if environ["PATH_INFO"] == "/keep":
        cluster.store.set("kept", [environ["QUERY_STRING"], {"of": os.getpid()}])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""


def ask(live: LiveServer, path: str = "/") -> dict[str, object]:
    response = requests.get(live.url + path, headers={"Connection": "close"}, timeout=10)
    assert response.status_code == 200
    seen: dict[str, object] = json.loads(response.text)
    return seen


def folders(place: pathlib.Path) -> list[str]:
    return [name for name in os.listdir(place) if name.startswith(FOLDER_PREFIX)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_state_outlives_reloads_and_deaths(server: StartServer, tmp_path: pathlib.Path, kind: list[str]) -> None:
    """(Node: its workers' memory is their own, and counts are lost with them.)"""
    place = tmp_path / "memory"
    place.mkdir()
    live = server("app", "-w", "2", *kind, "--worker-tmp-dir", str(place), source=SOURCE)
    live.wait_log("Started")
    ask(live, "/keep?x")
    for number in range(2, 6):
        assert ask(live)["hits"] == number
    old = set(live.children())
    live.send(signal.SIGHUP)
    live.wait_log("Reload complete")
    wait_until(lambda: old.isdisjoint(live.children()), 10)
    seen = ask(live)
    assert (seen["hits"], seen["added"], seen["turn"], seen["firsts"]) == (6, 6, 6, 2)
    for pid in live.children():
        os.kill(pid, signal.SIGKILL)
    live.wait_log("is ready", count=6)
    seen = ask(live)
    assert (seen["hits"], seen["added"], seen["turn"], seen["firsts"]) == (7, 7, 7, 2)
    assert isinstance(seen["kept"], list)
    assert seen["kept"][0] == "x"
    wait_until(lambda: int(str(ask(live)["ticks"])) > int(str(seen["ticks"])), 10)
    assert len(folders(place)) == 1
    assert live.stop() == 0
    assert folders(place) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_state_outlives_an_upgrade(server: StartServer, tmp_path: pathlib.Path, kind: list[str]) -> None:
    place = tmp_path / "memory"
    place.mkdir()
    live = server("app", "-w", "1", *kind, "--worker-tmp-dir", str(place), source=SOURCE)
    live.wait_log("Started")
    ask(live, "/keep?before")
    live.send(signal.SIGUSR2)
    live.wait_log(r"The new server \(pid \d+\) serves")
    found = re.search(r"The new server \(pid (\d+)\) serves", live.log())
    assert found
    new = int(found[1])
    # Both add at this time, each in columns of its own.
    added = [ask(live)["hits"] for _ in range(10)]
    assert added == list(range(2, 12))
    assert live.stop() == 0
    seen = ask(live)
    assert (seen["hits"], seen["added"]) == (12, 12)
    assert isinstance(seen["kept"], list)
    assert seen["kept"][0] == "before"
    assert seen["firsts"] == 2
    assert len(folders(place)) == 1
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not is_alive(new), 10)
    assert folders(place) == []


def test_state_outlives_an_upgrade_whose_old_server_leaves_at_once(server: StartServer, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "memory"
    place.mkdir()
    live = server("app", "-w", "1", "--worker-tmp-dir", str(place), source=SOURCE)
    live.wait_log("Started")
    ask(live, "/keep?before")
    live.send(signal.SIGUSR2)
    live.wait_log("a new server is started beside this one")
    assert live.stop() == 0
    wait_until(lambda: live.said("this one is the server now"), 10)
    seen = ask(live)
    assert isinstance(seen["kept"], list)
    assert seen["hits"] == 2


def test_a_new_server_that_fails_leaves_the_state(server: StartServer, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "memory"
    place.mkdir()
    live = server("app", "-w", "1", "--worker-tmp-dir", str(place), source=SOURCE)
    live.wait_log("Started")
    ask(live)
    before = len(descriptors_of(live.pid))
    (tmp_path / "wsgicluster.conf.py").write_text("workers = 'many'")
    live.send(signal.SIGUSR2)
    live.wait_log("The new server .* cannot start")
    assert ask(live)["hits"] == 2
    wait_until(lambda: len(descriptors_of(live.pid)) <= before, 5)
    assert live.stop() == 0
    assert folders(place) == []


def test_what_is_stored_while_the_application_is_preloaded_is_there(server: StartServer) -> None:
    source = SOURCE.replace(
        "def application", 'cluster.store.set("kept", ["from the mold"])\nhits.add(100)\n\ndef application'
    )
    live = server("app", "-w", "2", "--preload", source=source)
    live.wait_log("Started")
    seen = [ask(live) for _ in range(4)]
    assert [each["hits"] for each in seen] == [101, 102, 103, 104]
    assert seen[0]["kept"] == ["from the mold"]
    wait_until(lambda: int(str(ask(live)["ticks"])) > 2, 10)
    assert live.stop() == 0


def test_a_store_that_cannot_be_used_is_named_at_start(server: StartServer, free_port: int) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port}/0"
    live = server("app", "--store", url, source=SOURCE, listening=False)
    assert live.wait_end() == 2
    [line] = [line for line in live.log().splitlines() if "store" in line]
    assert line.startswith(
        f"wsgicluster: error: store: no Redis server responds at redis://:***@127.0.0.1:{free_port}/0"
    )
    assert "secret" not in live.log()


@pytest.mark.parametrize("value", ["http://localhost", "redis://", "localhost:6379", "redis://localhost:port"])
def test_a_store_that_is_no_url_is_refused(server: StartServer, value: str) -> None:
    live = server("app", "--store", value, source=SOURCE, listening=False)
    assert live.wait_end() == 2
    assert "expected a URL such as redis://localhost:6379/0" in live.log()


JOBS_SOURCE = """
import os, time
from wsgicluster import cluster

@cluster.every(0.1, name="ticks")
def tick():
    cluster.counter(cluster.role).add()

@cluster.every(0.1, name="slow")
def slow():
    if cluster.store.add("slow") == 1:
        time.sleep(60)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{cluster.counter('jobs').value} {cluster.counter('worker').value} {cluster.store.get('slow')}".encode()]
"""


@pytest.mark.parametrize(
    ("flags", "name"), [((), r"Worker \d"), (("--jobs-worker",), "Jobs worker")], ids=["workers", "jobs worker"]
)
def test_jobs_run_in_the_jobs_worker_if_there_is_one(server: StartServer, flags: tuple[str, ...], name: str) -> None:
    live = server("app", "-w", "2", "-t", "1", *flags, source=JOBS_SOURCE)
    elsewhere = bool(flags)

    def ran() -> list[int]:
        return [int(each) for each in requests.get(live.url, timeout=10).text.replace("None", "0").split()]

    wait_until(lambda: ran()[0 if elsewhere else 1] > 2, 10, "the job has run")
    live.wait_log(rf"{name} .*will be replaced: every 'slow' has run for more than 1 s \(timeout\)")
    wait_until(lambda: ran()[2] > 2, 20, "the job that was overdue runs again")
    assert ran()[1 if elsewhere else 0] == 0
    assert live.stop() == 0


def test_periodic_jobs_of_the_configuration_file_are_refused(server: StartServer, tmp_path: pathlib.Path) -> None:
    """The arbiter has no thread, and what workers inherit would be registered once more by each reload."""
    config = tmp_path / "wsgicluster.conf.py"
    config.write_text("from wsgicluster import cluster\ncluster.counter('n')\n")
    live = server("app", source=SOURCE)
    live.wait_log("Started")
    assert os.listdir(f"/proc/{live.pid}/task") == [str(live.pid)]
    config.write_text("from wsgicluster import cluster\ncluster.every(0.1, name='tick')(print)\n")
    live.send(signal.SIGHUP)
    live.wait_log("Reload aborted: every: tick: register periodic jobs in the application")
    assert os.listdir(f"/proc/{live.pid}/task") == [str(live.pid)]
    assert live.stop() == 0
    refused = server("app", source=SOURCE, listening=False)
    assert refused.wait_end() == 2
    assert "error: every: tick: register periodic jobs in the application" in refused.log()
