"""One large array, written and read whole."""

from __future__ import annotations

from benchmarks.data import everything, stack
from benchmarks.measure import Peak, clocked, disk, settle, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, prepare, workload

BULK_CHUNKS = (24, 180, 180)


def bulk_shape(size: Size) -> tuple[int, int, int]:
    return (60, 721, 1440) if size == "full" else (12, 181, 360)


def write_bulk(system: System, codec: Codec, size: Size) -> None:
    shape = bulk_shape(size)
    system.create("a", Spec(shape, BULK_CHUNKS, codec))
    system.write("a", everything(shape), stack(shape))


@workload(
    title="writing 249 MB of f4, chunks of 24×180×180",
    goal="zstd: ahead of the best; default: ≥ 2× any peer's default; raw: ≥ 1.5× TensorStore",
    compared={"MB_per_s": "more", "MB_per_s_settled": "more"},
    codecs=("zstd", "default", "raw"),
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
        "rise_MB": peak.rise_MB,
        "settle_s": settle_s,
        **used,
    }


@workload(
    title="reading it all, in a new process, after a first small read (open_ms: with imports and that read)",
    goal="zstd and raw: ahead of the best; default: ≥ 2× any peer's default",
    compared={"MB_per_s": "more", "MB_per_s_again": "more"},
    columns=("open_ms",),
    codecs=("zstd", "default", "raw"),
)
def read_all(system: System, codec: Codec, size: Size) -> Figures:
    shape = bulk_shape(size)
    prepare(system, write_bulk, codec, size)
    corner = tuple(slice(0, 4) for _ in shape)
    open_s = timed(system.open) + timed(system.read, "a", corner)
    with Peak() as peak:
        first_s, first = clocked(system.read, "a", everything(shape))
    check(first, stack(shape), "what was read")
    nbytes = first.nbytes
    del first  # the second time the system's memory is warm: its pages have been touched before
    again_s = timed(system.read, "a", everything(shape))
    system.close()
    return {
        "MB_per_s": nbytes / first_s / 1e6,
        "MB_per_s_again": nbytes / again_s / 1e6,
        "open_ms": open_s * 1e3,
        "rise_MB": max(0.0, peak.rise_MB - nbytes / 1e6),
        **disk(system.root),
    }
