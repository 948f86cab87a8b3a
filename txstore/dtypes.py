"""The dtypes that an array may have, and how they are named in Zarr v3 metadata.

What stands here is part of the stored format, so it is written out as zarr-python 3.1 writes it, and not left to
the zarr-python that happens to be installed: 3.4 names records differently. Both forms are read. Importing zarr
would also cost every command more than all else that it imports.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from txstore.casting import cast
from txstore.errors import DTypeError
from txstore.fills import cast_fill, default_fill, fill_from_zarr, fill_to_zarr

#: The dtypes whose Zarr name is a plain string: NumPy's own name. Never changes.
_CORE = {
    np.dtype(code): np.dtype(code).name
    for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
}
_CORE_BY_NAME = {name: dtype for dtype, name in _CORE.items()}
_TIMES = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}
_TIME_CODES = {name: code for code, name in _TIMES.items()}
_TIME_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic")
#: What to use instead of text and bytes of no fixed size.
_WIDTHS = "use 'U20' for text of up to 20 characters, 'S20' for up to 20 bytes"
_VARIABLE = ("string", "bytes", "variable_length_bytes", "variable_length_utf8")
# Far beyond any real record, and far below where Python's own recursion ends.
_MAX_NESTING = 32


def parse_dtype(value: Any) -> np.dtype[Any]:
    """The dtype that an array made with ``dtype=value`` has.

    Parameters
    ----------
    value : dtype-like or dict
        What NumPy takes for a dtype, or a ``data_type`` of Zarr v3 metadata.

    Returns
    -------
    numpy.dtype
        In native byte order, whatever was asked for, as zarr-python reads any array of format 3: there the order of
        bytes belongs to a codec and not to the type. Records packed, without titles.

    Raises
    ------
    DTypeError
        For what Zarr has no fixed-size type for: objects, variable-length strings, sub-arrays, extended precision.

    Examples
    --------
    >>> parse_dtype(">f4"), parse_dtype("datetime64[ns]")
    (dtype('float32'), dtype('<M8[ns]'))
    """
    if isinstance(value, dict):
        return dtype_from_zarr(value)
    if value is None:
        raise DTypeError("no dtype given; name one, such as 'f4'")
    if value is str or value is bytes or (isinstance(value, str) and value in ("str", *_VARIABLE)):
        raise DTypeError(f"{_shown(value)} has no fixed size; {_WIDTHS}")
    try:
        return _stored(np.dtype(value))
    except (TypeError, ValueError, SyntaxError) as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(f"{_shown(value)} is no dtype that NumPy knows: {error}") from error


def _shown(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def _stored(dtype: np.dtype[Any], depth: int = 0) -> np.dtype[Any]:
    if dtype.kind == "T" or (dtype.kind in "SU" and not dtype.itemsize):
        raise DTypeError(f"{dtype!r} has no fixed size; {_WIDTHS}")
    native = dtype.newbyteorder("=")
    core = _CORE.get(native)
    if core is not None:
        return _CORE_BY_NAME[core]  # one object for each, so that comparing is a comparison of pointers
    if dtype.names:
        if depth == _MAX_NESTING:
            raise DTypeError(f"records nested deeper than {_MAX_NESTING} can't be stored")
        fields = [(name, dtype[name], int(_field(dtype, name)[1])) for name in dtype.names]
        end = 0
        for _, field, offset in sorted(fields, key=lambda item: item[2]):
            if offset < end:
                raise DTypeError(f"{dtype} has fields that overlap; Zarr has no type for that")
            end = offset + field.itemsize
        return np.dtype([(name, _stored(field, depth + 1)) for name, field, _ in fields])
    if dtype.subdtype is not None:
        raise DTypeError(f"{dtype} is a sub-array, which Zarr has no type for; make its axes axes of the array")
    if dtype.itemsize and type(dtype) in (np.dtypes.BytesDType, np.dtypes.StrDType, np.dtypes.VoidDType):
        return np.dtype(f"{dtype.kind}{dtype.itemsize // (4 if dtype.kind == 'U' else 1)}")
    if dtype.kind in _TIMES:
        if native == np.dtype("M8"):
            raise DTypeError("datetime64 needs a unit, such as 'M8[ns]': zarr-python can't open one without")
        return np.dtype(native.str)
    if dtype.kind == "V" and not dtype.itemsize:
        raise DTypeError(f"{dtype!r} has no size; use 'V20' for 20 raw bytes, or 'S20' for up to 20 bytes")
    if dtype.kind == "O":
        raise DTypeError(f"Python objects have no fixed size; {_WIDTHS}, or a dtype of numbers or times, such as 'f8'")
    raise DTypeError(
        f"{dtype} has no Zarr v3 name; use one of {', '.join(_CORE_BY_NAME)}, or S, U, V, M8, m8, a record"
    )


def _field(dtype: np.dtype[Any], name: str) -> tuple[Any, ...]:
    assert dtype.fields is not None
    return tuple(dtype.fields[name])


def has_byte_order(dtype: np.dtype[Any]) -> bool:
    """Whether Zarr's ``bytes`` codec states an ``endian`` for this dtype, as zarr-python does it.

    A record has none: its fields are always little-endian in a chunk.
    """
    return dtype.kind in "iufcUMm" and dtype.itemsize > 1


def dtype_to_zarr(dtype: np.dtype[Any]) -> str | dict[str, Any]:
    """The ``data_type`` of a Zarr v3 document.

    Parameters
    ----------
    dtype : numpy.dtype
        As :func:`parse_dtype` gives it.

    Raises
    ------
    DTypeError
        When Zarr v3 has no type for it.
    """
    name = _CORE.get(dtype)
    if name is not None:
        return name
    if dtype.names:
        fields = [[field, dtype_to_zarr(dtype[field])] for field in dtype.names]
        return {"name": "structured", "configuration": {"fields": fields}}
    if dtype.kind in _TIMES:
        unit, scale = np.datetime_data(dtype)
        return {"name": _TIMES[dtype.kind], "configuration": {"unit": unit, "scale_factor": scale}}
    names = {"U": "fixed_length_utf32", "S": "null_terminated_bytes", "V": "raw_bytes"}
    if dtype.kind in names:
        return {"name": names[dtype.kind], "configuration": {"length_bytes": dtype.itemsize}}
    raise DTypeError(f"{dtype} has no Zarr v3 name")


def dtype_from_zarr(json: Any) -> np.dtype[Any]:
    """The dtype that a ``data_type`` of Zarr v3 metadata means.

    Parameters
    ----------
    json : str or dict
        As written by zarr-python 3.1 or later; ``"r24"`` of the specification is raw bytes, too.

    Raises
    ------
    DTypeError
        For a type that is unknown, malformed or of variable length.
    """
    try:
        return _stored(_from_zarr(json, 0))
    except DTypeError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DTypeError(f"{json!r} is no Zarr v3 data type: {error}") from error


def _from_zarr(json: Any, depth: int) -> np.dtype[Any]:
    if isinstance(json, str):
        core = _CORE_BY_NAME.get(json)
        if core is not None:
            return core
        if json in _VARIABLE:
            raise DTypeError(f"the Zarr data type {json!r} is of variable length, which can't be stored")
        if json[:1] == "r" and json[1:].isdecimal() and int(json[1:]) % 8 == 0:
            return np.dtype(f"V{_integer(int(json[1:]) // 8, 'length_bytes')}")
        raise DTypeError(f"the Zarr data type {json!r} is unknown")
    name = json["name"]
    if name in _CORE_BY_NAME and not json.get("configuration"):
        return _CORE_BY_NAME[name]
    configuration = json["configuration"]
    if name in _TIME_CODES:
        unit, scale = configuration["unit"], _integer(configuration["scale_factor"], "scale_factor")
        if unit not in _TIME_UNITS:
            raise DTypeError(f"{unit!r} is no unit of time; one of {', '.join(_TIME_UNITS)} is")
        code = _TIME_CODES[name]
        return np.dtype(f"{code}8" if unit == "generic" else f"{code}8[{scale}{unit.replace('μ', 'u')}]")
    if name == "fixed_length_utf32":
        length = _integer(configuration["length_bytes"], "length_bytes")
        if length % 4:
            raise DTypeError(f"length_bytes of fixed_length_utf32 is a multiple of 4, not {length}")
        return np.dtype(f"U{length // 4}")
    if name in ("null_terminated_bytes", "raw_bytes"):
        length = _integer(configuration["length_bytes"], "length_bytes")
        return np.dtype(f"{'S' if name == 'null_terminated_bytes' else 'V'}{length}")
    if name in ("structured", "struct"):
        if depth == _MAX_NESTING:
            raise DTypeError(f"records nested deeper than {_MAX_NESTING} can't be stored")
        fields = []
        for field in configuration["fields"]:
            # zarr-python writes pairs up to 3.3 and dictionaries from 3.4 on.
            key, kind = (field["name"], field["data_type"]) if isinstance(field, dict) else field
            if not isinstance(key, str) or not key:
                raise DTypeError(f"{key!r} is no name of a field")
            fields.append((key, _from_zarr(kind, depth + 1)))
        if not fields:
            raise DTypeError("a record without fields can't be stored")
        return np.dtype(fields)
    raise DTypeError(f"the Zarr data type {name!r} is unknown")


def _integer(value: Any, what: str) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise DTypeError(f"{what} of a data type is a whole number from 1 to {2**31 - 1}, not {value!r}")
    return value


__all__ = [
    "cast",
    "cast_fill",
    "default_fill",
    "dtype_from_zarr",
    "dtype_to_zarr",
    "fill_from_zarr",
    "fill_to_zarr",
    "has_byte_order",
    "parse_dtype",
]
