"""What may be written into an array: the rules by which values become cells.

Nothing is lost without being asked for. A cast that can lose the kind of a value (a fraction, a number as a
truth) is refused for any value; one that can lose only some values (a large integer, a long string, a time
between two ticks) looks at the values. Floats round, as everywhere in NumPy: "same_kind".
"""

from __future__ import annotations

import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from txstore.errors import DTypeError
from txstore.names import shown

Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]

_Dtype: TypeAlias = np.dtype[Any]

#: Kinds of dtype that a Python scalar goes into, without a width of its own (NEP 50).
_SCALARS = {bool: "biufc", int: "iufcm", float: "fc", complex: "c"}


class _Refusal(Exception):
    """What would be lost; :func:`cast` makes an error of it, with what to do."""


def cast(values: Any, dtype: _Dtype, casting: Casting | None = None, *, advice: str = "convert first") -> NDArray[Any]:
    """The values as an array of the dtype, or a refusal.

    Parameters
    ----------
    values : array-like
        What a user gave.
    dtype : numpy.dtype
        That of the array which is written to.
    casting : {"no", "equiv", "safe", "same_kind", "unsafe"}, optional
        NumPy's rule of that name, instead of the rules here.
    advice : str
        What to do, for the message of a refusal: not every way of writing takes `casting`.

    Returns
    -------
    ndarray
        Of the dtype; the values themselves, not a copy, where they are an array of it already.

    Raises
    ------
    DTypeError
        When something would be lost; the message says what, and gives the advice.

    Notes
    -----
    Floats and complex numbers take any number as NumPy's "same_kind" does. Integers take integers and truths that
    fit, by value. Truths take truths. Strings take strings, by length. Times take times and ISO strings that are
    exact in the unit. Records take records of the same fields, field by field. Raw bytes take bytes that are no
    longer. Python scalars have no width of their own (NEP 50). Objects are refused.

    Examples
    --------
    >>> cast([1, 255], np.dtype("u1"))
    array([  1, 255], dtype=uint8)
    >>> cast(1.5, np.dtype("i4"))
    Traceback (most recent call last):
    ...
    txstore.errors.DTypeError: can't write float into an array of int32; convert first
    """
    if type(values) is np.ndarray and values.dtype == dtype:
        return values
    if casting is not None:
        return _forced(values, dtype, casting)
    try:
        return _exact(values, dtype)
    except _Refusal as refusal:
        raise DTypeError(f"{refusal}; {advice}") from refusal.__cause__


def _exact(values: Any, dtype: _Dtype) -> NDArray[Any]:
    kinds = _SCALARS.get(type(values))
    if kinds is not None:
        return _scalar(values, dtype, kinds)
    if dtype.names is not None and not _is_array(values):
        return _records(values, dtype)
    return _checked(_array(values), dtype)


def _is_array(values: Any) -> bool:
    return isinstance(values, np.ndarray | np.generic) or hasattr(values, "__array__")


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ndarray) and hasattr(values, "filled"):
        if np.ma.is_masked(values):
            raise DTypeError("masked values have no place in an array; write values.filled(...), or only the others")
        return np.asarray(values)
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise DTypeError(f"these values are no array: {error}") from error


def _forced(values: Any, dtype: _Dtype, casting: Casting) -> NDArray[Any]:
    try:
        if dtype.names is not None and not _is_array(values):
            return np.asarray(values, dtype)
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.asarray(values, dtype)
        return array.astype(dtype, casting=casting, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DTypeError(str(error)) from error


def _refusal(source: object, dtype: _Dtype, why: str = "") -> _Refusal:
    reason = f": {why}" if why else ""
    return _Refusal(f"can't write {source} into an array of {dtype}{reason}")


def _scalar(value: Any, dtype: _Dtype, kinds: str) -> NDArray[Any]:
    if dtype.kind not in kinds:
        raise _refusal(type(value).__name__, dtype)
    try:
        # A number that is too large for a float is refused below, so that the warning would say it twice.
        with np.errstate(over="ignore"):
            array = np.array(value, dtype)
    except OverflowError as error:
        raise _refusal(shown(value), dtype, "it does not fit") from error
    if dtype.kind in "fc" and not np.isfinite(array) and abs(value) < np.inf:
        raise _refusal(shown(value), dtype, "it does not fit")
    return array


def _checked(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    source = array.dtype
    if source == dtype:
        return array
    if not array.size:
        return np.empty(array.shape, dtype)
    if source.kind == "O":
        array = _times(array, dtype)
        source = array.dtype
    kind = dtype.kind
    if dtype.names is not None:
        if source.names == dtype.names:
            return _fields(array, dtype)
        raise _refusal(source, dtype, f"its fields are {', '.join(dtype.names)}")
    if kind in "fc":
        if source.kind in "biufc" and np.can_cast(source, dtype, "same_kind"):
            return array.astype(dtype)
    elif kind in "iu":
        if source.kind in "biu":
            return _integers(array, dtype)
    elif kind in "SU":
        if source.kind in "SUT":
            return _strings(array, dtype)
    elif kind in "Mm":
        if source.kind in "SUT":
            array = _parsed(array, dtype)
            source = array.dtype
        if source.kind == kind:
            return _ticks(array, dtype)
        if kind == "m" and source.kind in "iu":
            return _integers(array, np.dtype(np.int64)).view(dtype)
    elif kind == "V" and source.names is None and source.kind in "SV" and source.itemsize <= dtype.itemsize:
        return array.astype(dtype)
    raise _refusal(source, dtype)


def _integers(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    if not np.can_cast(array.dtype, dtype, "safe"):
        bounds = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < bounds.min or high > bounds.max:
            raise _refusal(array.dtype, dtype, f"{low if low < bounds.min else high} does not fit")
    return array.astype(dtype)


def _strings(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    longest = int(np.strings.str_len(array).max())
    width = dtype.itemsize // (4 if dtype.kind == "U" else 1)
    if longest > width:
        raise _refusal(array.dtype, dtype, f"a string is {longest} long")
    try:
        return array.astype(dtype)
    except ValueError as error:
        raise _refusal(array.dtype, dtype, "only ASCII goes between strings and bytes") from error


def _ticks(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    unit, target = np.datetime_data(array.dtype)[0], np.datetime_data(dtype)[0]
    if unit == "generic":  # NaT, mostly; a count without unit takes the array's
        return array.astype(dtype)
    if target == "generic" or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _refusal(array.dtype, dtype)
    # There and back again finds both what lies between two ticks and what overflows 64 bits; NumPy says neither.
    try:
        there = array.astype(dtype)
        back = there.astype(array.dtype)
        exact = (back.view(np.int64) == array.view(np.int64)) & (np.isnat(there) == np.isnat(array))
    except OverflowError as error:
        raise _refusal(array.dtype, dtype, "a time does not fit") from error
    if not exact.all():
        bad = array[~exact].reshape(-1)[0]
        raise _refusal(array.dtype, dtype, f"{bad} is not exact in that unit, or does not fit")
    return there


def _parsed(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    """Strings as times, in the coarsest unit that holds them."""
    try:
        if dtype.kind == "m":
            return array.astype("m8") if (np.strings.lower(array.astype("U")) == "nat").all() else array
        return array.astype("U").astype("M8")
    except (TypeError, ValueError) as error:
        raise _refusal(array.dtype, dtype, str(error)) from error


def _times(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    """Python's dates, times and durations, which NumPy knows as objects only."""
    wanted = {"M": (datetime.datetime, datetime.date), "m": (datetime.timedelta,)}.get(dtype.kind, ())
    cells = array.reshape(-1).tolist()
    # Exact types: a pandas.Timestamp is a datetime, too, but would lose its nanoseconds here.
    if not all(type(cell) in wanted for cell in cells):
        what = "strings, as by .astype('U20')" if dtype.kind in "SU" else "numbers, strings or arrays of one type"
        raise DTypeError(f"can't write Python objects into an array of {dtype}; give {what}")
    # NumPy would warn at a time zone; a time in a zone is a moment, and moments are written in UTC.
    plain = [
        cell.astimezone(datetime.UTC).replace(tzinfo=None)
        if isinstance(cell, datetime.datetime) and cell.tzinfo is not None
        else cell
        for cell in cells
    ]
    return np.array(plain, f"{dtype.kind}8[us]").reshape(array.shape)


def _fields(array: NDArray[Any], dtype: _Dtype) -> NDArray[Any]:
    assert dtype.names is not None
    out = np.zeros(array.shape, dtype)
    for name in dtype.names:
        out[name] = _checked(array[name], dtype[name])
    return out


def _records(values: Any, dtype: _Dtype) -> NDArray[Any]:
    """Tuples, or lists of them, as records: each field by the rules for what stands in it."""
    assert dtype.names is not None
    try:
        loose = np.array(values, [(name, object) for name in dtype.names])
    except (TypeError, ValueError) as error:
        raise _refusal(type(values).__name__, dtype, str(error)) from error
    if not isinstance(values, tuple | list):
        raise _refusal(type(values).__name__, dtype, f"a tuple of {len(dtype.names)} is a record")
    out = np.zeros(loose.shape, dtype)
    for name in dtype.names:
        out[name] = _exact(loose[name].tolist(), dtype[name])
    return out


__all__ = ["Casting", "cast"]
