"""The paths of probes: what is read, and what is refused."""

import pathlib

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import load
from wsgicluster.settings.types.health import PROBE_PATH


@pytest.mark.parametrize("given", ["/healthz", "/", "/a/b-c_d.e~f", "/x;y=1", "/:8"])
def test_paths(given: str) -> None:
    assert PROBE_PATH.read(given) == given == PROBE_PATH.show(PROBE_PATH.read(given))


@pytest.mark.parametrize("given", [None, ""])
def test_none(given: object) -> None:
    assert PROBE_PATH.read(given) is None


@pytest.mark.parametrize("given", ["healthz", "/a b", "/a?b", "/a#b", "/a%20b", "/\xe4", 1, True])
def test_what_is_not_a_path(given: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        PROBE_PATH.read(given)


def test_a_path_is_one_or_the_other(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="ready_path: '/z'; expected another path than health_path"):
        load(["app", "--health-path", "/z", "--ready-path", "/z"], {}, str(tmp_path))
    with pytest.raises(UsageError, match=r"did you mean /healthz\?"):
        load(["app", "--health-path", "healthz"], {}, str(tmp_path))
