"""Boxes against sets of cells: every operation must agree with what it says about single cells."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txstore.boxes import Box, full, hull
from txstore.errors import CorruptionError, InvalidInputError

SIDE = 7


@st.composite
def boxes(draw: st.DrawFn, ndim: int, empty: bool = True) -> Box:
    """Boxes within ``SIDE`` cells of zero, some of them empty."""
    lo, hi = [], []
    for _ in range(ndim):
        low, high = sorted(draw(st.tuples(st.integers(0, SIDE), st.integers(0, SIDE))))
        lo.append(low)
        hi.append(high if empty else high + 1)
    return Box(tuple(lo), tuple(hi))


def several(count: int, empty: bool = True) -> st.SearchStrategy[tuple[Box, ...]]:
    """So many boxes of the same number of axes."""
    return st.integers(0, 3).flatmap(lambda ndim: st.tuples(*[boxes(ndim, empty)] * count))


def cells(box: Box) -> set[tuple[int, ...]]:
    return set(product(*[range(lo, hi) for lo, hi in zip(*box, strict=True)]))


@settings(max_examples=150)
@given(several(2))
def test_agrees_with_sets_of_cells(pair: tuple[Box, Box]) -> None:
    one, other = pair
    assert one.size == len(cells(one))
    assert one.empty is not bool(cells(one))
    assert one.contains(other) is (cells(other) <= cells(one))
    common = one.intersect(other)
    assert (set() if common is None else cells(common)) == cells(one) & cells(other)
    assert common is None or not common.empty
    assert common == other.intersect(one)


@settings(max_examples=150)
@given(several(2))
def test_subtract_is_a_small_disjoint_cover(pair: tuple[Box, Box]) -> None:
    one, other = pair
    pieces = one.subtract(other)
    assert len(pieces) <= max(1, 2 * one.ndim)
    assert not any(piece.empty for piece in pieces)
    assert sum(piece.size for piece in pieces) == len(cells(one) - cells(other))
    assert set().union(*map(cells, pieces)) == cells(one) - cells(other)


@settings(max_examples=50)
@given(several(3, empty=False), st.integers(1, 3))
def test_hull_is_the_smallest(three: tuple[Box, ...], count: int) -> None:
    some = three[:count]
    around = hull(some)
    assert all(around.contains(box) for box in some)
    for axis in range(around.ndim):
        assert around.lo[axis] in {box.lo[axis] for box in some}
        assert around.hi[axis] in {box.hi[axis] for box in some}


def test_hull_ignores_empty_boxes() -> None:
    empty, filled = Box((0, 0), (0, 9)), Box((3, 3), (4, 5))
    assert hull([empty, filled]) == filled
    assert hull([empty]) == empty
    assert hull(iter([Box((), ())])) == Box((), ())
    with pytest.raises(InvalidInputError):
        hull([])


@settings(max_examples=50)
@given(several(2, empty=False))
def test_slices_pick_the_cells(pair: tuple[Box, Box]) -> None:
    one, other = pair
    array = np.arange((SIDE + 1) ** one.ndim).reshape((SIDE + 1,) * one.ndim)
    picked = array[one.slices()]
    assert picked.shape == one.shape
    common = one.intersect(other)
    if common is not None:
        assert np.array_equal(picked[common.slices(one.lo)], array[common.slices()])


@given(several(1), st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=3))
def test_shift_moves_and_comes_back(single: tuple[Box], by: list[int]) -> None:
    (box,) = single
    by = by[: box.ndim]
    moved = box.shift(by)
    assert moved.shape == box.shape
    assert moved.shift([-step for step in by]) == box


@given(st.integers(0, 9).flatmap(lambda n: st.lists(st.integers(0, 2**63 - 1), min_size=2 * n, max_size=2 * n)))
def test_bytes_round_trip(corners: list[int]) -> None:
    ndim = len(corners) // 2
    box = Box(*zip(*[sorted(corners[axis::ndim]) for axis in range(ndim)], strict=True)) if ndim else Box((), ())
    data = box.to_bytes()
    assert data == struct.pack(f"<{2 * ndim}q", *box.lo, *box.hi)
    assert Box.from_bytes(data, ndim) == box


@pytest.mark.parametrize(
    ("data", "ndim"),
    [
        (b"", 1),
        (b"\0" * 15, 1),
        (b"\0" * 17, 1),
        (b"\0" * 16, 0),
        (struct.pack("<2q", 5, 4), 1),
        (struct.pack("<2q", -1, 4), 1),
        (struct.pack("<4q", 0, 3, 1, 2), 2),
    ],
)
def test_hostile_bytes_are_refused(data: bytes, ndim: int) -> None:
    with pytest.raises(CorruptionError):
        Box.from_bytes(data, ndim)


def test_zero_dimensions_hold_one_cell() -> None:
    box = full(())
    assert (box.ndim, box.shape, box.size, box.empty, str(box)) == (0, (), 1, False, "[]")
    assert box.intersect(box) == box
    assert box.contains(box)
    assert box.subtract(box) == []
    assert box.slices() == ()


def test_reads_like_an_index() -> None:
    assert str(Box((0, 5), (10, 7))) == "[0:10, 5:7]"
    assert full((2, 3)) == Box((0, 0), (2, 3))
