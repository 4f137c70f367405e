"""What a shell reads to complete the flags of ``wsgicluster`` and the words that may come first."""

import argparse
from collections.abc import Iterable, Sequence

from wsgicluster.settings.sources.command_line import ArgumentReader, shown_flags

SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str], subcommands: Iterable[str]) -> int:
    """Run the command ``completion`` with these arguments; returns the exit code. Raises UsageError."""
    reader = arguments()
    print(completion(reader.parse_args(argv).shell, subcommands), end="")
    return 0


def arguments() -> argparse.ArgumentParser:
    """What reads the arguments of the command."""
    reader = ArgumentReader(
        "completion",
        prog="wsgicluster completion",
        description='Print what a shell reads to complete this command: eval "$(wsgicluster completion bash)".',
    )
    reader.add_argument("shell", choices=SHELLS)
    return reader


def completion(shell: str, subcommands: Iterable[str]) -> str:
    """The text for one of the shells."""
    flags = [flag for flag in shown_flags() if flag.startswith("--")]
    words = " ".join(subcommands)
    if shell == "fish":
        lines = [f"complete -c wsgicluster -n __fish_use_subcommand -a '{words}'"]
        lines += [f"complete -c wsgicluster -l {flag.removeprefix('--')}" for flag in flags]
        return "\n".join(lines) + "\n"
    lines = [
        "_wsgicluster() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}"',
        '    case "$word" in',
        f'    -*) COMPREPLY=($(compgen -W "{" ".join(flags)}" -- "$word")) ;;',
        f'    *) [ "$COMP_CWORD" = 1 ] && COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;',
        "    esac",
        "}",
        # What is left is a path, or the name of a module.
        "complete -o default -F _wsgicluster wsgicluster",
    ]
    if shell == "zsh":
        lines.insert(0, "autoload -U +X bashcompinit && bashcompinit")
    return "\n".join(lines) + "\n"
