"""Who has requested something of the server, as log lines and events name it. Values only."""

import dataclasses

OPERATOR, ARBITER, APPLICATION, STEWARD = "operator", "arbiter", "application", "steward"
"""As events name them; `OPERATOR` is who sends signals, `STEWARD` the code of the configuration file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Requester:
    """``title`` is what log lines begin with, ``by`` how events name it."""

    title: str
    by: str = OPERATOR


CONFIGURATION_FILE = Requester("Configuration file", STEWARD)
CHANGED_SOURCE = Requester("Changed source files", ARBITER)
