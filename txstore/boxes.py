"""Boxes: half-open intervals of cells in N dimensions, and the arithmetic on them.

Pure values: tuples of Python integers, no NumPy, no I/O. A box of zero dimensions holds one cell.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from math import prod
from operator import add, ge, le, sub
from typing import Any, NamedTuple

from numpy.typing import NDArray

from txstore.errors import CorruptionError, InvalidInputError


class Box(NamedTuple):
    """The cells ``lo <= i < hi``, axis by axis.

    Parameters
    ----------
    lo, hi : tuple of int
        First cell and the cell past the last one, as many as there are axes. A box with ``hi <= lo``
        on some axis is empty; operations that return boxes never make one, but ``None`` or no box instead.

    Notes
    -----
    Immutable and hashable. Two boxes are equal when their corners are: two empty boxes may differ.
    """

    lo: tuple[int, ...]
    hi: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """How many axes the box has."""
        return len(self.lo)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(map(sub, self.hi, self.lo))

    @property
    def size(self) -> int:
        """How many cells the box holds: 1 for zero dimensions, 0 for an empty box."""
        return 0 if any(map(le, self.hi, self.lo)) else prod(map(sub, self.hi, self.lo))

    @property
    def empty(self) -> bool:
        """Whether the box holds no cell."""
        return any(map(le, self.hi, self.lo))

    def intersect(self, other: Box) -> Box | None:
        """The cells in both boxes, ``None`` when there are none; two boxes of zero dimensions share their cell."""
        lo = []
        hi = []
        for low, high, other_low, other_high in zip(*self, *other, strict=True):
            if other_low > low:
                low = other_low
            if other_high < high:
                high = other_high
            if high <= low:
                return None
            lo.append(low)
            hi.append(high)
        return Box(tuple(lo), tuple(hi))

    def contains(self, other: Box) -> bool:
        """Whether every cell of ``other`` lies in this box; an empty box lies in every box."""
        return (all(map(le, self.lo, other.lo)) and all(map(ge, self.hi, other.hi))) or other.empty

    def shift(self, by: Sequence[int]) -> Box:
        """The box moved by ``by`` cells along each axis."""
        return Box(tuple(map(add, self.lo, by)), tuple(map(add, self.hi, by)))

    def slices(self, origin: Sequence[int] | None = None) -> tuple[slice, ...]:
        """The index that picks the box out of an array whose first cell is ``origin``, zeros by default.

        No part of the box may lie before ``origin``: a slice would count it from the end. For zero dimensions the
        index is empty, and takes a scalar out of an array: append ``...`` to it where a view is needed.
        """
        if origin is None:
            return tuple(map(slice, self.lo, self.hi))
        return tuple(map(slice, map(sub, self.lo, origin), map(sub, self.hi, origin)))

    def of(self, array: NDArray[Any], origin: Sequence[int]) -> NDArray[Any]:
        """The view of this box in an array whose first cell is ``origin``; a view for zero dimensions, too."""
        index: tuple[Any, ...] = (*self.slices(origin), ...)
        view: NDArray[Any] = array[index]
        return view

    def subtract(self, other: Box) -> list[Box]:
        """Disjoint boxes that hold the cells of this box which are not in ``other``.

        Returns
        -------
        list of Box
            At most ``2 * ndim``, none of them empty. The first axes are cut first, so that the pieces stay
            long along the last ones, where an array in C order is contiguous.
        """
        common = self.intersect(other)
        if common is None:
            return [] if self.empty else [self]
        pieces = []
        lo, hi = list(self.lo), list(self.hi)
        for axis, (low, high) in enumerate(zip(*common, strict=True)):
            if lo[axis] < low:
                pieces.append(Box(tuple(lo), (*hi[:axis], low, *hi[axis + 1 :])))
            if high < hi[axis]:
                pieces.append(Box((*lo[:axis], high, *lo[axis + 1 :]), tuple(hi)))
            lo[axis], hi[axis] = low, high
        return pieces

    def to_bytes(self) -> bytes:
        """The box as the index stores it: ``lo`` then ``hi``, little-endian int64. This never changes."""
        return struct.pack(f"<{2 * len(self.lo)}q", *self.lo, *self.hi)

    @classmethod
    def from_bytes(cls, data: bytes, ndim: int) -> Box:
        """The box that :meth:`to_bytes` wrote.

        Raises
        ------
        CorruptionError
            When the length is not that of ``ndim`` axes, or a corner is negative or before ``lo``.
        """
        if len(data) != 16 * ndim:
            raise CorruptionError(f"a stored box of {ndim} axes has {len(data)} bytes instead of {16 * ndim}")
        corners = struct.unpack(f"<{2 * ndim}q", data)
        box = cls(corners[:ndim], corners[ndim:])
        for low, high in zip(*box, strict=True):
            if not 0 <= low <= high:
                raise CorruptionError(f"the stored box {box} is impossible")
        return box

    def __str__(self) -> str:
        return f"[{', '.join([f'{low}:{high}' for low, high in zip(*self, strict=True)])}]"


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds every cell of ``boxes``; empty ones count only where all are empty.

    Raises
    ------
    InvalidInputError
        When there is no box at all.
    """
    every = list(boxes)
    some = [box for box in every if not box.empty] or every[:1]
    if not some:
        raise InvalidInputError("the hull of no boxes is not defined")
    return Box(
        tuple(map(min, zip(*[box.lo for box in some], strict=True))),
        tuple(map(max, zip(*[box.hi for box in some], strict=True))),
    )


def full(shape: Sequence[int]) -> Box:
    """The box of all cells of an array of this shape."""
    return Box((0,) * len(shape), tuple(shape))


__all__ = ["Box", "full", "hull"]
