"""`dataclasses.dataclass` with methods that are made when they are first used; all dataclasses of ours are made by it.

The library looks at the fields of each class when its module is imported, makes one with slots twice, and compiles the
text of up to six methods: with a hundred and thirty classes, of which a start uses a third, that took 42 % of the
instructions of the import. Here a class gets what is the same for all, its slots, and the names and defaults of its
fields; the library's functions work as on any dataclass, and have it look at the fields when one first asks for them.
``__init__`` is compiled once a class is used often: most make a few objects in the life of a process, which takes less
than the compiler does.
"""

import functools
import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from dataclasses import dataclass as _of_library
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

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
        declared = _declared(cls)
        init = _DeferredInit(frozen)
        namespace = _namespace(cls, init, frozen, slots, eq)
        if slots:
            made = _slotted(cls, declared, namespace)
        else:
            made = cls
            for name, default in declared.items():
                if isinstance(default, Field):
                    namespace[name] = default.default
            for name, value in namespace.items():
                if value is not MISSING:
                    setattr(cls, name, value)
                else:
                    delattr(cls, name)
        init.cls = made
        _known[made] = _Declared(declared, kw_only)
        return made


class _Declared:
    """What the text of a class says: its own fields, each with its default, the library's `Field`, or ``MISSING``."""

    __slots__ = ("fields", "kw_only")

    def __init__(self, fields: Mapping[str, Any], kw_only: bool) -> None:
        self.fields = fields
        self.kw_only = kw_only


_known: dict[type[Any], _Declared] = {}


def _declared(cls: type[Any]) -> dict[str, Any]:
    own = cls.__dict__
    return {
        name: own.get(name, MISSING)
        for name, annotation in cls.__annotations__.items()
        if annotation is not ClassVar and getattr(annotation, "__origin__", None) is not ClassVar
    }


def _all_fields(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    """What is declared of each field, in order and with those of base classes, and whether its class wants a name."""
    found = {}
    for each in reversed(cls.__mro__):
        if each in _known:
            row = _known[each]
            for name, default in row.fields.items():
                found[name] = (default, row.kw_only)
    return found


def _namespace(cls: type[Any], init: "_DeferredInit", frozen: bool, slots: bool, eq: bool) -> dict[str, Any]:
    """What the class does not have yet. Without a docstring the library would write one."""
    methods: dict[str, Any] = {"__init__": init, "__repr__": _repr, **_ABOUT_FIELDS}
    if eq:
        methods["__eq__"] = _eq
        methods["__hash__"] = _hash if frozen else None
    if frozen:
        methods |= {"__setattr__": _set_attribute, "__delattr__": _delete_attribute}
        if slots:
            # What copies and unpickles an object would set its attributes one by one.
            methods |= {"__getstate__": _get_state, "__setstate__": _set_state}
    own = cls.__dict__
    for name in own.keys() & methods.keys():
        # Not written in the class: Python sets it for one that has __eq__.
        if name != "__hash__" or own[name] is not None or "__eq__" not in own:
            del methods[name]
    if not own.get("__doc__"):
        methods["__doc__"] = cls.__name__
    return methods


def _slotted(cls: type[Any], declared: Mapping[str, Any], namespace: Mapping[str, Any]) -> type[Any]:
    """The class once more, since a class has slots from the start."""
    taken = set[str]()
    for base in cls.__mro__[1:]:
        slots = base.__dict__.get("__slots__", ())
        taken.update([slots] if isinstance(slots, str) else slots)
    names = dict.fromkeys((*_all_fields(cls), *declared))
    whole = {
        **{name: value for name, value in cls.__dict__.items() if name not in names},
        **namespace,
        "__slots__": tuple([name for name in names if name not in taken]),
    }
    for name in ("__dict__", "__weakref__"):
        whole.pop(name, None)
    metaclass: Any = type(cls)
    made: type[Any] = metaclass(cls.__name__, cls.__bases__, whole)
    made.__qualname__ = cls.__qualname__
    return made


class _AboutFields:
    """One of the attributes by which the library knows a dataclass; when one is asked for, it makes all of them."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        cls = _dataclass_of(owner)
        row = _known[cls]
        twin = type(
            cls.__name__,
            tuple(base for base in cls.__bases__ if base in _known),
            {
                "__doc__": cls.__doc__,
                "__module__": cls.__module__,
                "__annotations__": {name: cls.__annotations__[name] for name in row.fields},
                **{name: default for name, default in row.fields.items() if default is not MISSING},
            },
        )
        _of_library(init=False, repr=False, eq=False, kw_only=row.kw_only)(twin)
        for name, deferred in _ABOUT_FIELDS.items():
            if cls.__dict__.get(name) is deferred:
                setattr(cls, name, getattr(twin, name))
        return getattr(cls, self._name)


_ABOUT_FIELDS = {
    name: _AboutFields(name) for name in ("__dataclass_fields__", "__dataclass_params__", "__match_args__")
}


def _dataclass_of(cls: type[Any]) -> type[Any]:
    """The class itself, or the nearest base that is a dataclass."""
    return next(each for each in cls.__mro__ if each in _known)


_USES = 50
"""After so many objects, compiling is what takes less."""


class _DeferredInit:
    """Stands for ``__init__`` until a class is used often, or its signature is asked for; then the function does.

    It keeps nothing of what it finds out about the fields: that would be memory of each worker.
    """

    __slots__ = ("_frozen", "_left", "cls")

    def __init__(self, frozen: bool) -> None:
        self.cls: type[Any]
        self._frozen = frozen
        self._left = _USES

    def __get__(self, instance: object, owner: type[Any]) -> Callable[..., None]:
        self._left -= 1
        if instance is None:
            return self._compiled()
        if self._left <= 0:
            return self._compiled().__get__(instance, owner)
        return MethodType(self._fill, instance)

    def _compiled(self) -> FunctionType:
        """The function, which has taken this object's place."""
        self.cls.__init__ = made = _init_of(self.cls, self._frozen)
        return made

    def _fill(self, instance: object, /, *values: object, **named: object) -> None:
        """What the function does; it is also what refuses wrong arguments."""
        put = object.__setattr__ if self._frozen else setattr
        given = len(values)
        at = taken = 0
        found = dict[str, object]()
        for name, (declared, kw_only) in _all_fields(self.cls).items():
            field = declared if isinstance(declared, Field) else None
            default = declared if field is None else field.default
            by_name = kw_only if field is None or field.kw_only is MISSING else field.kw_only
            is_parameter = field is None or field.init
            if is_parameter and not by_name and at < given:
                if name in named:
                    break
                found[name] = values[at]
                at += 1
            elif is_parameter and name in named:
                found[name] = named[name]
                taken += 1
            elif field is not None and field.default_factory is not MISSING:
                found[name] = field.default_factory()
            elif is_parameter and default is MISSING:
                break
            elif is_parameter:
                found[name] = default
        else:
            if at == given and taken == len(named):
                for name, value in found.items():
                    put(instance, name, value)
                if hasattr(instance, "__post_init__"):
                    instance.__post_init__()
                return
        self._compiled()(instance, *values, **named)


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


def _is_kept(instance: object, name: str) -> bool:
    """Is it a field, or an object of a dataclass itself? A class made from one may have attributes of its own."""
    cls = type(instance)
    return cls in _known or name in _all_fields(_dataclass_of(cls))


def _set_attribute(self: object, name: str, value: object) -> None:
    if _is_kept(self, name):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delete_attribute(self: object, name: str) -> None:
    if _is_kept(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)
