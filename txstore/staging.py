"""From values to staged fragments: cut by partition, then by chunk, encoded, and appended to a segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.codecs import TileCodec
from txstore.crew import Crew
from txstore.directory import Directory
from txstore.fragment import Fragment, Frame
from txstore.grid import Grid, TileGrid
from txstore.metadata import ArrayMetadata
from txstore.pieces import Piece, Selection
from txstore.segment import Kind, Place, encode_mask

#: The version of staged fragments: newer than everything.
STAGED = 2**62
#: Batches of tiles under work, for each worker of the pool, and how many bytes of small tiles make one. To encode fewer
#: takes no longer than to wake a thread for them.
_AHEAD = 2
_BATCH_BYTES = 128 << 10
#: Padding edge tiles to whole chunks may cost at most this factor in cells. Compaction and export then take them over
#: as they are, but whoever writes or reads them pays for the padding as for cells.
_PAD_FACTOR = 4 / 3
#: A masked fragment that touches fewer than one in this many tiles of its frame is cut into one per chunk.
_SPARSE = 16


class Sink(Protocol):
    """Where encoded tiles go, see ``StagedTree``."""

    def put(self, chunks: Sequence[bytes | memoryview]) -> list[Place]:
        """Append byte strings, and say where they lie. Safe for threads."""


class Target(NamedTuple):
    """What staging needs to know of an array."""

    grid: Grid
    meta: ArrayMetadata
    codec: TileCodec
    shape: tuple[int, ...]


def stage_fill(target: Target, box: Box, value: NDArray[Any]) -> Fragment:
    """A box of one value: no bytes but the value's own."""
    directory = Directory.fill(_bytes(value))
    return Fragment(STAGED, 0, Kind.FILL, False, box, None, directory, target.meta.dtype.itemsize)


def stage_box(
    target: Target, sink: Sink, pool: Executor | None, kind: Kind, box: Box, values: NDArray[Any]
) -> list[Fragment]:
    """A box of values: one fragment per partition that it touches.

    Parameters
    ----------
    values : ndarray
        Shape ``box.shape``, the array's dtype.
    """
    fragments = []
    at_once = max(1, _BATCH_BYTES // (prod(target.grid.chunks) * target.meta.dtype.itemsize))
    for _, part in target.grid.partitions_in(box):
        frame = _padded(target, part) if kind == Kind.SET else part
        tiles = TileGrid(frame, (0,) * len(frame.lo), target.grid.chunks)
        count = tiles.size
        cut = (_tile_values(target, tiles.tile_box(i), part, box, values) for i in range(count))
        if pool is None or count <= max(2, at_once):
            places = _put(sink, [_encode_apart(target, pool, tile) for tile in cut])
        else:
            places = _encode_all(target, sink, pool, cut, at_once)
        directory = Directory.tiles(places)
        stored = None if frame == part else Frame(frame, (0,) * len(frame.lo), (0,) * len(frame.lo))
        fragments.append(Fragment(STAGED, 0, kind, False, part, stored, directory, target.meta.dtype.itemsize))
    return fragments


def _padded(target: Target, part: Box) -> Box:
    """The frame of a box: padded to whole chunks at the array's edge where that makes every tile a Zarr chunk."""
    hi = []
    for low, high, extent, chunk in zip(part.lo, part.hi, target.shape, target.grid.chunks, strict=True):
        if low % chunk or (high % chunk and high != extent):
            return part
        hi.append(-(-high // chunk) * chunk)
    frame = Box(part.lo, tuple(hi))
    return frame if frame.size <= _PAD_FACTOR * part.size else part


def _tile_values(target: Target, tile: Box, part: Box, box: Box, values: NDArray[Any]) -> NDArray[Any]:
    inside = tile.intersect(part)
    assert inside is not None
    cells = inside.of(values, box.lo)
    if inside == tile:
        return cells
    whole = np.empty(tile.shape, target.meta.dtype)
    whole[...] = target.meta.fill_value
    whole[inside.slices(tile.lo)] = cells
    return whole


def _encode_all(
    target: Target,
    sink: Sink,
    pool: Executor,
    tiles: Iterator[NDArray[Any]],
    at_once: int,
) -> list[Place | None]:
    """Encode tiles in order, so many at a time, and put them away; None where a tile is all fill."""

    def encode(cells: Iterable[NDArray[Any]]) -> list[bytes | None]:
        return [None if is_fill(one, target.meta.fill_value) else target.codec.encode(one) for one in cells]

    # No more than it takes to keep them busy: memory that is soon used again costs no page faults.
    most = _AHEAD * _width(pool)
    found: list[Place | None] = []
    ahead: deque[Future[list[bytes | None]]] = deque()
    try:
        while batch := list(islice(tiles, at_once)):
            if len(ahead) == most:
                found += _put(sink, ahead.popleft().result())
            ahead.append(pool.submit(encode, batch))
        while ahead:
            found += _put(sink, ahead.popleft().result())
    finally:
        for future in ahead:
            future.cancel()
    return found


def _encode_apart(target: Target, pool: Executor | None, tile: NDArray[Any]) -> bytes | None:
    """Encode a tile beside which there is little else to do: in parts, by the threads that are free.

    What is a whole chunk stays in one piece, as other readers of Zarr expect it.
    """
    if is_fill(tile, target.meta.fill_value):
        return None
    codec = target.codec
    parts = [tile] if pool is None or tile.shape == target.grid.chunks else codec.parts(tile)
    if len(parts) == 1:
        return codec.encode(tile)
    encoded = [b""] * len(parts)

    def encode(number: int) -> None:
        encoded[number] = codec.encode(parts[number])

    assert pool is not None
    Crew(lambda: pool, _width(pool)).share(iter(range(len(parts))), encode, alone=1)
    return b"".join(encoded)


def _put(sink: Sink, encoded: list[bytes | None]) -> list[Place | None]:
    """Put encoded tiles away; None stays None."""
    places = iter(sink.put([data for data in encoded if data is not None]))
    return [None if data is None else next(places) for data in encoded]


def _width(pool: Executor) -> int:
    return int(getattr(pool, "_max_workers", 1))


def is_fill(cells: NDArray[Any], fill: NDArray[Any]) -> bool:
    """Whether every cell equals the fill value bit for bit (-0.0 is not 0.0; NaN equals the same NaN)."""
    if not cells.size:
        return True
    pattern = fill.tobytes()
    # Most tiles differ in their first or last cell.
    corner = (0,) * cells.ndim
    last = tuple([extent - 1 for extent in cells.shape])
    if cells[corner].tobytes() != pattern or cells[last].tobytes() != pattern:
        return False
    size = cells.dtype.itemsize
    if size in (1, 2, 4, 8) and cells.dtype.names is None:
        unsigned = np.dtype(f"u{size}")
        return bool((cells.view(unsigned) == np.frombuffer(pattern, unsigned)[0]).all())
    flat = np.ascontiguousarray(cells).reshape(-1).view(np.uint8).reshape(-1, size)
    return bool((flat == np.frombuffer(pattern, np.uint8)).all())


def stage_masked(
    target: Target, sink: Sink, kind: Kind, selection: Selection, within: Box, values: NDArray[Any]
) -> list[Fragment]:
    """Cells that are no box: fragments with a mask.

    Parameters
    ----------
    selection : Selection
        The cells.
    within : Box
        Only the cells inside count.
    values : ndarray
        The array's dtype. Of the selection's work shape; or 0-d for Kind.FILL.

    Notes
    -----
    A tile holds only its selected values, in C order of its mask's true cells.
    """
    by_partition: dict[bytes, list[Any]] = {}
    for chunk, _ in selection.chunks(target.grid):
        box = target.grid.chunk_box(chunk).intersect(within)
        piece = None if box is None else selection.pieces(box)
        if piece is not None:
            by_partition.setdefault(target.grid.partition_of(chunk), []).append((chunk, piece))
    fragments: list[Fragment] = []
    for pieces in by_partition.values():
        frame = _hull(piece.box for _, piece in pieces)
        count = TileGrid(frame, (0,) * len(frame.lo), target.grid.chunks).size
        groups = [pieces] if len(pieces) * _SPARSE >= count else [[one] for one in pieces]
        for group in groups:
            cells = [_Cells(chunk, piece, selection, values, kind) for chunk, piece in group]
            for turn in range(max(one.turns for one in cells)):
                fragments.append(_masked(target, sink, kind, cells, turn, values))
    return fragments


class _Cells:
    """What goes into one chunk: a mask and values in C order of its true cells, in one turn or several.

    A cell that is named more than once takes its last value, or accumulates all of them. Sums of floats depend on
    their order, so that a cell's second value waits for a second turn, which becomes a fragment of its own; what
    does not depend on the order is folded at once.
    """

    def __init__(
        self, chunk: tuple[int, ...], piece: Piece, selection: Selection, values: NDArray[Any], kind: Kind
    ) -> None:
        self.chunk = chunk
        self.box = piece.box
        self._piece = piece
        self._values = values
        self._kind = kind
        self._unique = selection.unique or kind <= Kind.FILL
        self.turns = 1
        if not self._unique and kind == Kind.ADD and values.dtype.kind in "fc":
            self._prepare_turns()

    def _prepare_turns(self) -> None:
        piece = self._piece
        numbers = np.arange(piece.box.size).reshape(piece.box.shape)[... if piece.inner is None else piece.inner]
        self._flat = numbers.ravel()
        self._given = np.broadcast_to(self._values[piece.outer], numbers.shape).ravel()
        order = np.argsort(self._flat, kind="stable")
        ordered = self._flat[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        counts = np.diff(np.r_[first, len(ordered)])
        self._turn = np.empty(len(ordered), np.int64)
        self._turn[order] = np.arange(len(ordered)) - np.repeat(first, counts)
        self.turns = int(counts.max())

    def of(self, turn: int) -> tuple[NDArray[np.bool_], NDArray[Any] | None] | None:
        """(mask of the box, values) of a turn; None when nothing is left for it."""
        if turn >= self.turns:
            return None
        if self.turns > 1:
            now = self._turn == turn
            mask = np.zeros(self.box.size, bool)
            mask[self._flat[now]] = True
            values = np.empty(self.box.size, self._values.dtype)
            values[self._flat[now]] = self._given[now]
            return mask.reshape(self.box.shape), values[mask]
        mask = self._piece.mask()
        if self._kind == Kind.FILL:
            return mask, None
        cells = np.empty(self.box.shape, self._values.dtype)
        inner: Any = ... if self._piece.inner is None else self._piece.inner
        given = self._values[self._piece.outer]
        if self._unique:
            cells[inner] = given
        else:
            cells[...] = identity(self._kind, cells.dtype)
            with np.errstate(all="ignore"):
                _AT[self._kind].at(cells, inner, given)
        return mask, cells[mask]


def _hull(boxes: Iterable[Box]) -> Box:
    every = list(boxes)
    return Box(
        tuple(min(lows) for lows in zip(*(box.lo for box in every), strict=True)),
        tuple(max(highs) for highs in zip(*(box.hi for box in every), strict=True)),
    )


def _masked(
    target: Target, sink: Sink, kind: Kind, every: Sequence[_Cells], turn: int, values: NDArray[Any]
) -> Fragment:
    present = [(one, found) for one in every if (found := one.of(turn)) is not None]
    frame = _hull(one.box for one, _ in present)
    tiles = TileGrid(frame, (0,) * len(frame.lo), target.grid.chunks)
    data: list[Place | None] = [None] * tiles.size
    masks: list[Place | None] = [None] * tiles.size
    for one, (mask, picked) in present:
        index = tiles.flat_index(one.chunk)
        tile = tiles.tile_box(index)
        whole = np.zeros(tile.shape, bool)
        one.box.of(whole, tile.lo)[...] = mask
        encoded = [encode_mask(whole)]
        if picked is not None and not is_fill(picked, target.meta.fill_value):
            encoded.append(target.codec.encode(picked))
        places = sink.put(encoded)
        masks[index] = places[0]
        data[index] = places[1] if len(places) > 1 else None
    value = _bytes(values) if kind == Kind.FILL else None
    directory = Directory.masked(data, masks, value)
    return Fragment(STAGED, 0, kind, True, frame, None, directory, target.meta.dtype.itemsize)


_AT: dict[Kind, np.ufunc] = {Kind.ADD: np.add, Kind.MIN: np.minimum, Kind.MAX: np.maximum}


def identity(kind: Kind, dtype: np.dtype[Any]) -> Any:
    """The value that changes nothing under an accumulation."""
    if kind == Kind.ADD:
        return np.zeros((), dtype)
    low = kind == Kind.MAX
    if dtype.kind == "f":
        return np.array(-np.inf if low else np.inf, dtype)
    if dtype.kind == "c":
        return np.array(complex(-np.inf, -np.inf) if low else complex(np.inf, np.inf), dtype)
    if dtype.kind == "b":
        return np.array(not low, dtype)
    if dtype.kind in "mM":
        # The smallest integer is NaT, which would swallow everything.
        return np.array(np.iinfo(np.int64).min + 1 if low else np.iinfo(np.int64).max, np.int64).view(dtype)
    limits = np.iinfo(dtype)
    return np.array(limits.min if low else limits.max, dtype)


def _bytes(value: NDArray[Any]) -> bytes:
    return value.astype(value.dtype.newbyteorder("<")).tobytes()


__all__ = ["STAGED", "Sink", "Target", "identity", "is_fill", "stage_box", "stage_fill", "stage_masked"]
