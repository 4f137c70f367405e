"""`dataclasses.dataclass` with methods that are made when they are first used; all dataclasses of ours are made by it.

The library compiles the text of up to six methods for each class when its module is imported: with a hundred and thirty
classes, of which a start uses a third, that took 42 % of the instructions of the import. Here the library finds the
fields, all its functions work as on any dataclass, and only ``__init__`` is compiled, once a class is used often: most
make a few objects in the life of a process, which takes less than the compiler does.
"""

import functools
import operator
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from dataclasses import dataclass as _fields_found
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

T = TypeVar("T")

if TYPE_CHECKING:
    # Type checkers know what the library's makes of a class.
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type[T] | None = None,
        /,
        *,
        frozen: bool = False,
        slots: bool = False,
        kw_only: bool = False,
        eq: bool = True,
    ) -> Any:
        """The class with its fields, and with the methods that `dataclasses.dataclass` would give it."""
        if cls is None:
            return functools.partial(dataclass, frozen=frozen, slots=slots, kw_only=kw_only, eq=eq)
        # Without a docstring the library would write one, which takes the signature of __init__.
        cls.__doc__ = cls.__doc__ or cls.__name__
        made = _fields_found(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
        _add_methods(made, frozen, slots, eq)
        return made


def _add_methods(cls: type[Any], frozen: bool, slots: bool, eq: bool) -> None:
    methods: dict[str, Any] = {"__init__": _DeferredInit(cls, frozen), "__repr__": _repr}
    if eq:
        methods["__eq__"] = _eq
        methods["__hash__"] = _hash if frozen else None
    if frozen:
        methods |= _frozen(cls)
        if slots:
            # What copies and unpickles an object would set its attributes one by one.
            methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    own = dict(cls.__dict__)
    if own.get("__hash__") is None and "__eq__" in own:
        own.pop("__hash__", None)  # not written in the class: Python sets it for one that has __eq__
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)


_USES = 50
"""After so many objects, compiling is what takes less."""


class _DeferredInit:
    """Stands for ``__init__`` until a class is used often, or its signature is asked for; then the function does.

    It keeps nothing of what it finds out about the fields: that would be memory of each worker.
    """

    __slots__ = ("_cls", "_frozen", "_left")

    def __init__(self, cls: type[Any], frozen: bool) -> None:
        self._cls = cls
        self._frozen = frozen
        self._left = _USES

    def __get__(self, instance: object, owner: type[Any]) -> Callable[..., None]:
        self._left -= 1
        if instance is None:
            return self._compiled()
        if self._left <= 0 or isinstance(instance, type):  # the second is how inspect of Python 3.13 asks
            return self._compiled().__get__(instance, owner)
        return MethodType(self._fill, instance)

    def _compiled(self) -> FunctionType:
        """The function, which has taken this object's place."""
        self._cls.__init__ = made = _init_of(self._cls, self._frozen)
        return made

    def _fill(self, instance: object, /, *values: object, **named: object) -> None:
        """What the function does; it is also what refuses wrong arguments."""
        put = object.__setattr__ if self._frozen else setattr
        given = len(values)
        at = taken = 0
        found = dict[str, object]()
        for field in fields(self._cls):
            name = field.name
            if field.init and not field.kw_only and at < given:
                if name in named:
                    break
                found[name] = values[at]
                at += 1
            elif field.init and name in named:
                found[name] = named[name]
                taken += 1
            elif field.default_factory is not MISSING:
                found[name] = field.default_factory()
            elif field.init and field.default is MISSING:
                break
            elif field.init or (field.default is not MISSING and _has_slots(self._cls)):
                found[name] = field.default
        else:
            if at == given and taken == len(named):
                for name, value in found.items():
                    put(instance, name, value)
                if hasattr(instance, "__post_init__"):
                    instance.__post_init__()
                return
        self._compiled()(instance, *values, **named)


def _has_slots(cls: type[Any]) -> bool:
    """Whether the class has slots in the place of its defaults."""
    return "__slots__" in vars(cls)


def _init_of(cls: type[Any], frozen: bool) -> FunctionType:
    """Compile ``__init__`` as the library does: defaults by name, factories called, ``__post_init__`` at the end."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    positional, by_name = ["self"], list[str]()
    body = list[str]()
    for field in fields(cls):
        name, value = field.name, field.name
        default = ""
        if field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
        elif field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            default = "=_missing"
            made = f"_make_{name}()"
            value = f"{made} if {name} is _missing else {name}" if field.init else made
        if field.init:
            (by_name if field.kw_only else positional).append(name + default)
        elif field.default is not MISSING and _has_slots(cls):
            value = f"_default_{name}"
        elif not default or field.default is not MISSING:
            continue  # set by __post_init__, or the default of the class
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *by_name] if by_name else [])])
    text = f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"])
    exec(text, known)
    function: FunctionType = known["__init__"]
    function.__qualname__ = f"{cls.__qualname__}.__init__"
    function.__module__ = cls.__module__
    return function


@functools.cache
def _compared(cls: Any) -> Callable[[object], Any]:
    """Reads the values by which two objects of a class are compared."""
    return _reader([field.name for field in fields(cls) if field.compare])


@functools.cache
def _hashed(cls: Any) -> Callable[[object], Any]:
    return _reader([each.name for each in fields(cls) if (each.compare if each.hash is None else each.hash)])


def _reader(names: list[str]) -> Callable[[object], Any]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _eq(self: Any, other: Any) -> Any:
    cls = self.__class__
    if other.__class__ is not cls:
        return NotImplemented
    values = _compared(cls)
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(_hashed(self.__class__)(self))


@reprlib.recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


def _frozen(cls: type[Any]) -> dict[str, Callable[..., None]]:
    """The two methods that keep fields as they are; a class made from this one may have attributes of its own."""

    def is_kept(instance: object, name: str) -> bool:
        return type(instance) is cls or name in cls.__dataclass_fields__

    def set_attribute(self: object, name: str, value: object) -> None:
        if is_kept(self, name):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete_attribute(self: object, name: str) -> None:
        if is_kept(self, name):
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": set_attribute, "__delattr__": delete_attribute}
