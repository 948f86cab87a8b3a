"""What grows with a store should not grow with what it holds: figures over the number of arrays and of fragments."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.data import Box, boxes, plane
from benchmarks.measure import disk, median_ms, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.workloads.registry import Figures, Size, check, everything, workload

REPEATS = 25


def opening(system: System, name: str, box: Box) -> Figures:
    """Closing, opening again, and the first read then."""
    opens, firsts = [], []
    for _ in range(5):
        system.close()
        opens.append(timed(system.open))
        firsts.append(timed(system.read, name, box))
    return {"open_ms": median_ms(opens), "first_read_ms": median_ms(firsts)}


def stride(curve: list[Figures], key: str) -> float:
    """How much more the last point costs than the first."""
    return float(curve[-1][key] / curve[0][key])


@workload(
    title="many arrays in one store: opening, listing, a small commit and a small read",
    goal="flat (listing by the array)",
    headline="commit_last_to_first",
    better="less",
    columns=("open_ms", "first_read_ms", "list_us_per_array", "commit_ms", "read_ms", "commit_last_to_first"),
    systems=("txstore", "zarr"),
    curve=True,
)
def many_arrays(system: System, codec: Codec, size: Size) -> Figures:
    counts = (25, 100, 1_000, 10_000) if size == "full" else (25, 50)
    spec = Spec((256, 256), (64, 64), codec)
    values = plane((20, 20), seed=5)
    box = (slice(50, 70), slice(50, 70))
    system.open()
    curve: list[Figures] = []
    made = 0
    for n in counts:
        while made < n:
            names = [f"array{number:06d}" for number in range(made, min(n, made + 500))]
            system.create_many(names, spec)
            made += len(names)
        some = [f"array{n * i // REPEATS:06d}" for i in range(REPEATS)]
        point: Figures = {"n": n}
        for name in some:  # the first write to an array is another matter than the next
            system.write(name, box, values)
        point |= opening(system, some[0], box)
        point["commit_ms"] = median_ms(timed(system.write, name, box, values) for name in some)
        point["read_ms"] = median_ms(timed(system.read, name, box) for name in some)
        start = time.perf_counter()
        listed = system.names()
        point["list_us_per_array"] = (time.perf_counter() - start) / n * 1e6
        if len(listed) != n:
            raise AssertionError(f"{n} arrays, of which {len(listed)} are listed")
        check(system.read(some[-1], box), values, "a small read")
        curve.append(point)
    system.close()
    return {**curve[-1], "commit_last_to_first": stride(curve, "commit_ms"), "curve": curve, **disk(system.root)}


@workload(
    title="many small fragments in one array, a commit each: opening, a small commit and a small read",
    goal="flat",
    headline="read_last_to_first",
    better="less",
    columns=("open_ms", "first_read_ms", "commit_ms", "read_ms", "commit_last_to_first", "read_last_to_first"),
    systems=("txstore", "zarr", "tensorstore", "tiledb"),
    curve=True,
)
def many_fragments(system: System, codec: Codec, size: Size) -> Figures:
    counts = [100, 1_000, 10_000, 100_000] if size == "full" else [20, 60]
    shape, extent = (16_384, 16_384), (16, 20)
    if system.most_fragments is not None:
        counts = [n for n in counts if n < system.most_fragments] + [system.most_fragments] * (size == "full")
    system.open()
    system.create("a", Spec(shape, (128, 128), codec))
    source = plane((512, 512), seed=6)
    # A corner of the array is modelled, and looked at; elsewhere is only written.
    corner = 2_048
    model = np.zeros((corner, corner), "f4")
    written = 0

    def write(box: Box) -> None:
        nonlocal written
        at = tuple(slice(side.start % 400, side.start % 400 + m) for side, m in zip(box, extent, strict=True))
        values = np.ascontiguousarray(source[at])
        system.write("a", box, values)
        written += 1
        seen = model[box]  # cut at the corner's edge, as NumPy cuts slices
        seen[...] = values[: seen.shape[0], : seen.shape[1]]

    places = boxes(max(counts) + len(counts) * REPEATS, shape, extent, seed=7)
    curve: list[Figures] = []
    for n in counts:
        start, before = time.perf_counter(), written
        while written < n:
            write(next(places))
        point: Figures = {"n": n, "commits_per_s": (written - before) / (time.perf_counter() - start)}
        looks = list(boxes(REPEATS, (corner, corner), (64, 64), seed=8))
        point |= opening(system, "a", looks[0])
        point["commit_ms"] = median_ms([timed(write, next(places)) for _ in range(REPEATS)])
        point["read_ms"] = median_ms(timed(system.read, "a", look) for look in looks)
        curve.append(point)
    check(system.read("a", everything((corner, corner))), model, "the corner")
    system.close()
    strides = {f"{key}_last_to_first": stride(curve, f"{key}_ms") for key in ("commit", "read")}
    return {**curve[-1], **strides, "curve": curve, **disk(system.root)}
