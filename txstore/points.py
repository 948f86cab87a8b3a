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


class _Group(NamedTuple):
    """The points in one cell of a grid: ``start <= i < stop`` of the sorted ones, and the smallest box around them."""

    start: int
    stop: int
    around: Box


class _Groups(NamedTuple):
    """The points, sorted by the cell of a grid that they lie in."""

    extent: tuple[int, ...]
    order: NDArray[np.intp]  # numbers of points; those of one cell ascend
    coords: tuple[NDArray[np.intp], ...]  # the points themselves in that order
    places: dict[tuple[int, ...], _Group]  # by grid coordinates, in C order


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
        if self.bounds is None or box.empty:
            return None
        groups = self._groups
        if groups is not None:
            place = tuple([lo // cells for lo, cells in zip(box.lo, groups.extent, strict=True)])
            if cell_box(place, groups.extent).contains(box):
                group = groups.places.get(place)
                if group is None:
                    return None
                some = slice(group.start, group.stop)
                return _piece(box, groups.order[some], [axis[some] for axis in groups.coords], group.around)
        if self.bounds.intersect(box) is None:
            return None
        return _piece(box, np.arange(self.work_shape[0]), self._coords, self.bounds)

    def _touched(self, extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Box]]:
        groups = self._groups
        if groups is None or groups.extent != extent:
            columns = [axis // cells for axis, cells in zip(self._coords, extent, strict=True)]
            order, starts = _sorted_cells(columns)
            coords = tuple([axis[order] for axis in self._coords])
            places = zip(*[column[order[starts]].tolist() for column in columns], strict=True)
            stops = [*starts[1:].tolist(), order.size]
            los = zip(*[np.minimum.reduceat(axis, starts).tolist() for axis in coords], strict=True)
            his = zip(*[(np.maximum.reduceat(axis, starts) + 1).tolist() for axis in coords], strict=True)
            found = [
                _Group(start, stop, Box(lo, hi))
                for start, stop, lo, hi in zip(starts.tolist(), stops, los, his, strict=True)
            ]
            groups = _Groups(extent, order, coords, dict(zip(places, found, strict=True)))
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


def _piece(box: Box, chosen: NDArray[np.intp], cells: Sequence[NDArray[np.intp]], around: Box) -> Piece | None:
    """The piece of those points, which lie in `around`, that lie in `box`."""
    if not box.contains(around):
        inside = np.ones(chosen.size, dtype=np.bool_)
        for axis, lo, hi in zip(cells, *box, strict=True):
            inside &= (axis >= lo) & (axis < hi)
        chosen = chosen[inside]
        if not chosen.size:
            return None
        cells = [axis[inside] for axis in cells]
        around = _around(cells)
    return Piece(around, tuple([axis - lo for axis, lo in zip(cells, around.lo, strict=True)]), (chosen,))


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
