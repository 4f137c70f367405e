"""A cache backend for Flask-Caching on the cluster's store, and an application that uses it.

Start it in the repository with:

wsgicluster --chdir examples flask_cache:app -w 4

A page is computed by one worker and served by all of them, until its time is over. What finds no room is not cached.
"""

# mypy: ignore-errors
# Neither Flask-Caching nor its base class says of what type its arguments are.

import os
import pickle

from flask import Flask
from flask_caching import Cache
from flask_caching.backends.base import BaseCache

from wsgicluster import cluster


class ClusterCache(BaseCache):
    """To be named by ``CACHE_TYPE``, with its module; ``CACHE_KEY_PREFIX`` tells caches of one store apart."""

    def __init__(self, default_timeout=300, key_prefix=""):
        super().__init__(default_timeout)
        self._epoch = f"cache:{key_prefix}:epoch"

    @classmethod
    def factory(cls, app, config, args, kwargs):
        return cls(config["CACHE_DEFAULT_TIMEOUT"], config.get("CACHE_KEY_PREFIX", ""))

    def _key(self, key):
        return f"{self._epoch}:{cluster.store.get(self._epoch, 0)}:{key}"

    def _ttl(self, timeout):
        """Seconds; 0 stands for no end."""
        return (self.default_timeout if timeout is None else timeout) or None

    def get(self, key):
        found = cluster.store.get(self._key(key))
        return None if found is None else pickle.loads(found)

    def set(self, key, value, timeout=None):
        try:
            cluster.store.set(self._key(key), pickle.dumps(value), self._ttl(timeout))
        except (cluster.StoreFull, cluster.MessageTooLarge):
            return False
        return True

    def add(self, key, value, timeout=None):
        try:
            return cluster.store.compare_and_set(self._key(key), None, pickle.dumps(value), self._ttl(timeout))
        except (cluster.StoreFull, cluster.MessageTooLarge):
            return False

    def delete(self, key):
        return cluster.store.pop(self._key(key)) is not None

    def has(self, key):
        return cluster.store.get(self._key(key)) is not None

    def clear(self):
        cluster.store.add(self._epoch)
        return True


app = Flask(__name__)
cache = Cache(app, config={"CACHE_TYPE": "flask_cache.ClusterCache", "CACHE_DEFAULT_TIMEOUT": 60})


@app.route("/")
@cache.cached()
def page():
    """Shows which worker has computed it."""
    return f"computed by {os.getpid()}\n"


@app.route("/clear")
def clear():
    """Has it computed anew."""
    cache.clear()
    return "cleared\n"
