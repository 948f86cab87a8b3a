"""NumPy indexing as txstore understands it: from what stands in the brackets to the cells that it names.

:func:`parse_basic` takes integers, slices and ``...``; :func:`parse` is what ``a[...]`` takes: besides those one
list, or one mask; :func:`parse_orthogonal` (``oindex``) takes each axis by itself; :func:`parse_points`
(``vindex``) takes single cells. All of them take a :class:`~txstore.boxes.Box` for its slices but the last.
"""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.axisindex import ALL, as_integer, parse_axes, result_index
from txstore.boxes import Box
from txstore.errors import InvalidIndexError
from txstore.indexarrays import as_array, within
from txstore.pieces import BoxSelection, Piece, Selection
from txstore.points import PointSelection

_PLAIN = frozenset({int, slice, EllipsisType})


def parse(sel: Any, shape: tuple[int, ...]) -> Selection:
    """What ``a[sel]`` names: integers, slices, ``...``, and at most one list or mask, with NumPy's result shape.

    Parameters
    ----------
    sel : object
        What stands in the brackets. A mask has the array's whole shape, or one axis and its length.
    shape : tuple of int
        The array's shape.

    Raises
    ------
    InvalidIndexError
        When the index does not fit the array, or is of a kind that ``oindex`` or ``vindex`` takes.
    """
    items = sel if type(sel) is tuple else _items(sel)
    if not _PLAIN.issuperset(map(type, items)):
        items, arrays = _with_arrays(items)
        if len(arrays) > 1:
            raise InvalidIndexError(
                f"{len(arrays)} index arrays in [...] are ambiguous: use oindex[...] for the cells where they cross, "
                "or vindex[...] to pair them up"
            )
        if arrays and arrays[0].dtype == np.bool_ and arrays[0].ndim > 1:
            return _parse_mask(arrays[0], len(items), shape)
        if arrays:
            return parse_axes(items, shape, arrays=True, as_numpy=True)
    return parse_basic(items, shape)


def parse_basic(sel: Any, shape: tuple[int, ...]) -> Selection:
    """What integers, slices and ``...`` name: the hot path, without a call of NumPy.

    Parameters
    ----------
    sel : object
        What stands in the brackets.
    shape : tuple of int
        The array's shape.

    Raises
    ------
    InvalidIndexError
        When the index does not fit the array, or is anything else.
    """
    items = sel if type(sel) is tuple else _items(sel)
    ndim = len(shape)
    lo: list[int] = []
    hi: list[int] = []
    take: list[Any] = []
    result_shape: list[int] = []
    observes: list[bool] = []
    ellipsis = False
    axis = 0
    # Whatever is unusual, or wrong, breaks off and is read without haste by parse_axes.
    for item in items:
        if item is Ellipsis:
            rest = ndim - len(items) + 1
            if ellipsis or rest < 0:
                break
            ellipsis = True
            extents = shape[axis : axis + rest]
            axis += rest
            lo += [0] * rest
            hi += extents
            take += [ALL] * rest
            result_shape += extents
            observes += [True] * rest
            continue
        if axis == ndim:
            break
        extent = shape[axis]
        axis += 1
        seen = False
        if type(item) is slice:
            start, stop, step = item.start, item.stop, item.step
            if step is not None and (type(step) is not int or step != 1):
                break
            if start is None:
                start = 0
            elif type(start) is not int:
                break
            elif start < 0:
                seen = True
                start = max(start + extent, 0)
            elif start > extent:
                seen = True
                start = extent
            if stop is None:
                seen = True
                stop = extent
            elif type(stop) is not int:
                break
            elif stop < 0:
                seen = True
                stop += extent
            elif stop > extent:
                seen = True
                stop = extent
            if stop < start:
                stop = start
            take.append(ALL)
            result_shape.append(stop - start)
        else:
            if type(item) is int:
                start = item
            elif isinstance(item, np.integer):
                start = int(item)
            else:
                break
            if start < 0:
                seen = True
                start += extent
            if not 0 <= start < extent:
                break
            stop = start + 1
            take.append(0)
        lo.append(start)
        hi.append(stop)
        observes.append(seen)
    else:
        if axis < ndim:
            rest = ndim - axis
            extents = shape[axis:]
            lo += [0] * rest
            hi += extents
            take += [ALL] * rest
            result_shape += extents
            observes += [True] * rest
        box = Box(tuple(lo), tuple(hi))
        if len(result_shape) == ndim:
            work_shape = tuple(result_shape)
        else:
            work_shape = box.shape
        return BoxSelection(
            shape,
            None if 0 in result_shape else box,
            work_shape,
            tuple(result_shape),
            tuple(observes),
            None if work_shape and len(result_shape) == ndim else result_index(take, len(result_shape), ellipsis),
        )
    return parse_axes(items, shape, arrays=False, as_numpy=True)


def parse_orthogonal(sel: Any, shape: tuple[int, ...]) -> Selection:
    """What ``a.oindex[sel]`` names: along each axis an integer, a slice, a list of cells or a mask, by itself.

    Parameters
    ----------
    sel : object
        What stands in the brackets; axes left out are taken whole. Integers drop their axis.
    shape : tuple of int
        The array's shape.

    Raises
    ------
    InvalidIndexError
        When the index does not fit the array, or an index array has more than one axis.
    """
    items, arrays = _with_arrays(_items(sel))
    if not arrays:
        return parse_basic(items, shape)
    return parse_axes(items, shape, arrays=True, as_numpy=False)


def parse_points(sel: Any, shape: tuple[int, ...]) -> Selection:
    """What ``a.vindex[sel]`` names: one cell for each element of the index arrays, broadcast together.

    Parameters
    ----------
    sel : object
        Integers or arrays of integers, as many as there are axes; or one mask of the whole shape.
    shape : tuple of int
        The array's shape.

    Raises
    ------
    InvalidIndexError
        When the index does not fit the array, or holds a slice.
    """
    items = sel if isinstance(sel, tuple) else (sel,)
    found = []
    for item in items:
        array = as_array(item)
        if array is None:
            if item is Ellipsis or isinstance(item, slice):
                raise InvalidIndexError("vindex takes no slices and no '...': use oindex[...] for what is whole")
            array = np.asarray(as_integer(item))
        elif array.dtype == np.bool_:
            return _parse_mask(array, len(items), shape)
        found.append(array)
    if len(found) != len(shape):
        raise InvalidIndexError(
            f"vindex takes an index array for each of the {len(shape)} axes, or one mask of shape {shape}, "
            f"but {len(found)} were given"
        )
    if not found:
        return parse_basic((), shape)
    checked = [within(array, extent, axis) for axis, (array, extent) in enumerate(zip(found, shape, strict=True))]
    try:
        together = np.broadcast_arrays(*[cells for cells, _ in checked])
    except ValueError:
        shapes = ", ".join([str(array.shape) for array in found])
        raise InvalidIndexError(f"index arrays of shapes {shapes} can't be broadcast together") from None
    coords = [cells.reshape(-1) for cells in together]
    return PointSelection(shape, coords, together[0].shape, tuple([seen for _, seen in checked]), None)


def _parse_mask(mask: NDArray[Any], count: int, shape: tuple[int, ...]) -> Selection:
    if count > 1:
        raise InvalidIndexError(f"a mask of shape {mask.shape} must be the only index; use oindex[...] for 1-d masks")
    if mask.shape != shape:
        raise InvalidIndexError(f"a mask of shape {mask.shape} does not fit an array of shape {shape}")
    if mask.ndim == 1:
        return parse_axes((mask,), shape, arrays=True, as_numpy=False)
    coords = np.nonzero(mask)
    return PointSelection(shape, coords, coords[0].shape, (True,) * len(shape), True)


def _with_arrays(items: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[NDArray[Any]]]:
    """The items with lists and the like made arrays, and these arrays by themselves."""
    arrays = [as_array(item) for item in items]
    mixed = tuple([item if array is None else array for item, array in zip(items, arrays, strict=True)])
    return mixed, [array for array in arrays if array is not None]


def _items(sel: Any) -> tuple[Any, ...]:
    if isinstance(sel, Box):
        return sel.slices()
    return tuple(sel) if isinstance(sel, tuple) else (sel,)


__all__ = ["BoxSelection", "Piece", "Selection", "parse", "parse_basic", "parse_orthogonal", "parse_points"]
