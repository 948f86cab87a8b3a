"""Writes the tiles of bases: what is clean is taken over or copied, what is dirty merged and encoded."""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from operator import floordiv
from typing import NamedTuple

import numpy as np

from txstore.boxes import Box
from txstore.compaction.planner import ShardPlan, Task, plan_shard
from txstore.compaction.window import items_ahead, items_at_once, ordered
from txstore.core import Core
from txstore.directory import Directory
from txstore.errors import CorruptionError, StorageError, TxStoreError
from txstore.fragment import Fragment, Frame
from txstore.grid import TileGrid
from txstore.index import lookup, segments
from txstore.index.edits import SegmentEdit
from txstore.reader import ArrayView
from txstore.scratch import Scratch
from txstore.segment import Kind, Place, SegmentWriter
from txstore.shardindex import shard_index_size, unpack_shard_index
from txstore.staging import is_fill
from txstore.storage import segment_key
from txstore.storedarray import DIRTY, ChunkState

#: A segment of merged tiles is closed beyond this size, so that garbage can be let go in parts.
_SEGMENT_BYTES = 256 << 20
#: So many decoded bytes that are read and encoded, or so many tiles, are worth a commit.
_ENOUGH_BYTES = 128 << 20
_ENOUGH_TILES = 1 << 14
#: To merge and encode takes several times as long as to copy as many bytes.
_ENCODING = 4

_DECODED = Scratch()

#: A chunk, and how it is stored.
_Found = tuple[tuple[int, ...], Place | ChunkState | None]


class Part(NamedTuple):
    """A partition that is to get a base.

    Attributes
    ----------
    view : ArrayView
        Its array at the version that is compacted.
    task : Task
        Which one.
    clip, frame : Box
        Its cells within the shape, and the same padded to whole chunks.
    """

    view: ArrayView
    task: Task
    clip: Box
    frame: Box


class _Base:
    """A base in the making: all places of the partition's chunks, or those that differ from its base before.

    Attributes
    ----------
    chunks : list of (chunk index, Place, DIRTY or None)
        The chunks that have to be looked at, in C order.
    left : int
        How many others stay where they are.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self._tiles = TileGrid(part.frame, (0,) * len(part.frame.lo), part.view.grid.chunks)
        self._places: dict[int, Place | None] = {}
        self._before = Directory.tiles([None] * self._tiles.size)
        self.left = 0
        view, partition = part.view, part.task.partition
        settled = view.settled(partition) if view.grid.shards is None else None
        if settled is None or settled.tiles.frame != part.frame or settled.directory.inline_segments():
            self.chunks = list(view.chunks(partition))
            return
        # Only where there are no shards: each of those is looked at as a whole.
        self._before = settled.directory
        self.chunks = [(chunk, view.chunk(chunk)) for chunk in settled.hidden()]
        self._places = dict.fromkeys([self._tiles.flat_index(chunk) for chunk, _ in self.chunks])
        self.left = len(set(settled.directory.stored()).difference(self._places))

    def put(self, chunk: tuple[int, ...], place: Place) -> None:
        """Note where a chunk lies."""
        self._places[self._tiles.flat_index(chunk)] = place

    def fragment(self) -> Fragment:
        """The base, once every chunk has been put."""
        view, _, clip, frame = self.part
        still = (0,) * len(frame.lo)
        stored = Frame(frame, still, still)
        directory = self._before.replaced(self._places)
        return Fragment(0, 0, Kind.SET, False, clip, stored, directory, view.meta.dtype.itemsize)


class _Shard:
    """A shard of which something is written; where there are no shards, all that is written of a partition."""

    def __init__(self, base: _Base, index: tuple[int, ...], plan: ShardPlan) -> None:
        self.base = base
        self.index = index
        self.whole = plan.whole
        self.left = len(plan.copied) + len(plan.merged)
        #: A whole one's own file, once there is something to put into it, and where its chunks lie in it.
        self.writer: SegmentWriter | None = None
        self.places: dict[tuple[int, ...], tuple[int, int]] = {}


class _Job(NamedTuple):
    """A chunk that is written: read from a place and copied, or merged."""

    shard: _Shard
    chunk: tuple[int, ...]
    copied: Place | None


class Rewriter:
    """Writes the tiles of bases.

    Parameters
    ----------
    core : Core
        The store.
    executor : Executor or None
        Reads and encodes; the store's own threads by default.
    throttle : callable or None
        Told how many bytes were just written, 0 between steps; may sleep, and raise to end the work.

    Attributes
    ----------
    parts : list of Part
        What has been begun.
    counts : dict of str to int
        Of the tiles kept, copied and merged, and the encoded bytes read and written.

    Notes
    -----
    Stays with one thread. Until a commit has named them, its files are announced by this process: what a crash
    leaves is found by the next vacuum, and :meth:`abort` leaves nothing.
    """

    def __init__(self, core: Core, executor: Executor | None, throttle: Callable[[int], None] | None) -> None:
        self._core = core
        self._pool = executor or core.pool
        self._throttle = throttle or (lambda _: None)
        self._writers: list[SegmentWriter] = []
        self._finished: dict[bytes, int] = {}
        self._loose: SegmentWriter | None = None
        self.parts: list[Part] = []
        self.counts = dict.fromkeys(("chunks_kept", "chunks_copied", "chunks_merged", "bytes_read", "bytes_written"), 0)

    def rewrite(self, parts: Iterator[Part], chunk_bytes: int) -> list[Fragment]:
        """Every chunk of the first of some partitions as a tile, of as many as are worth a commit; their bases.

        Parameters
        ----------
        parts : iterator of Part
            Of any arrays. Those that were not begun are left in it.
        chunk_bytes : int
            What the largest of their chunks takes, decoded.

        Notes
        -----
        One stream from beginning to end: while threads read, merge and encode what comes next, this one writes what
        is done and plans what comes after.
        """
        bases: list[_Base] = []
        at_once = items_at_once(_ENCODING * chunk_bytes)
        ahead = items_ahead(chunk_bytes * at_once, self._core.workers)
        with ordered(self._pool, lambda job: (job, _encoded(job)), self._jobs(parts, bases), ahead, at_once) as done:
            for job, data in done:
                self._take(job, data)
        return [base.fragment() for base in bases]

    # --- planning -------------------------------------------------------------------------------

    def _jobs(self, parts: Iterable[Part], bases: list[_Base]) -> Iterator[_Job]:
        """What is to be written, by partition, shard and chunk, so that reading a shard goes forward."""
        n_bytes = n_tiles = 0
        for part in parts:
            self.parts.append(part)
            base = _Base(part)
            bases.append(base)
            self.counts["chunks_kept"] += base.left
            n_tiles += base.left
            for index, chunks in _by_shard(base).items():
                self._throttle(0)
                plan = self._plan(part.view, index, chunks)
                self.counts["chunks_kept"] += len(plan.kept)
                for chunk, place in plan.kept.items():
                    base.put(chunk, place)
                shard = _Shard(base, index, plan)
                n_bytes += shard.left * part.view.chunk_bytes
                n_tiles += len(chunks)
                for chunk in sorted([*plan.copied, *plan.merged]):
                    yield _Job(shard, chunk, plan.copied.get(chunk))
            if n_bytes >= _ENOUGH_BYTES or n_tiles >= _ENOUGH_TILES:
                return

    def _plan(self, view: ArrayView, shard: tuple[int, ...], chunks: list[_Found]) -> ShardPlan:
        clean = {chunk: found for chunk, found in chunks if isinstance(found, Place)}
        dirty = [chunk for chunk, found in chunks if found is DIRTY]
        guess = sum(place.length for place in clean.values()) // len(clean) if clean else view.meta.dtype.itemsize
        sharded = view.grid.shards is not None
        is_shard = sharded and self._is_shard(view, shard, clean)
        return plan_shard(clean, dirty, guess, sharded=sharded, is_shard=is_shard)

    def _is_shard(self, view: ArrayView, shard: tuple[int, ...], clean: dict[tuple[int, ...], Place]) -> bool:
        """Whether these chunks lie in one file that ends with the index of this shard."""
        files = {place.segment for place in clean.values() if not place.inline}
        if len(files) != 1:
            return False
        segment = files.pop()
        with self._core.index.read() as connection:
            found = lookup.live_segments(connection, [segment]).get(segment)
        grid = view.grid
        box = grid.shard_box(shard)
        n_chunks = math.prod(high // chunk for high, chunk in zip(box.shape, grid.chunks, strict=True))
        length = shard_index_size(n_chunks)
        if found is None or found[1] < length:
            return False
        data = self._core.storage.read(segment_key(segment), found[1] - length, length)
        try:
            index = unpack_shard_index(data, n_chunks, found[1])
        except CorruptionError:
            return False  # another kind of segment
        lies = {chunk: entry for (chunk, _), entry in zip(grid.chunks_in(box), index, strict=True)}
        return all(lies[chunk] == (place.offset, place.length) for chunk, place in clean.items() if not place.inline)

    # --- writing --------------------------------------------------------------------------------

    def _take(self, job: _Job, data: bytes | None) -> None:
        """Write an encoded chunk; with the last one of a shard that is written whole, the shard's index."""
        shard = job.shard
        self.counts["chunks_merged" if job.copied is None else "chunks_copied"] += 1
        self.counts["bytes_read"] += 0 if job.copied is None else job.copied.length
        if data is not None:
            if shard.whole and shard.writer is None:
                shard.writer = self._new_writer()
            place = self._put(shard.writer or self._loose_writer(), data)
            shard.base.put(job.chunk, place)
            if shard.whole:
                shard.places[job.chunk] = place.offset, place.length
        shard.left -= 1
        self._throttle(0 if data is None else len(data))
        if not shard.left and shard.writer is not None:
            grid = shard.base.part.view.grid
            order = [chunk for chunk, _ in grid.chunks_in(grid.shard_box(shard.index))]
            shard.writer.append_shard_index([shard.places.get(chunk) for chunk in order])
            self._finish(shard.writer)

    def _put(self, writer: SegmentWriter, data: bytes) -> Place:
        offset, length, crc = writer.append(data)
        self.counts["bytes_written"] += length
        return Place(writer.segment, offset, length, crc, False)

    def _new_writer(self) -> SegmentWriter:
        writer = SegmentWriter(self._core.storage, 0, announce=self._core.announce)
        self._writers.append(writer)
        return writer

    def _loose_writer(self) -> SegmentWriter:
        if self._loose is not None and self._loose.size >= _SEGMENT_BYTES:
            self._finish(self._loose)
            self._loose = None
        if self._loose is None:
            self._loose = self._new_writer()
        return self._loose

    def _finish(self, writer: SegmentWriter) -> None:
        """Make a file durable as soon as it is complete: there may be more shards than we may open files."""
        size = writer.finish()
        if isinstance(size, int):
            self._finished[writer.segment] = size

    def finish(self) -> tuple[SegmentEdit, ...]:
        """Make all files durable; what a commit must be told of them."""
        if self._loose is not None:
            self._finish(self._loose)
            self._loose = None
        return tuple(SegmentEdit(segment, size) for segment, size in self._finished.items())

    def abort(self, cause: BaseException | None = None) -> None:
        """Remove what was written, but for what a commit needs after all.

        An exception out of a commit does not always mean that nothing has happened. So the index is asked first: a
        file that is still only announced becomes doomed, which no commit undoes, and goes then. But a full disk
        (`cause`) has taken no commit, and has no room for that question before the files are gone.
        """
        files = [writer for writer in self._writers if not writer.inline]
        full = isinstance(cause, StorageError) and cause.errno == errno.ENOSPC
        for writer in files:
            if full or writer.segment not in self._finished:
                with contextlib.suppress(TxStoreError):
                    writer.abort()
        with contextlib.suppress(TxStoreError):  # vacuum finds what is left, by its intent or as doomed
            ours = segments.doom_own(self._core.index, [writer.segment for writer in files])
            for writer in files:
                if writer.segment in ours:
                    writer.abort()
            segments.bury(self._core.index, ours)


def _by_shard(base: _Base) -> dict[tuple[int, ...], list[_Found]]:
    """The chunks to look at by shard; where there are no shards, all of them."""
    grid = base.part.view.grid
    if grid.shards is None:
        return {(): base.chunks}
    ratio = tuple(map(floordiv, grid.shards, grid.chunks))
    by_shard: dict[tuple[int, ...], list[_Found]] = {}
    for chunk, state in base.chunks:
        by_shard.setdefault(tuple(map(floordiv, chunk, ratio)), []).append((chunk, state))
    return by_shard


def _encoded(job: _Job) -> bytes | None:
    """The encoded form of a chunk; None where it is all fill."""
    view = job.shard.base.part.view
    if job.copied is not None:
        return view.fetch(job.copied)
    cells = view.read_chunk(job.chunk)
    if is_fill(cells, view.meta.fill_value):
        return None
    data = view.codec.encode(cells)
    # Encoded bytes are about to replace what they came from: read them back before anybody relies on them.
    again = _DECODED.take(cells.nbytes)
    view.codec.decode(data, cells.shape, again.view(cells.dtype).reshape(cells.shape))
    words = "u8" if cells.nbytes % 8 == 0 else "u1"
    if not np.array_equal(again.view(words), cells.reshape(-1).view("u1").view(words)):
        raise CorruptionError(f"array {view.path!r}: chunk {job.chunk} does not decode to what was encoded", job.chunk)
    return data


__all__ = ["Part", "Rewriter"]
