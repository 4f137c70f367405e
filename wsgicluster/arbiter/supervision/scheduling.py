"""Which scheduling policy the workers follow: that of the settings that serve, or one that has been set since.

How a policy places clients, and how workers get to know of it, is not known here.
"""

import dataclasses
import logging
from collections.abc import Mapping

from wsgicluster.arbiter.children.processes import ChildProcesses
from wsgicluster.arbiter.plan.pool import Pool
from wsgicluster.ipc.scheduling import Scheduling
from wsgicluster.settings import Settings
from wsgicluster.settings.checks import scheduling_remarks
from wsgicluster.settings.live import with_scheduling
from wsgicluster.settings.types.scheduling import SHARED, Sticky


class LiveScheduling:
    """The policy in force of one server."""

    def __init__(self, pool: Pool, children: ChildProcesses, log: logging.Logger) -> None:
        self._pool = pool
        self._children = children
        self._log = log
        self._was_set = False
        """It has been set since the last reload was begun: that one does not set it back."""

    def reload_begun(self, settings: Settings) -> None:
        """New settings are on trial; the first ones count at once."""
        self._was_set = False
        if self._pool.rollout.serving is None:
            self._children.set_scheduling(_scheduling_of(settings))

    def promoted(self) -> None:
        """Another generation serves from now on."""
        serving = self._pool.rollout.serving
        if serving is not None and not self._was_set:
            self._set(_scheduling_of(serving.settings))

    @property
    def is_shared(self) -> bool:
        """Whether all slots are alike, so that it does not matter in which ones workers are."""
        return self._children.scheduling.policy == SHARED

    def _set(self, wanted: Scheduling) -> None:
        self._children.set_scheduling(wanted)
        if not self.is_shared:
            # Weights and clients are for the first slots.
            self._pool.rollout.use_first_slots()

    def in_force(self) -> Settings:
        """The settings of the generation that serves, or of the first one, with what has changed live since."""
        base = self._pool.rollout.base
        assert base is not None, "the first generation comes before any command"
        present = self._children.scheduling
        # A range is in force as it is, whatever the present number.
        workers = base.settings.workers if base.settings.has_worker_range else self._pool.rollout.workers
        return dataclasses.replace(
            base.settings,
            workers=workers,
            scheduling=present.policy,
            weights=present.weights,
            sticky=Sticky(present.form, present.name),
        )

    def set(self, given: Mapping[str, object], where: str) -> Settings:
        """Have all workers follow another policy from now on, until the next reload has succeeded.

        ``given`` are values of the settings ``scheduling``, ``weights`` and ``sticky``, see `with_scheduling`. Returns
        the settings in force then. Raises UsageError.
        """
        settings = with_scheduling(self.in_force(), given, where)
        self._set(_scheduling_of(settings))
        self._was_set = True
        for remark in scheduling_remarks(settings, settings.scheduling):
            self._log.warning("%s", remark)
        return settings


def _scheduling_of(settings: Settings) -> Scheduling:
    return Scheduling(settings.scheduling, settings.weights, settings.sticky.form, settings.sticky.name)
