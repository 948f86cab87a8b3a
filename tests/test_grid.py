"""Grids, tiles and automatic sizes: every cell lies in exactly one place, and walks are lazy."""

from __future__ import annotations

from itertools import islice, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txstore.boxes import Box, full
from txstore.chunking import CHUNK_BYTES, PARTITION_CHUNKS, SHARD_BYTES
from txstore.errors import CorruptionError, InvalidIndexError, InvalidInputError
from txstore.grid import (
    WHOLE,
    Grid,
    TileGrid,
    auto_chunks,
    auto_partition,
    auto_shards,
    partition_coords,
    partition_key,
    tiles_in,
)

HUGE = 2**62


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, Box]:
    """A small grid, and a box, perhaps empty, that touches some of it."""
    ndim = draw(st.integers(0, 3))
    small = st.integers(1, 3)
    axes = st.tuples(*[small] * ndim)
    chunks = draw(axes)
    shards = tuple(map(prod, zip(chunks, draw(axes), strict=True))) if draw(st.booleans()) else None
    partition = tuple(map(prod, zip(shards or chunks, draw(axes), strict=True)))
    corner = st.tuples(*[st.integers(0, 20)] * ndim)
    lo = draw(corner)
    extent = draw(st.tuples(*[st.integers(0, 12)] * ndim))
    return Grid(chunks, shards, partition), Box(lo, tuple(map(sum, zip(lo, extent, strict=True))))


@settings(max_examples=80, deadline=None)
@given(grids())
def test_walks_cut_a_box_exactly(drawn: tuple[Grid, Box]) -> None:
    grid, box = drawn
    chunks = list(grid.chunks_in(box))
    shards = list(grid.shards_in(box))
    parts = list(grid.partitions_in(box))
    assert [index for index, _ in chunks] == sorted({index for index, _ in chunks})
    assert [index for index, _ in shards] == sorted({index for index, _ in shards})
    coords = [partition_coords(key, grid.ndim) for key, _ in parts]
    assert coords == sorted(set(coords))
    for index, part in chunks:
        assert part == grid.chunk_box(index).intersect(box)
        assert grid.chunk_index(part.lo) == index
        assert grid.partition_box(grid.partition_of(index)).contains(grid.chunk_box(index))
    for index, part in shards:
        assert part == grid.shard_box(index).intersect(box)
    for key, part in parts:
        assert part == grid.partition_box(key).intersect(box)
    for walk in (chunks, shards, parts):
        assert sum(part.size for _, part in walk) == box.size
    assert {grid.partition_of(index) for index, _ in chunks} == {key for key, _ in parts}


@settings(max_examples=80, deadline=None)
@given(grids(), st.lists(st.integers(-30, 30), min_size=3, max_size=3), st.data())
def test_tiles_cut_a_frame_exactly(drawn: tuple[Grid, Box], phase: list[int], data: st.DataObject) -> None:
    grid, frame = drawn
    phase = phase[: grid.ndim]
    tiles = TileGrid(frame, phase, grid.chunks)
    assert tiles.size == prod(tiles.counts)
    counts, every = tiles_in(frame, phase, grid.chunks)
    boxes = list(every)
    assert counts == tiles.counts
    assert [flat for flat, _ in boxes] == list(range(tiles.size))
    assert sum(box.size for _, box in boxes) == frame.size
    where = list(product(*[range(first, first + n) for first, n in zip(tiles.first, tiles.counts, strict=True)]))
    for coords, (flat, box) in zip(where, boxes, strict=True):
        assert tiles.coords(flat) == coords
        assert tiles.flat_index(coords) == flat
        assert tiles.tile_box(flat) == tiles.tile_box(coords) == box == tiles.tile_box(np.int64(flat))
        cell = grid.chunk_box(coords).shift(phase)
        assert box == cell.intersect(frame)
    lo = data.draw(st.tuples(*[st.integers(0, 30)] * grid.ndim))
    probe = Box(lo, tuple(low + data.draw(st.integers(0, 9)) for low in lo))
    assert list(tiles.tiles_touching(probe)) == [(flat, box) for flat, box in boxes if box.intersect(probe)]


def test_tiles_outside_are_refused() -> None:
    tiles = TileGrid(Box((5,), (14,)), (1,), (4,))
    assert (tiles.first, tiles.counts) == ((1,), (3,))
    wrong: tuple[int | tuple[int, ...], ...] = (-1, 3, (0,), (4,))
    for index in wrong:
        with pytest.raises(InvalidIndexError):
            tiles.tile_box(index)
    with pytest.raises(InvalidInputError):
        TileGrid(full((3, 3)), (0,), (1, 1))
    with pytest.raises(InvalidInputError):
        TileGrid(full((3,)), (0,), (0,))


@given(st.lists(st.integers(0, 2**63 - 1), max_size=9))
def test_partition_keys_round_trip(coords: list[int]) -> None:
    key = partition_key(coords)
    assert key != WHOLE
    assert partition_coords(key, len(coords)) == tuple(coords)


def test_partition_keys_are_a_format() -> None:
    assert partition_key(()) == b""
    assert partition_key((0, 127, 128, 300)) == b"\x00\x7f\x80\x01\xac\x02"


@pytest.mark.parametrize(
    ("key", "ndim"),
    [
        (WHOLE, 1),
        (b"", 1),
        (b"\x00", 0),
        (b"\x00", 2),
        (b"\x80", 1),
        (b"\x80\x00", 1),
        (b"\x80" * 9 + b"\x01", 1),
        (b"\xff" * 40, 1),
    ],
)
def test_hostile_partition_keys_are_refused(key: bytes, ndim: int) -> None:
    with pytest.raises(CorruptionError):
        partition_coords(key, ndim)


@pytest.mark.parametrize(
    ("chunks", "shards", "partition"),
    [
        ((0,), None, (4,)),
        ((2,), None, (3,)),
        ((2,), (3,), (6,)),
        ((2,), (4,), (6,)),
        ((2, 2), None, (4,)),
        ((2,), (4, 4), (8,)),
        ((), None, (1,)),
    ],
)
def test_extents_that_do_not_nest_are_refused(
    chunks: tuple[int, ...], shards: tuple[int, ...] | None, partition: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInputError):
        Grid(chunks, shards, partition)


def test_zero_dimensions_are_one_chunk() -> None:
    grid = Grid((), None, ())
    cell = full(())
    assert list(grid.chunks_in(cell)) == list(grid.shards_in(cell)) == [((), cell)]
    assert list(grid.partitions_in(cell)) == [(b"", cell)]
    assert grid.chunk_box(()) == grid.partition_box(grid.partition_of(())) == cell
    assert list(TileGrid(cell, (), ()).tiles_touching(cell)) == [(0, cell)]


def test_zero_length_axes_have_no_chunk() -> None:
    grid = Grid((2, 2), None, (4, 4))
    assert list(grid.chunks_in(full((0, 9)))) == []
    assert list(grid.partitions_in(full((9, 0)))) == []
    assert TileGrid(full((0, 9)), (0, 0), (2, 2)).size == 0


def test_endless_arrays_are_walked_lazily() -> None:
    grid = Grid((1, 1, 1), None, (8, 8, 8))
    everything = full((HUGE, HUGE, HUGE))
    assert [index for index, _ in islice(grid.chunks_in(everything), 2)] == [(0, 0, 0), (0, 0, 1)]
    far = Box((HUGE - 3,) * 3, (HUGE,) * 3)
    assert len(list(grid.chunks_in(far))) == 27
    ((key, part),) = grid.partitions_in(far)
    assert part == far
    assert grid.partition_box(key).contains(far)
    tiles = TileGrid(everything, (5, 5, 5), (7, 7, 7))
    ((flat, _),) = tiles.tiles_touching(Box((HUGE - 1,) * 3, (HUGE,) * 3))
    assert flat == tiles.size - 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from((0, 1, 2, 3, 5, 24, 100, 300, 721, 1440, 10**5, 10**9, HUGE)), max_size=9),
    st.sampled_from((1, 2, 4, 8, 16, 100, 10**6)),
)
def test_automatic_sizes_fit_and_nest(extents: list[int], itemsize: int) -> None:
    shape = tuple(extents)
    chunks = auto_chunks(shape, itemsize)
    shards = auto_shards(shape, chunks, itemsize)
    partition = auto_partition(shape, chunks, shards)
    Grid(chunks, shards, partition)
    assert all(chunk <= extent or extent == 0 for chunk, extent in zip(chunks, shape, strict=True))
    size = prod(chunks) * itemsize
    if chunks != shape:
        assert size <= max(1.5 * CHUNK_BYTES, itemsize)
        if shape:
            assert size > CHUNK_BYTES / 4 or size * 2 > CHUNK_BYTES or itemsize * 2 > CHUNK_BYTES
    if shards is not None:
        assert prod(shards) * itemsize <= 1.5 * SHARD_BYTES
    count = prod(partition) // prod(chunks)
    assert count <= 1.5 * PARTITION_CHUNKS
    if shape:
        assert count > PARTITION_CHUNKS / 4


@pytest.mark.parametrize(
    ("shape", "itemsize", "chunks"),
    [
        ((), 8, ()),
        ((0,), 4, (65536,)),
        ((0, 721, 1440), 4, (1, 256, 256)),
        ((0, 3), 8, (8192, 3)),
        ((1000, 1000, 1000), 4, (32, 32, 64)),
        ((300, 300), 4, (300, 300)),
        ((5, 5), 10**7, (1, 1)),
        ((10,), 0, (10,)),
    ],
)
def test_automatic_chunks_one_expects(shape: tuple[int, ...], itemsize: int, chunks: tuple[int, ...]) -> None:
    assert auto_chunks(shape, itemsize) == chunks


def test_automatic_shards_only_where_they_pay() -> None:
    assert auto_shards((), (), 8) is None
    assert auto_shards((400, 400), (256, 256), 4) is None
    assert auto_shards((0, 721, 1440), (1, 256, 256), 4) == (8, 768, 1536)
    assert auto_shards((0, 3), (8192, 3), 8) == (2**21, 3)  # it is to grow
    assert auto_shards((2 * 8192, 3), (8192, 3), 8) is None
    assert auto_shards((0,), (10**9,), 8) is None
    assert auto_partition((), (), None) == ()
    assert auto_partition((10**6,), (1,), (8192,)) == (8192,)
