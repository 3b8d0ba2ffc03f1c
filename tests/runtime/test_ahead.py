"""What is made beside the steps of training: the same, in order, and with its errors. Time is made up."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from trine.runtime import ahead
from trine.runtime.ahead import TRIAL, WARM_UP, Ahead

MAIN = threading.main_thread()
TRIED = TRIAL + WARM_UP


class World:
    """A clock, a maker of squares that takes a millisecond of it, and a record of who made them.

    What another thread makes takes no time of the main thread's.
    """

    def __init__(self, making: float = 1e-3, fails: int = -1) -> None:
        self.now, self.making, self.fails = 0.0, making, fails
        self.makers: dict[int, threading.Thread] = {}

    def make(self, number: int) -> int:
        self.makers[number] = threading.current_thread()
        if threading.current_thread() is MAIN:
            self.now += self.making
        if number == self.fails:
            raise ValueError(f"no item {number}")
        return number * number

    def use(self, items: Ahead[int], numbers: range, step: float = 3e-3) -> list[int]:
        found = []
        for number in numbers:
            found.append(items(number))
            self.now += step
        return found


def items_of(world: World, monkeypatch: pytest.MonkeyPatch) -> Ahead[int]:
    monkeypatch.setattr(ahead, "_cores", lambda: 2)
    monkeypatch.setattr(ahead, "time", SimpleNamespace(perf_counter=lambda: world.now))
    return Ahead(world.make)


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batch")]


def test_items_are_made_while_the_one_before_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    items = items_of(world, monkeypatch)
    assert world.use(items, range(3 * TRIED)) == [n * n for n in range(3 * TRIED)]
    assert world.makers[0] is MAIN
    assert world.makers[3 * TRIED - 1] is not MAIN
    assert world.use(items, range(7, 10)) == [49, 64, 81], "one may go back"
    items.close()
    assert not helpers()
    assert items(5) == 25


@pytest.mark.parametrize(("making", "slower"), [(1e-5, 1.0), (1e-4, 1.0), (1e-3, 1.5)])
def test_without_a_gain_there_is_no_thread(making: float, slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where items are made in no time, or steps become slower beside it."""
    world = World(making)
    items = items_of(world, monkeypatch)
    world.use(items, range(TRIED))
    numbers = range(TRIED, 3 * TRIED)
    assert world.use(items, numbers, 3e-3 * slower) == [n * n for n in numbers]
    assert world.makers[3 * TRIED - 1] is MAIN
    assert not helpers()


def test_an_error_comes_out_where_its_item_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(fails=25)
    items = items_of(world, monkeypatch)
    world.use(items, range(25))
    assert world.makers[24] is not MAIN
    with pytest.raises(ValueError, match="no item 25"):
        items(25)
    items.close()
    assert not helpers()
