"""What grows with a store should not grow with what it holds: figures over the number of arrays and of fragments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from benchmarks.data import Box, Values, boxes, everything, painted, plane
from benchmarks.measure import Peak, clocked, disk, median_ms, timed
from benchmarks.systems import Codec, Spec, System
from benchmarks.systems.txstore import TxStore
from benchmarks.workloads.registry import Figures, Size, check, workload

EXTENT = (16, 20)


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
    compared={"commit_ms": "less", "read_ms": "less"},
    columns=("open_ms", "first_read_ms", "list_us_per_array", "commit_last_to_first"),
    systems=("txstore", "zarr"),
    curve=True,
)
def many_arrays(system: System, codec: Codec, size: Size) -> Figures:
    counts, repeats = ((100, 1_000, 10_000), 50) if size == "full" else ((10, 20), 5)
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
        some = [f"array{n * i // repeats:06d}" for i in range(repeats)]
        point: Figures = {"n": n}
        for name in some:  # the first write to an array is another matter than the next
            system.write(name, box, values)
        point |= opening(system, some[0], box)
        with Peak() as peak:
            point["commit_ms"] = median_ms(timed(system.write, name, box, values) for name in some)
            point["read_ms"] = median_ms(timed(system.read, name, box) for name in some)
        list_s, listed = clocked(system.names)
        point["list_us_per_array"] = list_s / n * 1e6
        if len(listed) != n:
            raise AssertionError(f"{n} arrays, of which {len(listed)} are listed")
        check(system.read(some[-1], box), values, "a small read")
        curve.append(point)
    system.close()
    flat = {"commit_last_to_first": stride(curve, "commit_ms")}
    return {**curve[-1], **flat, "curve": curve, "rise_MB": peak.rise_MB, **disk(system.root)}


def small_pieces(count: int, area: tuple[int, int], seed: int, down: int = 0) -> Iterator[tuple[Box, Values]]:
    """Small boxes, with values for them, in an area that begins so many rows down in an array."""
    source = plane((512, 512), seed)
    for number, (rows, columns) in enumerate(boxes(count, area, EXTENT, seed)):
        at = number % 400
        values = source[at : at + EXTENT[0], at : at + EXTENT[1]]
        yield (slice(rows.start + down, rows.stop + down), columns), values.copy()


@workload(
    title="many small fragments in one array, not compacted: opening, a small commit, a small read of what is the same "
    "at each size. txstore has made a commit of each; others as many writes, together where that is quicker. In this "
    "table the figures of the first size, to which all come",
    goal="commit p50 flat within 20 %, read p50 within 2×, index ≤ 400 bytes a fragment",
    compared={"commit_ms": "less", "read_ms": "less"},
    columns=("open_ms", "first_read_ms", "commit_last_to_first", "read_last_to_first", "index_bytes_per_fragment"),
    systems=("txstore", "zarr", "tensorstore", "ocdbt", "tiledb", "icechunk", "icechunk-split"),
    curve=True,
)
def many_fragments(system: System, codec: Codec, size: Size) -> Figures:
    counts, repeats, side, corner = [1_000, 10_000, 100_000, 1_000_000], 50, 65_536, 2_048
    if size == "small":
        counts, repeats, side, corner = [20, 60], 5, 1_024, 512
    if system.most_fragments is not None:
        counts = [n for n in counts if n < system.most_fragments] + [system.most_fragments] * (size == "full")
    # The first pieces lie in a corner, which is looked at; all others lie further down in the same array.
    first = list(small_pieces(counts[0], (corner, corner), seed=6))
    others = small_pieces(2 * counts[-1], (side - corner, side), seed=7, down=corner)
    looks = list(boxes(repeats, (corner, corner), (64, 64), seed=8))
    system.open()
    system.create("a", Spec((side, side), (128, 128), codec))
    curve: list[Figures] = []
    written = 0
    with Peak() as peak:
        for n in counts:
            fill_s = timed(system.fill, "a", islice(others, n - written) if written else first)
            point: Figures = {"n": n, "fill_s": fill_s} | opening(system, "a", looks[0])
            point["commit_ms"] = median_ms(timed(system.write, "a", *piece) for piece in islice(others, repeats))
            point["read_ms"] = median_ms(timed(system.read, "a", look) for look in looks)
            written = n + repeats
            if isinstance(system, TxStore):
                system.close()
                point["index_bytes_per_fragment"] = system.index_bytes() / written
                system.open()
            curve.append(point)
    check(system.read("a", everything((corner, corner))), painted((corner, corner), first), "the corner")
    system.close()
    figures = curve[0] | {f"{key}_last_to_first": stride(curve, f"{key}_ms") for key in ("commit", "read")}
    figures |= {key: value for key, value in curve[-1].items() if key == "index_bytes_per_fragment"}
    return {**figures, "curve": curve, "rise_MB": peak.rise_MB, **disk(system.root)}
