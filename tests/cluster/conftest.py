"""Shared files for each test that asks for them."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.cluster.members import Cluster, ForkServer, cluster_in


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    """What forks the members of a module's tests."""
    forking = ForkServer()
    yield forking
    forking.close()


@pytest.fixture
def members(tmp_path: pathlib.Path, fork_server: ForkServer) -> Iterator[Cluster]:
    """A cluster without a server; all that it starts is ended after the test."""
    with cluster_in(tmp_path, fork_server) as cluster:
        yield cluster
