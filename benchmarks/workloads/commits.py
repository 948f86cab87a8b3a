"""Many small commits, as surveys, sensors and corrections make them."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.data import boxes, plane
from benchmarks.measure import disk, percentiles_ms, settle, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, everything, workload


@workload(
    title="300 unaligned boxes of 100×100 into 4096², chunks of 512², each a durable commit, one process",
    goal="at least 2× the commits/s of the best peer",
    headline="commits_per_s",
    better="more",
    columns=("commits_per_s", "p50_ms", "p99_ms", "read_all_ms"),
    codecs=("zstd", "default"),
)
def unaligned_boxes(system: System, codec: Codec, size: Size) -> Figures:
    count = 300 if size == "full" else 20
    shape, chunks, extent = (4096, 4096), (512, 512), (100, 100)
    source = plane(shape, seed=1)
    model = np.zeros(shape, "f4")
    system.open()
    system.create("a", Spec(shape, chunks, codec))
    times = []
    for box in boxes(count, shape, extent, seed=2):
        values = np.ascontiguousarray(source[box])
        times.append(timed(system.write, "a", box, values))
        model[box] = values
    start = time.perf_counter()
    result = system.read("a", everything(shape))
    read_s = time.perf_counter() - start
    check(result, model, "the array after all commits")
    system.close()
    return {
        "commits_per_s": count / sum(times),
        **percentiles_ms(times),
        "read_all_ms": read_s * 1e3,
        **disk(system.root),
        "settle_s": settle(system.root),
    }
