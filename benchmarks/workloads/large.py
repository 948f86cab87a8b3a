"""An array of 2.1 GB with known content, made and checked in pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.data import Box, Values, boxes, everything, stack
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.registry import Size, check

LARGE_CHUNKS = (16, 128, 128)
LARGE_CORNER: Box = (slice(0, 4), slice(0, 4), slice(0, 4))


def large_shape(size: Size) -> tuple[int, int, int]:
    return (512, 1024, 1024) if size == "full" else (32, 256, 256)


def slabs(shape: tuple[int, int, int]) -> list[Box]:
    """The array in pieces that are small beside it: the planes of a chunk each."""
    step = LARGE_CHUNKS[0]
    return [(slice(lo, lo + step), slice(0, shape[1]), slice(0, shape[2])) for lo in range(0, shape[0], step)]


def large_fields(shape: tuple[int, int, int]) -> Values:
    return stack((min(8, shape[0]), *shape[1:]), seed=3)


def large_slab(fields: Values, box: Box) -> Values:
    """The cells of `box` as the large array should hold them: plane n is field n mod 8 plus n."""
    numbers = np.arange(box[0].start, box[0].stop)
    values: Values = fields[numbers % len(fields)][:, *box[1:]] + numbers[:, None, None].astype("f4")
    return values


def fill_large(values: Values) -> None:
    fields = large_fields(values.shape)
    for box in slabs(values.shape):
        values[box] = large_slab(fields, box)


def write_large(system: System, codec: Codec, size: Size) -> None:
    values = np.empty(large_shape(size), "f4")
    fill_large(values)
    system.create("a", Spec(values.shape, LARGE_CHUNKS, codec))
    system.write("a", everything(values.shape), values)


def write_patches(system: System, size: Size, patches: list[Box], raised: float = 0) -> None:
    """Write some boxes once more: dirty chunks, the same values but for what they are raised by."""
    fields = large_fields(large_shape(size))
    for box in patches:
        system.write("a", box, large_slab(fields, box) + np.float32(raised))


def large_patches(size: Size) -> list[Box]:
    """60 boxes of an eighth of each side, aligned to nothing: nearly every chunk is touched."""
    shape = large_shape(size)
    return list(boxes(60, shape, tuple(n // 8 for n in shape), seed=4))


def chunk_patches(size: Size, seed: int, every: int = 100) -> list[Box]:
    """A box within each of one in so many chunks, at least one."""
    grid = [n // chunk for n, chunk in zip(large_shape(size), LARGE_CHUNKS, strict=True)]
    rng = np.random.default_rng(seed)
    count = int(np.prod(grid))
    found = []
    for number in rng.choice(count, max(1, count // every), replace=False):
        lo = [at * chunk for at, chunk in zip(np.unravel_index(number, grid), LARGE_CHUNKS, strict=True)]
        found.append(
            tuple(slice(int(at) + 3, int(at) + 3 + chunk // 2) for at, chunk in zip(lo, LARGE_CHUNKS, strict=True))
        )
    return found


def check_large(system: System, size: Size, patches: Sequence[Box] = (), raised: float = 0) -> None:
    """Every cell is as it was written, those of the patches raised by so much."""
    shape = large_shape(size)
    fields = large_fields(shape)
    for box in slabs(shape):
        expected = large_slab(fields, box)
        for patch in patches:
            planes = slice(*(min(max(at - box[0].start, 0), len(expected)) for at in (patch[0].start, patch[0].stop)))
            expected[planes, *patch[1:]] += np.float32(raised)
        check(system.read("a", box), expected, f"planes {box[0].start} to {box[0].stop}")
