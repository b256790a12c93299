"""Which JSON values a type annotation allows, and what becomes of them: msgspec's strict rules and its words."""

from __future__ import annotations

import sys

from sampan.lean.json import DecodeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reader = Callable[[Any], Any]

_ORDER = ("bool", "int", "float", "str", "object", "array", "null")
_JSON_NAMES = {bool: "bool", int: "int", float: "float", str: "str", dict: "object", list: "array", type(None): "null"}


class Kind:
    """The Python types a value may have, each with the function that makes the result of it (None: it is the result).

    `names` are JSON's names of them, for messages. Immutable.
    """

    __slots__ = ("names", "readers")

    def __init__(self, names: tuple[str, ...], readers: dict[type, Reader | None]) -> None:
        self.names = names
        self.readers = readers

    def read(self, value: Any) -> Any:
        """The value as this kind has it. Raises DecodeError."""
        try:
            reader = self.readers[type(value)]
        except KeyError:
            raise self._refuse(value) from None
        return value if reader is None else reader(value)

    def _refuse(self, value: object) -> DecodeError:
        found = _JSON_NAMES.get(type(value)) or type(value).__name__
        return DecodeError(f"Expected `{' | '.join(self.names)}`, got `{found}`")

    def either(self, other: Kind) -> Kind:
        """The union of both. Raises TypeError where one JSON value could be of both."""
        both = self.readers.keys() & other.readers.keys()
        if both:
            raise TypeError(f"a union of types that {', '.join(it.__name__ for it in both)} could all be")
        names = tuple(name for name in _ORDER if name in self.names + other.names)
        return Kind(names, self.readers | other.readers)


class _Whatever(dict[type, "Reader | None"]):
    def __missing__(self, key: type) -> None:
        return None


def _real(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise DecodeError("Number out of range") from None


ANYTHING = Kind(("any",), _Whatever())
_NULL = Kind(("null",), {type(None): None})
_SIMPLE = {
    "bool": Kind(("bool",), {bool: None}),
    "int": Kind(("int",), {int: None}),
    "float": Kind(("float",), {float: None, int: _real}),
    "str": Kind(("str",), {str: None}),
    "None": _NULL,
    "object": ANYTHING,
    "Any": ANYTHING,
    "list": Kind(("array",), {list: None}),
    "dict": Kind(("object",), {dict: None}),
}
_CONSTANTS: dict[str, Any] = {
    "None": None, "Any": object, "...": ..., "object": object, "bool": bool, "int": int, "float": float, "str": str,
    "list": list, "dict": dict, "tuple": tuple,
}
_ALIAS: Any = type(list[int])
_UNION: Any = type(int | None)


def of_annotation(text: Any, module: str) -> Kind:
    """The kind of an annotation as written in a module. The usual ones are recognised without making types of them."""
    if not isinstance(text, str):
        return of_type(text)
    if text.endswith(" | None") and text.count("|") == 1:
        return of_annotation(text[:-7], module).either(_NULL)
    if text.count("[") == 1 and text.endswith("]"):
        if text.startswith("list["):
            return _array(of_annotation(text[5:-1], module))
        if text.startswith("dict[str, "):
            return _object(of_annotation(text[10:-1], module))
    if text in _SIMPLE:
        return _SIMPLE[text]
    return of_type(_named(text, sys.modules[module].__dict__))


def _named(text: str, names: dict[str, Any]) -> Any:
    """The type that an annotation means: names with dots, brackets and `|`, as far as annotations of members go."""
    text = text.strip()
    first, *others = _split(text, "|")
    if others:
        union = _named(first, names)
        for other in others:
            union |= _named(other, names)
        return union
    if text.endswith("]"):
        origin, _, inside = text[:-1].partition("[")
        arguments = tuple([_named(argument, names) for argument in _split(inside, ",")])
        return _named(origin, names)[arguments]
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    name, *attributes = text.split(".")
    if name not in names:
        raise TypeError(f"cannot read an annotation with {name!r}, which its module does not have")
    found = names[name]
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that are in no brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter == separator and not depth:
            parts.append(text[start:at])
            start = at + 1
        depth += (letter == "[") - (letter == "]")
    return [*parts, text[start:]]


def of_type(kind: Any) -> Kind:
    """The kind of a type: a Struct, a simple type, list[X], dict[str, X], tuple[X, ...], a union. Raises TypeError."""
    if isinstance(kind, _UNION):
        return _union(kind.__args__)
    if isinstance(kind, _ALIAS):
        origin, arguments = kind.__origin__, kind.__args__
        if origin is list:
            return _array(of_type(arguments[0]))
        if origin is dict and arguments[0] is str:
            return _object(of_type(arguments[1]))
        if origin is tuple and arguments[1:] == (...,):
            return _array(of_type(arguments[0]), tuple)
    elif kind is None or kind is type(None):
        return _NULL
    elif isinstance(kind, type):
        if kind.__name__ in _SIMPLE and kind.__module__ == "builtins":
            return _SIMPLE[kind.__name__]
        if hasattr(kind, "__struct_kind__"):
            found: Kind = kind.__struct_kind__()
            return found
    raise TypeError(f"cannot read {kind!r}")


def _union(kinds: tuple[Any, ...]) -> Kind:
    structs = [kind for kind in kinds if hasattr(kind, "__struct_kind__")]
    found = [of_type(kind) for kind in kinds if kind not in structs]
    if len(structs) == 1:
        found.append(of_type(structs[0]))
    elif structs:
        found.append(_tagged(structs))
    result = found[0]
    for kind in found[1:]:
        result = result.either(kind)
    return result


def _array(item: Kind, make: type = list) -> Kind:
    read = item.read
    plain = isinstance(item.readers, _Whatever)

    def read_items(values: list[Any]) -> Any:
        if plain:
            return make(values)
        done: list[Any] = []
        try:
            for value in values:
                done.append(read(value))
        except DecodeError as error:
            error.below(f"[{len(done)}]")
            raise
        return done if make is list else make(done)

    return Kind(("array",), {list: read_items, tuple: read_items})


def _object(item: Kind) -> Kind:
    read = item.read

    def read_values(values: dict[Any, Any]) -> dict[str, Any]:
        try:
            for key in values:
                if type(key) is not str:
                    raise DecodeError("Expected `str`")
            return {key: read(value) for key, value in values.items()}
        except DecodeError as error:
            error.below("[...]")
            raise

    return Kind(("object",), {dict: read_values})


def _tagged(structs: list[Any]) -> Kind:
    """A union of structs, told apart by the tag in one of their members."""
    member = structs[0].__struct_tag_field__
    by_tag = {struct.__struct_tag__: struct for struct in structs}
    if member is None or len(by_tag) < len(structs) or any(it.__struct_tag_field__ != member for it in structs):
        raise TypeError("a union of structs needs a tag of its own for each, in the same member")
    readers = {tag: struct.__struct_kind__().readers[dict] for tag, struct in by_tag.items()}

    def read_tagged(value: dict[str, Any]) -> Any:
        return readers[check_tag(value, member, readers)](value)

    kept: dict[type, Reader | None] = dict.fromkeys(structs)
    return Kind(("object",), kept | {dict: read_tagged})


def check_tag(value: dict[str, Any], member: str, allowed: Any) -> Any:
    """The tag of an object. Raises DecodeError when it is missing or not among the allowed."""
    if member not in value:
        raise DecodeError(f"Object missing required field `{member}`")
    tag = value[member]
    if type(tag) is not str:
        raise DecodeError("Expected `str`").below(f".{member}")
    if tag not in allowed:
        raise DecodeError(f"Invalid value {tag!r}").below(f".{member}")
    return tag
