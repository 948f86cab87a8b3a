"""Reading an index axis by axis: every kind of entry, every mistake named."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from txstore.boxes import Box
from txstore.errors import InvalidIndexError
from txstore.indexarrays import list_axis, outside
from txstore.orthogonal import Axis, OrthogonalSelection, RangeAxis
from txstore.pieces import BoxSelection, Selection

#: What takes the result out of the work array along one axis; 0 drops an axis of one cell.
ALL = slice(None)
FLIP = slice(None, None, -1)


def parse_axes(items: tuple[Any, ...], shape: tuple[int, ...], *, arrays: bool, as_numpy: bool) -> Selection:
    """What an index names, entry by entry.

    Parameters
    ----------
    items : tuple
        What stands in the brackets, lists and masks already as ndarrays.
    shape : tuple of int
        The array's shape.
    arrays : bool
        Whether lists and masks are allowed.
    as_numpy : bool
        Whether the axis of a list goes to the front where NumPy puts it there.

    Raises
    ------
    InvalidIndexError
        When the index does not fit the array.
    """
    given = sum([item is not Ellipsis for item in items])
    rest = len(shape) - given
    dots = len(items) - given
    if rest < 0:
        for item in items:
            if isinstance(item, bool | np.bool_):
                as_integer(item)  # says what to do instead
        raise InvalidIndexError(f"{given} indices are too many for an array of {len(shape)} axes")
    if dots > 1:
        raise InvalidIndexError("an index can hold '...' only once")
    axes: list[Axis] = []
    take: list[Any] = []
    observes: list[bool] = []
    fancy = []  # where the integers and lists stand among the items
    listed = None  # which axis of the result a list stands for
    for place, item in enumerate(items if dots else (*items, Ellipsis)):
        axis = len(axes)
        if item is Ellipsis:
            axes += [RangeAxis(0, extent) for extent in shape[axis : axis + rest]]
            take += [ALL] * rest
            observes += [True] * rest
            continue
        chosen: Axis
        if isinstance(item, slice):
            chosen, turned, seen = _range(item, shape[axis])
            take.append(FLIP if turned else ALL)
        elif arrays and isinstance(item, np.ndarray) and item.ndim:
            chosen, seen = list_axis(item, shape, axis)
            listed = axis - take.count(0)
            take.append(ALL)
            fancy.append(place)
        else:
            index = as_integer(item)
            if not -shape[axis] <= index < shape[axis]:
                raise outside(index, shape[axis], axis)
            chosen, seen = RangeAxis(index % shape[axis], 1), index < 0
            take.append(0)
            fancy.append(place)
        axes.append(chosen)
        observes.append(seen)

    kept = [axis.count for axis, taken in zip(axes, take, strict=True) if taken != 0]
    taken = result_index(take, len(kept), bool(dots))
    front = None
    # NumPy treats integers beside a list as lists, too: when a slice or '...' parts them, their axis comes first.
    if as_numpy and listed and fancy[-1] - fancy[0] >= len(fancy):
        front = listed
        kept.insert(0, kept.pop(front))
    ranges = [axis for axis in axes if isinstance(axis, RangeAxis) and axis.step == 1]
    if len(ranges) < len(axes):
        return OrthogonalSelection(shape, axes, tuple(kept), tuple(observes), taken, front)
    box = Box(tuple([axis.first for axis in ranges]), tuple([axis.first + axis.count for axis in ranges]))
    return BoxSelection(shape, None if box.empty else box, box.shape, tuple(kept), tuple(observes), taken, front)


def result_index(take: Sequence[Any], kept: int, dots: bool) -> tuple[Any, ...] | None:
    """The index that makes the result of the work array, ``None`` when they are the same.

    Parameters
    ----------
    take : sequence of slice or 0
        What to do along each axis.
    kept : int
        How many axes the result has.
    dots : bool
        Whether the index holds ``...``, which makes an array of zero dimensions of what would be a scalar.
    """
    if kept == len(take) and (take or dots) and FLIP not in take:
        return None
    return (Ellipsis, *take) if dots else tuple(take)


def as_integer(item: Any) -> int:
    """An integer index; anything that is none is refused, with advice.

    Raises
    ------
    InvalidIndexError
        Always, but for integers.
    """
    if item is None:
        raise InvalidIndexError("None (np.newaxis) would add an axis: index without it, then reshape the result")
    if isinstance(item, (bool, np.bool_)) or getattr(item, "dtype", None) == np.bool_:
        raise InvalidIndexError(
            f"the boolean {item} is no index: use 0 or 1 for a cell, or a mask of the array's shape for many"
        )
    if isinstance(item, str):
        raise InvalidIndexError(
            f"{item!r} is no index: fields are read by read(..., fields=[{item!r}]), and records written whole"
        )
    try:
        return as_int(item)
    except TypeError:
        raise InvalidIndexError(
            f"an index must be made of integers, slices and '...', not {type(item).__name__}; "
            "lists and masks go into a[...], one at a time, or into oindex[...] and vindex[...]"
        ) from None


def _range(item: slice, extent: int) -> tuple[RangeAxis, bool, bool]:
    """The cells of a slice in ascending order, whether it runs the other way, and whether it consulted the extent."""
    start, stop, step = [None if part is None else as_integer(part) for part in (item.start, item.stop, item.step)]
    if step == 0:
        raise InvalidIndexError("the step of a slice can't be 0")
    cells = range(*slice(start, stop, step).indices(extent))
    if cells.step > 0:
        seen = stop is None or not 0 <= stop <= extent or (start is not None and not 0 <= start <= extent)
        return RangeAxis(cells.start, len(cells), cells.step), False, seen
    seen = start is None or not 0 <= start < extent or stop is None or stop < 0
    return RangeAxis(cells[-1] if cells else 0, len(cells), -cells.step), True, seen


__all__ = ["ALL", "as_integer", "parse_axes", "result_index"]
