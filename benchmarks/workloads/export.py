"""A compacted array as plain Zarr, and the same once more after a little has changed."""

from __future__ import annotations

import shutil

from benchmarks.measure import Peak, disk, settle, sync_files, timed
from benchmarks.systems import SYSTEMS, Codec, System
from benchmarks.workloads.large import (
    LARGE_CORNER,
    check_large,
    chunk_patches,
    large_shape,
    write_large,
    write_patches,
)
from benchmarks.workloads.registry import Figures, Size, prepare, workload


def write_compacted(system: System, codec: Codec, size: Size) -> None:
    write_large(system, codec, size)
    system.compact("a")


@workload(
    title="export of 2.1 GB, compacted, to Zarr v3 (of_copying: beside a copy of the exported files, synced); again "
    "after 1 % of the chunks has changed, which only txstore can do without copying all",
    goal="≥ 0.8× of copying the files; ≥ 5× the best; again ≤ 3 % of the full time",
    compared={"MB_per_s": "more", "again_s": "less"},
    columns=("seconds", "of_copying", "again_to_full"),
    systems=("txstore", "zarr", "zarrs", "tensorstore"),
)
def export(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_compacted, codec, size)
    destination, copied = system.root.parent / "exported.zarr", system.root.parent / "copied.zarr"
    system.open()
    system.read("a", LARGE_CORNER)
    with Peak() as peak:
        seconds = timed(system.export_zarr, destination)
    settle_s = settle(destination)
    copy_s = timed(shutil.copytree, destination, copied) + timed(sync_files, copied)
    patches = chunk_patches(size, seed=30)
    write_patches(system, size, patches, raised=1)
    system.compact("a")
    again_s = timed(lambda: system.export_zarr(destination, again=True))
    # Not before: ext4 looks at every inode that was freed within the last minute whenever it makes a file or directory.
    shutil.rmtree(copied)
    system.close()
    exported = SYSTEMS["zarr"](destination)
    exported.open()
    check_large(exported, size, patches, raised=1)
    shape = large_shape(size)
    return {
        "MB_per_s": 4 * shape[0] * shape[1] * shape[2] / seconds / 1e6,
        "seconds": seconds,
        "copy_s": copy_s,
        "of_copying": copy_s / seconds,
        "again_s": again_s,
        "again_to_full": again_s / seconds,
        "rise_MB": peak.rise_MB,
        "settle_s": settle_s,
        **disk(destination),
    }
