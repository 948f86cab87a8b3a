"""Compaction: of an array that is dirty all over, and of a large one with little that is dirty, beside a writer."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.data import Values, everything, painted, plane
from benchmarks.measure import Peak, clocked, disk, percentiles_ms, timed
from benchmarks.systems import SYSTEMS, Codec, Spec, System
from benchmarks.workloads.boxes import CHUNKS, box_pieces, plane_shape, write_boxes
from benchmarks.workloads.large import (
    LARGE_CHUNKS,
    LARGE_CORNER,
    check_large,
    chunk_patches,
    large_fields,
    large_shape,
    large_slab,
    write_large,
    write_patches,
)
from benchmarks.workloads.registry import Figures, Size, check, prepare, workload

COMPACTING = ("txstore", "tiledb", "tiledb-budget")


def blocks(values: Values, chunks: tuple[int, ...]) -> Iterator[Values]:
    """The chunks of an array."""
    starts = [range(0, n, chunk) for n, chunk in zip(values.shape, chunks, strict=True)]
    for lo in product(*starts):
        yield values[tuple(slice(at, at + chunk) for at, chunk in zip(lo, chunks, strict=True))]


def codec_seconds(chunks: Iterator[Values]) -> float:
    """How long the codec alone takes for these chunks, a thread for each core: the limit of any compaction."""
    from numcodecs.zstd import Zstd

    codec = Zstd(3)
    work = [np.ascontiguousarray(chunk) for chunk in chunks]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return min(timed(list, pool.map(codec.encode, work)) for _ in range(3))


@workload(
    title="compaction of the array of the boxes; of_codec: the time of zstd alone, by that of the compaction",
    goal="of_codec ≥ 0.6; at most 150 MB over idle",
    compared={"seconds": "less"},
    columns=("written_MB", "of_codec"),
    systems=COMPACTING,
)
def compact_boxes(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_boxes, codec, size)
    model = painted(plane_shape(size), box_pieces(size))
    codec_s = codec_seconds(blocks(model, CHUNKS))
    system.open()
    system.read("a", everything((8, 8)))
    with Peak() as peak:
        seconds, written = clocked(system.compact, "a")
    check(system.read("a", everything(model.shape)), model, "what was compacted")
    system.close()
    return {
        "seconds": seconds,
        "written_MB": written / 1e6,
        "of_codec": codec_s / seconds,
        "rise_MB": peak.rise_MB,
        **disk(system.root),
    }


@workload(
    title="compaction of 2.1 GB of which 1 % of the chunks is dirty; and of which 10 % is, which takes long enough for "
    "the p99 of a process that makes small commits to another array meanwhile, and before",
    goal="dirty bytes only; of_codec ≥ 0.6; at most 150 MB over idle; the writer's p99 ≤ 2×",
    compared={"seconds": "less"},
    columns=(
        "written_MB",
        "dirty_MB",
        "of_codec",
        "writer_before_p99_ms",
        "writer_p99_ms",
        "writer_p99_to_before",
        "writer_commits_beside",
    ),
    systems=COMPACTING,
)
def compact_dirty(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_clean, codec, size)
    count = 3 if size == "full" else 1
    rounds = [chunk_patches(size, 20 + number) for number in range(count)]
    fields = large_fields(large_shape(size))
    dirty = [large_slab(fields, box) for box in map(around, rounds[0])]
    codec_s = codec_seconds(iter(dirty))
    system.open()
    system.read("a", LARGE_CORNER)
    times, rises, written = [], [], 0
    for patches in rounds:
        write_patches(system, size, patches)
        with Peak() as peak:
            seconds, written = clocked(system.compact, "a")
        times.append(seconds)
        rises.append(peak.rise_MB)
    with Writer(system, quiet_s=3 if size == "full" else 0.2) as writer:
        for number in range(count):
            write_patches(system, size, chunk_patches(size, 40 + number, every=10))
            with writer.watched():
                system.compact("a")
    check_large(system, size)
    system.close()
    return {
        "seconds": statistics.median(times),
        "written_MB": written / 1e6,
        "dirty_MB": sum(chunk.nbytes for chunk in dirty) / 1e6,
        "of_codec": codec_s / statistics.median(times),
        **writer.figures(),
        "rise_MB": max(rises),
        **disk(system.root),
    }


def write_clean(system: System, codec: Codec, size: Size) -> None:
    write_large(system, codec, size)
    system.compact("a")
    system.create("b", Spec((1024, 1024), (256, 256), codec))


def around(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """The chunk of the large array in which a box begins."""
    lo = [side.start // chunk * chunk for side, chunk in zip(box, LARGE_CHUNKS, strict=True)]
    return tuple(slice(at, at + chunk) for at, chunk in zip(lo, LARGE_CHUNKS, strict=True))


class Writer:
    """A process that makes small commits to the array ``b`` for as long as it is open.

    Parameters
    ----------
    quiet_s : float
        For how long it writes alone, before anything is done beside it.
    """

    def __init__(self, system: System, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._watches: list[tuple[float, float]] = []
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=keep_writing, args=(system.name, system.root, theirs))

    def __enter__(self) -> Writer:
        self._process.start()
        self._pipe.recv()  # it has begun
        self._began = time.perf_counter()
        time.sleep(self._quiet_s)
        self._alone = time.perf_counter()
        return self

    def watched(self) -> Watch:
        """What is done inside is done beside the writer."""
        return Watch(self._watches)

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self._stamps = np.array(self._pipe.recv())
        self._process.join()

    def figures(self) -> Figures:
        """Its commits before, and those that overlap what it was watched at."""
        begins, ends = self._stamps.T
        seconds = ends - begins
        before = (begins >= self._began) & (ends <= self._alone)
        beside = np.logical_or.reduce([(ends > start) & (begins < end) for start, end in self._watches])
        alone = percentiles_ms(seconds[before])
        meanwhile = percentiles_ms(seconds[beside])
        return {
            "writer_before_p99_ms": alone["p99_ms"],
            "writer_p99_ms": meanwhile["p99_ms"],
            "writer_p99_to_before": meanwhile["p99_ms"] / alone["p99_ms"],
            "writer_commits_beside": int(beside.sum()),
        }


class Watch:
    """Notes when a ``with`` block began and ended."""

    def __init__(self, watches: list[tuple[float, float]]) -> None:
        self._watches = watches

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._watches.append((self._start, time.perf_counter()))


def keep_writing(name: str, root: Path, pipe: Connection) -> None:
    """What the writer does, in its process."""
    system = SYSTEMS[name](root)
    system.open()
    source = plane((1024, 1024), seed=15)
    stamps = []
    number = 0
    while not pipe.poll():
        at = tuple(slice(lo, lo + 60) for lo in (37 * number % 960, 59 * number % 960))
        start = time.perf_counter()
        system.write("b", at, np.ascontiguousarray(source[at]))
        stamps.append((start, time.perf_counter()))
        number += 1
        if number == 10:
            pipe.send("begun")
    system.close()
    pipe.send(stamps)
