"""Writes the tiles of one partition's base: what is clean is taken over or copied, what is dirty merged and encoded."""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Callable
from concurrent.futures import Executor

from txstore.boxes import Box
from txstore.compaction.planner import ShardPlan, plan_shard
from txstore.core import Core
from txstore.directory import Directory
from txstore.errors import CorruptionError, StorageError, TxStoreError
from txstore.fragment import Fragment, Frame
from txstore.grid import TileGrid
from txstore.index import lookup, retention
from txstore.index.edits import SegmentEdit
from txstore.reader import ArrayView
from txstore.segment import Kind, Place, SegmentWriter
from txstore.shardindex import shard_index_size, unpack_shard_index
from txstore.staging import is_fill
from txstore.storage import segment_key
from txstore.storedarray import DIRTY

#: A segment of merged tiles is closed beyond this size, so that garbage can be let go in parts.
_SEGMENT_BYTES = 256 << 20


class Rewriter:
    """Writes the tiles of one partition's base.

    Parameters
    ----------
    core : Core
        The store.
    view : ArrayView
        The array at the version that is compacted.
    executor : Executor or None
        Reads and encodes; the store's own threads by default.
    throttle : callable or None
        Told how many bytes were just written, 0 between steps; may sleep, and raise to end the work.

    Attributes
    ----------
    counts : dict of str to int
        Of the tiles kept, copied and merged, and the encoded bytes read and written.

    Notes
    -----
    Stays with one thread. Until a commit has named them, its files are announced by this process: what a crash
    leaves is found by the next vacuum, and :meth:`abort` leaves nothing.
    """

    def __init__(
        self, core: Core, view: ArrayView, executor: Executor | None, throttle: Callable[[int], None] | None
    ) -> None:
        self._core = core
        self._view = view
        self._pool = executor or core.pool
        self._throttle = throttle or (lambda _: None)
        self._writers: list[SegmentWriter] = []
        self._finished: dict[bytes, int] = {}
        self._loose: SegmentWriter | None = None
        self.counts = dict.fromkeys(("chunks_kept", "chunks_copied", "chunks_merged", "bytes_read", "bytes_written"), 0)

    def rewrite(self, clip: Box, frame: Box) -> Fragment:
        """Every chunk of the partition as a tile; returns the base."""
        view = self._view
        tiles = TileGrid(frame, (0,) * len(frame.lo), view.grid.chunks)
        places: list[Place | None] = [None] * tiles.size
        by_shard: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        block = view.grid.shards or view.grid.partition
        for chunk in view.stored_in(view.grid.partition_of(view.grid.chunk_index(clip.lo)), clip):
            shard = tuple(
                index * extent // cells for index, extent, cells in zip(chunk, view.grid.chunks, block, strict=True)
            )
            by_shard.setdefault(shard, []).append(chunk)
        for shard, chunks in by_shard.items():
            for chunk, place in self._shard(shard, chunks).items():
                places[tiles.flat_index(chunk)] = place
        still = (0,) * len(frame.lo)
        return Fragment(
            0, 0, Kind.SET, False, clip, Frame(frame, still, still), Directory.tiles(places), view.meta.dtype.itemsize
        )

    def _shard(self, shard: tuple[int, ...], chunks: list[tuple[int, ...]]) -> dict[tuple[int, ...], Place | None]:
        view = self._view
        clean: dict[tuple[int, ...], Place] = {}
        dirty: list[tuple[int, ...]] = []
        for chunk in chunks:
            self._throttle(0)
            found = view.chunk(chunk)
            if found is DIRTY:
                dirty.append(chunk)
            elif isinstance(found, Place):
                clean[chunk] = found
        guess = sum(place.length for place in clean.values()) // len(clean) if clean else view.meta.dtype.itemsize
        sharded = view.grid.shards is not None
        plan = plan_shard(clean, dirty, guess, sharded=sharded, is_shard=sharded and self._is_shard(shard, clean))
        return self._write(shard, plan)

    def _is_shard(self, shard: tuple[int, ...], clean: dict[tuple[int, ...], Place]) -> bool:
        """Whether these chunks lie in one file that ends with the index of this shard."""
        segments = {place.segment for place in clean.values() if not place.inline}
        if len(segments) != 1:
            return False
        segment = segments.pop()
        with self._core.index.read() as connection:
            found = lookup.live_segments(connection, [segment]).get(segment)
        grid = self._view.grid
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
                copied = plan.copied.get(chunk)
                self.counts["chunks_merged" if copied is None else "chunks_copied"] += 1
                self.counts["bytes_read"] += 0 if copied is None else copied.length
                found[chunk] = None if data is None else self._put(writer, data)
                self._throttle(0 if data is None else len(data))
            if not plan.whole:
                writer = self._writer(whole=False)
        if plan.whole:
            if not writer.empty:
                grid = self._view.grid
                index = [found.get(chunk) for chunk, _ in grid.chunks_in(grid.shard_box(shard))]
                writer.append_shard_index([None if place is None else (place.offset, place.length) for place in index])
            self._finish(writer)
        return found

    def _encoded(self, chunk: tuple[int, ...], plan: ShardPlan) -> bytes | None:
        view = self._view
        place = plan.copied.get(chunk)
        if place is not None:
            return view.fetch(place)
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
        if not whole and self._loose is not None:
            if self._loose.size < _SEGMENT_BYTES:
                return self._loose
            self._finish(self._loose)
        writer = SegmentWriter(self._core.storage, 0, announce=self._core.announce)
        self._writers.append(writer)
        if not whole:
            self._loose = writer
        return writer

    def _finish(self, writer: SegmentWriter) -> None:
        """Make a file durable as soon as it is complete: a partition may have more shards than we may open files."""
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
            ours = retention.doom_own(self._core.index, [writer.segment for writer in files])
            for writer in files:
                if writer.segment in ours:
                    writer.abort()
            retention.bury(self._core.index, ours)


__all__ = ["Rewriter"]
