"""The commands of the control socket that read settings, and that change those which need no reload."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wsgicluster.arbiter.control.handlers import requester_of, wanted_workers
from wsgicluster.arbiter.operations import Operations, Parts
from wsgicluster.control import protocol
from wsgicluster.control.commands import check
from wsgicluster.control.protocol import ControlError, ErrorCode
from wsgicluster.control.server import Call, Handler
from wsgicluster.errors import UsageError
from wsgicluster.settings import Settings
from wsgicluster.settings.diff import shown
from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.live import LIVE_SETTINGS
from wsgicluster.settings.wording import nearest

LIVE = "at once, until the next reload"


class SettingHandlers:
    """``get`` and ``set`` of one server."""

    def __init__(self, parts: Parts, operations: Operations) -> None:
        self._operations = operations
        self._supervisor = parts.supervisor
        self._scheduling = parts.supervisor.scheduling

    def table(self) -> Mapping[str, Handler]:
        """One for each command."""
        return {"get": self.get, "set": self.set}

    def get(self, call: Call) -> None:
        """All settings, or one."""
        name = call.args["name"]
        names = [_known(name)] if name else list(SETTINGS)
        settings, defaults = self._scheduling.in_force(), Settings()
        found = {each: _described(each, settings, defaults) for each in names}
        call.succeed({"schema": protocol.SCHEMA, "settings": found})

    def set(self, call: Call) -> None:
        """One setting; answered with the value in force."""
        name, value = _known(call.args["name"]), call.args["value"]
        if name not in LIVE_SETTINGS:
            applies = SETTINGS[name].about.applies.value
            message = (
                f"{name} does not change live, but {applies}: change it where it is set; "
                f"{', '.join(LIVE_SETTINGS)} change live"
            )
            raise ControlError(ErrorCode.REFUSED, message)
        if self._operations.is_stopping:
            raise ControlError(ErrorCode.REFUSED, "set is refused: the server is stopping")
        if name == "workers":
            wanted = wanted_workers(self._supervisor, check("scale", {"workers": value})["workers"])
            workers = self._operations.scale_to(wanted, requester_of(call))
            settings = dataclasses.replace(self._scheduling.in_force(), workers=workers)
        else:
            try:
                self._operations.set_scheduling({name: value}, requester_of(call), "set")
            except UsageError as error:
                raise ControlError(ErrorCode.INVALID, str(error)) from error
            settings = self._scheduling.in_force()
        call.succeed({"schema": protocol.SCHEMA, "settings": {name: _described(name, settings, Settings())}})


def _known(name: str) -> str:
    wanted = name.replace("-", "_")
    if wanted not in SETTINGS:
        near = nearest(wanted, SETTINGS)
        remedy = f"did you mean {near}?" if near else "get without a name lists them"
        raise ControlError(ErrorCode.INVALID, f"{name}: there is no such setting; {remedy}")
    return wanted


def _described(name: str, settings: Settings, defaults: Settings) -> dict[str, Any]:
    return {
        "value": shown(name, settings),
        "default": shown(name, defaults),
        "applies": LIVE if name in LIVE_SETTINGS else SETTINGS[name].about.applies.value,
    }
