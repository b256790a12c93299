"""`dataclass` without its price: a stand-in for programs whose whole life is shorter than the import of `dataclasses`.

That module compiles every `__init__` anew at import and brings `inspect`, `re`, `typing` and `enum` with it: 20 ms, as
much as a whole container start. This one knows what this project uses: fields with defaults, `default_factory`,
inheritance, `frozen` (which the type checker enforces, not the run time), equality, a repr.
"""

from __future__ import annotations

__all__ = ["dataclass", "field", "replace"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    class _Factory:
        __slots__ = ("make",)

        def __init__(self, make):
            self.make = make

    def field(*, default_factory):
        """A default made anew for each instance."""
        return _Factory(default_factory)

    def dataclass(cls=None, /, *, frozen=False):
        """Give a class an `__init__` by position or name, `__eq__`, `__repr__` and, when frozen, `__hash__`."""
        if cls is None:
            return lambda it: _complete(it, frozen)
        return _complete(cls, frozen)

    def replace(instance, /, **changes):
        """A copy of an instance with some fields changed."""
        return type(instance)(**{name: getattr(instance, name) for name in instance._fields} | changes)

    def _complete(cls, frozen):
        names = list(getattr(cls, "_fields", ()))
        names += [name for name in vars(cls).get("__annotations__", ()) if name not in names]
        cls._fields = cls.__match_args__ = tuple(names)
        factories = dict(getattr(cls, "_factories", ()))
        for name in names:
            default = cls.__dict__.get(name)
            if isinstance(default, _Factory):
                factories[name] = default.make
                delattr(cls, name)
        cls._factories = factories
        for method in (_init, _eq, _repr):
            if method.__name__ not in cls.__dict__:
                setattr(cls, method.__name__, method)
        cls.__hash__ = _hash if frozen else None
        return cls

    def _init(self, *args, **kwargs):
        names = self._fields
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, not {len(args)}")
        values = self.__dict__
        values.update(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(f"{type(self).__name__} got {name!r} unexpectedly or twice")
            values[name] = value
        for name in names:
            if name not in values:
                make = self._factories.get(name)
                if make is not None:
                    values[name] = make()
                elif not hasattr(type(self), name):
                    raise TypeError(f"{type(self).__name__} lacks {name!r}")

    def _eq(self, other):
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def _hash(self):
        return hash(tuple(getattr(self, name) for name in self._fields))

    def _repr(self):
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"

    for _method, _name in ((_init, "__init__"), (_eq, "__eq__"), (_repr, "__repr__")):
        _method.__name__ = _name
