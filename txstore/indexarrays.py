"""Index arrays: lists of cells and masks, checked and turned into cells that are not negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.errors import InvalidIndexError
from txstore.orthogonal import Axis, ListAxis, RangeAxis


def as_array(item: Any) -> NDArray[Any] | None:
    """The array that ``item`` is or stands for, of one axis at least; ``None`` where it is no array.

    Raises
    ------
    InvalidIndexError
        When it is one, but neither of integers nor of booleans.
    """
    if isinstance(item, np.generic):
        return None
    if isinstance(item, (list, tuple, range)):
        try:
            array = np.asarray(item)
        except (ValueError, OverflowError) as error:
            raise InvalidIndexError(f"{_brief(item)} can't be used as an index array: {error}") from None
        if array.size == 0:
            array = array.astype(np.intp)
        if array.dtype.kind in "iu" and not {bool, np.bool_}.isdisjoint(map(type, item)):
            raise InvalidIndexError(f"{_brief(item)} mixes booleans and integers; use either a mask or a list of cells")
    elif hasattr(item, "__array__"):
        array = np.asarray(item)
        if array.ndim == 0:
            return None
    else:
        return None
    if array.dtype.kind not in "biu":
        raise InvalidIndexError(f"an index array must hold integers or booleans, not {array.dtype}")
    return array


def within(cells: NDArray[Any], extent: int, axis: int) -> tuple[NDArray[np.intp], bool]:
    """A copy of ``cells`` of our own, counted from the start, and whether some counted from the end.

    Raises
    ------
    InvalidIndexError
        When a cell lies outside ``extent``.
    """
    if not cells.size:
        return cells.astype(np.intp), False
    lowest, highest = int(cells.min()), int(cells.max())
    if highest >= extent or lowest < -extent:
        raise outside(highest if highest >= extent else lowest, extent, axis)
    found = cells.astype(np.intp)
    if lowest < 0:
        found[found < 0] += extent
    return found, lowest < 0


def list_axis(array: NDArray[Any], shape: Sequence[int], axis: int) -> tuple[Axis, bool]:
    """What a list of cells or a mask chooses along one axis, and whether it consulted the extent.

    Raises
    ------
    InvalidIndexError
        When the array has more than one axis or does not fit.
    """
    extent = shape[axis]
    if array.ndim != 1:
        raise InvalidIndexError(
            f"an index array of shape {array.shape} can't choose along axis {axis}: it must have one axis; "
            "use vindex[...] for index arrays that are broadcast together"
        )
    if array.dtype == np.bool_:
        if array.size != extent:
            raise InvalidIndexError(
                f"a mask of shape {array.shape} does not fit axis {axis}, of extent {extent}, "
                f"of an array of shape {tuple(shape)}"
            )
        cells, seen = np.flatnonzero(array), True
    else:
        cells, seen = within(array, extent, axis)
    chosen = ListAxis(cells)
    if chosen.run:
        # Neighbours in order are a range: a box then, and no mask, says what was written.
        return RangeAxis(int(cells[0]) if cells.size else 0, cells.size), seen
    return chosen, seen


def outside(index: int, extent: int, axis: int) -> InvalidIndexError:
    """The error for an index beyond the array."""
    return InvalidIndexError(f"index {index} is out of bounds for axis {axis} with extent {extent}")


def _brief(item: Sequence[Any]) -> str:
    shown = repr(item)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


__all__ = ["as_array", "list_axis", "outside", "within"]
