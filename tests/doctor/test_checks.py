"""The doctor's checks: for each one a server that it finds fault with, and one that it leaves alone."""

import dataclasses
from typing import Any

import pytest

from wsgicluster.doctor import application_checks, settings_checks, surroundings_checks
from wsgicluster.doctor.examination import CHECKS, consult, report
from wsgicluster.doctor.facts import Certificate, Disk, Facts, Finding, Inspected, Surroundings, Trace
from wsgicluster.settings import FdAddress, Settings, TcpAddress, UnixAddress

OUTSIDE = (TcpAddress("0.0.0.0", 8000),)
SOCKET = (Trace("a connection to 10.0.0.7:5432", "shop/db.py:12"),)
MEGABYTE = 1 << 20
HUNDRED = 100 * MEGABYTE
DAY_S = 86400.0


def facts(
    settings: dict[str, Any] | None = None,
    surroundings: Surroundings | None = None,
    application: Inspected | None = None,
    remarks: tuple[str, ...] = (),
) -> Facts:
    wanted: dict[str, Any] = {"wsgi_app": "shop:app", "user": 1000, "group": 1000, **(settings or {})}
    return Facts(Settings(**wanted), surroundings or Surroundings(), application or Inspected(), remarks)


def test_a_good_server_has_no_findings() -> None:
    assert consult(facts()) == []
    assert consult(facts({"app_metrics": True}, Surroundings(metrics_folder="/var/metrics"))) == []
    outside = {"bind": OUTSIDE, "workers": 4, "threads": 4, "worker_class": "gthread", "preload_app": True}
    assert consult(facts(outside, Surroundings(processors=2, machine_processors=2, backlog_limit=4096))) == []


FAULTS: list[tuple[str, Facts, str]] = [
    ("trust", facts({"bind": OUTSIDE, "forwarded_allow_ips": ("*",)}), "forwarded_allow_ips: * lets every client that"),
    ("trust", facts({"bind": (FdAddress(3),), "forwarded_allow_ips": ("*",)}), "can reach fd://3 claim that it used"),
    (
        "trust",
        facts({"bind": OUTSIDE, "forwarded_allow_ips": ("*",), "forwarded_hops": 1}),
        "claim that it used https, and any address",
    ),
    ("trust", facts({"bind": OUTSIDE, "proxy_allow_ips": ("*",), "proxy_protocol": "v1"}), "proxy_allow_ips: *"),
    ("trust", facts({"bind": OUTSIDE, "uwsgi_allow_ips": ("*",), "protocol": "uwsgi"}), "uwsgi_allow_ips: *"),
    ("header_map", facts({"header_map": "dangerous"}), "header_map: dangerous lets clients set"),
    ("keepalive", facts({"keepalive": 2.0}), "keepalive: 2 s is shorter than a proxy"),
    ("timeout", facts({"timeout": 0.0}), "timeout: 0 never replaces a worker that hangs"),
    ("timeout", facts({"timeout": 120.0}), "graceful_timeout: a request may take 120 s (timeout), but is aborted 30 s"),
    (
        "stop_time",
        facts(surroundings=Surroundings(manager="shop.service", manager_stop_s=10.0)),
        "shop.service is killed 10 s after a stop begins, while requests may take 30 s; set TimeoutStopSec=35",
    ),
    (
        "stop_time",
        facts({"drain_delay": 10.0}, Surroundings(manager="shop.service", manager_stop_s=40.0)),
        "keeps serving for 10 s (drain_delay) and then requests may take 30 s; set TimeoutStopSec=45 in the unit, or a",
    ),
    ("slow_clients", facts({"bind": OUTSIDE, "head_timeout": 0.0}), "head_timeout: 0 lets a slow client"),
    ("reload", facts({"bind": OUTSIDE, "reload": True}), "reload: workers are replaced whenever a file changes"),
    ("recycling", facts({"workers": 4, "max_requests": 1000}), "max_requests_jitter: all 4 workers"),
    ("daemon", facts({"daemon": True}, Surroundings(manager="shop.service")), "daemon: shop.service considers a"),
    (
        "remarks",
        facts(remarks=("preload_app: turned off, because with reload each worker loads the application itself",)),
        "preload_app: turned off, because with reload each worker loads the application itself; correct or",
    ),
    ("backlog", facts(surroundings=Surroundings(backlog_limit=128)), "backlog: the kernel lets 128 connections wait"),
    (
        "heartbeat",
        facts(surroundings=Surroundings(heartbeat_folder="/tmp", heartbeat_disk="ext4")),
        "worker_tmp_dir: heartbeats would be written to /tmp, which is on a disk (ext4)",
    ),
    (
        "metrics",
        facts(surroundings=Surroundings(metrics_folder="/var/metrics")),
        "app_metrics: PROMETHEUS_MULTIPROC_DIR has prometheus_client make files in /var/metrics for each worker",
    ),
    (
        "workers",
        facts({"workers": 17}, Surroundings(processors=2, machine_processors=64)),
        "workers: 17 workers, but 2 processors may be used of 64 (affinity or the container's limit); use 9 or fewer",
    ),
    (
        "workers",
        facts({"workers": 17}, Surroundings(processors=1, machine_processors=1)),
        "workers: 17 workers, but 1 processor may be used; use 5 or fewer",
    ),
    (
        "workers",
        facts({"workers": 1}, Surroundings(processors=4, machine_processors=4)),
        "workers: one worker uses one processor only, and 4 processors may be used; use -w auto",
    ),
    (
        "memory",
        facts({"workers": 4, "max_memory": 300 * MEGABYTE}, Surroundings(memory_limit_bytes=1024 * MEGABYTE)),
        "max_memory: 4 workers of 300M are more than the 1G available",
    ),
    (
        "descriptors",
        facts({"worker_class": "gthread"}, Surroundings(descriptors=1024)),
        "worker_connections: a gthread worker with 1000 connections needs about 1065 descriptors, and may open 1024",
    ),
    (
        "descriptors",
        facts({"worker_class": "gevent"}, Surroundings(descriptors=2048)),
        "to 4096",
    ),
    ("shell", facts(surroundings=Surroundings(init_command="/bin/sh -c wsgicluster shop:app")), "process 1 is a shell"),
    ("shell", facts(surroundings=Surroundings(init_command="bash /entrypoint.sh")), "bash /entrypoint.sh"),
    (
        "shell",
        facts(surroundings=Surroundings(manager="supervisord", parent_command="/bin/bash -lc cd x && wsgicluster y")),
        "signals: supervisord runs a shell",
    ),
    ("root", facts({"user": 0}, Surroundings(user=0)), "user: the application runs as root"),
    (
        "compiled",
        facts(surroundings=Surroundings(plain_modules=("wsgicluster.http._parser",))),
        "installation: not compiled, and so slower: wsgicluster.http._parser",
    ),
    ("compiled", facts(surroundings=Surroundings(plain_wanted=True)), "WSGICLUSTER_PURE: plain Python is selected"),
    (
        "disks",
        facts(surroundings=Surroundings(disks=(Disk("errorlog", "/var/log/shop", 3 * MEGABYTE, 100 * MEGABYTE),))),
        "errorlog: only 3M are free in /var/log/shop",
    ),
    ("certificate", facts(surroundings=Surroundings(certificate=Certificate("c.pem", 0, 50), now=50)), "has expired"),
    ("certificate", facts(surroundings=Surroundings(certificate=Certificate("c.pem", 9, 50), now=5)), "not valid yet"),
    (
        "certificate",
        facts(surroundings=Surroundings(certificate=Certificate("c.pem", 0, 10.5 * DAY_S), now=5 * DAY_S)),
        "certfile: c.pem expires in 5 days",
    ),
    ("loaded", facts(application=Inspected(failure="shop: no such module")), "application: shop: no such module"),
    (
        "preloaded",
        facts({"preload_app": True}, application=Inspected(opened=SOCKET)),
        "preload_app: a connection to 10.0.0.7:5432 (shop/db.py:12) is opened before the fork",
    ),
    (
        "preloaded",
        facts({"preload_app": True}, application=Inspected(threads=(Trace("the thread poller", "shop/jobs.py:3"),))),
        "preload_app: the thread poller (shop/jobs.py:3) is started before the fork and would not run in workers",
    ),
    (
        "preloaded",
        facts({"preload_app": True}, application=Inspected(locks=(Trace("shop.LOCK"),))),
        "preload_app: shop.LOCK is locked",
    ),
    (
        "preloaded",
        facts({"preload_app": True}, application=Inspected(loops=(Trace("an event loop of asyncio"),))),
        "preload_app: an event loop of asyncio is created before the fork",
    ),
    (
        "children",
        facts({"workers": 4}, application=Inspected(children=(Trace("the process redis-server"),))),
        "application: the process redis-server is started by each worker",
    ),
    (
        "handlers",
        facts(application=Inspected(handlers=(Trace("SIGTERM by shop.jobs.stop", "shop/jobs.py:9"),))),
        "signals: the application handles SIGTERM by shop.jobs.stop (shop/jobs.py:9), which a worker uses itself",
    ),
    (
        "handlers",
        facts(application=Inspected(handlers=(Trace("SIGINT by default_int_handler"),))),
        "which is for the arbiter",
    ),
    ("debug", facts(application=Inspected(debug=("Django's DEBUG",))), "application: Django's DEBUG is on"),
    (
        "greenlets",
        facts({"worker_class": "gevent"}, application=Inspected(patched=True, blocking_drivers=("psycopg2",))),
        "worker_class: psycopg2 waits in C",
    ),
    ("greenlets", facts(application=Inspected(patched=True)), "worker_class is sync"),
    (
        "memory",
        facts({"workers": 8}, Surroundings(memory_limit_bytes=512 * MEGABYTE), Inspected(resident_bytes=HUNDRED)),
        "workers: 8 workers need about 800M (100M each before the first request), but only 512M are available; use 4",
    ),
    (
        "memory",
        facts({"max_memory": 100 * MEGABYTE}, application=Inspected(resident_bytes=90 * MEGABYTE)),
        "max_memory: a worker takes 90M before its first request, and is replaced above 100M; use 180M or more",
    ),
    ("slow", facts(application=Inspected(load_s=20.0)), "timeout: the application takes 20 s to load"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "says"), FAULTS, ids=[f"{name}-{says[:40]}" for name, _, says in FAULTS])
def test_found(name: str, given: Facts, says: str) -> None:
    found = [finding for check in CHECKS if check.__name__ == name for finding in check(given)]
    assert [says in str(finding) for finding in found] == [True], found
    assert all(finding.topic and finding.what and finding.remedy for finding in found)
    assert found[0] in consult(given)


def test_each_check_is_tested() -> None:
    assert {check.__name__ for check in CHECKS} == {name for name, _, _ in FAULTS}


LEFT_ALONE: list[tuple[str, Facts]] = [
    ("trust", facts({"forwarded_allow_ips": ("*",)})),
    ("trust", facts({"bind": (UnixAddress("/run/x"),), "forwarded_allow_ips": ("*",)})),
    ("trust", facts({"bind": (TcpAddress("::1", 1), TcpAddress("localhost", 1)), "forwarded_allow_ips": ("*",)})),
    ("trust", facts({"bind": OUTSIDE, "proxy_allow_ips": ("*",), "uwsgi_allow_ips": ("*",)})),
    ("keepalive", facts({"keepalive": 0.0})),
    ("keepalive", facts({"keepalive": 65.0})),
    ("timeout", facts({"timeout": 120.0, "graceful_timeout": 120.0})),
    ("stop_time", facts(surroundings=Surroundings(manager="x.service", manager_stop_s=90.0))),
    ("stop_time", facts({"drain_delay": 10.0}, Surroundings(manager="x.service", manager_stop_s=41.0))),
    ("slow_clients", facts({"head_timeout": 0.0})),
    ("reload", facts({"reload": True})),
    ("recycling", facts({"workers": 1, "max_requests": 1000})),
    ("recycling", facts({"workers": 4, "max_requests": 1000, "max_requests_jitter": 10})),
    ("daemon", facts({"daemon": True})),
    ("backlog", facts(surroundings=Surroundings(backlog_limit=2048))),
    ("workers", facts({"workers": 9}, Surroundings(processors=2))),
    ("descriptors", facts(surroundings=Surroundings(descriptors=256))),
    ("shell", facts(surroundings=Surroundings(init_command="/sbin/init splash"))),
    ("shell", facts(surroundings=Surroundings(init_command="bash"))),
    ("shell", facts(surroundings=Surroundings(init_command="-bash --login"))),
    ("shell", facts(surroundings=Surroundings(parent_command="sh -c x"))),
    ("root", facts({"user": 33}, Surroundings(user=0))),
    ("certificate", facts(surroundings=Surroundings(certificate=Certificate("c.pem", 0, 30 * DAY_S), now=1))),
    ("preloaded", facts(application=Inspected(opened=SOCKET, locks=SOCKET, threads=SOCKET, loops=SOCKET))),
    ("preloaded", facts({"preload_app": True, "worker_class": "gevent"}, application=Inspected(loops=SOCKET))),
    ("greenlets", facts({"worker_class": "gevent"}, application=Inspected(patched=True))),
    ("greenlets", facts(application=Inspected(blocking_drivers=("psycopg2",)))),
    (
        "memory",
        facts(
            {"workers": 8, "preload_app": True},
            Surroundings(memory_limit_bytes=512 * MEGABYTE),
            Inspected(resident_bytes=100 * MEGABYTE),
        ),
    ),
    ("slow", facts({"timeout": 0.0, "graceful_timeout": 0.0}, application=Inspected(load_s=1000.0))),
]


@pytest.mark.parametrize(("name", "given"), LEFT_ALONE)
def test_left_alone(name: str, given: Facts) -> None:
    modules = (application_checks, settings_checks, surroundings_checks)
    checks = [check for module in modules for check in module.CHECKS if check.__name__ == name]
    assert checks
    assert [finding for check in checks for finding in check(given)] == []


def test_report() -> None:
    finding = Finding("timeout", "two\nlines", "one line")
    assert report([]) == "no findings\n"
    assert report([finding]) == "timeout: two lines; one line\n1 finding\n"
    assert report([finding, finding]).endswith("2 findings\n")


def test_the_same_is_found_once() -> None:
    pool = Inspected(opened=SOCKET * 10)
    assert len(consult(facts({"preload_app": True}, application=pool))) == 1


def test_facts_travel_as_text() -> None:
    application = Inspected(
        opened=SOCKET, threads=SOCKET, locks=SOCKET, children=SOCKET, handlers=SOCKET, loops=SOCKET,
        debug=("x",), blocking_drivers=("y",), patched=True, resident_bytes=7, load_s=0.5, failure="f",
    )  # fmt: skip
    assert Inspected.from_json(application.to_json()) == application
    assert dataclasses.asdict(application).keys() == {field.name for field in dataclasses.fields(Inspected)}
