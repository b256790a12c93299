"""A small Struct with msgspec's ways, for programs that end before msgspec would have been imported.

Nothing is worked out for a class before its first use: most members of an OCI spec are never met.
"""

from __future__ import annotations

from sampan.lean import json, kinds
from sampan.lean.json import DecodeError
from sampan.lean.kinds import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNSET: Any = object()


class _Field:
    __slots__ = ("default", "factory", "name")

    def __init__(self, default: Any, factory: Any, name: str | None) -> None:
        self.default = default
        self.factory = factory
        self.name = name


def field(*, default: Any = _UNSET, default_factory: Any = None, name: str | None = None) -> Any:
    """A member with a default made anew for each instance, or with a name of its own in JSON."""
    return _Field(default, default_factory, name)


class _Layout:
    """The members of a Struct class. Made at its first use; then only `kinds` grows, by members as they are met."""

    __slots__ = ("defaults", "factories", "kinds", "members", "positional", "required", "wire")

    def __init__(self, cls: type[Struct], base: _Layout | None) -> None:
        self.wire: dict[str, str] = dict(base.wire) if base else {}  # member → its name in JSON
        self.defaults: dict[str, Any] = dict(base.defaults) if base else {}
        self.factories: dict[str, Any] = dict(base.factories) if base else {}
        self.positional: tuple[str, ...] = base.positional if base else ()
        for name in _own_annotations(cls):
            self._add(cls, name)
        self.required = [name for name in self.wire if name not in self.defaults and name not in self.factories]
        self.members = {wire: name for name, wire in self.wire.items()}
        self.kinds: dict[str, Kind] = {}

    def _add(self, cls: type[Struct], name: str) -> None:
        default = cls.__dict__.get(name, _UNSET)
        wire = _camel(name) if cls.__struct_rename__ == "camel" else name
        self.defaults.pop(name, None)
        self.factories.pop(name, None)
        if isinstance(default, _Field):
            wire = default.name or wire
            if default.factory is not None:
                self.factories[name] = default.factory
            default = default.default
        if isinstance(default, (list, dict, set)):
            self.factories[name] = type(default)
        elif default is not _UNSET:
            self.defaults[name] = default
        if not cls.__struct_kw_only__ and name not in self.wire:
            self.positional += (name,)
        self.wire[name] = wire

    def kind(self, cls: type[Struct], member: str) -> Kind:
        """What the member's annotation allows."""
        found = self.kinds.get(member)
        if found is None:
            owner = next(it for it in cls.__mro__ if member in _own_annotations(it))
            found = self.kinds[member] = kinds.of_annotation(_own_annotations(owner)[member], owner.__module__)
        return found


def _own_annotations(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = cls.__dict__.get("__annotations__", {})  # noqa: RUF063 - `inspect` is what we avoid
    return found


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join([other.title() for other in others])


def _layout(cls: type[Struct]) -> _Layout:
    found: _Layout | None = cls.__dict__.get("__struct_layout__")
    if found is None:
        base: Any = cls.__base__
        found = cls.__struct_layout__ = _Layout(cls, _layout(base) if base is not Struct else None)
    return found


class Struct:
    """Members by annotation: `class User(Struct, rename="camel"): uid: int = 0`. One line of inheritance only."""

    __struct_layout__: _Layout
    __struct_rename__: str | None = None
    __struct_omit__ = False
    __struct_kw_only__ = False
    __struct_frozen__ = False
    __struct_tag__: str | None = None
    __struct_tag_field__: str | None = None

    def __init_subclass__(
        cls, *, rename: str | None = None, omit_defaults: bool | None = None, kw_only: bool = False,
        frozen: bool | None = None, tag: str | None = None, tag_field: str | None = None,
    ) -> None:
        cls.__struct_kw_only__ = kw_only
        if rename is not None:
            cls.__struct_rename__ = rename
        if omit_defaults is not None:
            cls.__struct_omit__ = omit_defaults
        if frozen is not None:
            cls.__struct_frozen__ = frozen
        if tag is not None:
            cls.__struct_tag__ = tag
            cls.__struct_tag_field__ = tag_field or "type"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        layout = _layout(type(self))
        if len(args) > len(layout.positional):
            raise TypeError("Extra positional arguments provided")
        values = dict(zip(layout.positional, args, strict=False))
        for name, value in kwargs.items():
            if name in values:
                raise TypeError(f"Argument {name!r} given by name and position")
            if name not in layout.wire:
                raise TypeError(f"Unexpected keyword argument {name!r}")
            values[name] = value
        for name in layout.required:
            if name not in values:
                raise TypeError(f"Missing required argument {name!r}")
        _fill(self, layout, values)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__struct_frozen__:
            raise AttributeError(f"immutable type: {type(self).__name__!r}")
        if name not in _layout(type(self)).wire:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.__dict__[name] = value

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        if not self.__struct_frozen__:
            raise TypeError(f"unhashable type: {type(self).__name__!r}")
        return hash((type(self), *[self.__dict__[name] for name in _layout(type(self)).wire]))

    def __repr__(self) -> str:
        values = ", ".join([f"{name}={self.__dict__[name]!r}" for name in _layout(type(self)).wire])
        return f"{type(self).__name__}({values})"

    @classmethod
    def __struct_kind__(cls) -> Kind:
        def read(value: dict[str, Any]) -> Struct:
            return _read(cls, value)

        return Kind(("object",), {dict: read, cls: None})


def _fill(struct: Struct, layout: _Layout, values: dict[str, Any]) -> None:
    inside = struct.__dict__
    inside.update(layout.defaults)
    for name, factory in layout.factories.items():
        if name not in values:
            inside[name] = factory()
    inside.update(values)


def _read(cls: type[Struct], value: dict[str, Any]) -> Struct:
    if cls.__struct_tag_field__ in value:
        kinds.check_tag(value, cls.__struct_tag_field__, (cls.__struct_tag__,))
    layout = _layout(cls)
    values: dict[str, Any] = {}
    members, known = layout.members, layout.kinds
    wire = ""
    try:
        for wire, raw in value.items():
            name = members.get(wire)
            if name is not None:
                values[name] = (known.get(name) or layout.kind(cls, name)).read(raw)
    except DecodeError as error:
        error.below(f".{wire}")
        raise
    for name in layout.required:
        if name not in values:
            raise DecodeError(f"Object missing required field `{layout.wire[name]}`")
    struct = cls.__new__(cls)
    _fill(struct, layout, values)
    return struct


def _members(struct: object) -> dict[str, Any]:
    """The members of one Struct by their names in JSON, without those that are left out. TypeError for other types."""
    if not isinstance(struct, Struct):
        raise TypeError(f"Encoding objects of type {type(struct).__name__} is unsupported")
    cls = type(struct)
    layout = _layout(cls)
    values = struct.__dict__
    found: dict[str, Any] = {cls.__struct_tag_field__: cls.__struct_tag__} if cls.__struct_tag_field__ else {}
    if not cls.__struct_omit__:
        return found | {wire: values[name] for name, wire in layout.wire.items()}
    for name, wire in layout.wire.items():
        value = values[name]
        if name in layout.defaults:
            if value is layout.defaults[name]:
                continue
        elif layout.factories.get(name) is type(value) and type(value) in (list, dict, set) and not value:
            continue
        found[wire] = value
    return found


def decode(data: bytes | bytearray | memoryview | str, type: Any = object) -> Any:
    """The value of a JSON text as `type` has it. Raises DecodeError with the place."""
    return convert(json.parse(data), type)


def convert(value: Any, type: Any) -> Any:
    """Plain dicts and lists as `type` has them. Raises DecodeError with the place."""
    return kinds.of_type(type).read(value)


def encode(value: object) -> bytes:
    """Compact JSON. Raises TypeError for what JSON has no form for."""
    return json.dump(value, _members)


def to_builtins(value: Any) -> Any:
    """Structs as dicts, all the way down."""
    if isinstance(value, Struct):
        value = _members(value)
    if isinstance(value, dict):
        return {key: to_builtins(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_builtins(item) for item in value]
    return value
