"""A cache backend for Django on the cluster's store.

In the settings of the project, with this file on the Python path::

    CACHES = {"default": {"BACKEND": "django_cache.ClusterCache", "LOCATION": "shop"}}

What is cached is pickled, as in Django's own backends, but for whole numbers, so that ``incr`` is exact. A full store
keeps what it has, and what finds no room is not cached. ``clear`` has all keys begin anew; what was under the old ones
goes with its timeout, so give every value one (Django's default is 300 seconds).
"""

# mypy: ignore-errors
# Django ships no annotations.

import pickle

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from wsgicluster import cluster


class ClusterCache(BaseCache):
    """``LOCATION`` names the cache among others in the same store."""

    def __init__(self, location, params):
        super().__init__(params)
        self._epoch = f"cache:{location}:epoch"

    def _key(self, key, version):
        return f"{self._epoch}:{cluster.store.get(self._epoch, 0)}:{self.make_and_validate_key(key, version=version)}"

    def _ttl(self, timeout):
        """Seconds, None for good; 0 or less for what has expired already."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return timeout

    def get(self, key, default=None, version=None):
        found = cluster.store.get(self._key(key, version))
        return default if found is None else _unpacked(found)

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, ttl = self._key(key, version), self._ttl(timeout)
        if ttl is not None and ttl <= 0:
            cluster.store.pop(key)
            return
        try:
            cluster.store.set(key, _packed(value), ttl)
        except (cluster.StoreFull, cluster.MessageTooLarge):
            cluster.store.pop(key)  # not the value from before

    def add(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        key, ttl = self._key(key, version), self._ttl(timeout)
        if ttl is not None and ttl <= 0:
            return cluster.store.get(key) is None
        try:
            return cluster.store.compare_and_set(key, None, _packed(value), ttl)
        except (cluster.StoreFull, cluster.MessageTooLarge):
            return False

    def touch(self, key, timeout=DEFAULT_TIMEOUT, version=None):
        key, ttl = self._key(key, version), self._ttl(timeout)
        found = cluster.store.get(key)
        if found is None:
            return False
        if ttl is not None and ttl <= 0:
            return cluster.store.pop(key) is not None
        return cluster.store.compare_and_set(key, found, found, ttl)

    def incr(self, key, delta=1, version=None):
        name = self._key(key, version)
        if cluster.store.get(name) is None:
            raise ValueError(f"Key '{key}' not found")
        return cluster.store.add(name, delta)

    def delete(self, key, version=None):
        return cluster.store.pop(self._key(key, version)) is not None

    def has_key(self, key, version=None):
        return cluster.store.get(self._key(key, version)) is not None

    def clear(self):
        cluster.store.add(self._epoch)


def _packed(value):
    return value if type(value) is int and abs(value) < 2**63 else pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _unpacked(found):
    return pickle.loads(found) if isinstance(found, bytes) else found
