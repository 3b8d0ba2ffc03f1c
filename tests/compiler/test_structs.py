"""`Struct` against what it stands in for: a frozen dataclass of the same fields."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest
from trine.compiler.structs import Struct


class Point(Struct):
    """A place."""

    dims: ClassVar[int] = 2

    x: int
    y: int = 5
    tags: list[str] = field(default_factory=list)


class Named(Point):
    y: int = 7
    name: str = ""


class Renamed(Named):
    """No fields of its own."""


@dataclass(frozen=True)
class _Point:
    """A place."""

    dims: ClassVar[int] = 2

    x: int
    y: int = 5
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Named(_Point):
    y: int = 7
    name: str = ""


@dataclass(frozen=True)
class _Renamed(_Named):
    """No fields of its own."""


PAIRS = [(Point, _Point), (Named, _Named), (Renamed, _Renamed)]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, 2), {}), ((1, 2, ["a"]), {}), ((), {"x": 1}), ((), {"y": 3, "x": 1}), ((1,), {"tags": ["b"]}),
]  # fmt: skip
BAD: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((), {"y": 1}), ((1, 2, [], 4, 5), {}), ((1,), {"x": 2}), ((1,), {"z": 2}), ((), {"z": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize(("args", "named"), CALLS)
def test_values_are_those_of_a_dataclass(
    ours: Callable[..., Any], theirs: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    a, b = ours(*args, **named), theirs(*args, **named)
    assert asdict(a) == asdict(b)
    assert [(f.name, f.default) for f in fields(a)] == [(f.name, f.default) for f in fields(b)]
    assert repr(a) == repr(b).replace("_", "", 1)
    assert asdict(replace(a, x=9)) == asdict(replace(b, x=9))
    assert copy.copy(a) == a and copy.deepcopy(a) == a


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize(("args", "named"), BAD)
def test_arguments_that_do_not_fit_are_refused(
    ours: Callable[..., Any], theirs: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        theirs(*args, **named)
    with pytest.raises(TypeError):
        ours(*args, **named)


def test_the_message_names_the_field() -> None:
    for make, message in (
        (lambda: Point(), "Point: `x` is missing"),  # type: ignore[call-arg]
        (lambda: Point(1, 2, [], 4), "Point: 4 arguments for 3 fields"),  # type: ignore[call-arg]
        (lambda: Point(1, z=2), "Point has no field `z`"),  # type: ignore[call-arg]
        (lambda: Point(1, x=2), "Point: `x` is given twice"),  # type: ignore[misc]
    ):
        with pytest.raises(TypeError) as error:
            make()
        assert str(error.value) == message


def test_equal_values_of_one_class_are_equal_and_hash_alike() -> None:
    class Pair(Struct):
        a: int
        b: str = "b"

    class Other(Struct):
        a: int
        b: str = "b"

    assert Pair(1) == Pair(b="b", a=1) and hash(Pair(1)) == hash(Pair(b="b", a=1))
    assert Pair(1) != Pair(2) and Pair(1) != Other(1) and Pair(1) != (1, "b")
    assert len({Pair(1), Pair(1, "b"), Pair(1, "c")}) == 2


def test_a_note_beside_the_fields_changes_neither_value_nor_hash() -> None:
    class Single(Struct):
        a: int

    noted = Single(1)
    object.__setattr__(noted, "span", "here")
    assert noted == Single(1) and hash(noted) == hash(Single(1)) and repr(noted) == repr(Single(1))


def test_nothing_can_be_set_or_deleted() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    assert point.x == 1


def test_each_value_has_a_default_of_its_own() -> None:
    assert Point(1).tags is not Point(1).tags


def test_fields_are_checked_once_all_are_there() -> None:
    class Even(Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise ValueError(f"{self.number} is odd")

    assert Even(2).number == 2
    with pytest.raises(ValueError, match="3 is odd"):
        Even(3)


def test_match_reads_the_fields_in_order() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_defaults_that_change_are_refused_where_they_are_declared() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        class Wrong(Struct):
            items: list[int] = []  # noqa: RUF012
