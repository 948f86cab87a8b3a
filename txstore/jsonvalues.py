"""Attribute values: strict JSON when written, deeply immutable when read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from txstore.errors import InvalidInputError, ReadOnlyError

# Python's own JSON reader and writer end near its recursion limit; nothing real comes close.
_MAX_NESTING = 100


def normalize_attribute(key: str, value: Any) -> Any:
    """The JSON value that an attribute is stored as.

    Parameters
    ----------
    key : str
        The attribute's name.
    value : object
        JSON values; NumPy scalars and arrays of truths, numbers and strings, by ``tolist()``; tuples, as lists.

    Returns
    -------
    None, bool, int, float, str, list or dict
        New lists and dictionaries all the way down: nothing is shared with the value given.

    Raises
    ------
    InvalidInputError
        Naming the key, for what JSON can't hold: NaN and infinities, bytes, sets, times, complex numbers, keys that
        are no strings, cycles, other objects.

    Examples
    --------
    >>> normalize_attribute("range", (np.float32(0.5), np.arange(2)))
    [0.5, [0, 1]]
    """
    if not isinstance(key, str):
        raise InvalidInputError(f"the name of an attribute is a string, not {type(key).__name__}: {key!r}")
    return _json(value, _text(key, ascii(key)), 0)


def _json(value: Any, where: str, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype.kind not in "biufUT" or hasattr(value, "filled"):
            raise _refusal(where, f"JSON has no {value.dtype}")
        value = value.tolist()
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return value if isinstance(value, bool) else int.__int__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refusal(where, f"JSON has no {value}; store a string such as 'NaN', or None")
        return float.__float__(value)
    if depth == _MAX_NESTING:
        raise _refusal(where, f"it holds itself, or is nested deeper than {_MAX_NESTING}")
    if isinstance(value, list | tuple):
        return [_json(item, f"{where}[{position}]", depth + 1) for position, item in enumerate(value)]
    if isinstance(value, Mapping):
        out = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise _refusal(where, f"keys are strings in JSON, not {type(name).__name__}: {name!r}")
            out[_text(name, where)] = _json(item, f"{where}.{name}", depth + 1)
        return out
    raise _refusal(where, f"JSON has no {type(value).__name__}")


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refusal(where, "it holds half of a surrogate pair, which UTF-8 can't") from None
    return str.__str__(value)


def _refusal(where: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"the attribute {where!r} can't be stored: {why}")


def frozen(value: Any) -> Any:
    """A JSON value that can't be changed, all the way down.

    Parameters
    ----------
    value : JSON value
        As :func:`normalize_attribute` gives it.

    Returns
    -------
    None, bool, int, float, str, FrozenList or FrozenDict
        Subclasses of list and dict: equal to them, printed like them, taken by ``json.dumps``. A copy, shallow or
        deep or through pickle, is a plain list or dict that can be changed and assigned.
    """
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    if isinstance(value, dict):
        return FrozenDict((key, frozen(item)) for key, item in value.items())
    return value


def _read_only(self: Any, *arguments: Any, **keywords: Any) -> NoReturn:
    raise ReadOnlyError(
        "the value of an attribute can't be changed in place; change a copy.deepcopy() of it in a transaction "
        "and assign that: attrs[key] = ..."
    )


class FrozenList(list[Any]):
    """A list that refuses to be changed."""

    __slots__ = ()

    append = extend = insert = remove = pop = clear = sort = reverse = _read_only
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _read_only

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


class FrozenDict(dict[str, Any]):
    """A dict that refuses to be changed."""

    __slots__ = ()

    update = setdefault = pop = popitem = clear = _read_only
    __setitem__ = __delitem__ = __ior__ = _read_only

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)


__all__ = ["FrozenDict", "FrozenList", "frozen", "normalize_attribute"]
