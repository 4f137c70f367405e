"""The parser made from the declarations, and its complaints."""

import re

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings.declaration import Group
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.sources.command_line import parse, whole_help
from wsgicluster.settings.sources.help import COMMON, common_help


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {}),
        (["app:application"], {"wsgi_app": "app:application"}),
        (["-w", "4", "app"], {"workers": "4", "wsgi_app": "app"}),
        (["-w4", "app", "--timeout=5"], {"workers": "4", "wsgi_app": "app", "timeout": "5"}),
        (["-b", "a", "app", "--bind", "b"], {"bind": ["a", "b"], "wsgi_app": "app"}),
        (["--preload", "-D", "--no-sendfile"], {"preload_app": True, "daemon": True, "sendfile": False}),
        (["-e", "A=1", "-e", "B=2"], {"raw_env": ["A=1", "B=2"]}),
        (["--limit-request-field-size", "1"], {"limit_request_field_size": "1"}),
        (["--limit-request-field_size", "1"], {"limit_request_field_size": "1"}),
        (["--log-file", "-"], {"errorlog": "-"}),
        (["--timeout", "-1"], {"timeout": "-1"}),
        (["--", "app"], {"wsgi_app": "app"}),
        (["--error-log", "-", "--worker-con", "7"], {"errorlog": "-", "worker_connections": "7"}),
        (["-R", "--log-syslog-t", "x"], {"enable_stdio_inheritance": True, "syslog_addr": "x"}),
        (["--keep=5"], {"keepalive": "5"}),  # --keep-alive, as in Gunicorn, although there is --keepalive-slow, too
        (["--keepalive-s", "0"], {"keepalive_slow": "0"}),
        (["-w", "1", "--", "--error"], {"workers": "1", "wsgi_app": "--error"}),
        (
            [
                "--paster",
                "x",
                "--dirty-app",
                "a",
                "--http2-c",
                "off",
                "app",
            ],
            {"paste": "x", "wsgi_app": "app"},
        ),
    ],
)
def test_given(arguments: list[str], given: dict[str, object]) -> None:
    assert parse(arguments).given == given


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--wokers", "2", "app"], "command line: --wokers: no such flag; did you mean --workers?"),
        (["--wokers=2", "app"], "command line: --wokers: no such flag; did you mean --workers?"),
        (["-Q"], "command line: -Q: no such flag; expected one of those that --help-all shows"),
        (
            ["--worker", "2"],
            "command line: --worker: abbreviates --worker-class, --worker-connections, --worker-tmp-dir,",
        ),
        (["--store-", "2", "--sto", "x"], "command line: --sto: abbreviates --store, --store-size; expected"),
        (["--http2-c"], "command line: argument --http2-cleartext: expected one argument"),
        (["a", "b"], "command line: 'b': a second argument; expected one APPLICATION"),
        (
            ["-w"],
            "command line --workers: workers: no value; expected a number from 1 to 500, a range such as 2..16, or auto",  # noqa: E501
        ),
        (["--bind"], "command line --bind: bind: no value; expected HOST:PORT"),
        (["--daemon=5"], "command line --daemon: daemon: a value; expected none"),
        (["--version=5"], "command line: "),
    ],
)
def test_complaints(arguments: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert str(caught.value).startswith(says) or says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_without_effect() -> None:
    found = parse(["--root-path", "/x", "--http-protocols", "h1", "--reload-engine", "inotify"])
    assert not found.given
    assert [remark.partition(": ")[0] for remark in found.remarks] == [
        "command line --reload-engine",
        "command line --root-path",
    ]
    assert found.remarks[0].startswith("command line --reload-engine: reload_engine: 'inotify': not used: reload ")


def test_help_is_grouped_and_whole() -> None:
    text = whole_help()
    for group in Group:
        assert (f"\n{group.value}:\n" in text) is (group is not Group.HOOKS)  # they have no flags
    for setting in SETTINGS.values():
        for flag in setting.about.flags:
            assert flag in text
        if setting.about.flags:
            assert setting.variable in text.replace("\n", "").replace(" ", "") or setting.variable in text


@pytest.mark.parametrize(
    "default",
    [
        "30 seconds; environment: WSGICLUSTER_TIMEOUT",
        "1 second; environment: WSGICLUSTER_DEFER_ACCEPT",
        "0.01 seconds; environment: WSGICLUSTER_KEEPALIVE_SLOW",
        "8190 bytes; environment: WSGICLUSTER_LIMIT_REQUEST_LINE",
        "1M; environment: WSGICLUSTER_RESPONSE_BUFFER",
        "none; environment: WSGICLUSTER_PIDFILE",
    ],
)
def test_help_has_defaults_with_their_units(default: str) -> None:
    assert f"[default: {default}]" in " ".join(whole_help().split())


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_usual_help_fits_two_screens(width: int) -> None:
    lines = common_help({"init": "write a file", "a-long-name-of-a-command": "which is"}, width).splitlines()
    assert width < 80 or len(lines) <= 100
    assert max(map(len, lines[:-1])) <= max(width, 80)  # the last is an address
    for setting in (SETTINGS[name] for name in COMMON):
        assert any(re.match(rf"  (-\w, )?{re.escape(setting.flag)}( |$)", line) for line in lines), setting.name
    text = "\n".join(lines)
    for word in ("Examples:", "wsgicluster init", "--help-all", "--version", "https://", "127.0.0.1:8000"):
        assert word in text
    assert f"{len(SETTINGS) - len(COMMON)} more settings" in text


def test_abbreviations_of_help() -> None:
    assert parse(["--hel"]).help  # as in Gunicorn, although there is --help-all, too
    assert parse(["--help-a"]).help_all
    assert not parse(["--help-all"]).help
