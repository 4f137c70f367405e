"""Limits and queues of a server's processes, read from files such as the kernel's."""

import os
import pathlib

import pytest

from wsgicluster.control.surroundings import LiveSurroundings, live_surroundings

NETSTAT = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 12 13\nIpExt: InNoRoutes\nIpExt: 1\n"
FAR = 1 << 22
"""A pid that no process has."""


def write(root: pathlib.Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_all_of_it(tmp_path: pathlib.Path) -> None:
    write(tmp_path, f"proc/{FAR}/status", "Name:\tpython\nUid:\t1000\t33\t33\t33\n")
    write(
        tmp_path, f"proc/{FAR}/limits", "Limit     Soft   Hard   Units\nMax open files            1024   4096   files\n"
    )
    write(tmp_path, f"proc/{FAR}/net/netstat", NETSTAT)
    write(tmp_path, "proc/sys/net/core/somaxconn", "4096\n")
    found = live_surroundings(FAR, [FAR + 1], str(tmp_path))
    assert found == LiveSurroundings(
        user=33, processors=None, backlog_limit=4096, overflows=12, open_file_limits={FAR: 1024}
    )


@pytest.mark.parametrize(
    ("cgroup", "files", "found"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n", "a/memory.current": "900\n"}, (1000, 900)),
        ("0::/a\n", {"a/memory.max": "max\n"}, (None, None)),
        (
            "4:cpu,memory:/a\n0::/\n",
            {"memory/a/memory.limit_in_bytes": "500", "memory/a/memory.usage_in_bytes": "100"},
            (500, 100),
        ),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, (None, None)),
        ("", {}, (None, None)),
    ],
)
def test_the_limit_on_memory_is_that_of_the_control_group_or_of_one_around_it(
    tmp_path: pathlib.Path, cgroup: str, files: dict[str, str], found: tuple[int | None, int | None]
) -> None:
    write(tmp_path, f"proc/{FAR}/cgroup", cgroup)
    for path, text in files.items():
        write(tmp_path, f"sys/fs/cgroup/{path}", text)
    seen = live_surroundings(FAR, [], str(tmp_path))
    assert (seen.memory_limit_bytes, seen.memory_used_bytes) == found


def test_this_process_has_some_of_it() -> None:
    found = live_surroundings(os.getpid(), [])
    assert found.user == os.geteuid()
    assert found.open_file_limits[os.getpid()] > 0
    assert found.processors
