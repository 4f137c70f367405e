"""Where the error log can be read, or the remedy."""

import os
import pathlib

import pytest

from wsgicluster.control.protocol import ControlError
from wsgicluster.ctl.logs.source import log_path


def launch(path: str | None = None, descriptor: int | None = None) -> dict[str, object]:
    return {"pid": 7, "error_log": {"path": path, "descriptor": descriptor, "configured": False}}


def test_a_file_is_read_by_its_path() -> None:
    assert log_path(launch("/var/log/shop.log")) == "/var/log/shop.log"


@pytest.fixture
def descriptors(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "proc/7/fd"
    folder.mkdir(parents=True)
    return folder


def test_a_stream_that_leads_to_a_file_is_read_there(descriptors: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "server.log").touch()
    (descriptors / "5").symlink_to(tmp_path / "server.log")
    assert log_path(launch(descriptor=5), str(tmp_path)) == str(tmp_path / "server.log")


@pytest.mark.parametrize(
    ("cgroup", "remedy"),
    [
        ("0::/system.slice/shop.service\n", "see journalctl -u shop.service, or start the server with --error-logfile"),
        ("0::/user.slice/session-1.scope\n", "read here; start the server with --error-logfile FILE"),
        (None, "read here; start the server with --error-logfile FILE"),
    ],
)
def test_a_pipe_is_refused_with_the_remedy(
    descriptors: pathlib.Path, tmp_path: pathlib.Path, cgroup: str | None, remedy: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (descriptors / "5").symlink_to(tmp_path / "pipe")
    if cgroup is not None:
        (tmp_path / "proc/7/cgroup").write_text(cgroup)
    with pytest.raises(ControlError, match="which is a pipe and cannot be read here") as caught:
        log_path(launch(descriptor=5), str(tmp_path))
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ([".dockerenv"], "see docker logs CONTAINER, outside of the container, or start the server with "),
        (["run/.containerenv"], "see podman logs CONTAINER, outside of the container, or "),
        ([".dockerenv", "var/run/secrets/kubernetes.io/token"], "see kubectl logs POD, outside of the container, or "),
    ],
)
def test_in_a_container_its_runtime_has_the_log(
    descriptors: pathlib.Path, tmp_path: pathlib.Path, files: list[str], command: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (descriptors / "5").symlink_to(tmp_path / "pipe")
    # As containers see their own groups, which does not count there.
    (tmp_path / "proc/7/cgroup").write_text("0::/system.slice/docker.service\n")
    for name in files:
        path = tmp_path / "proc/7/root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(ControlError, match="which is a pipe and cannot be read here") as caught:
        log_path(launch(descriptor=5), str(tmp_path))
    assert command in str(caught.value)


def test_what_cannot_be_looked_at_or_is_configured_elsewhere_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ControlError, match="which is no file and cannot be read here"):
        log_path(launch(descriptor=5), str(tmp_path))
    with pytest.raises(ControlError, match="logconfig_dict or another setting says where the error log goes"):
        log_path(launch())
