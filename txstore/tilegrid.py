"""The tile grid of a frame: how the stored extent of a fragment is cut into pieces that are encoded one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from operator import index as as_int
from typing import SupportsIndex

from txstore.boxes import Box
from txstore.errors import InvalidIndexError, InvalidInputError
from txstore.spans import cross, spans


class TileGrid:
    """The tiles of one frame: the frame cut at ``phase + k * chunks`` along each axis.

    Parameters
    ----------
    frame : Box
        The stored extent, in frame coordinates.
    phase : sequence of int
        Where some boundary lies along each axis, in frame coordinates.
    chunks : sequence of int
        Extent of a whole tile in cells.

    Attributes
    ----------
    first, counts : tuple of int
        Grid coordinate of the tile that holds ``frame.lo``, and how many tiles there are along each axis.
        The coordinates of tiles run from ``first`` to ``first + counts``.
    size : int
        How many tiles there are. They are numbered in C order, from 0: the order of a directory.

    Raises
    ------
    InvalidInputError
        When ``phase`` or ``chunks`` have another number of axes than ``frame``, or a chunk is below 1.
    """

    __slots__ = ("chunks", "counts", "first", "frame", "phase", "size")

    def __init__(self, frame: Box, phase: Sequence[int], chunks: Sequence[int]) -> None:
        if not len(frame.lo) == len(frame.hi) == len(phase) == len(chunks) or min(chunks, default=1) < 1:
            raise InvalidInputError(f"no tiles of {tuple(chunks)} with phase {tuple(phase)} fit the frame {frame}")
        self.frame = frame
        self.phase = tuple(phase)
        self.chunks = tuple(chunks)
        self.first = tuple(
            [(lo - start) // cells for lo, start, cells in zip(frame.lo, self.phase, self.chunks, strict=True)]
        )
        self.counts = tuple(
            [
                (hi - 1 - start) // cells - first + 1 if hi > lo else 0
                for lo, hi, start, cells, first in zip(*frame, self.phase, self.chunks, self.first, strict=True)
            ]
        )
        self.size = prod(self.counts)

    def flat_index(self, coords: Sequence[int]) -> int:
        """The number of the tile at these grid coordinates.

        Raises
        ------
        InvalidIndexError
            When they lie outside the frame.
        """
        flat = 0
        for coord, first, count in zip(coords, self.first, self.counts, strict=True):
            if not 0 <= coord - first < count:
                raise InvalidIndexError(f"the frame {self.frame} has no tile at {tuple(coords)}")
            flat = flat * count + coord - first
        return flat

    def coords(self, flat: int) -> tuple[int, ...]:
        """The grid coordinates of a tile, the inverse of :meth:`flat_index`.

        Raises
        ------
        InvalidIndexError
            When there is no tile of that number.
        """
        if not 0 <= flat < self.size:
            raise InvalidIndexError(f"the frame {self.frame} has {self.size} tiles, but number {flat} was asked for")
        found = []
        for first, count in zip(reversed(self.first), reversed(self.counts), strict=True):
            flat, place = divmod(flat, count)
            found.append(first + place)
        return tuple(reversed(found))

    def tile_box(self, index: SupportsIndex | Sequence[int]) -> Box:
        """The cells of a tile, frame ∩ grid cell, by its number or its grid coordinates.

        Raises
        ------
        InvalidIndexError
            When there is no such tile.
        """
        if isinstance(index, Sequence):
            self.flat_index(index)
            return self._box(index)
        return self._box(self.coords(as_int(index)))

    def _box(self, coords: Sequence[int]) -> Box:
        lo = []
        hi = []
        for coord, low, high, start, cells in zip(coords, *self.frame, self.phase, self.chunks, strict=True):
            start += coord * cells
            lo.append(start if start > low else low)
            hi.append(start + cells if start + cells < high else high)
        return Box(tuple(lo), tuple(hi))

    def tiles_touching(self, box: Box) -> Iterator[tuple[int, Box]]:
        """Every tile that shares a cell with ``box``, in C order, as its number and its *whole* box."""
        common = self.frame.intersect(box)
        if common is None:
            return
        if self.size == 1:
            yield 0, self.frame
            return
        coords = []
        for low, high, cells, start in zip(*common, self.chunks, self.phase, strict=True):
            coord = (low - start) // cells
            if high > start + (coord + 1) * cells:
                break
            coords.append(coord)
        else:
            # Small reads and parts of a chunk mostly lie in one tile.
            yield self.flat_index(coords), self._box(coords)
            return
        grid = [
            spans(low, high, cells, start)
            for low, high, cells, start in zip(*common, self.chunks, self.phase, strict=True)
        ]
        for each, _ in cross(grid):
            yield self.flat_index(each), self._box(each)


def tiles_in(
    frame: Box, phase: Sequence[int], chunks: Sequence[int]
) -> tuple[tuple[int, ...], Iterator[tuple[int, Box]]]:
    """How many tiles a frame has along each axis, and all of them in C order, as number and box."""
    grid = TileGrid(frame, phase, chunks)
    return grid.counts, grid.tiles_touching(frame)


__all__ = ["TileGrid", "tiles_in"]
