"""The application's own metrics, as prometheus_client keeps them in files: those of all processes in one.

Whatever is wrong with a file or a metric is logged once and left out, and does not touch the metrics of the server.
"""

import contextlib
import logging
import os

from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from wsgicluster.admin.metrics import PREFIX

_MOST_TOLD = 100
"""So many different faults are logged; names of files and metrics are the application's."""


class AppMetrics:
    """Those in the files of a folder."""

    def __init__(self, folder: str, log: logging.Logger) -> None:
        self._folder = folder
        self._log = log
        self._told: set[str] = set()

    def families(self) -> list[Metric]:
        """The metrics now, each with the sum over all processes, or what else its type wants."""
        try:
            files = _files(self._folder)
        except OSError as error:
            self.tell(f"{self._folder} cannot be read: {error.strerror}")
            return []
        return [each for each in self._merge(files) if self._is_free(each)]

    def tell(self, fault: str) -> None:
        """Log what is wrong, once."""
        if fault not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(fault)
            self._log.error("app_metrics: %s", fault)

    def _merge(self, files: list[str]) -> list[Metric]:
        merged = _merged(files)
        if isinstance(merged, Exception):
            merged = _merged([each for each in files if self._is_sound(each)])
        if isinstance(merged, Exception):
            self.tell(f"the application's metrics cannot be joined, and are not shown: {merged!r}")
            return []
        return merged

    def _is_sound(self, file: str) -> bool:
        found = _merged([file])
        if isinstance(found, Exception):
            self.tell(f"{file} is damaged, and its metrics are not shown: {found!r}")
            return False
        return True

    def _is_free(self, metric: Metric) -> bool:
        if metric.name.startswith(PREFIX):
            self.tell(f"the application's metric {metric.name} is not shown: names with {PREFIX} are the server's")
            return False
        return True


def _files(folder: str) -> list[str]:
    """Those with values in them. Raises OSError when the folder cannot be read."""
    found = []
    for each in os.scandir(folder):
        # That of a gauge of living processes goes when its process does.
        with contextlib.suppress(FileNotFoundError):
            if each.name.endswith(".db") and each.stat().st_size:
                found.append(each.path)
    # Lines in the same order in each scrape, however the system lists the files.
    return sorted(found)


def _merged(files: list[str]) -> list[Metric] | Exception:
    """The metrics in these files, or what prometheus_client has raised."""
    try:
        return list(MultiProcessCollector.merge(files))  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001
        # Anything: what a damaged file leads to is not part of the package's interface.
        return error
