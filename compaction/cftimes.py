"""Times as CF has them: whole numbers with ``units`` and ``calendar``, which every reader knows.

CF Conventions 1.12, sections 4.4 (time coordinate) and 2.5.1 (missing values).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.errors import InvalidInputError

#: What NaT is as a number; NumPy's own choice.
NAT: Final = -(2**63)

_UNITS = {
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
#: Units that CF has no name for, and the one that holds them exactly.
_COARSE = {"M8": {"Y": "D", "M": "D", "W": "D"}, "m8": {"W": "D"}}
#: What xarray decodes durations to.
_RESOLUTIONS = ("s", "ms", "us", "ns")


class CFTime(NamedTuple):
    """How times of one dtype are written.

    Attributes
    ----------
    attributes : dict
        ``units``, and ``calendar`` (of times) or ``dtype`` (of durations, which xarray asks for).
    convert : callable
        From times to int64.
    same : bool
        Whether converting changes no bits, so that encoded chunks stay what they are.
    """

    attributes: dict[str, Any]
    convert: Callable[[NDArray[Any]], NDArray[np.int64]]
    same: bool


def cf_time(dtype: np.dtype[Any]) -> CFTime | None:
    """How times or durations of a dtype are written in CF; None where CF has no unit for them."""
    kind = f"{dtype.kind}8"
    unit, scale = np.datetime_data(dtype)
    whole = _COARSE[kind].get(unit, unit)
    name = _UNITS.get(whole)
    if name is None:
        return None
    target = np.dtype(f"{kind}[{whole}]")

    def convert(values: NDArray[Any]) -> NDArray[np.int64]:
        exact = values
        if target != dtype:
            try:
                exact = values.astype(target)
                back = exact.astype(dtype)
            except OverflowError:
                back = None
            if back is None or not np.array_equal(back.view(np.int64), values.view(np.int64)):
                raise InvalidInputError(f"some times of {dtype} are too large for {name} in 64 bits")
        return exact.view(np.int64)

    if dtype.kind == "M":
        attributes = {"units": f"{name} since 1970-01-01 00:00:00", "calendar": "proleptic_gregorian"}
    else:
        attributes = {"units": name, "dtype": f"timedelta64[{whole if whole in _RESOLUTIONS else 's'}]"}
    return CFTime(attributes, convert, unit == whole and scale == 1)


__all__ = ["NAT", "CFTime", "cf_time"]
