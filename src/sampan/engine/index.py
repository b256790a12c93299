"""All containers by id and by name. One dictionary look-up for what users usually say."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.engine.container import Container
from sampan.errors import Conflict, InvalidArgument, NotFound

_HEX = frozenset("0123456789abcdef")


class Index:
    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}  # name → id; a name is taken before its container is there

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    @property
    def names(self) -> dict[str, str]:
        return self._by_name

    def find(self, ref: str) -> Container:
        """By id, name or unique start of an id, in this order. Raises NotFound, InvalidArgument."""
        if (found := self._by_id.get(ref)) is not None:
            return found
        id = self._by_name.get(ref.removeprefix("/"))
        if id is not None and (found := self._by_id.get(id)) is not None:
            return found
        if ref and _HEX.issuperset(ref):
            starting = [id for id in self._by_id if id.startswith(ref)]
            if len(starting) > 1:
                raise InvalidArgument(f"Multiple IDs found with provided prefix: {ref}")
            if starting:
                return self._by_id[starting[0]]
        raise NotFound(f"No such container: {ref}")

    def reserve(self, name: str, id: str) -> None:
        """Take a name. Raises Conflict."""
        owner = self._by_name.setdefault(name, id)
        if owner != id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def release(self, name: str, id: str) -> None:
        if self._by_name.get(name) == id:
            del self._by_name[name]

    def add(self, container: Container) -> None:
        """The container's name is reserved already."""
        self._by_id[container.id] = container

    def remove(self, container: Container) -> None:
        """The container and its name."""
        self._by_id.pop(container.id, None)
        self.release(container.name, container.id)
