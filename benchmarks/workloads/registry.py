"""What a workload is, and the register of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.data import Box, Values
from benchmarks.systems import SYSTEMS, Codec, System

Size = Literal["full", "small"]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """A kind of work, and how its result is to be read."""

    name: str
    run: Callable[[System, Codec, Size], Figures]
    title: str
    goal: str
    headline: str  # the figure that ratios are made of
    better: Literal["more", "less"]
    columns: tuple[str, ...]
    codecs: tuple[Codec, ...] = ("zstd",)
    systems: tuple[str, ...] = tuple(SYSTEMS)
    curve: bool = False  # figures["curve"] is a list of points over "n"


WORKLOADS: dict[str, Workload] = {}


def workload(**facts: Any) -> Callable[[Callable[[System, Codec, Size], Figures]], Workload]:
    """Enter a function into WORKLOADS under its own name."""

    def enter(function: Callable[[System, Codec, Size], Figures]) -> Workload:
        entered = Workload(function.__name__, function, **facts)
        WORKLOADS[entered.name] = entered
        return entered

    return enter


def check(actual: Values, expected: Values, what: str) -> None:
    """Every bit is as it should be."""
    wrong = int(np.count_nonzero(actual.view("u4") != expected.view("u4")))
    if wrong:
        raise AssertionError(f"{what}: {wrong} cells differ")


def everything(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, n) for n in shape)
