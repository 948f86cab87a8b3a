"""Point selections: single cells anywhere, from broadcast index arrays or from a mask of the whole array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.pieces import Piece, Selection, broadcast
from txstore.spans import cell_box

_FLAT_LIMIT = 1 << 62


class _Groups(NamedTuple):
    """The points, sorted by the cell of a grid that they lie in."""

    extent: tuple[int, ...]
    order: NDArray[np.intp]  # numbers of points; those of one cell ascend
    places: dict[tuple[int, ...], tuple[int, int]]  # grid coordinates, in C order: from where to where in order


class PointSelection(Selection):
    """Cells named one by one, in the order of the work array, which has one axis.

    Parameters
    ----------
    shape : tuple of int
        The array's shape, of one axis at least.
    coords : sequence of ndarray of intp, each of shape (n,)
        The cells' coordinates along each axis, not negative; not copied.
    result_shape : tuple of int
        Of ``n`` cells.
    observes : tuple of bool
        See :class:`~txstore.pieces.Selection`.
    unique : bool or None
        Whether no cell is named twice; ``None``: to be found out when somebody asks.

    Notes
    -----
    Thread-safe: what is kept between calls is replaced as a whole and only saves time.
    """

    __slots__ = ("_coords", "_groups", "_unique")

    def __init__(
        self,
        shape: tuple[int, ...],
        coords: Sequence[NDArray[np.intp]],
        result_shape: tuple[int, ...],
        observes: tuple[bool, ...],
        unique: bool | None,
    ) -> None:
        count = coords[0].size
        bounds = _around(coords) if count else None
        super().__init__(shape, bounds, None, (count,), result_shape, observes)
        self._coords = tuple(coords)
        self._groups: _Groups | None = None
        self._unique = unique

    @property
    def unique(self) -> bool:
        """Whether no cell is named twice."""
        if self._unique is None:
            _, starts = _sorted_cells(self._coords)
            self._unique = starts.size == self._coords[0].size
        return self._unique

    def pieces(self, box: Box) -> Piece | None:
        """The selected cells inside ``box``, ``None`` when there are none.

        Quick for a box inside one cell of the grid that ``chunks`` or ``partitions`` was last called with;
        otherwise every point is looked at.
        """
        bounds = self.bounds
        if bounds is None:
            return None
        chosen, around = self._candidates(box, bounds)
        if chosen is None or chosen.size == 0:
            return None
        cells = [axis[chosen] for axis in self._coords]
        if not box.contains(around):
            inside = np.ones(chosen.size, dtype=np.bool_)
            for axis, lo, hi in zip(cells, *box, strict=True):
                inside &= (axis >= lo) & (axis < hi)
            chosen = chosen[inside]
            if chosen.size == 0:
                return None
            cells = [axis[inside] for axis in cells]
        around = _around(cells)
        return Piece(around, tuple([axis - lo for axis, lo in zip(cells, around.lo, strict=True)]), (chosen,))

    def _candidates(self, box: Box, bounds: Box) -> tuple[NDArray[np.intp] | None, Box]:
        """Points among which those in ``box`` are, and a box around them."""
        groups = self._groups
        if groups is not None and not box.empty:
            place = tuple([lo // cells for lo, cells in zip(box.lo, groups.extent, strict=True)])
            cell = cell_box(place, groups.extent)
            around = cell.intersect(bounds)
            if cell.contains(box):
                start, stop = groups.places.get(place, (0, 0))
                return (groups.order[start:stop] if around else None), around or cell
        return (None if box.intersect(bounds) is None else np.arange(self.work_shape[0])), bounds

    def _touched(self, extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Box]]:
        groups = self._groups
        if groups is None or groups.extent != extent:
            columns = [axis // cells for axis, cells in zip(self._coords, extent, strict=True)]
            order, starts = _sorted_cells(columns)
            places = zip(*[column[order[starts]].tolist() for column in columns], strict=True)
            stops = [*starts[1:].tolist(), order.size]
            groups = _Groups(extent, order, dict(zip(places, zip(starts.tolist(), stops, strict=True), strict=True)))
            self._groups = groups
        for place in groups.places:
            part = None if self.bounds is None else cell_box(place, extent).intersect(self.bounds)
            if part is not None:
                yield place, part

    def result(self, work: NDArray[Any]) -> Any:
        """The cells in the shape that the index arrays have together; a scalar where they were integers."""
        return work.reshape(self.result_shape) if self.result_shape else work[0]

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values for the cells, broadcast and laid out as the work array, of shape ``(n,)``.

        Raises
        ------
        InvalidInputError
            When the values do not broadcast to ``result_shape``.
        """
        if values.shape != self.result_shape:
            values = broadcast(values, self.result_shape)
        return values if values.ndim == 1 else values.reshape(self.work_shape)


def _around(coords: Sequence[NDArray[np.intp]]) -> Box:
    return Box(tuple([int(axis.min()) for axis in coords]), tuple([int(axis.max()) + 1 for axis in coords]))


def _sorted_cells(columns: Sequence[NDArray[np.intp]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A stable order of points by their coordinates, in C order, and where in it each distinct point begins."""
    if not columns[0].size:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    lo, hi = _around(columns)
    extent = [high - low for low, high in zip(lo, hi, strict=True)]
    if prod(extent) < _FLAT_LIMIT:
        flat = np.zeros(columns[0].size, dtype=np.int64)
        for column, low, cells in zip(columns, lo, extent, strict=True):
            flat *= cells
            flat += column - low
        order = np.argsort(flat, kind="stable")
        changes = np.diff(flat[order]) != 0
    else:
        order = np.lexsort(columns[::-1])
        changes = np.zeros(order.size - 1, dtype=np.bool_)
        for column in columns:
            changes |= np.diff(column[order]) != 0
    return order, np.concatenate(([0], np.flatnonzero(changes) + 1))


__all__ = ["PointSelection"]
