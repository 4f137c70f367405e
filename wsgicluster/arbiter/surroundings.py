"""What surrounds the server's process, as far as it can spoil a stop. Pure: names and numbers in, a remark out."""

import posixpath

SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"})


def deaf_parent(parent: int, command_line: str) -> str:
    """A remark on a shell that is process 1 and the server's parent: it passes no signal on; else nothing.

    ``command_line`` is that of process 1, its words parted by blanks.
    """
    words = command_line.split()
    if parent != 1 or not words:
        return ""
    shell = posixpath.basename(words[0]).lstrip("-")
    if shell not in SHELLS:
        return ""
    return (
        f"process 1 is a shell ({shell}) that does not pass SIGTERM on: stopping the container will cut requests off; "
        "begin the last command of its script with exec, or start the server without a shell"
    )
