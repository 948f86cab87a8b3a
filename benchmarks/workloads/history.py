"""Reading the past."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from benchmarks.data import boxes
from benchmarks.measure import Peak, clocked, disk, percentiles_ms
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.boxes import CHUNKS, box_pieces, plane_shape
from benchmarks.workloads.reads import LOOK
from benchmarks.workloads.registry import Figures, Size, check, prepare, workload


def write_versions(system: System, codec: Codec, size: Size, count: int) -> list[Any]:
    """The boxes, one version each; the names of the versions."""
    system.create("a", Spec(plane_shape(size), CHUNKS, codec))
    names = []
    for box, values in box_pieces(size, count):
        system.write("a", box, values)
        names.append(system.newest())
    return names


@workload(
    title="time travel: a read of 64×64 at each of 1,000 versions, opened for it; and of the newest",
    goal="≤ 2× the newest version's read",
    compared={"p50_ms": "less", "p99_ms": "less"},
    columns=("newest_p50_ms", "past_to_newest"),
    systems=("txstore", "ocdbt", "tiledb", "icechunk"),
)
def time_travel(system: System, codec: Codec, size: Size) -> Figures:
    count = 1_000 if size == "full" else 12
    shape = plane_shape(size)
    versions = prepare(system, write_versions, codec, size, count)
    work = list(box_pieces(size, count))
    looks = list(boxes(count, shape, LOOK, seed=17))
    system.open()
    system.read("a", looks[0])
    model = np.zeros(shape, "f4")
    past, newest = [], []
    with Peak() as peak:
        for version, look, (box, values) in zip(versions, looks, work, strict=True):
            model[box] = values
            seconds, result = clocked(system.read_at, "a", version, look)
            check(result, model[look], f"{look} at version {version}")
            past.append(seconds)
    for look in looks:
        seconds, result = clocked(system.read, "a", look)
        check(result, model[look], f"{look} in the newest version")
        newest.append(seconds)
    system.close()
    return {
        **percentiles_ms(past),
        "newest_p50_ms": percentiles_ms(newest)["p50_ms"],
        "past_to_newest": statistics.median(past) / statistics.median(newest),
        "rise_MB": peak.rise_MB,
        **disk(system.root),
    }
