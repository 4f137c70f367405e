"""Hooks: which functions are taken, and with how many arguments they are called."""

import pathlib

import pytest

from wsgicluster.settings.fields import SETTINGS
from wsgicluster.settings.types import hooks


def two(worker: object, req: object) -> tuple[object, ...]:
    return worker, req


def three(worker: object, req: object, environ: object) -> tuple[object, ...]:
    return worker, req, environ


def any_number(*arguments: object) -> tuple[object, ...]:
    return arguments


def with_default(worker: object, req: object, environ: object = None, resp: object = None) -> tuple[object, ...]:
    return worker, req, environ, resp


@pytest.mark.parametrize(("function", "count"), [(two, 2), (three, 3), (any_number, 4), (with_default, 4)])
def test_arguments_of_post_request(function: hooks.Hook, count: int) -> None:
    assert hooks.RESPONSE.read(function) is function
    assert hooks.most_taken(function, 2, 4) == count
    assert function(*(1, 2, 3, 4)[:count]) == (1, 2, 3, 4)[:count]


def test_a_wrong_number_of_arguments() -> None:
    with pytest.raises(ValueError):
        hooks.SERVER.read(two)
    with pytest.raises(ValueError):
        hooks.RESPONSE.read(lambda worker: None)
    with pytest.raises(TypeError):
        hooks.SERVER.read("os.getpid")

    async def never_awaited(server: object) -> None: ...

    with pytest.raises(ValueError):
        hooks.SERVER.read(never_awaited)
    assert hooks.SERVER.read(None) is None
    assert hooks.SERVER.read(print) is print
    assert hooks.SERVER_AND_WORKER.expected == "a function of server and worker, in the configuration file"


@pytest.mark.parametrize("name", hooks.NAMES)
def test_the_page_has_each(name: str) -> None:
    page = (pathlib.Path(__file__).parents[3] / "docs" / "reference" / "hooks.rst").read_text("utf-8")
    arguments = SETTINGS[name].about.type.expected.partition(" of ")[2].partition(", in the")[0].replace(" and ", ", ")
    assert f"``{name}({arguments})``" in page
