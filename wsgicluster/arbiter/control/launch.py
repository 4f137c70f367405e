"""How a server was started, as the control socket shows it."""

from wsgicluster.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """The command of the arbiter, the folder that it was started in, and the names of its environment variables."""

    command: tuple[str, ...]
    directory: str
    variables: tuple[str, ...]
