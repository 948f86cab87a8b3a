"""The data that all systems get: smooth fields with noise in their last bits, and boxes that are aligned to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Box = tuple[slice, ...]

#: The step of the values: with it zstd level 3 makes a third of the bytes, as it does with packed weather data.
RESOLUTION = 1 / 64


def plane(shape: tuple[int, int], seed: int) -> Values:
    """One field, such as temperatures in kelvin: long waves, short waves and noise, of limited precision."""
    rng = np.random.default_rng(seed)
    y = np.linspace(-1, 1, shape[0], dtype="f4")[:, None]
    x = np.linspace(0, 2 * np.pi, shape[1], dtype="f4")[None, :]
    a, b, c = rng.uniform(0, 2 * np.pi, 3).astype("f4")
    values = 285 - 30 * y**2 + 8 * np.sin(3 * x + a) * np.cos(2 * y + b) + 2 * np.sin(17 * x + 23 * y + c)
    values += rng.normal(0, 0.05, shape).astype("f4")
    rounded: Values = (np.round(values / RESOLUTION) * RESOLUTION).astype("f4")
    return rounded


def stack(shape: tuple[int, int, int], seed: int = 0, *, distinct: int = 16) -> Values:
    """`shape[0]` fields, of which only `distinct` are computed: the others are shifts of these along x."""
    out = np.empty(shape, "f4")
    fields = [plane(shape[1:], seed + number) for number in range(min(distinct, shape[0]))]
    for number in range(shape[0]):
        out[number] = np.roll(fields[number % distinct], 7 * (number // distinct), axis=1)
    return out


def boxes(count: int, shape: tuple[int, ...], extent: tuple[int, ...], seed: int) -> Iterator[Box]:
    """Boxes of one extent at random places, aligned to nothing; they may overlap."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        lo = [int(rng.integers(0, n - m + 1)) for n, m in zip(shape, extent, strict=True)]
        yield tuple(slice(at, at + m) for at, m in zip(lo, extent, strict=True))


def separate_boxes(count: int, shape: tuple[int, int], extent: tuple[int, int], seed: int) -> list[Box]:
    """Boxes that share no cell, though many share a chunk: each lies somewhere in a field of twice its side."""
    rng = np.random.default_rng(seed)
    fields = [(y, x) for y in range(shape[0] // (2 * extent[0])) for x in range(shape[1] // (2 * extent[1]))]
    found = []
    for number in rng.permutation(len(fields))[:count]:
        lo = [int(2 * m * at + rng.integers(0, m + 1)) for at, m in zip(fields[number], extent, strict=True)]
        found.append(tuple(slice(at, at + m) for at, m in zip(lo, extent, strict=True)))
    return found


def pieces(count: int, shape: tuple[int, int], extent: tuple[int, int], seed: int) -> Iterator[tuple[Box, Values]]:
    """Boxes of one field with their values, which differ from one to the next where they overlap."""
    source = plane(shape, seed)
    for number, box in enumerate(boxes(count, shape, extent, seed + 1)):
        yield box, source[box] + np.float32(number % 256 * RESOLUTION)


def painted(shape: tuple[int, ...], done: Iterable[tuple[Box, Values]]) -> Values:
    """What an array of zeros holds after these writes."""
    model = np.zeros(shape, "f4")
    for box, values in done:
        model[box] = values
    return model


def everything(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, n) for n in shape)
