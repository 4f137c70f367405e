"""The applications that need a few lines of their own; each is made when it is asked for, in its own environment."""

import os
import pathlib
from typing import Any

STATE = pathlib.Path(os.environ.get("STATE", "."))


def _dash() -> Any:
    from dash import Dash, Input, Output, dcc, html

    app = Dash("real")
    app.layout = html.Div(
        [dcc.Input(id="name", debounce=False), html.Div(id="greeting"), dcc.Graph(id="graph", figure={})]
    )

    @app.callback(Output("greeting", "children"), Output("graph", "figure"), Input("name", "value"))
    def greet(name: str | None) -> tuple[str, dict[str, Any]]:
        points = list(range(20_000))
        return f"Hello, {name or 'nobody'}", {"data": [{"x": points, "y": points, "type": "scattergl"}]}

    return app.server


def _dav() -> Any:
    from wsgidav.wsgidav_app import WsgiDAVApp

    shared = STATE / "shared"
    shared.mkdir(exist_ok=True)
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": {"root": str(shared), "readonly": False}},
            "simple_dc": {"user_mapping": {"*": True}},
            "property_manager": True,
            "lock_storage": {"class": "wsgidav.lock_man.lock_storage.LockStorageShelve", "kwargs": {
                "storage_path": str(STATE / "locks")}},
            "logging": {"enable": False},
        }
    )  # fmt: skip


def _pypi() -> Any:
    import pypiserver

    packages = STATE / "packages"
    packages.mkdir(exist_ok=True)
    return pypiserver.app(roots=[str(packages)], password_file=".", authenticate=[], overwrite=True)


def _hg() -> Any:
    from mercurial import ui
    from mercurial.hgweb import hgweb

    repository = STATE / "repository"
    settings = ui.ui.load()
    for name, value in ((b"push_ssl", b"false"), (b"allow_push", b"*"), (b"allow-archive", b"gz zip")):
        settings.setconfig(b"web", name, value)
    return hgweb(os.fsencode(repository), baseui=settings)


def _git() -> Any:
    from dulwich.repo import Repo
    from dulwich.server import DictBackend
    from dulwich.web import make_wsgi_chain

    repository = STATE / "repository.git"
    if not repository.exists():
        repository.mkdir()
        Repo.init_bare(str(repository))
    return make_wsgi_chain(DictBackend({"/": Repo(str(repository))}))


def _zope() -> Any:
    from Zope2.Startup.run import make_wsgi_app

    return make_wsgi_app({}, str(STATE / "instance/etc/zope.conf"))


MAKERS = {"dash": _dash, "dav": _dav, "pypi": _pypi, "hg": _hg, "git": _git, "zope": _zope}


def __getattr__(name: str) -> Any:
    if name not in MAKERS:
        raise AttributeError(name)
    globals()[name] = application = MAKERS[name]()
    return application
