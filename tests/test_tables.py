"""The rows of a partition in memory: what of them touches a chunk, however they came in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txstore.boxes import Box
from txstore.chunkindex import WIDE, ChunkIndex
from txstore.fragment import Fragment
from txstore.grid import Grid
from txstore.segment import Kind
from txstore.tables import PartitionTable


def fragment(row: tuple[Any, ...]) -> Fragment:
    version, box = row
    return Fragment(version, 1, Kind.SET, False, box, None, None, 4)


def corners(rows: Sequence[tuple[Any, ...]], ndim: int) -> tuple[Any, Any]:
    lo = np.array([box.lo for _, box in rows], np.int64).reshape(len(rows), ndim)
    return lo, np.array([box.hi for _, box in rows], np.int64).reshape(len(rows), ndim)


def random_boxes(rng: np.random.Generator, count: int, ndim: int) -> list[Box]:
    lo = rng.integers(0, 40, (count, ndim))
    sizes = np.where(
        rng.random((count, ndim)) < 0.1, rng.integers(1, 60, (count, ndim)), rng.integers(1, 9, (count, ndim))
    )
    return [Box(tuple(low), tuple(high)) for low, high in zip(lo.tolist(), (lo + sizes).tolist(), strict=True)]


@pytest.mark.parametrize("ndim", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [(700,), (300, 1, 2, 40, 600), (3, 5, 400, 1, 1, 300)])
def test_a_table_finds_what_touches(ndim: int, steps: tuple[int, ...]) -> None:
    """Boxes that share a cell with the region are found, in order, whether they came one by one or all at once."""
    rng = np.random.default_rng(ndim + len(steps))
    grid = Grid((5,) * ndim, None, (500,) * ndim)
    table = PartitionTable(grid, decode=fragment)
    boxes: list[Box] = []
    for count in steps:
        fresh = random_boxes(rng, count, ndim)
        rows = [(version, box) for version, box in enumerate(fresh, len(boxes) + 1)]
        boxes += fresh
        table.load(rows, lambda rows: corners(rows, ndim), len(boxes))
    assert len(table) == len(boxes) and [one.clip for one in table.fragments()] == boxes
    for chunk in product(range(0, 12, 3), repeat=ndim):
        whole = grid.chunk_box(chunk)
        region = Box(
            whole.lo, tuple(low + max(1, extent // 2) for low, extent in zip(whole.lo, whole.shape, strict=True))
        )
        for version in (0, len(boxes) // 3, len(boxes)):
            found = [one.version for one in table.of_chunk(chunk, table.upto_version(version), region)]
            expected = [n for n, box in enumerate(boxes[:version], 1) if box.intersect(region) is not None]
            assert found == sorted(found) and set(expected) <= set(found) <= set(range(1, version + 1))
    chunks, wide = table.touched_chunks(len(table))
    for box in boxes:
        for chunk, _ in grid.chunks_in(box):
            assert chunk in chunks or any(one.intersect(grid.chunk_box(chunk)) is not None for one in wide)
    for chunk in chunks:
        assert any(box.intersect(grid.chunk_box(chunk)) is not None for box in boxes)


box_2d = st.tuples(*[st.integers(0, 2**40)] * 2, *[st.integers(1, 2**20)] * 2).map(
    lambda four: Box((four[0], four[1]), (four[0] + four[2], four[1] + four[3]))
)


@given(boxes=st.lists(box_2d, max_size=30), region=box_2d)
def test_boxes_far_apart_and_huge_are_found_as_well(boxes: list[Box], region: Box) -> None:
    index = ChunkIndex(*corners([(0, box) for box in boxes], 2), chunks=(1 << 10, 1 << 10))
    for chunk in {(box.lo[0] >> 10, box.lo[1] >> 10) for box in [*boxes, region]}:
        whole = Box((chunk[0] << 10, chunk[1] << 10), ((chunk[0] + 1) << 10, (chunk[1] + 1) << 10))
        expected = [n for n, box in enumerate(boxes) if box.intersect(whole) is not None]
        assert index.touching(chunk, whole) == expected


def test_a_box_over_many_chunks_is_listed_apart() -> None:
    boxes = [Box((0,), (WIDE,)), Box((0,), (WIDE + 1,)), Box((3,), (3,))]
    index = ChunkIndex(*corners([(0, box) for box in boxes], 1), chunks=(1,))
    assert index.wide(3) == [1] and index.wide(1) == []
    assert index.chunks(3) == {(n,) for n in range(WIDE)}
    assert index.touching((WIDE,), Box((WIDE,), (WIDE + 1,))) == [1]
