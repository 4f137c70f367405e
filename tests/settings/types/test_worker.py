"""What may stand for a kind of worker, and what is suggested instead of Gunicorn's names."""

import pathlib

import pytest

from wsgicluster.errors import UsageError
from wsgicluster.settings import load
from wsgicluster.settings.types.general import WrongEntry
from wsgicluster.settings.types.worker import WORKER_CLASS, split_dotted


class Own:
    """Whatever it is: the code that uses it checks that."""


@pytest.mark.parametrize(
    ("raw", "value", "shown"),
    [
        ("gthread", "gthread", "gthread"),
        (" gevent ", "gevent", "gevent"),
        ("package.module.Worker", "package.module.Worker", "package.module.Worker"),
        ("module:Worker", "module:Worker", "module:Worker"),
        (Own, Own, f"{__name__}.Own"),
    ],
)
def test_reads(raw: object, value: object, shown: str) -> None:
    read = WORKER_CLASS.read(raw)
    assert read == value
    assert WORKER_CLASS.show(read) == shown


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gevnt", "gevent"),
        ("threads", "gthread"),
        ("module:", ""),
        ("a..B", ""),
        ("no name", ""),
        ("egg:gunicorn#sync", "sync"),
        ("egg:gunicorn#eventlet", "gevent"),
        ("egg:gunicorn#tornado", ""),
        ("gunicorn.workers.gthread.ThreadWorker", "gthread"),
        ("gunicorn.workers.ggevent.GeventWorker", "gevent"),
        ("gunicorn.workers.sync:SyncWorker", "sync"),
        ("eventlet", "gevent"),
        ("gevent_pywsgi", "gevent"),
    ],
)
def test_names_what_is_meant(name: str, near: str) -> None:
    with pytest.raises(WrongEntry) as caught:
        WORKER_CLASS.read(name)
    assert caught.value.near == near


@pytest.mark.parametrize("raw", [None, 5, "", Own()])
def test_refuses(raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        WORKER_CLASS.read(raw)


def test_a_name_has_a_module_and_a_class() -> None:
    assert split_dotted("a.b.C") == ("a.b", "C")
    assert split_dotted("a.b:C") == ("a.b", "C")
    assert split_dotted("C") is None


def test_the_error_names_the_source_and_our_kind(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(["app", "-k", "egg:gunicorn#gthread"], {}, str(tmp_path))
    assert str(caught.value).startswith("command line --worker-class: worker_class: 'egg:gunicorn#gthread'; expected ")
    assert str(caught.value).endswith("did you mean gthread?")
