"""Registering for events, without a server."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ROOT
from wsgicluster import cluster
from wsgicluster.cluster.events import subscriptions
from wsgicluster.ipc.events import EVENTS, ExitEvent


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    subscriptions.take()
    yield
    subscriptions.take()


def exit_of(slot: int) -> ExitEvent:
    return ExitEvent(at=1.0, role="worker", slot=slot, generation=1, pid=7, code=0)


def test_both_ways_to_register() -> None:
    @cluster.on("exit", slot=2)
    def second(event: cluster.ExitEvent) -> None: ...

    def any_of_them(event: cluster.ExitEvent) -> None: ...

    assert cluster.on("exit", any_of_them) is any_of_them
    found = subscriptions.subscriptions()
    assert [each.function for each in found if each.takes(exit_of(2))] == [second, any_of_them]
    assert [each.function for each in found if each.takes(exit_of(1))] == [any_of_them]


def test_what_a_file_has_registered_leaves_nothing_behind() -> None:
    assert subscriptions.take() is None
    cluster.on("exit", print)
    cluster.on_message("topic")(print)
    taken = subscriptions.take()
    assert taken is not None
    assert subscriptions.take() is None
    subscriptions.restore(taken)
    again = subscriptions.take()
    assert again == taken
    assert list(taken.by_topic) == ["topic"]


@pytest.mark.parametrize(
    ("name", "message"), [("exti", "did you mean 'exit'"), ("xyz", "events are fork, online"), (7, "no event 7")]
)
def test_a_name_that_is_no_event(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster.on(name)  # type: ignore[call-overload]


def test_something_that_cannot_be_called() -> None:
    with pytest.raises(TypeError, match="cannot be called"):
        cluster.on("exit", slot=1)(None)  # type: ignore[type-var]


def test_what_only_the_configuration_file_may_do() -> None:
    calls: list[Callable[[], None]] = [
        lambda: cluster.scale(2), cluster.reload, lambda: cluster.restart(1), lambda: cluster.drain(1),
        lambda: cluster.set_scheduling("shared"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(cluster.ClusterError, match="configuration file"):
            call()
    for wrong in (0, 501, "2", 1.5):
        with pytest.raises(ValueError, match="not a number of workers"):
            cluster.scale(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a slot"):
        cluster.restart(0)


def test_the_page_has_every_event_and_field() -> None:
    page = (ROOT / "docs/reference/events.rst").read_text("utf-8")
    for name, kind in EVENTS.items():
        assert f"``{name}``" in page
        for field in dataclasses.fields(kind):
            assert f"``{field.name}``" in page, (name, field.name)
