"""What is checked and computed of the settings as a whole, when every single value is sound."""

import dataclasses
import os
from collections.abc import Mapping

from wsgicluster.settings.fields import Settings
from wsgicluster.settings.kinds import GROUP, USER
from wsgicluster.settings.values import Automatic, MemoryShare, UnixAddress
from wsgicluster.settings.wording import complaint, quoted


def check(settings: Settings, sources: Mapping[str, str], directory: str) -> None:
    """Look at what settings refer to; paths are relative to ``directory``. Raises UsageError."""
    if not settings.wsgi_app and not settings.print_config:
        raise complaint("command line", "wsgi_app", "nothing", "the application, such as module:application")
    _check_folder(settings.chdir, "chdir", sources, directory)
    inside = os.path.join(directory, settings.chdir)
    _check_folder(settings.worker_tmp_dir, "worker_tmp_dir", sources, inside)
    _check_folder(settings.tmp_upload_dir, "tmp_upload_dir", sources, inside)
    _check_addresses(settings, sources)


def _check_addresses(settings: Settings, sources: Mapping[str, str]) -> None:
    seen = set()
    for address in settings.bind:
        place = address.path if isinstance(address, UnixAddress) else str(address)
        if place in seen and not place.endswith(":0"):
            raise complaint(sources["bind"], "bind", quoted(str(address)), "each address once")
        seen.add(place)
        for kind, name in ((USER, getattr(address, "user", None)), (GROUP, getattr(address, "group", None))):
            try:
                kind.read(name if name is not None else 0)
            except ValueError:
                raise complaint(sources["bind"], "bind", quoted(str(address)), kind.expected) from None


def _check_folder(path: str | None, name: str, sources: Mapping[str, str], directory: str) -> None:
    if path is not None and not os.path.isdir(os.path.join(directory, path)):
        raise complaint(sources[name], name, quoted(path), "a folder that exists")


def resolve(settings: Settings, processors: int, memory_bytes: int) -> Settings:
    """With plain numbers for what depends on the machine: its usable processors and memory."""
    workers = processors if isinstance(settings.workers, Automatic) else settings.workers
    limit = settings.max_memory
    limit_bytes = limit.of(memory_bytes, workers) if isinstance(limit, MemoryShare) else limit
    return dataclasses.replace(settings, workers=workers, max_memory=limit_bytes)
