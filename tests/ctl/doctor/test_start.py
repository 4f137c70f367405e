"""The environment that the server's command is run with again."""

from wsgicluster.ctl.doctor.start import environment


def test_what_a_service_manager_has_passed_is_left_out() -> None:
    block = b"PATH=/bin\0LISTEN_FDS=1\0NOTIFY_SOCKET=@n\0WSGICLUSTER_UPGRADE={}\0WSGICLUSTER_WORKERS=2\0A=b=c\0\0=x\0"
    assert environment(block) == {"PATH": "/bin", "WSGICLUSTER_WORKERS": "2", "A": "b=c"}
