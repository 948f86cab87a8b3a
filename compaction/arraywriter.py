"""Writing the objects of one array: its chunks, or its shards."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import compress, groupby
from math import prod
from operator import floordiv
from typing import NamedTuple

from txstore.boxes import full
from txstore.compaction.chunkbytes import ChunkBytes, Encoded
from txstore.compaction.destination import Destination
from txstore.compaction.earlier import Earlier
from txstore.compaction.exportmeta import chunk_key
from txstore.compaction.exporttree import Options
from txstore.compaction.shardfile import ShardFile
from txstore.compaction.window import items_ahead, items_at_once, ordered
from txstore.storage import LocalStorage

#: After so many partitions the rows that were loaded for them are let go.
_PARTITIONS_KEPT = 32
#: To copy an object takes a fraction of what it takes to encode it.
_COPYING = 4
#: So many folders of an earlier export are worth waking a thread.
_FOLDERS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """One chunk or shard that must be written.

    Attributes
    ----------
    index : tuple of int
        Its coordinates in the grid of objects.
    chunks : tuple
        The coordinates of the chunks in it that may hold anything.
    """

    index: tuple[int, ...]
    chunks: tuple[tuple[int, ...], ...]


class Done(NamedTuple):
    """What became of some objects, and of those that the earlier export has in their place."""

    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    copied: int = 0
    encoded: int = 0


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
        self._earlier = earlier
        self._changes = None if earlier is None else earlier.changes
        shards, chunks = source.form.meta.shards, source.form.meta.chunks
        self._sharded = shards is not None
        #: Chunks along each axis of an object.
        self._ratio = tuple(map(floordiv, chunks if shards is None else shards, chunks))

    def count(self) -> int:
        """How many objects there are at most."""
        view = self.source.view
        if self.source.form.dense and not self._sharded and self._changes is None:
            return prod(-(-extent // chunk) for extent, chunk in zip(view.shape, view.grid.chunks, strict=True))
        kept = () if self._earlier is None else self._earlier.folders()
        return sum(len(names) for _, names, _ in kept) + sum(1 for _ in self.objects())

    @contextmanager
    def taken_over(self, pool: Executor, workers: int) -> Iterator[Iterator[Done]]:
        """Take over what is still true of the earlier export, a folder at a time: what became of each, in order.

        Notes
        -----
        As :meth:`written`. Links take the kernel longer than us, and are made by several threads.
        """
        folders = () if self._earlier is None else self._earlier.folders()
        with ordered(pool, self._take_over, folders, 2 * workers, _FOLDERS_AT_ONCE) as results:
            yield results

    def _take_over(self, found: tuple[str, list[str], int]) -> Done:
        folder, names, others = found
        assert self._earlier is not None
        if names:
            self._destination.take_over(f"{self._earlier.array.path}/{folder}", f"{self._path}/{folder}", names)
        return Done(unchanged=len(names), deleted=others)

    def objects(self) -> Iterator[ObjectPlan]:
        """Every object that may hold anything and is not taken over, partition by partition."""
        changes = self._changes
        for chunks in self._by_partition():
            found = self._by_object(chunks)
            if changes is None:
                yield from found
                continue
            for row, things in groupby(found, lambda thing: thing.index[:-1]):
                together = list(things)
                touched = changes.touched(row, [thing.index[-1] if thing.index else 0 for thing in together])
                yield from compress(together, touched)

    def _by_partition(self) -> Iterator[list[tuple[int, ...]]]:
        """The chunks that may hold anything, of each partition in which any must be written."""
        view, dense, changes = self.source.view, self.source.form.dense, self._changes
        if changes is not None and changes.none:
            return  # the index need not be asked
        loaded = 0
        for partition, box in view.grid.partitions_in(full(view.shape)) if dense else view.stored_partitions():
            if changes is not None and not changes.meet(box):
                continue
            loaded += 1
            if loaded % _PARTITIONS_KEPT == 0:
                view.timeline.forget(view.node)
            yield [chunk for chunk, _ in view.grid.chunks_in(box)] if dense else view.stored_in(partition)

    def _by_object(self, chunks: list[tuple[int, ...]]) -> Iterator[ObjectPlan]:
        if not self._sharded:
            return (ObjectPlan(chunk, (chunk,)) for chunk in chunks)
        by_shard: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for chunk in chunks:
            by_shard.setdefault(tuple(map(floordiv, chunk, self._ratio)), []).append(chunk)
        return (ObjectPlan(shard, tuple(by_shard[shard])) for shard in sorted(by_shard))

    @contextmanager
    def written(self, pool: Executor, workers: int) -> Iterator[Iterator[Done]]:
        """Write every object, by a pool of so many threads: what became of each, in order.

        Notes
        -----
        When the block is left, nothing is running any more. Where only one thread may write, it is the caller's.
        """
        source, objects = self.source, self.objects()
        if self._destination.parallel:
            # No batch takes more memory than one of its objects at a time.
            at_once = items_at_once(source.chunk_bytes * prod(self._ratio) // (_COPYING if source.form.copies else 1))
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
        """The same; an object of the earlier export is not gone when another takes its place."""
        replaces = self._earlier is not None and done.written and self._earlier.holds(key)
        return done._replace(deleted=-1) if replaces else done


__all__ = ["ArrayWriter", "Done", "ObjectPlan"]
