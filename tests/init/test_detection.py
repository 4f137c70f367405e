"""Applications are found by their sources, the likeliest first, and no source is executed."""

import os
import pathlib

import pytest

from wsgicluster.init.detection import Candidate, Certainty, candidates, find_applications


def found_in(source: str) -> list[tuple[str, str, Certainty]]:
    return [(each.target, each.framework, each.certainty) for each in candidates(source, "m", "m.py")]


KNOWN, NAMED, FACTORY, ASGI = Certainty


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from flask import Flask\nshop = Flask(__name__)", [("m:shop", "Flask", KNOWN)]),
        ("import flask\napp: flask.Flask = flask.Flask(__name__)", [("m:app", "Flask", KNOWN)]),
        ("application = get_wsgi_application()", [("m:application", "Django", KNOWN)]),
        ("application = WhiteNoise(get_wsgi_application(), root='x')", [("m:application", "Django", KNOWN)]),
        ("import falcon\nx = falcon.App()", [("m:x", "Falcon", KNOWN)]),
        ("import falcon.asgi\nx = falcon.asgi.App()", [("m:x", "Falcon (ASGI)", ASGI)]),
        ("app = config().make_wsgi_app()", [("m:app", "Pyramid", KNOWN)]),
        ("app = bottle.default_app()", [("m:app", "Bottle", KNOWN)]),
        ("app = FastAPI()", [("m:app", "FastAPI", ASGI)]),
        ("app = Middleware(Starlette())", [("m:app", "Starlette", ASGI)]),
        ("async def app(scope, receive, send): ...", [("m:app", "", ASGI)]),
        ("def application(environ, start_response): ...", [("m:application", "", NAMED)]),
        ("app = create_app()", [("m:app", "", NAMED)]),
        ("def create_app(config=None, *, debug=False): ...", [("m:create_app()", "", FACTORY)]),
        ("def create_app(config): ...", []),
        ("def create_app(*, config): ...", []),
        ("def app(): ...", []),
        ("app: object", []),
        ("app = 'shop'", []),
        ("def f():\n    app = Flask(__name__)", []),
        ("x.app = Flask(__name__)", []),
        ("not Python at all (", []),
        ("\0", []),
        ("x = '\\d'\napp = Flask(__name__)", [("m:app", "Flask", KNOWN)]),
        ("app = " + "(" * 5000 + ")" * 5000, []),
    ],
)
def test_what_a_module_has(source: str, expected: list[tuple[str, str, Certainty]]) -> None:
    assert found_in(source) == expected


def test_the_likeliest_comes_first(tmp_path: pathlib.Path) -> None:
    for name, source in {
        "api.py": "app = FastAPI()",
        "zoo.py": "zoo = Flask(__name__)",
        "wsgi.py": "from shop import create_app\napp = create_app()",
        "main.py": "site = Flask(__name__)",
        "shop/__init__.py": "def create_app(): ...",
        "project/wsgi.py": "application = get_wsgi_application()",
        "project/settings.py": "app = Flask(__name__)",
        "tests/app.py": "app = Flask(__name__)",
        "conftest.py": "app = Flask(__name__)",
        "test_app.py": "app = Flask(__name__)",
        "gunicorn.conf.py": "app = Flask(__name__)",
        "no-module.py": "app = Flask(__name__)",
        ".hidden/app.py": "app = Flask(__name__)",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    assert [each.target for each in find_applications(str(tmp_path))] == [
        "main:site", "zoo:zoo", "project.wsgi:application", "wsgi:app", "shop:create_app()", "api:app",
    ]  # fmt: skip


def test_files_that_cannot_be_read_are_left_out(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "wsgi.py")
    (tmp_path / "main.py").mkdir()
    (tmp_path / "large.py").write_text("app = Flask(__name__)\n" + "#" * 1_000_001)
    (tmp_path / "latin.py").write_bytes("# é\napp = Flask('é')".encode("latin-1"))
    (tmp_path / "gone.py").symlink_to("nowhere")
    assert find_applications(str(tmp_path)) == [Candidate("latin:app", "Flask", "latin.py", KNOWN)]


def test_nothing_is_executed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit\napp = Flask(__name__)")
    assert [each.target for each in find_applications(str(tmp_path))] == ["app:app"]
