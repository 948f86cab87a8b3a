"""From the arguments of ``create_array`` to the metadata of a new array."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.casting import cast
from txstore.codecspecs import resolve_codecs
from txstore.dtypes import parse_dtype
from txstore.errors import DTypeError, InvalidInputError, TxStoreError
from txstore.fills import cast_fill, default_fill
from txstore.grid import auto_chunks, auto_partition, auto_shards
from txstore.metadata import ArrayMetadata

_MAX_NDIM = 32
_MAX_EXTENT = 2**62


class NewArray(NamedTuple):
    """What is needed to make an array.

    Attributes
    ----------
    metadata : ArrayMetadata
        Everything but the shape.
    shape : tuple of int
        The extent of each axis.
    partition : str
        The extent of a partition in cells, as JSON.
    data : ndarray
        What to write at once; of no cells where nothing was given.
    """

    metadata: ArrayMetadata
    shape: tuple[int, ...]
    partition: str
    data: NDArray[Any]


def new_array(
    path: str,
    *,
    shape: Any = None,
    dtype: Any = None,
    chunks: Any = "auto",
    shards: Any = "auto",
    codecs: Any = "auto",
    fill_value: Any = None,
    dimension_names: Any = None,
    data: Any = None,
) -> NewArray:
    """Check the arguments and choose what is ``"auto"``.

    Raises
    ------
    InvalidInputError, DTypeError
        If something does not fit; the message names the array.
    """
    try:
        if dtype is None:
            dtype = None if data is None else _dtype_of(data)
        if dtype is None or (shape is None and data is None):
            raise InvalidInputError("needs shape and dtype, or data")
        kind = parse_dtype(dtype)
        values = np.empty(0, kind) if data is None else cast(data, kind)
        extents = _extents("shape", values.shape if shape is None else shape, 0)
        if data is not None and values.shape != extents:
            raise InvalidInputError(f"has shape {extents}, its data have {values.shape}")
        ndim = len(extents)
        fill = default_fill(kind) if fill_value is None else cast_fill(fill_value, kind)
        if isinstance(chunks, str) and chunks == "auto":
            cells = auto_chunks(extents, kind.itemsize)
        else:
            cells = _extents("chunks", chunks, 1, ndim)
        blocks = _shards(shards, extents, cells, kind.itemsize)
        names = None if dimension_names is None else _names(dimension_names)
        metadata = ArrayMetadata(kind, fill, cells, blocks, resolve_codecs(codecs, kind), names)
        partition = json.dumps(auto_partition(extents, cells, blocks))
    except TxStoreError as error:
        raise type(error)(f"array {path!r}: {error}") from None
    return NewArray(metadata, extents, partition, values)


def _dtype_of(data: Any) -> np.dtype[Any]:
    try:
        return np.asarray(data).dtype
    except ValueError as error:
        raise DTypeError(f"its data are no array: {error}") from None


def _extents(what: str, value: Any, least: int, ndim: int | None = None) -> tuple[int, ...]:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = (value,) * (1 if ndim is None else ndim)
    try:
        extents = tuple(value)
    except TypeError:
        raise InvalidInputError(f"{what} must be integers, not {value!r}") from None
    for extent in extents:
        whole = isinstance(extent, int | np.integer) and not isinstance(extent, bool)
        if not whole or not least <= extent < _MAX_EXTENT:
            raise InvalidInputError(f"{what} {extents!r} must be integers from {least} on")
    if len(extents) > _MAX_NDIM:
        raise InvalidInputError(f"{what} has {len(extents)} dimensions, at most {_MAX_NDIM} are possible")
    if ndim is not None and len(extents) != ndim:
        raise InvalidInputError(f"{what} {extents!r} must have {ndim} axes, as the shape has")
    return tuple(int(extent) for extent in extents)


def _shards(value: Any, shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) and value == "auto":
        return auto_shards(shape, chunks, itemsize)
    return _extents("shards", value, 1, len(shape))


def _names(value: Any) -> tuple[str | None, ...]:
    if isinstance(value, str):
        raise InvalidInputError(f"dimension_names are a sequence of strings or None, not {value!r}")
    try:
        return tuple(value)
    except TypeError:
        raise InvalidInputError(f"dimension_names are a sequence of strings or None, not {value!r}") from None
