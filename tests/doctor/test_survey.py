"""What the doctor reads of the system and of files, and how it looks at an application."""

import pathlib
import subprocess
import sys
import time

import pytest

from tests.certificates import make_certificates
from wsgicluster.doctor.survey import read_span, service_unit, stop_time, survey
from wsgicluster.settings import Settings
from wsgicluster.system.network.certificate import validity

DAY_S = 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1min 30s\n", 90), ("90s", 90), ("2h 1min", 7260), ("500ms", 0.5), ("1.5s", 1.5), ("infinity", None), ("", None)],
)
def test_spans_of_systemd(text: str, seconds: float | None) -> None:
    assert read_span(text) == seconds


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/shop.service\n", "shop.service"),
        ("12:pids:/system.slice/shop@1.service\n0::/x\n", "shop@1.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", ""),
        ("0::/user.slice/user-1000.slice/session-2.scope\n", ""),
        ("0::/\n", ""),
    ],
)
def test_unit(tmp_path: pathlib.Path, cgroup: str, unit: str) -> None:
    assert service_unit(str(tmp_path)) == ""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    assert service_unit(str(tmp_path)) == unit


def test_stop_time_is_asked_of_systemctl(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert stop_time("shop.service") is None
    tool = tmp_path / "systemctl"
    tool.write_text('#!/bin/sh\n[ "$*" = "show --value --property=TimeoutStopUSec shop.service" ] && echo 1min 30s\n')
    tool.chmod(0o755)
    assert stop_time("shop.service") == 90
    assert stop_time("other.service") is None


def test_survey_of_this_machine(tmp_path: pathlib.Path) -> None:
    settings = Settings(errorlog=str(tmp_path / "error.log"), worker_tmp_dir=str(tmp_path))
    found = survey(settings, {"SUPERVISOR_ENABLED": "1"})
    assert found.processors >= 1
    assert found.descriptors > 10
    assert [disk.setting for disk in found.disks] == ["errorlog", "tmp_upload_dir", "worker_tmp_dir"]
    assert all(disk.free_bytes >= 0 for disk in found.disks)
    assert found.heartbeat_folder == str(tmp_path)
    assert found.manager
    assert found.certificate is None
    assert abs(found.now - time.time()) < 60


def test_validity(tmp_path: pathlib.Path) -> None:
    certificates = make_certificates(tmp_path)
    text = pathlib.Path(certificates.path("server.pem")).read_text()
    begin, end = validity("words before it\n" + text + "and behind it")
    assert end - begin == 30 * DAY_S
    assert abs(begin - time.time()) < 600
    command = ["openssl", "x509", "-in", certificates.path("server.pem"), "-noout", "-enddate", "-dateopt", "iso_8601"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if shown.returncode == 0:  # older ones do not know that form
        assert time.strftime("notAfter=%Y-%m-%d %H:%M:%SZ", time.gmtime(end)) == shown.stdout.strip()
    found = survey(Settings(certfile=certificates.path("server.pem")), {}).certificate
    assert found is not None
    assert (found.not_before, found.not_after) == (begin, end)


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"])
def test_no_validity(text: str) -> None:
    with pytest.raises(ValueError):
        validity(text)


def test_a_server_does_not_carry_the_doctor() -> None:
    code = "import sys, wsgicluster.cli; print([name for name in sys.modules if 'doctor' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
