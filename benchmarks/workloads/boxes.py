"""Many small commits of boxes that are aligned to nothing, by one process and by eight."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import Box, Values, everything, painted, pieces, plane, separate_boxes
from benchmarks.measure import Peak, clocked, disk, percentiles_ms, ready, settle, timed, together
from benchmarks.systems import SYSTEMS, Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, lost, workload

CHUNKS = (512, 512)
EXTENT = (100, 100)
CORNER = (slice(0, 8), slice(0, 8))

COMMITS: dict[str, Any] = {
    "compared": {"commits_per_s": "more", "p99_ms": "less"},
    "columns": ("p50_ms", "p99_to_p50"),
    "codecs": ("zstd", "default"),
}


def plane_shape(size: Size) -> tuple[int, int]:
    return (4096, 4096) if size == "full" else (1024, 1024)


def box_pieces(size: Size, count: int | None = None) -> Iterator[tuple[Box, Values]]:
    """The boxes of this module, which others read, compact and travel through as well."""
    return pieces(count or (300 if size == "full" else 12), plane_shape(size), EXTENT, seed=1)


def write_boxes(system: System, codec: Codec, size: Size, count: int | None = None) -> None:
    system.create("a", Spec(plane_shape(size), CHUNKS, codec))
    for box, values in box_pieces(size, count):
        system.write("a", box, values)


def commit_figures(times: Any, whole_s: float) -> Figures:
    """Of the seconds of each commit and of all together."""
    found = percentiles_ms(times)
    return {"commits_per_s": float(len(times) / whole_s), **found, "p99_to_p50": found["p99_ms"] / found["p50_ms"]}


@workload(
    title="300 unaligned boxes of 100×100 into 4096², chunks of 512², each a durable commit, one process",
    goal="≥ 3× the best with zstd, ≥ 4× with our default codec",
    **COMMITS,
)
def unaligned_boxes(system: System, codec: Codec, size: Size) -> Figures:
    shape = plane_shape(size)
    work = list(box_pieces(size))
    system.open()
    system.create("a", Spec(shape, CHUNKS, codec))
    with Peak() as peak:
        times = np.array([timed(system.write, "a", box, values) for box, values in work])
    used, settle_s = disk(system.root), settle(system.root)
    read_s, result = clocked(system.read, "a", everything(shape))
    check(result, painted(shape, work), "the array after all commits")
    system.close()
    return {
        **commit_figures(times, times.sum()),
        "read_all_ms": read_s * 1e3,
        "rise_MB": peak.rise_MB,
        "settle_s": settle_s,
        **used,
    }


@workload(
    title="the same by 8 processes: disjoint cells, shared chunks; who loses cells is nobody's peer",
    goal="≥ 5× the best that loses nothing; p99 ≤ 10× p50",
    **COMMITS,
)
def eight_writers(system: System, codec: Codec, size: Size) -> Figures:
    shape, writers, each = plane_shape(size), *((8, 38) if size == "full" else (3, 4))
    source = plane(shape, seed=3)
    work = [(box, source[box]) for box in separate_boxes(writers * each, shape, EXTENT, seed=4)]
    system.open()
    system.create("a", Spec(shape, CHUNKS, codec))
    system.close()
    shares = [(system.name, system.root, work[number::writers]) for number in range(writers)]
    done = together(write_share, shares)
    commits = np.concatenate([stamps for stamps, _, _ in done])
    used, settle_s = disk(system.root), settle(system.root)
    system.open()
    lost_cells = lost(system.read("a", everything(shape)), painted(shape, work))
    system.close()
    return {
        **commit_figures(commits[:, 1] - commits[:, 0], commits[:, 1].max() - commits[:, 0].min()),
        "lost_cells": lost_cells,
        "failed_writes": sum(failed for _, failed, _ in done),
        "rise_MB": max(rise_MB for _, _, rise_MB in done),
        "settle_s": settle_s,
        **used,
    }


def write_share(name: str, root: Path, work: list[tuple[Box, Values]]) -> tuple[Any, int, float]:
    """What one writer does: when each commit began and ended, how many failed, how far its memory rose."""
    system = SYSTEMS[name](root)
    system.open()
    system.read("a", CORNER)
    ready()
    stamps, failed = [], 0
    with Peak() as peak:
        for box, values in work:
            start = time.perf_counter()
            try:
                system.write("a", box, values)
            except Exception:
                # Where files are written in place a writer may meet half of one. It goes on: its cells are lost.
                traceback.print_exc()
                failed += 1
            stamps.append((start, time.perf_counter()))
    system.close()
    return np.array(stamps), failed, peak.rise_MB
