"""Peak memory of the work that could hold a whole array and must not."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.data import everything
from benchmarks.measure import Peak, disk, timed
from benchmarks.systems import SYSTEMS, Codec, Spec, System
from benchmarks.workloads.large import (
    LARGE_CHUNKS,
    LARGE_CORNER,
    check_large,
    fill_large,
    large_patches,
    large_shape,
    write_large,
    write_patches,
)
from benchmarks.workloads.registry import Figures, Size, prepare, workload


def memory_figures(peak: Peak, seconds: float, size: Size) -> Figures:
    nbytes = 4 * int(np.prod(large_shape(size)))
    return {"rise_MB": peak.rise_MB, "seconds": seconds, "MB_per_s": nbytes / seconds / 1e6}


MEMORY: dict[str, Any] = {
    "goal": "at most 150 MB above what the caller holds",
    "compared": {"rise_MB": "less", "seconds": "less"},
    "columns": ("MB_per_s",),
}


@workload(title="peak memory of one write of 2.1 GB, chunks of 16×128×128", **MEMORY)
def memory_of_write(system: System, codec: Codec, size: Size) -> Figures:
    values = np.empty(large_shape(size), "f4")
    fill_large(values)
    system.open()
    system.create("a", Spec(values.shape, LARGE_CHUNKS, codec))
    # What one small write loads and starts is there before the large one, in every system.
    system.write("a", LARGE_CORNER, np.zeros((4, 4, 4), "f4"))
    with Peak() as peak:
        seconds = timed(system.write, "a", everything(values.shape), values)
    check_large(system, size)
    system.close()
    return memory_figures(peak, seconds, size) | disk(system.root)


def write_patched(system: System, codec: Codec, size: Size) -> None:
    write_large(system, codec, size)
    write_patches(system, size, large_patches(size))


@workload(
    title="peak memory of compacting 2.1 GB with 60 large unaligned patches on it",
    systems=("txstore", "tiledb", "tiledb-budget"),
    **MEMORY,
)
def memory_of_compaction(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_patched, codec, size)
    system.open()
    system.read("a", LARGE_CORNER)
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
    prepare(system, write_patched, codec, size)
    destination = system.root.parent / "exported.zarr"
    system.open()
    system.read("a", LARGE_CORNER)
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
    prepare(SYSTEMS["zarr"](source), write_large, codec, size)
    system.open()
    with Peak() as peak:
        seconds = timed(system.import_zarr, source / "a", "a")
    check_large(system, size)
    system.close()
    return memory_figures(peak, seconds, size) | disk(system.root)
