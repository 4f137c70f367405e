"""Types of the settings of the cluster's shared state."""

from wsgicluster.settings.types import general, redis_url
from wsgicluster.settings.types.general import SettingType, without_passwords
from wsgicluster.settings.types.values import show_size

LEAST_STORE_BYTES = 1 << 20


def _read_store_size(value: object) -> int:
    size = general.SIZE.read(value)
    if size < LEAST_STORE_BYTES:
        raise ValueError(value)
    return size


def _show_store(value: str | None) -> str:
    return "none" if value is None else without_passwords(value)


STORE = SettingType(redis_url.read, f"{redis_url.EXPECTED}, or nothing", "URL", _show_store)
STORE_SIZE = SettingType(_read_store_size, "a size of 1M or more", "SIZE", show_size, "bytes")
