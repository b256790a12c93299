"""The two classes of `_collections_abc` that `os` makes os.environ of.

That module makes 25 abstract classes, which takes half a millisecond: a program that lives 30 ms does without. pack.py
lends this one to `os`; whoever imports collections.abc later gets the real one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def _check_methods(cls: type, *methods: str) -> Any:
    """Whether a class has all these methods, for os.PathLike's isinstance."""
    for method in methods:
        if not any(method in base.__dict__ for base in cls.__mro__):
            return NotImplemented
    return True


Mapping = dict  # os asks whether something is one


class MutableMapping:
    """What a class with the five methods of a mapping has besides (collections.abc), with lists as views."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def __delitem__(self, key: Any) -> None:
        raise NotImplementedError

    def __contains__(self, key: object) -> bool:
        try:
            self[key]
        except KeyError:
            return False
        return True

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> list[Any]:
        return list(self)

    def values(self) -> list[Any]:
        return [self[key] for key in self]

    def items(self) -> list[tuple[Any, Any]]:
        return [(key, self[key]) for key in self]

    def pop(self, key: Any, *default: Any) -> Any:
        if default and key not in self:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def update(self, other: Any = (), **more: Any) -> None:
        for key, value in {**dict(other), **more}.items():
            self[key] = value
