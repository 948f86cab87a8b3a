"""One large array, written and read whole."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.data import stack
from benchmarks.measure import Peak, apart, disk, settle, timed
from benchmarks.systems import SYSTEMS, Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, everything, workload

BULK_CHUNKS = (24, 180, 180)


def bulk_shape(size: Size) -> tuple[int, int, int]:
    return (60, 721, 1440) if size == "full" else (12, 181, 360)


def write_bulk(system_name: str, root: str, codec: Codec, size: Size) -> None:
    shape = bulk_shape(size)
    system = SYSTEMS[system_name](Path(root))
    system.open()
    system.create("a", Spec(shape, BULK_CHUNKS, codec))
    system.write("a", everything(shape), stack(shape))
    system.close()


@workload(
    title="writing 249 MB of f4, chunks of 24×180×180",
    goal="no slower than zarr without zarrs",
    headline="MB_per_s",
    better="more",
    columns=("MB_per_s", "MB_per_s_settled", "rise_MB"),
)
def write_all(system: System, codec: Codec, size: Size) -> Figures:
    values = stack(bulk_shape(size))
    system.open()
    system.create("a", Spec(values.shape, BULK_CHUNKS, codec))
    with Peak() as peak:
        seconds = timed(system.write, "a", everything(values.shape), values)
    used, settle_s = disk(system.root), settle(system.root)
    check(system.read("a", everything(values.shape)), values, "what was written")
    system.close()
    return {
        "MB_per_s": values.nbytes / seconds / 1e6,
        "MB_per_s_settled": values.nbytes / (seconds + settle_s) / 1e6,
        "rise_MB": peak.rise_bytes / 1e6,
        "settle_s": settle_s,
        **used,
    }


@workload(
    title="reading it all, in a new process, after a first small read (open_ms: with imports and that read)",
    goal="no slower than zarr without zarrs",
    headline="MB_per_s",
    better="more",
    columns=("MB_per_s", "MB_per_s_again", "open_ms", "rise_MB"),
)
def read_all(system: System, codec: Codec, size: Size) -> Figures:
    shape = bulk_shape(size)
    apart(write_bulk, system.name, str(system.root), codec, size)
    corner = tuple(slice(0, 4) for _ in shape)
    open_s = timed(system.open) + timed(system.read, "a", corner)
    with Peak() as peak:
        start = time.perf_counter()
        first = system.read("a", everything(shape))
        first_s = time.perf_counter() - start
    check(first, stack(shape), "what was read")
    nbytes = first.nbytes
    del first  # the second time the system's memory is warm: its pages have been touched before
    again_s = timed(system.read, "a", everything(shape))
    system.close()
    return {
        "MB_per_s": nbytes / first_s / 1e6,
        "MB_per_s_again": nbytes / again_s / 1e6,
        "open_ms": open_s * 1e3,
        "rise_MB": (peak.rise_bytes - nbytes) / 1e6,
        **disk(system.root),
    }
