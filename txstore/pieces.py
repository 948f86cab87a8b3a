"""Selections: which cells an index names, and where each of them lies in the array that the user holds.

A selection is cut by boxes, mostly chunks, into pieces. Each piece says which cells of the box are meant and
where they lie in a *work* array that has not yet lost its integer axes or been turned round; ``result`` and
``spread`` lead from there to the user's array and back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.errors import InvalidInputError
from txstore.grid import Grid, partition_key
from txstore.spans import cells_in

#: One part of a NumPy index: along one axis.
AxisIndex = slice | NDArray[np.intp]


class Piece(NamedTuple):
    """The selected cells inside one box.

    Attributes
    ----------
    box : Box
        The smallest box around these cells, in array coordinates.
    inner : tuple or None
        The index that picks them out of an array of shape ``box.shape``; ``None`` where they are all of it, in order.
    outer : tuple
        The index of the same cells, in the same order, in the work array.
    """

    box: Box
    inner: tuple[AxisIndex, ...] | None
    outer: tuple[AxisIndex, ...]

    def mask(self) -> NDArray[np.bool_]:
        """Which cells of the box are selected, of shape ``box.shape``."""
        if self.inner is None:
            return np.ones(self.box.shape, dtype=np.bool_)
        chosen = np.zeros(self.box.shape, dtype=np.bool_)
        chosen[self.inner] = True
        return chosen


class Selection(ABC):
    """The cells that an index names in an array of some shape.

    Attributes
    ----------
    shape : tuple of int
        The array's shape that the index was read against.
    bounds : Box or None
        The smallest box around the cells, ``None`` when none is selected.
    box : Box or None
        The same where the cells are exactly a box, each once; else ``None``.
    work_shape : tuple of int
        The shape of the work array that the pieces address.
    result_shape : tuple of int
        The shape of what the user gets or gives.
    observes : tuple of bool
        For each axis, whether its extent was consulted: the cells might be others if it were longer.

    Notes
    -----
    Immutable for its users: safe to share between threads. Index arrays are copied, so that changing them later
    changes no selection.
    """

    __slots__ = ("_front", "_take", "bounds", "box", "observes", "result_shape", "shape", "work_shape")

    def __init__(
        self,
        shape: tuple[int, ...],
        bounds: Box | None,
        box: Box | None,
        work_shape: tuple[int, ...],
        result_shape: tuple[int, ...],
        observes: tuple[bool, ...],
        take: tuple[Any, ...] | None = None,
        front: int | None = None,
    ) -> None:
        self.shape = shape
        self.bounds = bounds
        self.box = box
        self.work_shape = work_shape
        self.result_shape = result_shape
        self.observes = observes
        # The index that makes the result of the work array, and the axis that then moves to the front.
        self._take = take
        self._front = front

    @property
    def unique(self) -> bool:
        """Whether no cell is named twice."""
        return True

    @abstractmethod
    def pieces(self, box: Box) -> Piece | None:
        """The selected cells inside ``box``, usually a chunk; ``None`` when there are none."""

    @abstractmethod
    def _touched(self, extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Box]]:
        """Each cell of the grid with this extent that holds a selected cell, in C order, cut to the bounds."""

    def chunks(self, grid: Grid) -> Iterator[tuple[tuple[int, ...], Box]]:
        """Each chunk that holds a selected cell, in C order, as its index and chunk ∩ bounds."""
        return iter(()) if self.bounds is None else self._touched(grid.chunks)

    def partitions(self, grid: Grid) -> Iterator[tuple[bytes, Box]]:
        """Each partition that holds a selected cell, in C order of their places, as key and partition ∩ bounds."""
        if self.bounds is not None:
            for coords, part in self._touched(grid.partition):
                yield partition_key(coords), part

    def result(self, work: NDArray[Any]) -> Any:
        """What NumPy gives for this index: an array, a view of ``work`` if possible, or a scalar."""
        taken = work if self._take is None else work[self._take]
        return taken if self._front is None else np.moveaxis(taken, self._front, 0)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values for the cells, broadcast by NumPy's rules of assignment and laid out as the work array.

        Returns
        -------
        ndarray
            Of shape ``work_shape``; often a view, which may be read-only.

        Raises
        ------
        InvalidInputError
            When the values do not broadcast to ``result_shape``.
        """
        if values.shape != self.result_shape:
            values = broadcast(values, self.result_shape)
        if self._front is not None:
            values = np.moveaxis(values, 0, self._front)
        if not self._take:
            return values
        # Taking the cell 0 drops an axis, so None brings it back; turning an axis round undoes itself.
        return values[tuple([None if item == 0 else item for item in self._take if item is not Ellipsis])]


def broadcast(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only view of ``values`` in this shape; leading axes of length 1 may be too many, as in an assignment.

    Raises
    ------
    InvalidInputError
        When the shapes do not fit; the message names both.
    """
    surplus = values.ndim - len(shape)
    if surplus > 0 and values.shape[:surplus] == (1,) * surplus:
        fitting = values.reshape(values.shape[surplus:])
    else:
        fitting = values
    try:
        return np.broadcast_to(fitting, shape)
    except ValueError:
        raise InvalidInputError(
            f"values of shape {values.shape} can't be broadcast to the selection's shape {shape}"
        ) from None


class BoxSelection(Selection):
    """Whole boxes, the common case: integers and slices with a step of 1 or -1."""

    __slots__ = ()

    def __init__(
        self,
        shape: tuple[int, ...],
        box: Box | None,
        work_shape: tuple[int, ...],
        result_shape: tuple[int, ...],
        observes: tuple[bool, ...],
        take: tuple[Any, ...] | None = None,
        front: int | None = None,
    ) -> None:
        super().__init__(shape, box, box, work_shape, result_shape, observes, take, front)

    def pieces(self, box: Box) -> Piece | None:
        """The selected cells inside ``box``: all of their intersection, in order."""
        if self.box is None:
            return None
        common = self.box.intersect(box)
        return None if common is None else Piece(common, None, common.slices(self.box.lo))

    def _touched(self, extent: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Box]]:
        return iter(()) if self.box is None else cells_in(self.box, extent)


__all__ = ["AxisIndex", "BoxSelection", "Piece", "Selection", "broadcast"]
