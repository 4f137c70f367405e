"""The command line: every command, the changes that look like options, completion."""

import subprocess

import pytest

from wsgicluster.ctl import command, options


@pytest.mark.parametrize(
    ("argv", "workers", "wait"),
    [
        (["scale", "4"], "4", False),
        (["scale", "+1", "--wait"], "+1", True),
        (["scale", "-1"], "-1", False),
        (["-q", "scale", "-2", "--wait"], "-2", True),
        (["scale", "--wait", "3"], "3", True),
    ],
)
def test_a_change_of_the_number_is_no_option(argv: list[str], workers: str, wait: bool) -> None:
    found = options.parser().parse_args(command.with_changes(argv))
    assert (found.command, found.workers, found.wait) == ("scale", workers, wait)


def test_completion_names_every_command_and_no_alias() -> None:
    text = options.completion("bash")
    assert "list show top" in text
    assert " ls " not in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["completion", shell]) == 0
    assert "reopen-logs" in capsys.readouterr().out


def test_completion_works_in_bash() -> None:
    script = options.completion("bash") + (
        "COMP_WORDS=(wsgiclusterctl re); COMP_CWORD=1; _wsgiclusterctl; echo ${COMPREPLY[@]}\n"
        "COMP_WORDS=(wsgiclusterctl list re); COMP_CWORD=2; COMPREPLY=(); _wsgiclusterctl; echo none ${COMPREPLY[@]}\n"
    )
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=20)
    assert found.stdout.splitlines() == ["requests reload restart reopen-logs", "none"]


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["dance"],
        ["show", "one"],
        ["list", "--wide"],
        ["profile", "1", "nan"],
        ["memory", "1", "--timeout", "inf"],
        ["list", "--sample", "-1"],
        ["-n", "a", "-p", "b", "list"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lst"], "wsgiclusterctl: error: lst: no such command; did you mean list?"),
        (["frobnicate"], "wsgiclusterctl: error: frobnicate: no such command; see wsgiclusterctl --help"),
        (
            ["list", "-n", "shop"],
            (
                "wsgiclusterctl: error: -n is not an option of the command; it belongs before it, as in: "
                "wsgiclusterctl -n ... COMMAND"
            ),
        ),
        (
            ["list", "--name=shop"],
            (
                "wsgiclusterctl: error: --name is not an option of the command; it belongs before it, as in: "
                "wsgiclusterctl --name ... COMMAND"
            ),
        ),
        (
            ["list", "--wide"],
            "wsgiclusterctl: error: unrecognized arguments: --wide; see wsgiclusterctl --help",
        ),
        (
            ["reload", "--wait", "--timeout", "nan"],
            (
                "wsgiclusterctl reload: error: argument --timeout: 'nan' is not a number of seconds; "
                "see wsgiclusterctl reload --help"
            ),
        ),
        (
            ["scale"],
            (
                "wsgiclusterctl scale: error: the following arguments are required: N|+N|-N; "
                "see wsgiclusterctl scale --help"
            ),
        ),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_remedy(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(argv)
    assert capsys.readouterr().err == f"{message}\n"
