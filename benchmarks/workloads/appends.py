"""An array that grows plane by plane, as time goes on, with chunks made for reading through time."""

from __future__ import annotations

import numpy as np

from benchmarks.data import RESOLUTION, Values, everything, stack
from benchmarks.measure import Peak, clocked, disk, percentiles_ms, settle, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, workload


def planes(count: int, side: int) -> Values:
    values = stack((count, side, side), seed=9)
    values += (np.arange(count, dtype="f4") * RESOLUTION)[:, None, None]
    return values


@workload(
    title="300 appends of one plane of 256×256, chunks of 64×256×256, a commit each; then reading it all, before and "
    "after compaction and history dropped",
    goal="≥ 8× the best with zstd, ≥ 15× with our default codec; bytes ≤ 1.2× compacted; read ≤ 1.5× compacted",
    compared={"commits_per_s": "more", "read_ms": "less", "disk_MB": "less"},
    columns=("p50_ms", "p99_ms", "bytes_to_compacted", "compacted_read_ms", "read_to_compacted"),
    codecs=("zstd", "default"),
)
def appends(system: System, codec: Codec, size: Size) -> Figures:
    count, side = (300, 256) if size == "full" else (10, 64)
    values = planes(count, side)
    system.open()
    system.create("a", Spec((0, side, side), (64, side, side), codec))
    with Peak() as peak:
        times = [timed(system.append, "a", values[end : end + 1], end) for end in range(count)]
    system.close()
    used, settle_s = disk(system.root), settle(system.root)
    read_s = read_all_again(system, values)
    system.open()
    system.compact("a")
    system.drop_history()
    system.close()
    compacted_MB = disk(system.root)["disk_MB"]
    compacted_read_s = read_all_again(system, values)
    return {
        "commits_per_s": count / sum(times),
        **percentiles_ms(times),
        "read_ms": read_s * 1e3,
        "compacted_read_ms": compacted_read_s * 1e3,
        "read_to_compacted": read_s / compacted_read_s,
        "compacted_MB": compacted_MB,
        "bytes_to_compacted": used["disk_MB"] / compacted_MB,
        "rise_MB": peak.rise_MB,
        "settle_s": settle_s,
        **used,
    }


def read_all_again(system: System, values: Values) -> float:
    """The seconds of a full read, the best of three, after opening the store again."""
    system.open()
    times = []
    for _ in range(3):
        seconds, result = clocked(system.read, "a", everything(values.shape))
        check(result, values, "what was appended")
        times.append(seconds)
    system.close()
    return min(times)
