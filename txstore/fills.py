"""Fill values: what cells hold that were never written, and how that is written in Zarr v3 metadata.

A part of the stored format, as :mod:`txstore.dtypes` is, and written out for the same reasons; zarr-python also
loses the payload of a NaN, which would change what an array reads.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.casting import cast
from txstore.errors import DTypeError

#: The bits of the NaN that the Zarr specification calls "NaN"; any other NaN is written by its bits.
_QUIET_NAN = {2: 0x7E00, 4: 0x7FC00000, 8: 0x7FF8000000000000}


def default_fill(dtype: np.dtype[Any]) -> NDArray[Any]:
    """What cells hold that were never written, when nobody chose: zero, or NaT for times; 0-d, read-only."""
    fill = np.array("NaT", dtype) if dtype.kind in "mM" else np.zeros((), dtype)
    fill.flags.writeable = False
    return fill


def cast_fill(value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A fill value as a 0-d, read-only array of the dtype.

    Parameters
    ----------
    value : scalar or None
        None: :func:`default_fill`.
    dtype : numpy.dtype
        The array's.

    Raises
    ------
    DTypeError
        By the rules of :func:`txstore.casting.cast`; also for what is no scalar.
    """
    if value is None:
        return default_fill(dtype)
    array = cast(value, dtype)
    if array.ndim:
        raise DTypeError(f"a fill value is one value, not an array of shape {array.shape}")
    fill = np.array(array, dtype)
    fill.flags.writeable = False
    return fill


def fill_to_zarr(dtype: np.dtype[Any], value: NDArray[Any]) -> Any:
    """The ``fill_value`` of a Zarr v3 document.

    Parameters
    ----------
    dtype : numpy.dtype
        The array's.
    value : ndarray
        0-d, of that dtype.

    Notes
    -----
    Equal to what zarr-python 3.1 writes, but that every bit of a NaN is kept: one that is not the quiet NaN of the
    specification is written as a hexadecimal string, which readers of the specification take.
    """
    value = np.asarray(value, dtype)
    kind = dtype.kind
    if kind == "b":
        return bool(value)
    if kind in "iu":
        return int(value)
    if kind == "f":
        return _float_to_zarr(value)
    if kind == "c":
        return [_float_to_zarr(value.real), _float_to_zarr(value.imag)]
    if kind in "mM":
        return int(value.view(np.int64))
    if kind == "U":
        return str(value)
    if kind == "S":
        return _base64(value.item())
    return _base64(value.astype(dtype.newbyteorder("<")).tobytes())


def _float_to_zarr(value: NDArray[Any]) -> float | str:
    number = float(value)
    if number != number:
        size = value.dtype.itemsize
        bits = int(value.view(f"u{size}"))
        return "NaN" if bits == _QUIET_NAN[size] else f"0x{bits:0{2 * size}x}"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _base64(data: bytes) -> str:
    return base64.standard_b64encode(data).decode("ascii")


def fill_from_zarr(dtype: np.dtype[Any], json: Any) -> NDArray[Any]:
    """The fill value that a ``fill_value`` of Zarr v3 metadata means; 0-d, read-only.

    Raises
    ------
    DTypeError
        When it is none of this dtype.
    """
    try:
        fill = np.array(_fill_from_zarr(dtype, json), dtype)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DTypeError(f"{json!r} is no fill value for {dtype}: {error}") from error
    fill.flags.writeable = False
    return fill


def _fill_from_zarr(dtype: np.dtype[Any], json: Any) -> Any:
    kind = dtype.kind
    if kind == "b" and type(json) is bool:
        return json
    if kind in "iu" and (type(json) is int or (type(json) is float and json.is_integer())):
        return int(json)
    if kind == "f":
        return _float_from_zarr(dtype, json)
    if kind == "c" and len(json) == 2 and not isinstance(json, str):
        parts = np.empty(2, f"f{dtype.itemsize // 2}")
        for position, part in enumerate(json):
            parts[position] = _float_from_zarr(parts.dtype, part)
        return parts.view(dtype)[0]
    if kind in "mM" and (json == "NaT" or type(json) is int):
        return np.array("NaT" if json == "NaT" else np.array(json, np.int64).view(dtype), dtype)
    if kind == "U" and isinstance(json, str) and len(json) <= dtype.itemsize // 4:
        return json
    if dtype.names and isinstance(json, dict):  # zarr-python from 3.4 on
        record = np.zeros((), dtype)
        if set(json) != set(dtype.names):
            raise ValueError(f"the fields are {', '.join(dtype.names)}")
        for name in dtype.names:
            record[name] = fill_from_zarr(dtype[name], json[name])
        return record
    if kind in "SV" and isinstance(json, str):
        data = base64.b64decode(json, validate=True)
        if len(data) == dtype.itemsize or (kind == "S" and len(data) < dtype.itemsize):
            data = data.ljust(dtype.itemsize, b"\0")
            return np.frombuffer(data, dtype.newbyteorder("<"))[0]
        raise ValueError(f"{len(data)} bytes, where {dtype.itemsize} are expected")
    raise ValueError("not of this type")


def _float_from_zarr(dtype: np.dtype[Any], json: Any) -> Any:
    if isinstance(json, str):
        if json.startswith("0x"):
            size = dtype.itemsize
            if len(json) != 2 + 2 * size:
                raise ValueError(f"{2 * size} hexadecimal digits are expected")
            return np.array(int(json[2:], 16), f"u{size}").view(dtype)
        if json == "NaN":
            return np.array(_QUIET_NAN[dtype.itemsize], f"u{dtype.itemsize}").view(dtype)
        return float(json)
    if type(json) not in (int, float):
        raise ValueError("a number is expected")
    if float(np.finfo(dtype).max) < abs(json) < math.inf:
        raise ValueError("it does not fit")
    return json


__all__ = ["cast_fill", "default_fill", "fill_from_zarr", "fill_to_zarr"]
