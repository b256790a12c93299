"""sampan.lean.record.dataclass does what dataclasses.dataclass does, as far as it goes."""

from __future__ import annotations

import pytest

from sampan.lean.record import dataclass, field, replace


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 2


@dataclass
class Line:
    a: Point
    points: list[Point] = field(default_factory=list)
    name: str = ""


@dataclass
class Named(Line):
    label: str = "none"


def test_values_by_position_by_name_and_by_default() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 5).y, Point(y=3, x=1).y) == (1, 2, 5, 3)


def test_a_factory_makes_a_new_default_each_time() -> None:
    first, second = Line(Point(1)), Line(Point(1))
    first.points.append(Point(2))
    assert second.points == [] and first != second


def test_equality_hash_and_repr_are_those_of_the_fields() -> None:
    assert Point(1) == Point(1, 2) != Point(1, 3)
    assert len({Point(1), Point(1, 2)}) == 1
    assert repr(Point(1)) == "Point(x=1, y=2)"


def test_a_subclass_adds_fields() -> None:
    assert Named(Point(1), [], "n", "l").label == "l"
    assert Named(Point(1)).label == "none"


def test_replace_changes_some() -> None:
    assert replace(Point(1, 5), x=9) == Point(9, 5)


@pytest.mark.parametrize("args, kwargs", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_wrong_values_are_a_type_error(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Point(*args, **kwargs)
