"""What is computed from the settings and the machine."""

import dataclasses

from wsgicluster.settings import Settings, resolve
from wsgicluster.settings.values import Automatic, MemoryShare


def test_plain_numbers_stay() -> None:
    settings = Settings(workers=3, max_memory=5)
    assert resolve(settings, 8, 1 << 30) == settings


def test_automatic_workers() -> None:
    resolved = resolve(Settings(workers=Automatic()), 8, 1 << 30)
    assert resolved.workers == 8
    assert type(resolved.workers) is int


def test_share_of_memory_is_divided_by_the_workers() -> None:
    settings = Settings(workers=Automatic(), max_memory=MemoryShare(80), max_memory_jitter=7)
    resolved = resolve(settings, 4, 1000)
    assert resolved.max_memory == 200
    assert type(resolved.max_memory) is int
    assert dataclasses.replace(resolved, workers=settings.workers, max_memory=settings.max_memory) == settings
