"""process: control groups from made-up trees, and what the running system shows."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from wsgicluster.system import cgroup, filesystems, process

V2_MOUNT = "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def tree(root: pathlib.Path, cgroup: str, mounts: str, files: dict[str, str]) -> str:
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(cgroup + "\n")
    (proc / "mountinfo").write_text(mounts + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return str(root)


@pytest.fixture
def processors() -> int:
    return len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "at_most"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 10**6), ("1000 100000", 1)],
)
def test_processors_by_quota_v2(tmp_path: pathlib.Path, processors: int, quota: str, at_most: int) -> None:
    root = tree(tmp_path, "0::/app", V2_MOUNT, {"app/cpu.max": quota})
    assert cgroup.usable_processors(root) == min(processors, at_most)


def test_processors_by_quota_of_a_group_above(tmp_path: pathlib.Path) -> None:
    root = tree(tmp_path, "0::/pod/app", V2_MOUNT, {"pod/app/cpu.max": "max 100000", "pod/cpu.max": "100000 100000"})
    assert cgroup.usable_processors(root) == 1


def test_processors_by_quota_v1(tmp_path: pathlib.Path) -> None:
    mounts = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
    files = {"cpu/app/cpu.cfs_quota_us": "100000", "cpu/app/cpu.cfs_period_us": "100000"}
    assert cgroup.usable_processors(tree(tmp_path, "2:cpu,cpuacct:/app", mounts, files)) == 1


def test_processors_without_quota_v1(tmp_path: pathlib.Path, processors: int) -> None:
    mounts = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert cgroup.usable_processors(tree(tmp_path, "2:cpu:/", mounts, files)) == processors


def test_nothing_to_read_leaves_the_machine_s_own_answers(tmp_path: pathlib.Path, processors: int) -> None:
    assert cgroup.usable_processors(str(tmp_path)) == processors
    assert cgroup.memory_limit_bytes(str(tmp_path)) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert cgroup.out_of_memory_kills(str(tmp_path)) is None


def test_memory_limit_is_the_lowest_of_all_groups(tmp_path: pathlib.Path) -> None:
    files = {"pod/app/memory.max": "max", "pod/memory.max": "67108864", "memory.max": "134217728"}
    assert cgroup.memory_limit_bytes(tree(tmp_path, "0::/pod/app", V2_MOUNT, files)) == 67108864


def test_memory_limit_v1_in_a_container(tmp_path: pathlib.Path) -> None:
    """There the mount's root is the container's own group, as the host names it."""
    mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    root = tree(tmp_path, "4:memory:/docker/abc", mounts, {"memory/memory.limit_in_bytes": "33554432"})
    assert cgroup.memory_limit_bytes(root) == 33554432


def test_memory_limit_v1_none(tmp_path: pathlib.Path) -> None:
    mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    root = tree(tmp_path, "4:memory:/", mounts, {"memory/memory.limit_in_bytes": "9223372036854771712"})
    assert cgroup.memory_limit_bytes(root) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_available_memory_is_what_the_machine_and_all_groups_leave(tmp_path: pathlib.Path) -> None:
    files = {
        "pod/app/memory.max": "max",
        "pod/app/memory.current": "900",
        "pod/memory.max": "6000",
        "pod/memory.current": "5000",
        "pod/memory.stat": "anon 4000\ninactive_file 700\nactive_file 300",
    }
    root = tree(tmp_path / "2", "0::/pod/app", V2_MOUNT, files)
    assert cgroup.available_memory_bytes(root) == 1700
    (tmp_path / "2/proc/meminfo").write_text("MemTotal:  9 kB\nMemAvailable:       1 kB\n")
    assert cgroup.available_memory_bytes(root) == 1024
    mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    old = {
        "memory/memory.limit_in_bytes": "3000",
        "memory/memory.usage_in_bytes": "4000",
        "memory/memory.stat": "total_inactive_file 600",
    }
    assert cgroup.available_memory_bytes(tree(tmp_path / "1", "4:memory:/", mounts, old)) == 0
    assert cgroup.available_memory_bytes(str(tmp_path / "none")) is None


def test_out_of_memory_kills(tmp_path: pathlib.Path) -> None:
    v2 = tree(tmp_path / "2", "0::/app", V2_MOUNT, {"app/memory.events": "low 0\noom 5\noom_kill 3"})
    assert cgroup.out_of_memory_kills(v2) == 3
    mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    v1 = tree(tmp_path / "1", "4:memory:/", mounts, {"memory/memory.oom_control": "under_oom 0\noom_kill 7"})
    assert cgroup.out_of_memory_kills(v1) == 7


def test_this_machine_answers() -> None:
    assert cgroup.usable_processors() >= 1
    assert cgroup.memory_limit_bytes() > 1 << 20
    assert (cgroup.available_memory_bytes() or 0) > 1 << 20
    assert process.ResidentMemory().bytes() > 1 << 20


def test_started_at() -> None:
    mine = process.started_at(os.getpid())
    assert mine is not None
    assert mine > 1e9
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process.started_at(child.pid) is None


def run(code: str) -> str:
    """What a process of its own prints: these calls cannot be reverted."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_title() -> None:
    out = run(
        """
        import os
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        process.set_title("worker 3", "shop:app")
        print(process.title(os.getpid()))
        """
    )
    assert out == "wsgicluster: worker 3 [shop:app]"
    assert process.title(2**22 + 1) == ""


def test_close_descriptors() -> None:
    out = run(
        """
        import os
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)]
        descriptors.close_descriptors_except({fds[1], fds[4]})
        def is_open(fd):
            try:
                os.fstat(fd)
            except OSError:
                return False
            return True
        print([is_open(fd) for fd in [0, 1, 2] + fds])
        """
    )
    assert out == str([True] * 3 + [False, True, False, False, True, False])


def test_close_descriptors_takes_no_call_for_each() -> None:
    out = run(
        """
        import os, sys
        from wsgicluster.system import descriptors
        def calls(count):
            kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)][count // 2]
            made = []
            sys.setprofile(lambda frame, event, what: made.append(event))
            descriptors.close_descriptors_except({kept})
            sys.setprofile(None)
            os.fstat(kept)
            assert descriptors.count_descriptors() == 5, "three standard streams, the kept one, and that of the listing"
            os.close(kept)
            return len(made)
        calls(10)  # whatever is done only once
        print(calls(10) == calls(1000))
        """
    )
    assert out == "True"


def test_close_descriptors_where_the_kernel_does_not_tell_the_size() -> None:
    out = run(
        """
        import os
        from wsgicluster.system import descriptors
        descriptors._table_size = lambda: 0
        kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)][2]
        descriptors.close_descriptors_except({kept})
        os.fstat(kept)
        print(descriptors.count_descriptors())  # the standard streams, that one, and that of the listing
        """
    )
    assert out == "5"


def test_close_descriptors_when_no_number_is_left() -> None:
    out = run(
        """
        import os, resource
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        last = 0
        try:
            while True:
                last = os.open("/dev/null", os.O_RDONLY)
        except OSError:
            descriptors.close_descriptors_except({last})
        os.fstat(last)
        print(last, os.open("/dev/null", os.O_RDONLY))
        """
    )
    assert out == "39 3"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop privileges")
def test_privileges_are_dropped_for_good() -> None:
    out = run(
        """
        import os
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        os.setgroups([0, 4, 27])
        privileges.drop_privileges(65534, 65534, False)
        print(os.getresuid(), os.getresgid(), os.getgroups())
        """
    )
    assert out == "(65534, 65534, 65534) (65534, 65534, 65534) [65534]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop privileges")
def test_others_cannot_become_somebody_else() -> None:
    out = run(
        """
        from wsgicluster import errors
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        privileges.drop_privileges(65534, 65534, False)
        privileges.drop_privileges(65534, 65534, True)
        try:
            privileges.drop_privileges(0, 0, False)
        except errors.BootError as error:
            print(error.exit_code, error)
        """
    )
    assert out == "3 only root can run workers as user 0 and group 0"


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers exist on Linux")
def test_a_subreaper_gets_its_grandchildren() -> None:
    out = run(
        """
        import os
        from wsgicluster.system import cgroup, descriptors, filesystems, privileges, process
        process.set_child_subreaper()
        told, tell = os.pipe()
        if os.fork() == 0:
            pid = os.fork()
            if pid == 0:
                os._exit(7)
            os.write(tell, str(pid).encode())
            os._exit(0)
        os.wait()
        pid = int(os.read(told, 20))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert out == "7"


def test_file_systems(tmp_path: pathlib.Path) -> None:
    mounts = [
        "22 1 8:1 / / rw - ext4 /dev/sda rw",
        "23 22 0:5 / /dev rw - devtmpfs dev rw",
        "24 23 0:6 / /dev/shm rw shared:1 - tmpfs tmpfs rw",
        "25 22 0:7 / /with\\040space rw - xfs /dev/sdb rw",
    ]
    root = tree(tmp_path, "0::/", "\n".join(mounts), {})
    assert filesystems.file_system("/dev/shm", root) == "tmpfs"
    assert filesystems.file_system("/dev/shm/x", root) == "tmpfs"
    assert filesystems.file_system("/dev/shmx", root) == "devtmpfs"
    assert filesystems.file_system("/tmp", root) == "ext4"
    assert filesystems.file_system("/with space/x", root) == "xfs"
    assert filesystems.file_system("/tmp", str(tmp_path / "nothing")) == ""


def test_child_commands() -> None:
    with subprocess.Popen(["sleep", "1234"]) as child:
        try:
            assert process.child_commands().count("sleep 1234") == 1
        finally:
            child.kill()
        child.wait()
        assert "sleep 1234" not in process.child_commands()


def test_folder_in_memory(tmp_path: pathlib.Path) -> None:
    folder, kind = filesystems.in_memory_folder(str(tmp_path))
    assert folder == str(tmp_path)
    assert kind == ("" if filesystems.file_system(str(tmp_path)) == "tmpfs" else filesystems.file_system(str(tmp_path)))
    if filesystems.file_system("/dev/shm") == "tmpfs":
        assert filesystems.in_memory_folder("/dev/shm") == ("/dev/shm", "")
        assert filesystems.in_memory_folder(None) == ("/dev/shm", "")
