"""Compaction: partitions read at a version, written as chunk tiles, re-read, compared, and published as bases.

Nothing that a reader can see changes, and no writer ever conflicts with it. Several compactions may race or come
late; the first base of a version stays, the other's file becomes garbage.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from txstore.boxes import Box
from txstore.compaction.planner import ShardPlan, Task, frame_of, plan_shard
from txstore.compaction.progress import Progress
from txstore.core import Core, State
from txstore.directory import Directory
from txstore.errors import ConflictError, CorruptionError, NotFoundError, TxStoreError
from txstore.fragment import Fragment, Frame
from txstore.grid import WHOLE, TileGrid
from txstore.index import lookup
from txstore.index.commit import commit
from txstore.index.edits import BaseEdit, Edit, LeaseCheck, SegmentEdit
from txstore.index.leases import Lease
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.reader import DIRTY, ArrayView
from txstore.segment import Kind, Place, SegmentWriter
from txstore.snapshot import Snapshot
from txstore.staging import is_fill

if TYPE_CHECKING:
    from txstore.store import Store

#: A segment of merged tiles is closed beyond this size, so that garbage can be let go in parts.
_SEGMENT_BYTES = 256 << 20


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction did, or (dry run) would do.

    Attributes
    ----------
    version : int
        The commit whose state was compacted.
    partitions : int
        Partitions that got a base.
    fragments : int
        Fragments that new readers no longer pass.
    chunks_kept, chunks_copied, chunks_merged : int
        Tiles taken over where they lie, copied undecoded, and read and encoded.
    bytes_read, bytes_written : int
        Encoded bytes.
    lost : int
        Partitions that somebody else was first to publish, or whose lease lapsed.
    dry_run : bool
        Whether nothing was done.
    """

    version: int
    partitions: int = 0
    fragments: int = 0
    chunks_kept: int = 0
    chunks_copied: int = 0
    chunks_merged: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    lost: int = 0
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return asdict(self)

    def plus(self, **counts: int) -> CompactionReport:
        """The same with more."""
        values = asdict(self)
        for key, count in counts.items():
            values[key] += count
        return CompactionReport(**values)


@contextmanager
def pinned(core: Core, **reference: Any) -> Iterator[tuple[State, Timeline]]:
    """A state that can't expire while it is used."""
    pin = core.holder.pin(core.known_head)
    try:
        state, timeline = core.state(**reference)
        pin, old = core.holder.pin(state.version), pin
        core.holder.unpin(old)
        yield state, timeline
    finally:
        core.holder.unpin(pin)


def tasks_of(snapshot: Snapshot, path: str, min_fragments: int = 1) -> list[tuple[ArrayView, Task]]:
    """The partitions below a path that have at least so many fragments since their base.

    Raises
    ------
    NotFoundError
        If there is nothing at the path.
    """
    views = list(array_views(snapshot, path))
    found: list[tuple[ArrayView, Task]] = []
    for view in views:
        with snapshot._core.index.read() as connection:
            loads = lookup.loads(connection, view.timeline.at(view.version), view.node)
        whole = loads.pop(WHOLE, (0, 0, False))[0]
        keys = set(loads)
        if whole:
            keys.update(key for key, _ in view.grid.partitions_in(Box((0,) * len(view.shape), view.shape)))
        for key in sorted(keys):
            _, since, has_base = loads.get(key, (0, 0, False))
            count = since + (whole if not has_base else view.fills_since(key))
            if count >= min_fragments and frame_of(view.grid, key, view.shape) is not None:
                found.append((view, Task(view.node, view.path, key, count)))
    found.sort(key=lambda pair: -pair[1].fragments)
    return found


def array_views(snapshot: Snapshot, path: str) -> Iterator[ArrayView]:
    """Every array at or below a path.

    Raises
    ------
    NotFoundError
        If there is nothing.
    """
    path = path.strip("/")
    node: Any = snapshot if not path else snapshot.get(path)
    if node is None:
        raise NotFoundError(f"there is no {path!r} at version {snapshot.version}")
    rows: list[tuple[NodeRow, str]] = []
    if hasattr(node, "members"):
        rows += [(member._row, member.path) for _, member in node.members() if not hasattr(member, "members")]
    else:
        rows.append((node._row, node.path))
    for row, full in rows:
        yield snapshot.view(row, full)


def compact(
    store: Store,
    path: str = "",
    *,
    branch: str = "main",
    executor: Executor | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    min_fragments: int = 1,
) -> CompactionReport:
    """Compact every partition below a path; see ``Store.compact``."""
    core = store._core
    with pinned(core, branch=branch) as (state, timeline):
        snapshot = Snapshot(core, state, timeline)
        tasks = tasks_of(snapshot, path, min_fragments)
        report = CompactionReport(state.commit, dry_run=dry_run)
        if dry_run:
            return report.plus(partitions=len(tasks), fragments=sum(task.fragments for _, task in tasks))
        for done, (view, task) in enumerate(tasks):
            if progress is not None:
                progress(Progress(done, len(tasks), "partitions", task.path))
            report = compact_partition(core, state, view, task, report, executor)
        if progress is not None:
            progress(Progress(len(tasks), len(tasks), "partitions", path))
    core.forget()
    return report


def compact_partition(
    core: Core,
    state: State,
    view: ArrayView,
    task: Task,
    report: CompactionReport,
    executor: Executor | None = None,
    lease: Lease | None = None,
    throttle: Callable[[int], None] | None = None,
) -> CompactionReport:
    """Compact one partition of a pinned state.

    Parameters
    ----------
    throttle : callable, optional
        Told how many bytes were just read or written; may sleep.

    Returns
    -------
    CompactionReport
        `report` with what was done here; ``lost`` counts where somebody else was first.
    """
    extents = frame_of(view.grid, task.partition, view.shape)
    if extents is None or state.commit == 0:
        return report
    rewriter = _Rewriter(core, view, executor, throttle)
    try:
        fragment = rewriter.rewrite(*extents)
        done = commit(
            core.index,
            Edit(
                segments=rewriter.finish(),
                bases=(
                    BaseEdit(view.node, task.partition, state.branch, state.commit, uuid.uuid4().bytes, fragment),
                ),
                lease=None if lease is None else LeaseCheck(lease.name, lease.epoch),
            ),
        )
    except ConflictError:
        rewriter.abort()
        return report.plus(lost=1)
    except BaseException:
        rewriter.abort()
        raise
    if not done.published:
        return report.plus(lost=1)
    return report.plus(partitions=1, fragments=task.fragments, **rewriter.counts)


class _Rewriter:
    """Writes the tiles of one partition's base."""

    def __init__(
        self, core: Core, view: ArrayView, executor: Executor | None, throttle: Callable[[int], None] | None
    ) -> None:
        self._core = core
        self._view = view
        self._pool = executor or core.pool
        self._throttle = throttle or (lambda _: None)
        self._writers: list[SegmentWriter] = []
        self._loose: SegmentWriter | None = None
        self.counts = dict.fromkeys(
            ("chunks_kept", "chunks_copied", "chunks_merged", "bytes_read", "bytes_written"), 0
        )

    def rewrite(self, clip: Box, frame: Box) -> Fragment:
        """Every chunk of the partition as a tile; returns the base."""
        view = self._view
        tiles = TileGrid(frame, (0,) * len(frame.lo), view.grid.chunks)
        places: list[Place | None] = [None] * tiles.size
        by_shard: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        block = view.grid.shards or view.grid.partition
        for chunk in view.stored_in(view.grid.partition_of(view.grid.chunk_index(clip.lo)), clip):
            shard = tuple(
                index * extent // cells
                for index, extent, cells in zip(chunk, view.grid.chunks, block, strict=True)
            )
            by_shard.setdefault(shard, []).append(chunk)
        for shard, chunks in by_shard.items():
            for chunk, place in self._shard(shard, chunks).items():
                places[tiles.flat_index(chunk)] = place
        still = (0,) * len(frame.lo)
        return Fragment(
            0, 0, Kind.SET, False, clip, Frame(frame, still, still), Directory.tiles(places), view.meta.dtype.itemsize
        )

    def _shard(
        self, shard: tuple[int, ...], chunks: list[tuple[int, ...]]
    ) -> dict[tuple[int, ...], Place | None]:
        view = self._view
        clean: dict[tuple[int, ...], Place] = {}
        dirty: list[tuple[int, ...]] = []
        for chunk in chunks:
            found = view.chunk(chunk)
            if found is DIRTY:
                dirty.append(chunk)
            elif isinstance(found, Place):
                clean[chunk] = found
        segments = {place.segment for place in clean.values()}
        guess = sum(place.length for place in clean.values()) // len(clean) if clean else view.meta.dtype.itemsize
        is_shard = len(segments) == 1 and self._is_shard(next(iter(segments)), clean)
        plan = plan_shard(clean, dirty, guess, sharded=view.grid.shards is not None, is_shard=is_shard)
        return self._write(shard, plan)

    def _is_shard(self, segment: bytes, clean: dict[tuple[int, ...], Place]) -> bool:
        """Whether a segment holds little else than these chunks, so that it was written as this shard."""
        with self._core.index.read() as connection:
            found = lookup.live_segments(connection, [segment]).get(segment)
        used = sum(place.length for place in clean.values())
        return found is not None and used >= 0.5 * found[1]

    def _write(self, shard: tuple[int, ...], plan: ShardPlan) -> dict[tuple[int, ...], Place | None]:
        found: dict[tuple[int, ...], Place | None] = dict(plan.kept)
        self.counts["chunks_kept"] += len(plan.kept)
        if not plan.copied and not plan.merged:
            return found
        writer = self._writer(whole=plan.whole)
        # In C order, so that reading a shard goes forward.
        jobs = sorted([*plan.copied, *plan.merged])
        window = 4 * self._core.workers
        for start in range(0, len(jobs), window):
            part = jobs[start : start + window]
            for chunk, data in zip(part, self._pool.map(lambda c: self._encoded(c, plan), part), strict=True):
                found[chunk] = None if data is None else self._put(writer, data)
                self._throttle(0 if data is None else len(data))
            if not plan.whole:
                writer = self._writer(whole=False)
        if plan.whole:
            grid = self._view.grid
            index = [found.get(chunk) for chunk, _ in grid.chunks_in(grid.shard_box(shard))]
            writer.append_shard_index([None if place is None else (place.offset, place.length) for place in index])
        return found

    def _encoded(self, chunk: tuple[int, ...], plan: ShardPlan) -> bytes | None:
        view = self._view
        place = plan.copied.get(chunk)
        if place is not None:
            self.counts["chunks_copied"] += 1
            self.counts["bytes_read"] += place.length
            return view.fetch(place)
        self.counts["chunks_merged"] += 1
        cells = view.read_chunk(chunk)
        if is_fill(cells, view.meta.fill_value):
            return None
        data = bytes(view.codec.encode(cells))
        # Encoded bytes are about to replace what they came from: read them back before anybody relies on them.
        if view.codec.decode(data, cells.shape).tobytes() != cells.tobytes():
            raise CorruptionError(f"array {view.path!r}: chunk {chunk} does not decode to what was encoded", chunk)
        return data

    def _put(self, writer: SegmentWriter, data: bytes) -> Place:
        offset, length, crc = writer.append(data)
        self.counts["bytes_written"] += length
        return Place(writer.segment, offset, length, crc, False)

    def _writer(self, *, whole: bool) -> SegmentWriter:
        if not whole and self._loose is not None and self._loose.size < _SEGMENT_BYTES:
            return self._loose
        writer = SegmentWriter(self._core.storage, 0, announce=self._core.announce)
        self._writers.append(writer)
        if not whole:
            self._loose = writer
        return writer

    def finish(self) -> tuple[SegmentEdit, ...]:
        """Make the files durable, and read them back from the disk's point of view."""
        done = []
        for writer in self._writers:
            size = writer.finish()
            if isinstance(size, int):
                done.append(SegmentEdit(writer.segment, size))
        return tuple(done)

    def abort(self) -> None:
        """Remove what was written."""
        for writer in self._writers:
            try:
                writer.abort()
                if not writer.inline:
                    self._core.withdraw([writer.segment])
            except TxStoreError:
                pass  # vacuum finds it by its intent
