"""Peak memory of the work that could hold a whole array and must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Box, Values, boxes, stack
from benchmarks.measure import Peak, apart, disk, timed
from benchmarks.systems import SYSTEMS, Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, everything, workload

LARGE_CHUNKS = (16, 128, 128)


def large_shape(size: Size) -> tuple[int, int, int]:
    return (512, 1024, 1024) if size == "full" else (32, 256, 256)


def slabs(shape: tuple[int, int, int]) -> list[Box]:
    """The array in pieces that are small beside the bound: 64 planes of a few rows each."""
    step = max(1, (1 << 22) // (shape[1] * shape[2]))
    return [
        (slice(lo, min(lo + step, shape[0])), slice(0, shape[1]), slice(0, shape[2])) for lo in range(0, shape[0], step)
    ]


def large_fields(shape: tuple[int, int, int]) -> Values:
    return stack((min(8, shape[0]), *shape[1:]), seed=3)


def large_slab(fields: Values, box: Box) -> Values:
    """The planes of `box` as the large array should hold them: plane n is field n mod 8 plus n."""
    numbers = np.arange(box[0].start, box[0].stop)
    values: Values = fields[numbers % len(fields)] + numbers[:, None, None].astype("f4")
    return values


def fill_large(values: Values) -> None:
    fields = large_fields(values.shape)
    for box in slabs(values.shape):
        values[box] = large_slab(fields, box)


def patches(shape: tuple[int, int, int]) -> list[Box]:
    return list(boxes(60, shape, tuple(n // 8 for n in shape), seed=4))


def write_large(system_name: str, root: str, codec: Codec, size: Size, patched: bool) -> None:
    shape = large_shape(size)
    system = SYSTEMS[system_name](Path(root))
    system.open()
    system.create("a", Spec(shape, LARGE_CHUNKS, codec))
    values = np.empty(shape, "f4")
    fill_large(values)
    system.write("a", everything(shape), values)
    if patched:  # the same values once more: dirty chunks, and a content that is known
        for box in patches(shape):
            system.write("a", box, np.ascontiguousarray(values[box]))
    system.close()


def check_large(system: System, size: Size) -> None:
    shape = large_shape(size)
    fields = large_fields(shape)
    for box in slabs(shape):
        check(system.read("a", box), large_slab(fields, box), f"planes {box[0].start} to {box[0].stop}")


def memory_figures(peak: Peak, seconds: float, size: Size) -> Figures:
    nbytes = 4 * int(np.prod(large_shape(size)))
    return {"rise_MB": peak.rise_bytes / 1e6, "seconds": seconds, "MB_per_s": nbytes / seconds / 1e6}


MEMORY: dict[str, Any] = {
    "goal": "at most 150 MB above what the caller holds",
    "headline": "rise_MB",
    "better": "less",
    "columns": ("rise_MB", "seconds", "MB_per_s"),
}


@workload(title="peak memory of one write of 2.1 GB, chunks of 16×128×128", **MEMORY)
def memory_of_write(system: System, codec: Codec, size: Size) -> Figures:
    values = np.empty(large_shape(size), "f4")
    fill_large(values)
    system.open()
    system.create("a", Spec(values.shape, LARGE_CHUNKS, codec))
    # What one small write loads and starts is there before the large one, in every system.
    corner = tuple(slice(0, 4) for _ in values.shape)
    system.write("a", corner, np.zeros((4, 4, 4), "f4"))
    with Peak() as peak:
        seconds = timed(system.write, "a", everything(values.shape), values)
    check_large(system, size)
    system.close()
    return memory_figures(peak, seconds, size) | disk(system.root)


@workload(
    title="peak memory of compacting 2.1 GB with 60 large unaligned patches on it",
    systems=("txstore", "tiledb"),
    **MEMORY,
)
def memory_of_compaction(system: System, codec: Codec, size: Size) -> Figures:
    apart(write_large, system.name, str(system.root), codec, size, True)
    system.open()
    system.read("a", tuple(slice(0, 4) for _ in LARGE_CHUNKS))
    with Peak() as peak:
        seconds = timed(system.compact, "a")
    check_large(system, size)
    system.close()
    return memory_figures(peak, seconds, size) | disk(system.root)


@workload(
    title="peak memory of exporting 2.1 GB with 60 large unaligned patches on it to Zarr v3",
    systems=("txstore",),
    **MEMORY,
)
def memory_of_export(system: System, codec: Codec, size: Size) -> Figures:
    apart(write_large, system.name, str(system.root), codec, size, True)
    destination = system.root.parent / "exported.zarr"
    system.open()
    system.read("a", tuple(slice(0, 4) for _ in LARGE_CHUNKS))
    with Peak() as peak:
        seconds = timed(system.export_zarr, destination)
    system.close()
    exported = SYSTEMS["zarr"](destination)
    exported.open()
    check_large(exported, size)
    return memory_figures(peak, seconds, size) | disk(destination)


@workload(title="peak memory of importing 2.1 GB of Zarr v3", systems=("txstore",), **MEMORY)
def memory_of_import(system: System, codec: Codec, size: Size) -> Figures:
    source = system.root.parent / "source.zarr"
    apart(write_large, "zarr", str(source), codec, size, False)
    system.open()
    with Peak() as peak:
        seconds = timed(system.import_zarr, source / "a", "a")
    check_large(system, size)
    system.close()
    return memory_figures(peak, seconds, size) | disk(system.root)
