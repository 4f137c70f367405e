"""What is declared about a setting besides its name and default, and how a dataclass field carries it.

Flags, environment names, ``--help``, ``--print-config`` and the reference page are all derived from this.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from wsgicluster.dataclass import dataclass
from wsgicluster.settings.types.general import SettingType

T = TypeVar("T")

ENVIRONMENT_PREFIX = "WSGICLUSTER_"
OTHER_VARIABLES = {
    "WSGICLUSTER_PURE": (
        "with any value but ``0`` plain Python is used, even where compiled modules are installed; both behave alike."
    ),
    "WSGICLUSTER_SLOT": (
        "set by the server in the environment of each worker: the number of its slot. A server that finds it, since a "
        "worker has started it, ignores it."
    ),
}
"""Our variables that are not settings, because they take effect before settings are read; and what they do."""

FIRST_RELEASE = "0.2.0"
"""What was there before it was not published."""


class Group(enum.Enum):
    """The headings under which settings are listed."""

    APPLICATION = "Application"
    ADDRESSES = "Addresses"
    WORKERS = "Workers"
    TIMES = "Time limits"
    RECYCLING = "Recycling of workers"
    REQUESTS = "Limits of a request"
    PROXIES = "Behind a proxy"
    TLS = "TLS"
    CLUSTER = "Cluster"
    ADMIN = "Admin worker"
    PROCESS = "Server process"
    LOGS = "Logs"
    HOOKS = "Hooks"
    CONFIGURATION = "Configuration"


class Applies(enum.Enum):
    """When a changed value takes effect."""

    NOW = "at once on reload"
    NEXT_WORKER = "with the next worker (on reload, all are replaced)"
    RESTART = "after a restart"


@dataclass(frozen=True)
class Fallback:
    """An environment variable that platforms set, and that is the default where it is set."""

    variable: str
    template: str = "{}"
    empty_counts: bool = False


@dataclass(frozen=True)
class Declaration(Generic[T]):
    """One setting; ``flag_value`` is the value that the flag of a switch sets.

    ``bare_value`` is the value of any other flag without an argument, or empty if it needs one.
    """

    type: SettingType[T]
    group: Group
    applies: Applies
    help: str
    flags: tuple[str, ...] = ()
    fallback: Fallback | None = None
    flag_value: bool = True
    bare_value: str = ""
    since: str = FIRST_RELEASE
    default_text: str = ""


@dataclass(frozen=True)
class Setting:
    """A declaration together with its name and default, read back from the class of the settings."""

    name: str
    about: Declaration[Any]
    default: Any

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its flag as messages name it: the first long one, or nothing."""
        return next((flag for flag in self.about.flags if flag.startswith("--")), "")

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no argument."""
        return isinstance(self.default, bool)

    @property
    def default_shown(self) -> str:
        """The default in words, where it depends on the system, or as a user would write it."""
        return self.about.default_text or self.about.type.show(self.default)


_KEY = "wsgicluster"


def declare(default: T, about: Declaration[T]) -> T:
    """A dataclass field that carries its declaration."""
    return dataclasses.field(default=default, metadata={_KEY: about})


def declare_computed(default: Callable[[], T], about: Declaration[T]) -> T:
    """The same, for a default that is computed for each object."""
    return dataclasses.field(default_factory=default, metadata={_KEY: about})


def declared(settings_class: type[Any]) -> tuple[Setting, ...]:
    """All settings of a class, in order."""
    found = []
    for field in dataclasses.fields(settings_class):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        found.append(Setting(field.name, field.metadata[_KEY], default))
    return tuple(found)
