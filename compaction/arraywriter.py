"""Writing the objects of one array: its chunks, or its shards."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import prod
from operator import floordiv
from typing import NamedTuple

from txstore.boxes import full
from txstore.compaction.chunkbytes import ChunkBytes, Encoded
from txstore.compaction.destination import Destination
from txstore.compaction.exportmeta import chunk_index, chunk_key
from txstore.compaction.exporttree import Options
from txstore.compaction.incremental import Changes
from txstore.compaction.marker import Exported, objects_of
from txstore.compaction.shardfile import ShardFile
from txstore.compaction.window import items_ahead, items_at_once, ordered
from txstore.grid import Grid
from txstore.reader import ArrayView
from txstore.storage import LocalStorage

#: After so many partitions the rows that were loaded for them are let go.
_PARTITIONS_KEPT = 32


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """One chunk or shard.

    Attributes
    ----------
    index : tuple of int
        Its coordinates in the grid of objects.
    chunks : tuple
        The coordinates of the chunks in it that may hold anything.
    changed : bool
        Whether it must be written; if not, it is taken over from the earlier export.
    """

    index: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]
    changed: bool


class Done(NamedTuple):
    """What became of one object."""

    written: int = 0
    unchanged: int = 0
    replaced: int = 0
    copied: int = 0
    encoded: int = 0


class Earlier(NamedTuple):
    """The same array in the export that is brought up to date.

    Attributes
    ----------
    array : Exported
        Where it lies there.
    changes : Changes or None
        Which of its chunks may differ from there; None: all.
    """

    array: Exported
    changes: Changes | None


class ArrayWriter:
    """Writes the objects of one array.

    Parameters
    ----------
    path : str
        Where the array lies in the export.
    source : ChunkBytes
        Its chunks.
    storage : LocalStorage
        Where segments lie.
    earlier : Earlier or None
        What there is of it in the earlier export.

    Notes
    -----
    Used by one thread, which has others write.
    """

    def __init__(
        self,
        path: str,
        source: ChunkBytes,
        storage: LocalStorage,
        options: Options,
        destination: Destination,
        earlier: Earlier | None,
    ) -> None:
        self.source = source
        self._path = path
        self._storage = storage
        self._format = options.zarr_format
        self._destination = destination
        self._old = None if earlier is None else earlier.array
        self._changes = None if earlier is None else earlier.changes
        shards, chunks = source.form.meta.shards, source.form.meta.chunks
        self._sharded = shards is not None
        #: Chunks along each axis of an object.
        self._ratio = tuple(map(floordiv, chunks if shards is None else shards, chunks))

    def count(self) -> int:
        """How many objects there are at most."""
        view = self.source.view
        if self._untouched:
            return sum(1 for _ in self._old_objects())
        if self.source.form.dense and not self._sharded:
            return prod(-(-extent // chunk) for extent, chunk in zip(view.shape, view.grid.chunks, strict=True))
        return sum(1 for _ in self._grouped())

    def objects(self) -> Iterator[ObjectPlan]:
        """Every object that may hold anything, partition by partition."""
        if self._untouched:
            yield from self._old_objects()
            return
        changes, view = self._changes, self.source.view
        grid = Grid(view.grid.chunks, self.source.form.meta.shards, view.grid.partition)
        for index, chunks in self._grouped():
            changed = changes is None or changes.touch(chunks, grid.shard_box(index))
            yield ObjectPlan(index, chunks, changed)

    @property
    def _untouched(self) -> bool:
        """Whether what there is already is all, so that the index need not be asked."""
        if self._old is None or self._changes is None or not self._changes.none:
            return False
        return not self.source.form.dense or self._old.shape == self.source.view.shape

    def _old_objects(self) -> Iterator[ObjectPlan]:
        assert self._old is not None
        ndim = len(self._ratio)
        for key in objects_of(self._destination.final, self._old):
            index = chunk_index(key, self._format, ndim)
            if index is not None:
                yield ObjectPlan(index, (), False)

    def _grouped(self) -> Iterator[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]:
        """The chunks that may hold anything, by object."""
        view = self.source.view
        everything = _every_chunk(view) if self.source.form.dense else view.stored_chunks()
        for number, (_, chunks) in enumerate(groupby(everything, view.grid.partition_of)):
            if number % _PARTITIONS_KEPT == _PARTITIONS_KEPT - 1:
                view.timeline.forget(view.node)
            if not self._sharded:
                yield from ((chunk, (chunk,)) for chunk in chunks)
                continue
            by_shard: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
            for chunk in chunks:
                by_shard.setdefault(tuple(map(floordiv, chunk, self._ratio)), []).append(chunk)
            yield from ((shard, tuple(by_shard[shard])) for shard in sorted(by_shard))

    @contextmanager
    def written(self, pool: Executor, workers: int) -> Iterator[Iterator[Done]]:
        """Write every object, by a pool of so many threads: what became of each, in order.

        Notes
        -----
        When the block is left, nothing is running any more. Where only one thread may write, it is the caller's.
        """
        source, objects = self.source, self.objects()
        if self._destination.parallel:
            at_once = items_at_once(source.chunk_bytes * prod(self._ratio))
            # No batch takes more memory than one of its objects at a time.
            ahead = min(items_ahead(source.chunk_bytes, workers), 2 * workers)
            with ordered(pool, self._write, objects, ahead, at_once) as results:
                yield results
            return
        at_once = items_at_once(source.chunk_bytes)
        ahead = items_ahead(source.chunk_bytes * at_once, workers)
        if self._sharded:
            with closing(self._shards_in_order(pool, objects, ahead, at_once)) as results:
                yield results
            return
        with ordered(pool, lambda thing: (thing, source.encoded(thing.index)), objects, ahead, at_once) as made:
            yield (self._write_chunk(chunk_key(thing.index, self._format), encoded) for thing, encoded in made)

    def _shards_in_order(
        self, pool: Executor, objects: Iterator[ObjectPlan], ahead: int, at_once: int
    ) -> Generator[Done, None, None]:
        for thing in objects:
            with ordered(pool, self.source.encoded, thing.chunks, ahead, at_once) as encoded:
                yield self._write_shard(thing, chunk_key(thing.index, self._format), encoded)

    def _write(self, thing: ObjectPlan) -> Done:
        key = chunk_key(thing.index, self._format)
        if not thing.changed:
            assert self._old is not None
            if self._destination.take_over(f"{self._old.path}/{key}", f"{self._path}/{key}"):
                return Done(unchanged=1)
            # It held nothing but fill then and does so now; only of what has to be dense there may be more.
            if not self.source.form.dense:
                return Done()
        if self._sharded:
            done = self._write_shard(thing, key, map(self.source.encoded, thing.chunks))
        else:
            done = self._write_chunk(key, self.source.encoded(thing.index))
        return self._noted(done, key)

    def _write_chunk(self, key: str, encoded: Encoded | None) -> Done:
        if encoded is None:
            return Done()
        self._destination.put(f"{self._path}/{key}", encoded.data)
        size = len(encoded.data)
        return Done(written=1, copied=size if encoded.copied else 0, encoded=0 if encoded.copied else size)

    def _write_shard(self, thing: ObjectPlan, key: str, encoded: Iterable[Encoded | None]) -> Done:
        shard = ShardFile(self._ratio, thing.index, thing.chunks)
        whole = shard.clone(self.source, self._storage, self._destination, f"{self._path}/{key}")
        if whole:
            return Done(written=1, copied=whole)
        copied, made = shard.write(encoded, self._destination, f"{self._path}/{key}")
        return Done(written=int(copied + made > 0), copied=copied, encoded=made)

    def _noted(self, done: Done, key: str) -> Done:
        """The same, with whether it takes the place of an object of the earlier export."""
        if self._old is None or not done.written:
            return done
        return done._replace(replaced=int(os.path.lexists(os.path.join(self._destination.final, self._old.path, key))))


def _every_chunk(view: ArrayView) -> Iterator[tuple[int, ...]]:
    for _, part in view.grid.partitions_in(full(view.shape)):
        for chunk, _ in view.grid.chunks_in(part):
            yield chunk


__all__ = ["ArrayWriter", "Done", "Earlier", "ObjectPlan"]
