"""The declarations as a whole: nothing is said twice, and what Gunicorn has is called as there."""

import dataclasses

import pytest

from wsgicluster.settings import Applies, Settings
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources import gunicorn_names
from wsgicluster.settings.types import hooks

GUNICORN_FLAGS = {
    "config": ("-c", "--config"),
    "bind": ("-b", "--bind"),
    "backlog": ("--backlog",),
    "workers": ("-w", "--workers"),
    "worker_class": ("-k", "--worker-class"),
    "threads": ("--threads",),
    "worker_connections": ("--worker-connections",),
    "max_requests": ("--max-requests",),
    "max_requests_jitter": ("--max-requests-jitter",),
    "timeout": ("-t", "--timeout"),
    "graceful_timeout": ("--graceful-timeout",),
    "keepalive": ("--keep-alive",),
    "limit_request_line": ("--limit-request-line",),
    "limit_request_fields": ("--limit-request-fields",),
    "limit_request_field_size": ("--limit-request-field_size",),
    "reload": ("--reload",),
    "reload_extra_files": ("--reload-extra-file",),
    "check_config": ("--check-config",),
    "print_config": ("--print-config",),
    "preload_app": ("--preload",),
    "sendfile": ("--no-sendfile",),
    "chdir": ("--chdir",),
    "daemon": ("-D", "--daemon"),
    "raw_env": ("-e", "--env"),
    "pidfile": ("-p", "--pid"),
    "worker_tmp_dir": ("--worker-tmp-dir",),
    "user": ("-u", "--user"),
    "group": ("-g", "--group"),
    "umask": ("-m", "--umask"),
    "initgroups": ("--initgroups",),
    "forwarded_allow_ips": ("--forwarded-allow-ips",),
    "accesslog": ("--access-logfile",),
    "access_log_format": ("--access-logformat",),
    "errorlog": ("--error-logfile", "--log-file"),
    "loglevel": ("--log-level",),
    "capture_output": ("--capture-output",),
    "logconfig": ("--log-config",),
    "logconfig_json": ("--log-config-json",),
    "logger_class": ("--logger-class",),
    "syslog": ("--log-syslog",),
    "syslog_addr": ("--log-syslog-to",),
    "syslog_prefix": ("--log-syslog-prefix",),
    "syslog_facility": ("--log-syslog-facility",),
    "disable_redirect_access_to_syslog": ("--disable-redirect-access-to-syslog",),
    "enable_stdio_inheritance": ("-R", "--enable-stdio-inheritance"),
    "statsd_host": ("--statsd-host",),
    "statsd_prefix": ("--statsd-prefix",),
    "dogstatsd_tags": ("--dogstatsd-tags",),
    "enable_backlog_metric": ("--enable-backlog-metric",),
    "proc_name": ("-n", "--name"),
    "pythonpath": ("--pythonpath",),
    "wsgi_app": (),
    "tmp_upload_dir": (),
    "secure_scheme_headers": (),
    "logconfig_dict": (),
}


@pytest.mark.parametrize("name", GUNICORN_FLAGS)
def test_flags_of_gunicorn(name: str) -> None:
    assert set(GUNICORN_FLAGS[name]) <= set(SETTINGS[name].about.flags)


def test_no_flag_has_two_meanings() -> None:
    flags = [flag for setting in SETTINGS.values() for flag in setting.about.flags]
    assert len(flags) == len(set(flags))
    accepted = [flag for row in gunicorn_names.ACCEPTED.values() for flag in row.flags]
    assert len(accepted) == len(set(accepted))
    assert not set(flags) & set(accepted)
    assert not set(SETTINGS) & gunicorn_names.ACCEPTED.keys()
    assert set(hooks.NAMES) <= set(SETTINGS)
    assert set(flags) | set(accepted) | {"--help", "--version"} >= gunicorn_names.FLAGS


def test_each_is_described() -> None:
    for setting in SETTINGS.values():
        assert setting.about.help.endswith(".")
        assert setting.about.type.expected
        assert isinstance(setting.about.applies, Applies)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().workers = 2  # type: ignore[misc]
