"""Descriptors of a process whose standard library is cooperative."""

import os

import pytest

from tests.forked import Forked
from wsgicluster.worker.intake.descriptors import Descriptors

gevent = pytest.importorskip("gevent")

from wsgicluster.worker.kinds.gevent.worker import PARTS  # noqa: E402


def test_the_number_of_the_spare_one_is_free_at_once() -> None:
    """It is freed for a connection that is received before the hub runs again."""

    def probe() -> None:
        PARTS.setup()
        PARTS.finish_setup()
        gevent.get_hub()
        subject = Descriptors()
        before = os.listdir("/proc/self/fd")
        assert subject.keep_spare()
        assert os.listdir("/proc/self/fd") != before
        subject.free_spare()
        os._exit(7 if os.listdir("/proc/self/fd") == before else 1)

    with Forked(probe) as child:
        assert child.code() == 7
