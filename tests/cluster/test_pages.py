"""What the pages on the shared state show does what they say, and so does the cache backend for Django."""

import re

import pytest

from tests.cluster.members import ROOT, Cluster

PAGES = ("howto/shared-state", "howto/periodic-jobs")
_block = re.compile(r"\.\. code-block:: python\n\n((?:(?: {4}.*)?\n)+)")


def snippets() -> list[tuple[str, str]]:
    """Page and code of each block, with its indentation taken off."""
    found = []
    for page in PAGES:
        text = (ROOT / "docs" / f"{page}.rst").read_text("utf-8")
        found += [(page, re.sub(r"^ {4}", "", block, flags=re.MULTILINE)) for block in _block.findall(text)]
    return found


def test_all_snippets_are_found() -> None:
    pages = [page for page, _ in snippets()]
    assert [pages.count(page) for page in PAGES] == [5, 2]


@pytest.mark.parametrize(("page", "code"), snippets(), ids=lambda part: part[:12].strip() if "/" in part else "")
def test_every_snippet_runs(members: Cluster, page: str, code: str) -> None:
    calls = """
if "application" in globals():
    assert list(application({}, lambda *_: None)) == [b"1 requests\\n"]
for function in ("publish_totals", "clean_up"):
    if function in globals(): globals()[function]()
print("ran")
"""
    assert members.start(code + calls).finish().splitlines()[-1] == "ran"


DJANGO = """
import sys, time
sys.path.insert(0, "examples")
from django.conf import settings
settings.configure(CACHES={"default": {"BACKEND": "django_cache.ClusterCache", "LOCATION": "a"},
                           "other": {"BACKEND": "django_cache.ClusterCache", "LOCATION": "b"}})
from django.core.cache import cache, caches
"""


def test_the_cache_backend_for_django(members: Cluster) -> None:
    first = (
        DJANGO
        + """
cache.set("object", {"a": (1, {2})}, 60)
assert cache.get("object") == {"a": (1, {2})}
assert cache.get("none") is None and cache.get("none", 5) == 5
assert cache.add("object", 1) is False and cache.add("new", "x") is True
assert "new" in cache and cache.delete("new") and "new" not in cache and not cache.delete("new")
cache.set("n", 5)
assert cache.incr("n", 2) == 7 and cache.decr("n") == 6 and cache.get("n") == 6
try: cache.incr("none")
except ValueError: pass
else: raise AssertionError
cache.set("past", 1, timeout=0); assert cache.get("past") is None
cache.set("past", 1); cache.set("past", 1, timeout=-1); assert cache.get("past") is None
cache.set("short", 1, timeout=0.05)
assert cache.touch("short", 60) and not cache.touch("none")
time.sleep(0.1); assert cache.get("short") == 1
cache.set_many({"m1": 1, "m2": None}); assert cache.get_many(["m1", "m2", "m3"]) == {"m1": 1, "m2": None}
assert cache.get_or_set("default", lambda: "made") == "made"
cache.set("large", bytes(2 << 20)); assert cache.get("large") is None
cache.set("versioned", 1, version=2); assert cache.get("versioned") is None and cache.get("versioned", version=2) == 1
assert caches["other"].get("object") is None
caches["other"].set("kept", 1)
print("done")
"""
    )
    assert members.start(first).finish() == "done"
    second = (
        DJANGO
        + """
assert cache.get("object") == {"a": (1, {2})}
cache.clear()
assert cache.get("object") is None and caches["other"].get("kept") == 1
cache.set("object", "again"); assert cache.get("object") == "again"
print("done")
"""
    )
    assert members.start(second).finish() == "done"
