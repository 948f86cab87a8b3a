"""What a workload is, and what all of them use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.data import Values
from benchmarks.measure import apart
from benchmarks.systems import SYSTEMS, Codec, System

Size = Literal["full", "small"]
Better = Literal["more", "less"]
Figures = dict[str, Any]

#: Those that every row of a table has where nothing else is said.
COMPARED_SYSTEMS = ("txstore", "zarr", "zarrs", "tensorstore", "ocdbt", "tiledb", "icechunk")


@dataclass(frozen=True)
class Workload:
    """A kind of work, and how its result is to be read.

    Attributes
    ----------
    compared : dict
        The figures that ratios to the best peer are made of, the most telling first.
    columns : tuple of str
        The further figures of the table.
    curve : bool
        Whether ``figures["curve"]`` is a list of points over "n"; drawn once, without repeats.
    """

    name: str
    run: Callable[[System, Codec, Size], Figures]
    title: str
    goal: str
    compared: dict[str, Better]
    columns: tuple[str, ...] = ()
    codecs: tuple[Codec, ...] = ("zstd",)
    systems: tuple[str, ...] = COMPARED_SYSTEMS
    curve: bool = False


def workload(**facts: Any) -> Callable[[Callable[[System, Codec, Size], Figures]], Workload]:
    """Make a workload of a function; it has the function's name."""
    return lambda function: Workload(function.__name__, function, **facts)


def lost(actual: Values, expected: Values) -> int:
    """How many cells are not what they should be, bit for bit."""
    return int(np.count_nonzero(actual.view("u4") != expected.view("u4")))


def check(actual: Values, expected: Values, what: str) -> None:
    """Every bit is as it should be."""
    if wrong := lost(actual, expected):
        raise AssertionError(f"{what}: {wrong} cells differ")


def prepare(system: System, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function(system, *arguments)`` in another process, the same system opened there; its result."""
    return apart(_prepare, system.name, system.root, function, arguments)


def _prepare(name: str, root: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    system = SYSTEMS[name](root)
    system.open()
    result = function(system, *arguments)
    system.close()
    return result
