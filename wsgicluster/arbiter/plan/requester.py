"""Who has requested something of the server, as log lines and events name it. Values only."""

from wsgicluster.dataclass import dataclass

OPERATOR, ARBITER, APPLICATION, STEWARD = "operator", "arbiter", "application", "steward"
AUTOSCALING = "autoscaling"
"""As events name them; `OPERATOR` is who sends signals, `STEWARD` the code of the configuration file, `AUTOSCALING` the
policy that has workers follow the load."""


@dataclass(frozen=True, slots=True)
class Requester:
    """``title`` is what log lines begin with, ``by`` how events name it."""

    title: str
    by: str = OPERATOR


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """``by`` is who has requested a reload, as events name it.

    ``canary_s`` is how long its first worker is to be on probation, 0.0 as ``reload_probation`` says.
    """

    by: str = OPERATOR
    canary_s: float = 0.0


BY_OPERATOR = ReloadRequest()

CONFIGURATION_FILE = Requester("Configuration file", STEWARD)
CHANGED_SOURCE = Requester("Changed source files", ARBITER)
