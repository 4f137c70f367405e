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
        ("egg:gunicorn#sync", "sync", "sync"),
        ("gunicorn.workers.gthread.ThreadWorker", "gthread", "gthread"),
        ("gunicorn.workers.ggthread.ThreadWorker", "gthread", "gthread"),
        ("gunicorn.workers.ggevent.GeventWorker", "gevent", "gevent"),
        ("gunicorn.workers.ggevent:GeventPyWSGIWorker", "gevent", "gevent"),
        ("gunicorn.workers.sync:SyncWorker", "sync", "sync"),
        ("gevent_pywsgi", "gevent", "gevent"),
        ("gevent_wsgi", "gevent", "gevent"),
        ("egg:gunicorn#gevent_pywsgi", "gevent", "gevent"),
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
    ],
)
def test_names_what_is_meant(name: str, near: str) -> None:
    with pytest.raises(WrongEntry) as caught:
        WORKER_CLASS.read(name)
    assert caught.value.near == near


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("eventlet", "gevent: there are no workers for eventlet"),
        ("egg:gunicorn#eventlet", "gevent: "),
        ("gunicorn.workers.geventlet.EventletWorker", "gevent: "),
        ("tornado", "gthread: there are no workers for tornado"),
        ("gunicorn.workers.gtornado.TornadoWorker", "gthread: "),
        ("meinheld.gmeinheld.MeinheldWorker", "gevent or gthread: there are no workers for meinheld"),
        ("egg:meinheld#gunicorn_worker", "gevent or gthread: "),
        ("uvicorn.workers.UvicornWorker", "sync, gthread or gevent for a WSGI application; one for ASGI"),
        ("uvicorn_worker.UvicornWorker", "sync, gthread or gevent for a WSGI application; one for ASGI"),
        ("aiohttp.GunicornWebWorker", "sync, gthread or gevent for a WSGI application; one for ASGI"),
        ("asgi", "sync, gthread or gevent for a WSGI application; one for ASGI"),
        ("gunicorn.workers.gasgi.ASGIWorker", "sync, gthread or gevent for a WSGI application; one for ASGI"),
        ("egg:gunicorn#other", ""),
        ("gunicorn.workers.other.Other", ""),
    ],
)
def test_says_what_to_use_instead(name: str, instead: str) -> None:
    with pytest.raises(WrongEntry) as caught:
        WORKER_CLASS.read(name)
    assert caught.value.expected.startswith(instead) if instead else not caught.value.expected


@pytest.mark.parametrize("raw", [None, 5, "", Own()])
def test_refuses(raw: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        WORKER_CLASS.read(raw)


def test_a_name_has_a_module_and_a_class() -> None:
    assert split_dotted("a.b.C") == ("a.b", "C")
    assert split_dotted("a.b:C") == ("a.b", "C")
    assert split_dotted("C") is None


def test_the_error_names_the_source_and_what_to_use(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(["app", "-k", "eventlet"], {}, str(tmp_path))
    assert str(caught.value) == (
        "command line --worker-class: worker_class: 'eventlet'; expected gevent: there are no workers for eventlet"
    )
