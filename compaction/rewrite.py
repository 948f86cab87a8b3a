"""Compaction: partitions read at a version, written as chunk tiles, re-read, compared, and published as bases.

Nothing that a reader can see changes, and no writer ever conflicts with it. Several compactions may race or come
late; the first base of a version stays, the other's file becomes garbage.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from txstore.boxes import full
from txstore.compaction.background import background_pool
from txstore.compaction.planner import Task, frame_of
from txstore.compaction.progress import Progress
from txstore.compaction.rewriter import Part, Rewriter
from txstore.core import Core
from txstore.errors import ConflictError, CorruptionError, NotFoundError
from txstore.grid import WHOLE
from txstore.index import lookup, retention
from txstore.index.commit import commit
from txstore.index.edits import BaseEdit, Edit, LeaseCheck
from txstore.index.leases import Lease
from txstore.index.lookup import NodeRow
from txstore.reader import ArrayView
from txstore.snapshot import Snapshot
from txstore.states import State
from txstore.storage import MissingFileError
from txstore.tables import PartitionTable

if TYPE_CHECKING:
    from txstore.store import Store


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


def tasks_of(snapshot: Snapshot, path: str, min_fragments: int = 1) -> list[tuple[ArrayView, Task]]:
    """The partitions below a path that have at least so many fragments since their base, most of them first.

    Raises
    ------
    NotFoundError
        If there is nothing at the path.
    """
    found = [(view, task) for view in array_views(snapshot, path) for task in tasks_in(snapshot, view, min_fragments)]
    found.sort(key=lambda pair: -pair[1].fragments)
    return found


def tasks_in(snapshot: Snapshot, view: ArrayView, min_fragments: int = 1) -> list[Task]:
    """The partitions of one array that have at least so many fragments since their base."""
    with snapshot._tree.core.index.read() as connection:
        loads = lookup.loads(connection, view.timeline.at(view.version), view.node)
    whole = loads.pop(WHOLE, (0, 0, False))[0]
    keys = set(loads)
    # Fills of the whole array show in partitions without rows of their own, too. Where those are too many for vacuum
    # to ever let such fills go, bases there would only cost; and a sparse array may have more of them than memory.
    inside = full(view.shape)
    if whole and view.grid.count_partitions(inside) <= retention.MAX_PARTITIONS:
        keys.update(key for key, _ in view.grid.partitions_in(inside))
    found = []
    for key in sorted(keys):
        _, since, has_base = loads.get(key, (0, 0, False))
        count = since + (whole if not has_base else view.fills_since(key))
        if count >= min_fragments and frame_of(view.grid, key, view.shape) is not None:
            found.append(Task(view.node, view.path, key, count))
    return found


def array_views(snapshot: Snapshot, path: str) -> Iterator[ArrayView]:
    """Every array at or below a path.

    Raises
    ------
    NotFoundError
        If there is nothing.
    """
    for row, full_path in array_rows(snapshot, path):
        yield snapshot._tree.view(row, full_path)


def array_rows(snapshot: Snapshot, path: str) -> list[tuple[NodeRow, str]]:
    """The nodes of the arrays at or below a path, with their paths.

    Raises
    ------
    NotFoundError
        If there is nothing.
    """
    path = path.strip("/")
    node: Any = snapshot if not path else snapshot.get(path)
    if node is None:
        raise NotFoundError(f"there is no {path!r} at version {snapshot.version}")
    if not hasattr(node, "members"):
        return [(node._row, node.path)]
    return [(member._row, member.path) for _, member in node.members() if not hasattr(member, "members")]


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
    with core.pinned(branch=branch) as (state, timeline):
        snapshot = Snapshot(core, state, timeline)
        tasks = tasks_of(snapshot, path, min_fragments)
        report = CompactionReport(state.commit, dry_run=dry_run)
        if dry_run:
            return report.plus(partitions=len(tasks), fragments=sum(task.fragments for _, task in tasks))
        done = 0

        def parts() -> Iterator[Part]:
            for view, task in tasks:
                if progress is not None:
                    progress(Progress(done, len(tasks), "partitions", task.path))
                yield from _part(view, task)

        left = parts()
        chunk_bytes = max((view.chunk_bytes for view, _ in tasks), default=0)
        # Nobody waits for a compaction as for a commit: beside two threads of ordinary priority a writer waits
        # milliseconds for a core.
        with nullcontext(executor) if executor is not None else background_pool(core.workers) as pool:
            while done < len(tasks):
                rewriter = Rewriter(core, pool, None)
                report = _compact_some(core, state, rewriter, left, chunk_bytes, report, pool)
                done += len(rewriter.parts)
        if progress is not None:
            progress(Progress(len(tasks), len(tasks), "partitions", path))
    core.forget()
    return report


def _compact_some(
    core: Core,
    state: State,
    rewriter: Rewriter,
    parts: Iterator[Part],
    chunk_bytes: int,
    report: CompactionReport,
    executor: Executor,
) -> CompactionReport:
    """Compact the first of some partitions, as many as are worth one file and one commit."""
    try:
        published = _publish(core, state, rewriter, parts, chunk_bytes)
    except (ConflictError, CorruptionError, MissingFileError):
        # It is about one of them, and the others have nothing to do with it.
        for part in rewriter.parts:
            report = compact_partition(core, state, part.view, part.task, report, executor)
        return report
    report = report.plus(partitions=published, lost=len(rewriter.parts) - published)
    fragments = sum(part.task.fragments for part in rewriter.parts)
    return report.plus(fragments=fragments, **rewriter.counts) if published else report


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
    lease : Lease, optional
        Published only while nobody else has taken this.
    throttle : callable, optional
        Told how many bytes were just written, 0 between steps; may sleep, and raise to end the work, which then
        leaves no file.

    Returns
    -------
    CompactionReport
        `report` with what was done here; ``lost`` counts where somebody else was first.

    Raises
    ------
    CorruptionError
        If stored bytes do not match their checksum, or are gone.
    StorageError
        If bytes or index can't be read or written.
    """
    parts = _part(view, task)
    if not parts or state.commit == 0:
        return report
    before = _base(view, task)
    rewriter = Rewriter(core, executor, throttle)
    try:
        published = _publish(core, state, rewriter, iter(parts), view.chunk_bytes, lease)
    except ConflictError:
        return report.plus(lost=1)
    except (CorruptionError, MissingFileError) as error:
        # A pin keeps a state, not rows: behind a newer base of somebody else's, vacuum takes what we were to take over.
        view.timeline.forget(view.node)
        if _base(view, task) != before:
            return report.plus(lost=1)
        if isinstance(error, MissingFileError):
            raise CorruptionError(f"array {view.path!r}: {error}; run txstore verify") from error
        raise
    if not published:
        return report.plus(lost=1)
    return report.plus(partitions=1, fragments=task.fragments, **rewriter.counts)


def _part(view: ArrayView, task: Task) -> list[Part]:
    """The partition of a task; none where it lies outside the shape."""
    extents = frame_of(view.grid, task.partition, view.shape)
    return [] if extents is None else [Part(view, task, *extents)]


def _publish(
    core: Core,
    state: State,
    rewriter: Rewriter,
    parts: Iterator[Part],
    chunk_bytes: int,
    lease: Lease | None = None,
) -> int:
    """Give partitions their bases in one commit, as many as the rewriter takes; with how many nobody else was first.

    When it raises, or with none of them, no file is left.
    """
    try:
        fragments = rewriter.rewrite(parts, chunk_bytes)
        bases = [
            BaseEdit(view.node, task.partition, state.branch, _newest(view, task), uuid.uuid4().bytes, fragment)
            for (view, task, _, _), fragment in zip(rewriter.parts, fragments, strict=True)
        ]
        check = None if lease is None else LeaseCheck(lease.name, lease.epoch)
        done = commit(core.index, Edit(segments=rewriter.finish(), bases=tuple(bases), lease=check))
    except BaseException as error:
        rewriter.abort(error)
        raise
    if not done.published:
        rewriter.abort()
    return done.published


def _base(view: ArrayView, task: Task) -> bytes | None:
    """The identity of the base from which the partition is read now."""
    return _table(view, task.partition).base_uuid


def _newest(view: ArrayView, task: Task) -> int:
    """The version of the newest row that a base of the partition folds in: a fragment, or a shape that cuts cells off.

    The base holds from there on, so that it is published under this version: at the head of the store it would let
    nothing go before the horizon has come so far.
    """
    found = [0]
    for table in (_table(view, task.partition), _table(view, WHOLE)):
        count = table.upto_version(view.version)
        found += [table.after] if not count else [table.fragment(count - 1).version]
    found += [row.version for row in view.timeline.shapes(view.node, view.version).cuts]
    return max(found)


def _table(view: ArrayView, partition: bytes) -> PartitionTable:
    return view.timeline.table(view.node, partition, view.grid, view.meta.dtype.itemsize, view.version)


__all__ = [
    "CompactionReport",
    "array_rows",
    "array_views",
    "compact",
    "compact_partition",
    "tasks_in",
    "tasks_of",
]
