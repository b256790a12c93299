"""Pages that a forked process makes its own: which they were, and having them ahead of the first write.

After fork(2) all memory is shared, and the first write to each page costs an exception and a copy, 1 to 3 µs. Processes
that were forked from one parent and do the same work write to the same pages. `MADV_POPULATE_WRITE` (Linux 5.14) has
many of them copied at once, by a process that waits anyway.
"""

from __future__ import annotations

import array
import mmap
import os

from sampan.lean import ctypes
from sampan.linux import libc

_MADV_POPULATE_WRITE = 23
_PRESENT, _FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56  # Documentation/admin-guide/mm/pagemap.rst
_SIZE = 64 << 10

_madvise = libc.lib.madvise


class WorkingSet:
    """The pages that the processes of one kind write to, learned from the first few. Made before they are forked; all
    of them share it.

    Only where pages lie is passed on, never what is in them.
    """

    def __init__(self, lessons: int) -> None:
        """`lessons`: so many processes are looked at, those after them only profit."""
        self._lessons = lessons
        self._shared = mmap.mmap(-1, _SIZE)  # MAP_SHARED: counts, then pairs of address and length
        self._table = memoryview(self._shared).cast("Q")
        self._areas: list[tuple[int, int]] = []

    def __len__(self) -> int:
        """How many bytes are known to be written to."""
        return sum(length for _, length in self._ranges())

    def open(self) -> int:
        """What `learn` needs, while /proc is still the host's; -1 when there is nothing more to learn."""
        if self._table[0] >= self._lessons:
            return -1
        return os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def learn(self, pagemap: int) -> None:
        """Note the pages that are this process's own by now. Closes the descriptor."""
        ranges = _own_ranges(pagemap, self._areas)
        os.close(pagemap)
        ranges = ranges[: (len(self._table) - 2) // 2]
        self._table[0] += 1
        for index, (address, length) in enumerate(ranges):
            self._table[2 + 2 * index], self._table[3 + 2 * index] = address, length
        self._table[1] = len(ranges)

    def populate(self) -> None:
        """Have the known pages copied now. Without the kernel's help they are copied when they are written to."""
        if self._table[0] < self._lessons:
            self._areas = _areas()  # now, while /proc is the host's
        for address, length in self._ranges():
            _madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_int(_MADV_POPULATE_WRITE))

    def _ranges(self) -> list[tuple[int, int]]:
        count = self._table[1]
        return [(self._table[2 + 2 * index], self._table[3 + 2 * index]) for index in range(count)]


def _areas() -> list[tuple[int, int]]:
    """The process's writable private mappings: address and end."""
    areas = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            place, mode = line.split(maxsplit=2)[:2]
            if mode == "rw-p":
                begin, _, end = place.partition("-")
                areas.append((int(begin, 16), int(end, 16)))
    return areas


def _own_ranges(pagemap: int, areas: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Anonymous pages of nobody else, neighbours joined: address and length."""
    ranges: list[tuple[int, int]] = []
    for begin, end in areas:
        entries = array.array("Q", os.pread(pagemap, (end - begin) // mmap.PAGESIZE * 8, begin // mmap.PAGESIZE * 8))
        for index, entry in enumerate(entries):
            if entry & _PRESENT and entry & _EXCLUSIVE and not entry & _FILE:
                address = begin + index * mmap.PAGESIZE
                if ranges and sum(ranges[-1]) == address:
                    ranges[-1] = ranges[-1][0], ranges[-1][1] + mmap.PAGESIZE
                else:
                    ranges.append((address, mmap.PAGESIZE))
    return ranges
