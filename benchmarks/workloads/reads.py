"""Small reads at random places, and reads of everything: of what is compacted and of what is not."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.data import Box, Values, boxes, everything, painted, plane
from benchmarks.measure import Peak, clocked, disk, median_ms, percentiles_ms, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.boxes import CHUNKS, box_pieces, plane_shape, write_boxes
from benchmarks.workloads.registry import COMPARED_SYSTEMS, Figures, Size, check, prepare, workload

LOOK = (64, 64)

LOOKS: dict[str, Any] = {
    "goal": "zstd: ≤ 1× the best; our default codec: ≤ 0.7×; our automatic chunks: ≤ 0.3×",
    "compared": {"p50_ms": "less", "p99_ms": "less"},
    "codecs": ("zstd", "default"),
    "systems": ("txstore", "txstore-auto-chunks", *COMPARED_SYSTEMS[1:]),
}


def look_around(read: Callable[[Box], Values], model: Values, count: int, seed: int) -> list[float]:
    """The seconds of that many small reads at random places, each result checked."""
    times = []
    for look in boxes(count, model.shape, LOOK, seed):
        seconds, values = clocked(read, look)
        check(values, model[look], f"what is at {look}")
        times.append(seconds)
    return times


def write_plane(system: System, codec: Codec, size: Size) -> None:
    shape = plane_shape(size)
    system.create("a", Spec(shape, CHUNKS, codec))
    system.write("a", everything(shape), plane(shape, seed=1))
    system.compact("a")


def write_compacted_boxes(system: System, codec: Codec, size: Size) -> None:
    write_boxes(system, codec, size)
    system.compact("a")


def looks_at(system: System, model: Values, size: Size) -> Figures:
    system.open()
    read = system.reader("a")
    look_around(read, model, 20, seed=11)  # what a process does once
    with Peak() as peak:
        times = look_around(read, model, 300 if size == "full" else 30, seed=12)
    system.close()
    return {**percentiles_ms(times), "rise_MB": peak.rise_MB, **disk(system.root)}


@workload(title="300 random reads of 64×64, 4096² in chunks of 512², compacted, no cache of decoded data", **LOOKS)
def random_reads(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_plane, codec, size)
    return looks_at(system, plane(plane_shape(size), seed=1), size)


@workload(title="the same on sparser data: the array of the boxes, compacted", **LOOKS)
def random_reads_sparse(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_compacted_boxes, codec, size)
    return looks_at(system, painted(plane_shape(size), box_pieces(size)), size)


@workload(
    title="the same with a warm cache of decoded tiles, in systems that have one",
    goal="≤ 0.1 ms",
    compared={"p50_ms": "less", "p99_ms": "less"},
    systems=("txstore", "tensorstore", "ocdbt"),
)
def random_reads_cached(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_plane, codec, size)
    cached = type(system)(system.root, cache_bytes=256 << 20)
    cached.open()
    read = cached.reader("a")
    read(everything(plane_shape(size)))
    model = plane(plane_shape(size), seed=1)
    look_around(read, model, 20, seed=11)
    with Peak() as peak:
        times = look_around(read, model, 300 if size == "full" else 30, seed=12)
    cached.close()
    return {**percentiles_ms(times), "rise_MB": peak.rise_MB, **disk(system.root)}


@workload(
    title="the same over 300, 2,000 and 5,000 fragments that are not compacted; opening them",
    goal="≤ 1.5× the compacted read at each size; flat opening",
    compared={"p50_ms": "less", "open_ms": "less"},
    columns=("first_read_ms", "p99_ms", "compacted_p50_ms", "to_compacted"),
    systems=("txstore", "tiledb"),
    curve=True,
)
def reads_over_fragments(system: System, codec: Codec, size: Size) -> Figures:
    counts = (300, 2_000, 5_000) if size == "full" else (5, 10)
    system.root.mkdir()
    curve = [fragments_point(type(system)(system.root / str(n)), codec, size, n) for n in counts]
    return {**curve[-1], "curve": curve}


def fragments_point(system: System, codec: Codec, size: Size, n: int) -> Figures:
    """One point of the curve, in a store of its own."""
    prepare(system, write_boxes, codec, size, n)
    model = painted(plane_shape(size), box_pieces(size, n))
    point: Figures = {"n": n}
    with Peak() as peak:
        point |= opened_again(system)
        system.open()
        times = look_around(system.reader("a"), model, 100, seed=13)
        system.close()
    point |= percentiles_ms(times) | {"rise_MB": peak.rise_MB} | disk(system.root)
    system.open()
    system.compact("a")
    system.close()
    system.open()
    compacted = look_around(system.reader("a"), model, 100, seed=13)
    system.close()
    point["compacted_p50_ms"] = median_ms(compacted)
    point["to_compacted"] = statistics.median(times) / statistics.median(compacted)
    return point


def opened_again(system: System) -> Figures:
    """Opening the store and an array in it, and the first read then."""
    opens, firsts = [], []
    for _ in range(5):
        open_s, read = clocked(lambda: (system.open(), system.reader("a"))[1])
        opens.append(open_s)
        firsts.append(timed(read, tuple(slice(0, n) for n in LOOK)))
        system.close()
    return {"open_ms": median_ms(opens[1:]), "first_read_ms": median_ms(firsts[1:])}


@workload(
    title="reading all of 4096² over 300 fragments, and after compaction",
    goal="≤ 1.5× the best before, ≤ 1× after",
    compared={"before_ms": "less", "after_ms": "less"},
)
def read_boxes(system: System, codec: Codec, size: Size) -> Figures:
    prepare(system, write_boxes, codec, size)
    model = painted(plane_shape(size), box_pieces(size))
    used = disk(system.root)
    with Peak() as peak:
        before_ms = read_whole(system, model)
    system.open()
    system.compact("a")
    system.close()
    after_ms = read_whole(system, model)
    return {
        "before_ms": before_ms,
        "after_ms": after_ms,
        "rise_MB": max(0.0, peak.rise_MB - model.nbytes / 1e6),
        **used,
    }


def read_whole(system: System, model: Values) -> float:
    """The median of five full reads after one, by a store that is opened again."""
    system.open()
    read = system.reader("a")
    times = []
    for _ in range(6):
        seconds, values = clocked(read, everything(model.shape))
        check(values, model, "the whole array")
        times.append(seconds)
        del values
    system.close()
    return median_ms(times[1:])
