"""From the arguments of ``create_array`` to the metadata of a new array, or to what a present one has otherwise."""

from __future__ import annotations

import json
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.casting import cast
from txstore.codecspecs import resolve_codecs
from txstore.dtypes import parse_dtype
from txstore.errors import AlreadyExistsError, DTypeError, InvalidInputError, TxStoreError
from txstore.fills import cast_fill, default_fill
from txstore.grid import MAX_EXTENT, auto_chunks, auto_partition, auto_shards
from txstore.metadata import ArrayMetadata
from txstore.names import check_text, shown

_MAX_NDIM = 32
#: The sum of two extents still fits into 64 bits.
#: More no codec of numcodecs takes at once.
_MAX_CHUNK_BYTES = 2**31 - 1


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
            dtype = None if data is None else _array(data).dtype
        if dtype is None or (shape is None and data is None):
            raise InvalidInputError("needs shape and dtype, or data")
        kind = parse_dtype(dtype)
        _check_fields(kind)
        values = np.empty(0, kind) if data is None else cast(data, kind)
        lengths = extents("shape", values.shape if shape is None else shape, 0)
        if data is not None and values.shape != lengths:
            raise InvalidInputError(f"has shape {lengths}, its data have {values.shape}")
        ndim = len(lengths)
        fill = default_fill(kind) if fill_value is None else cast_fill(fill_value, kind)
        if _auto(chunks):
            cells = auto_chunks(lengths, kind.itemsize)
        else:
            cells = extents("chunks", chunks, 1, ndim)
        if prod(cells) * kind.itemsize > _MAX_CHUNK_BYTES:
            raise InvalidInputError(
                f"chunks {cells} take {prod(cells) * kind.itemsize} bytes each, it must be less than 2 GiB"
            )
        if _auto(shards):
            blocks = auto_shards(lengths, cells, kind.itemsize)
        else:
            blocks = _shards(shards, ndim)
        names = None if dimension_names is None else _names(dimension_names)
        metadata = ArrayMetadata(kind, fill, cells, blocks, resolve_codecs(codecs, kind), names)
        partition = json.dumps(auto_partition(lengths, cells, blocks))
    except TxStoreError as error:
        raise type(error)(f"array {shown(path)}: {error}") from None
    return NewArray(metadata, lengths, partition, values)


def described(path: str, shape: Any, dtype: Any, data: Any) -> tuple[Any, Any]:
    """Shape and dtype, from the data where they are left out.

    Raises
    ------
    DTypeError
        If the data are no array; the message names the array that they are for.
    """
    if data is None:
        return shape, dtype
    try:
        values = _array(data)
    except DTypeError as error:
        raise DTypeError(f"array {shown(path)}: {error}") from None
    return values.shape if shape is None else shape, values.dtype if dtype is None else dtype


def require_same(
    path: str,
    metadata: ArrayMetadata,
    present_shape: tuple[int, ...],
    *,
    shape: Any = None,
    dtype: Any = None,
    chunks: Any = "auto",
    shards: Any = "auto",
    codecs: Any = "auto",
    fill_value: Any = None,
    dimension_names: Any = None,
) -> None:
    """Compare a present array with what was asked for; what was left to its default is not compared.

    Parameters
    ----------
    path : str
        Where it is.
    metadata : ArrayMetadata
        What it is.
    present_shape : tuple of int
        Its shape; not looked at where none is asked for.
    **asked
        As :func:`new_array`.

    Raises
    ------
    AlreadyExistsError
        If something differs; the message names all that does.
    InvalidInputError, DTypeError
        If an argument could not be used for any array of this shape and dtype.
    """
    differing: list[str] = []

    def compare(what: str, present: Any, asked: Any) -> None:
        if present != asked:
            differing.append(f"{what} {present}, not {asked}")

    try:
        if shape is not None:
            compare("shape", present_shape, extents("shape", shape, 0))
        if dtype is not None:
            compare("dtype", metadata.dtype, parse_dtype(dtype))
        if not differing:  # what follows depends on them
            ndim = metadata.ndim
            if not _auto(chunks):
                compare("chunks", metadata.chunks, extents("chunks", chunks, 1, ndim))
            if not _auto(shards):
                compare("shards", metadata.shards, _shards(shards, ndim))
            if not _auto(codecs):
                compare("codecs", metadata.codecs, resolve_codecs(codecs, metadata.dtype))
            if dimension_names is not None:
                compare("dimension_names", metadata.dimension_names, _names(dimension_names))
            if fill_value is not None:
                fill = cast_fill(fill_value, metadata.dtype)
                if fill.tobytes() != metadata.fill_value.tobytes():  # a NaN is itself, and 0.0 is not -0.0
                    differing.append(f"fill_value {np.array2string(metadata.fill_value)}, not {np.array2string(fill)}")
    except TxStoreError as error:
        raise type(error)(f"array {shown(path)}: {error}") from None
    if differing:
        raise AlreadyExistsError(
            f"array {path!r} is there with {'; '.join(differing)}: leave out what may be otherwise, or make it anew "
            "with create_array(..., overwrite=True)"
        )


def _auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _array(data: Any) -> NDArray[Any]:
    try:
        return np.asarray(data)
    except ValueError as error:
        raise DTypeError(f"its data are no array: {error}") from None


def extents(what: str, value: Any, least: int, ndim: int | None = None) -> tuple[int, ...]:
    """A shape, or the shape of a block, as integers.

    Parameters
    ----------
    what : str
        For messages.
    value : int or iterable of int
        An int counts for every axis; for one, if their number is not known.
    least : int
        The smallest that an extent may be.
    ndim : int, optional
        The number of axes that there must be.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = (value,) * (1 if ndim is None else ndim)
    try:
        found = tuple(value)
    except TypeError:
        raise InvalidInputError(f"{what} must be integers, not {value!r}") from None
    for extent in found:
        whole = isinstance(extent, int | np.integer) and not isinstance(extent, bool)
        if not whole or not least <= extent <= MAX_EXTENT:
            raise InvalidInputError(f"{what} {found!r} must be integers from {least} to {MAX_EXTENT} (2**62 - 1)")
    if len(found) > _MAX_NDIM:
        raise InvalidInputError(f"{what} has {len(found)} dimensions, at most {_MAX_NDIM} are possible")
    if ndim is not None and len(found) != ndim:
        raise InvalidInputError(f"{what} {found!r} must have as many entries as the array has axes, {ndim}")
    return tuple(int(extent) for extent in found)


def _shards(value: Any, ndim: int) -> tuple[int, ...] | None:
    return None if value is None else extents("shards", value, 1, ndim)


def _names(value: Any) -> tuple[str | None, ...]:
    if isinstance(value, str):
        raise InvalidInputError(f"dimension_names are a sequence of strings or None, not {value!r}")
    try:
        names = tuple(value)
    except TypeError:
        raise InvalidInputError(f"dimension_names are a sequence of strings or None, not {value!r}") from None
    for name in names:
        if isinstance(name, str):
            check_text("dimension name", name)
    return names


def _check_fields(dtype: np.dtype[Any]) -> None:
    for name in dtype.names or ():
        check_text("field name", name)
        _check_fields(dtype[name])
