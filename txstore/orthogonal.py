"""Orthogonal selections: every combination of what is chosen along each axis by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.pieces import AxisIndex, Piece, Selection
from txstore.spans import Span, cross, spans

#: So many stretches of an axis are remembered.
_PICKS_KEPT = 4096


class _Pick(NamedTuple):
    """What is chosen of one stretch of an axis: the bounds ``lo <= i < hi``, and both ends of the copy."""

    lo: int
    hi: int
    inner: AxisIndex
    outer: AxisIndex
    dense: bool  # every cell of lo <= i < hi, in order


class RangeAxis:
    """The cells ``first, first + step, ...``, ``count`` of them; ``step`` is at least 1."""

    __slots__ = ("count", "first", "step")

    def __init__(self, first: int, count: int, step: int = 1) -> None:
        self.first = first
        self.count = count
        # One cell has no step, and a box is worth more than a step.
        self.step = step if count > 1 else 1

    @property
    def unique(self) -> bool:
        """Whether no cell is named twice."""
        return True

    @property
    def bounds(self) -> tuple[int, int]:
        """The first cell and the cell past the last one; there must be some."""
        return self.first, self.first + (self.count - 1) * self.step + 1

    def spans(self, extent: int) -> Iterable[Span]:
        """Each span of a grid that holds a chosen cell, cut to the bounds."""
        lo, hi = self.bounds
        if self.step <= extent:
            return spans(lo, hi, extent)
        # Steps longer than a span: no two cells share one.
        places = [cell // extent for cell in range(lo, hi, self.step)]
        return [(place, max(place * extent, lo), min((place + 1) * extent, hi)) for place in places]

    def pick(self, lo: int, hi: int) -> _Pick | None:
        """The chosen cells in ``lo <= i < hi``, ``None`` when there are none."""
        step = self.step
        start = max(-(-(lo - self.first) // step), 0)
        stop = min(-(-(hi - self.first) // step), self.count)
        if stop <= start:
            return None
        low = self.first + start * step
        high = self.first + (stop - 1) * step + 1
        return _Pick(low, high, slice(0, high - low, step), slice(start, stop), step == 1 or stop - start == 1)


class ListAxis:
    """Cells in any order, perhaps named repeatedly.

    Parameters
    ----------
    cells : ndarray of intp, shape (n,)
        Not negative; not copied, so it must be nobody else's.
    """

    __slots__ = ("_order", "_sorted", "cells", "count", "unique")

    def __init__(self, cells: NDArray[np.intp]) -> None:
        self.cells = cells
        self.count = cells.size
        steps = np.diff(cells)
        self._order: NDArray[np.intp] | None = None
        self._sorted = cells
        if np.any(steps < 0):
            # A stable order keeps a cell's repetitions in turn: the last one written must win.
            self._order = np.argsort(cells, kind="stable")
            self._sorted = cells[self._order]
            steps = np.diff(self._sorted)
        self.unique = bool(np.all(steps))

    @property
    def run(self) -> bool:
        """Whether the cells are neighbours in ascending order, as those of a slice."""
        if not self.count:
            return True
        return self._order is None and self.unique and int(self.cells[-1] - self.cells[0]) == self.count - 1

    @property
    def bounds(self) -> tuple[int, int]:
        """The first cell and the cell past the last one; there must be some."""
        return int(self._sorted[0]), int(self._sorted[-1]) + 1

    def spans(self, extent: int) -> Iterable[Span]:
        """Each span of a grid that holds a chosen cell, cut to the bounds."""
        lo, hi = self.bounds
        places = self._sorted // extent
        distinct: list[int] = places[np.flatnonzero(np.diff(places, prepend=-1))].tolist()
        return [(place, max(place * extent, lo), min((place + 1) * extent, hi)) for place in distinct]

    def pick(self, lo: int, hi: int) -> _Pick | None:
        """The chosen cells in ``lo <= i < hi``, ``None`` when there are none."""
        start, stop = np.searchsorted(self._sorted, (lo, hi)).tolist()
        if stop <= start:
            return None
        low, high = int(self._sorted[start]), int(self._sorted[stop - 1]) + 1
        if self._order is None:
            if self.unique and high - low == stop - start:
                return _Pick(low, high, slice(0, high - low), slice(start, stop), True)
            return _Pick(low, high, self.cells[start:stop] - low, slice(start, stop), False)
        outer = np.sort(self._order[start:stop])
        return _Pick(low, high, self.cells[outer] - low, outer, False)


Axis = RangeAxis | ListAxis


class OrthogonalSelection(Selection):
    """Steps, lists and masks along single axes: the cells are the product of the axes.

    Parameters
    ----------
    axes : sequence of RangeAxis or ListAxis
        One for each axis of the array.
    """

    __slots__ = ("_axes", "_picks")

    def __init__(
        self,
        shape: tuple[int, ...],
        axes: Sequence[Axis],
        result_shape: tuple[int, ...],
        observes: tuple[bool, ...],
        take: tuple[Any, ...] | None,
        front: int | None,
    ) -> None:
        work_shape = tuple([axis.count for axis in axes])
        bounds = None
        if all(work_shape):
            lo, hi = zip(*[axis.bounds for axis in axes], strict=True)
            bounds = Box(lo, hi)
        super().__init__(shape, bounds, None, work_shape, result_shape, observes, take, front)
        self._axes = tuple(axes)
        # What was picked along each axis: a million chunks are a thousand of them along each of two axes.
        self._picks: tuple[dict[tuple[int, int], _Pick | None], ...] = tuple([{} for _ in axes])

    @property
    def unique(self) -> bool:
        """Whether no cell is named twice."""
        return self.bounds is None or all(axis.unique for axis in self._axes)

    def pieces(self, box: Box) -> Piece | None:
        """The selected cells inside ``box``, ``None`` when there are none."""
        if self.bounds is None:
            return None
        picks = []
        for axis, known, lo, hi in zip(self._axes, self._picks, *box, strict=True):
            try:
                pick = known[lo, hi]
            except KeyError:
                if len(known) >= _PICKS_KEPT:
                    known.clear()
                pick = known[lo, hi] = axis.pick(lo, hi)
            if pick is None:
                return None
            picks.append(pick)
        los, his, inners, outers, dense = zip(*picks, strict=True)
        around = Box(los, his)
        return Piece(around, None if all(dense) else _open(inners), _open(outers))

    def _touched(self, extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Box]]:
        return cross([axis.spans(cells) for axis, cells in zip(self._axes, extent, strict=True)])


def _open(parts: Sequence[AxisIndex]) -> tuple[AxisIndex, ...]:
    """The index of the product of ``parts``: NumPy takes one array among slices so, but pairs several arrays."""
    if sum([type(part) is not slice for part in parts]) < 2:
        return tuple(parts)
    arrays = [np.arange(part.start, part.stop, part.step) if isinstance(part, slice) else part for part in parts]
    return np.ix_(*arrays)


__all__ = ["Axis", "ListAxis", "OrthogonalSelection", "RangeAxis"]
