"""Our dataclasses beside the library's: the same objects, errors and signatures, of methods made later."""

import copy
import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from wsgicluster.dataclass import dataclass

T = TypeVar("T")
Decorator = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Pickled:
    """Found by pickle under its name."""

    number: int
    words: tuple[str, ...] = ()


def plain(make: Decorator) -> Any:
    @make
    class Point:
        x: int
        y: int = 2
        name: ClassVar[str] = "point"

    return Point


def frozen(make: Decorator) -> Any:
    @make(frozen=True)
    class Point:
        x: int
        y: int = dataclasses.field(default=2, compare=False)
        words: list[str] = dataclasses.field(default_factory=list, hash=False, repr=False)

        @functools.cached_property
        def doubled(self) -> int:
            return self.x * 2

    return Point


def slotted(make: Decorator) -> Any:
    @make(frozen=True, slots=True, kw_only=True)
    class Point:
        x: int = 1
        y: int = dataclasses.field(default=2, metadata={"unit": "s"})

    return Point


def generic(make: Decorator) -> Any:
    @make(frozen=True, slots=True)
    class Box(Generic[T]):
        x: T

    return Box


def inherited(make: Decorator) -> Any:
    @make(frozen=True, slots=True)
    class Base:
        x: int

        def __str__(self) -> str:
            return f"<{self.x}>"

    @make(frozen=True, slots=True)
    class Derived(Base):
        y: int = 3

    return Derived


def completed(make: Decorator) -> Any:
    @make(frozen=True)
    class Sum:
        x: int
        y: int = 1
        total: int = dataclasses.field(init=False, repr=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.x + self.y)

    return Sum


def by_identity(make: Decorator) -> Any:
    @make(eq=False, slots=True)
    class Node:
        x: int
        children: list[Any] = dataclasses.field(default_factory=list)

    return Node


def with_own_methods(make: Decorator) -> Any:
    @make(frozen=True)
    class Own:  # noqa: PLW1641 - its hash is compared, too
        x: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        def __repr__(self) -> str:
            return "own"

    return Own


def empty(make: Decorator) -> Any:
    @make(frozen=True, slots=True)
    class Nothing:
        """No field."""

    return Nothing


def with_names_of_methods(make: Decorator) -> Any:
    """Fields that are called as parameters of what fills them might be."""

    @make(frozen=True)
    class Call:
        x: int
        instance: int = 1
        values: tuple[int, ...] = ()
        named: str = ""
        cls: int = 2

    return Call


def with_a_field_that_is_no_parameter(make: Decorator) -> Any:
    @make(frozen=True, slots=True)
    class Fixed:
        x: int
        y: int = dataclasses.field(default=2, init=False)

    return Fixed


SHAPES = (
    plain,
    frozen,
    slotted,
    generic,
    inherited,
    completed,
    by_identity,
    with_own_methods,
    empty,
    with_names_of_methods,
    with_a_field_that_is_no_parameter,
)
CALLS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((), {}), ((1,), {}), ((1, 5), {}), ((), {"x": 1}), ((), {"x": 1, "y": 5}), ((1,), {"x": 2}), ((1, 2, 3, 4), {}),
    ((1,), {"instance": 3, "values": (4,), "named": "a", "cls": 5}),
)  # fmt: skip


def outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:
        return type(error), str(error)


def is_refused(act: Callable[[], object]) -> bool:
    # With slots the library of Python 3.11 raises TypeError where it means FrozenInstanceError.
    return isinstance(outcome(act), tuple)


def seen(cls: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """All that can be seen of an object of this class and of its methods."""
    made = outcome(lambda: cls(*arguments, **named))
    if isinstance(made, tuple):
        return {"error": made}
    twin = cls(*arguments, **named)
    shown = repr(made).split(" at 0x")[0]
    return {
        "shown": shown,
        "text": str(made).split(" at 0x")[0],
        "fields": [(each.name, getattr(made, each.name)) for each in dataclasses.fields(made)],
        "equal": (made == twin, made == made, made != twin, made == 1, made == object()),
        "hash": outcome(lambda: hash(made) == hash(twin)),
        "unhashable": cls.__hash__ is None,
        "set": is_refused(lambda: setattr(made, "x", 9)),
        "set_other": is_refused(lambda: setattr(made, "other", 9)),
        "deleted": is_refused(lambda: delattr(made, "x")),
        "after": outcome(lambda: repr(made).split(" at 0x")[0]),
        "copied": outcome(lambda: copy.deepcopy(twin) == twin),
        "replaced": outcome(lambda: repr(dataclasses.replace(twin, x=7)).split(" at 0x")[0]),
        "dictionary": dataclasses.asdict(twin),
        "tuple": dataclasses.astuple(twin),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_as_the_library_makes_them(shape: Callable[[Decorator], Any]) -> None:
    for arguments, named in CALLS:
        # A class for each call, so that each is the first use once.
        expected = seen(shape(dataclasses.dataclass), arguments, named)
        ours = shape(dataclass)
        assert seen(ours, arguments, named) == expected
        assert seen(ours, arguments, named) == expected, "another object of the class"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_classes_tell_the_same(shape: Callable[[Decorator], Any]) -> None:
    library, ours = shape(dataclasses.dataclass), shape(dataclass)
    parameters, expected = (inspect.signature(cls).parameters.values() for cls in (ours, library))
    assert [(each.name, each.kind) for each in parameters] == [(each.name, each.kind) for each in expected]
    assert ours.__match_args__ == library.__match_args__
    assert getattr(ours, "__slots__", None) == getattr(library, "__slots__", None)
    assert [field.metadata for field in dataclasses.fields(ours)] == [
        field.metadata for field in dataclasses.fields(library)
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_init_is_compiled_once_a_class_is_used_often(shape: Callable[[Decorator], Any]) -> None:
    arguments = () if shape in {slotted, empty} else (1,)
    cls = shape(dataclass)
    first = cls(*arguments)
    assert not inspect.isfunction(cls.__dict__["__init__"])
    for _ in range(50):
        last = cls(*arguments)
    assert inspect.isfunction(cls.__dict__["__init__"])
    assert dataclasses.asdict(last) == dataclasses.asdict(first)


def test_factories_are_called_for_each_object_that_needs_them() -> None:
    calls: list[str] = []

    @dataclass
    class Counted:
        first: str = dataclasses.field(default_factory=lambda: calls.append("first") or "made")  # type: ignore[func-returns-value]
        second: str = dataclasses.field(init=False, default_factory=lambda: calls.append("second") or "made")  # type: ignore[func-returns-value]

    assert dataclasses.astuple(Counted()) == ("made", "made")
    assert dataclasses.astuple(Counted("given")) == ("given", "made")
    assert calls == ["first", "second", "second"]


def test_classes_made_from_one() -> None:
    base: Any = frozen(dataclass)

    class Further(base):  # type: ignore[misc]
        def __init__(self, x: int) -> None:
            super().__init__(x, y=x)
            self.more = x

    made = Further(4)
    assert (made.x, made.y, made.more, made.doubled) == (4, 4, 4, 8)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        made.x = 1
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del made.x
    del made.more
    assert not hasattr(made, "more")


def test_lists_are_not_shared() -> None:
    node = by_identity(dataclass)
    first, second = node(1), node(1)
    first.children.append(second)
    assert second.children == []


def test_shows_an_object_that_contains_itself() -> None:
    node = by_identity(dataclass)(1)
    node.children.append(node)
    assert repr(node).endswith("Node(x=1, children=[...])")


def test_pickles() -> None:
    made = Pickled(3, ("a",))
    assert pickle.loads(pickle.dumps(made)) == made
    assert made != Pickled(4, ("a",))
    assert {made: 1}[Pickled(3, ("a",))] == 1
