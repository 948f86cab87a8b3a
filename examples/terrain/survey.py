"""The survey: real terrain, strips that align with nothing, and the NumPy model that every result is compared with."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.cbook import get_sample_data

#: How much neighbouring strips overlap, along the flight and beside it.
OVERLAP = 0.35

#: How many flight lines are flown at a time.
AT_A_TIME = 4

#: An elevation that no point of this terrain reaches, in metres.
IMPLAUSIBLE_M = 1200.0

FEET_PER_METRE = 3.28084

Box = tuple[slice, slice]


def load_terrain() -> np.ndarray:
    """The elevation model of the Jacksboro fault that matplotlib ships: (344, 403) metres, as f4."""
    data: Any = get_sample_data("jacksboro_fault_dem.npz")
    with data as archive:
        return np.ascontiguousarray(archive["elevation"], dtype="f4")


@dataclass(frozen=True)
class Strip:
    """One survey strip: half-open rows and columns."""

    number: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def box(self) -> Box:
        return slice(*self.rows), slice(*self.columns)


@dataclass(frozen=True)
class Landed:
    """A strip that is committed: where it stands in the order of the store, and how often it had to try again."""

    strip: Strip
    version: int
    committed_at: datetime
    conflicts: int


def _line(start: int, stop: int, length: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Overlapping intervals from ``start`` to ``stop``, of about ``length``, which leave no gap."""
    spans = []
    at = start
    while at < stop:
        end = min(at + length + int(rng.integers(-1, 2)), stop)
        spans.append((at, end))
        if end == stop:
            break
        at = max(end - max(1, round(length * OVERLAP)), at + 1)
    return spans


def flight_plan(shape: tuple[int, int], count: int, seed: int = 1) -> list[Strip]:
    """About ``count`` strips that cover everything, twice: flight lines from west to east and from north to south.

    Strips that follow each other overlap, and so do lines side by side. The lines are flown in no order, a few at a
    time, so that writers who take the strips one after the other do meet, though not always.
    """
    rng = np.random.default_rng(seed)
    advance = 1 - OVERLAP
    area = 2 * shape[0] * shape[1] / count / advance**2
    short = max(3, round(math.sqrt(area / 4)))
    long = max(8, round(area / short))
    lines = []
    for across, along in ((0, 1), (1, 0)):
        for band in _line(0, shape[across], short, rng):
            spans = _line(0, shape[along], long, rng)
            if rng.random() < 0.5:
                spans.reverse()
            lines.append([(band, span) if across == 0 else (span, band) for span in spans])
    order = [lines[index] for index in rng.permutation(len(lines))]
    boxes = []
    for start in range(0, len(order), AT_A_TIME):
        together = order[start : start + AT_A_TIME]
        boxes += [box for boxes_at_once in itertools.zip_longest(*together) for box in boxes_at_once if box is not None]
    return [Strip(number, rows, columns) for number, (rows, columns) in enumerate(boxes)]


@dataclass
class Model:
    """What the arrays should hold, in NumPy; and how many cells were compared, and found different."""

    terrain: np.ndarray
    dem: np.ndarray = field(init=False)
    count: np.ndarray = field(init=False)
    compared: int = 0
    mismatched: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dem = np.full_like(self.terrain, np.nan)
        self.count = np.zeros(self.terrain.shape, "i4")

    def land(self, strip: Strip) -> None:
        self.dem[strip.box] = self.terrain[strip.box]
        self.count[strip.box] += 1

    def check(self, what: str, real: object, expected: np.ndarray) -> None:
        """Compare by cells; NaN equals NaN."""
        values = np.asarray(real)
        if values.shape != expected.shape:
            different = expected.size
        else:
            equal_nan = expected.dtype.kind == "f"
            different = int(expected.size - np.count_nonzero(_equal(values, expected, equal_nan)))
        self.compared += int(expected.size)
        self.mismatched += different
        if different:
            self.faults.append(f"{what}: {different} of {expected.size} cells differ")

    def require(self, what: str, held: bool) -> None:
        """A fact that is no cell; counted as one."""
        self.compared += 1
        if not held:
            self.mismatched += 1
            self.faults.append(what)


def _equal(values: np.ndarray, expected: np.ndarray, equal_nan: bool) -> np.ndarray:
    equal: np.ndarray = values == expected
    return equal | (np.isnan(values) & np.isnan(expected)) if equal_nan else equal
