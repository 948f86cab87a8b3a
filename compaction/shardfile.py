"""One Zarr v3 shard: encoded chunks back to back and then their index, or a segment that is that already."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from math import prod
from operator import mod

from txstore.compaction.chunkbytes import ChunkBytes, Encoded
from txstore.compaction.destination import Destination, Writer
from txstore.errors import CorruptionError
from txstore.segment import Place
from txstore.shardindex import pack_shard_index, shard_index_size, unpack_shard_index
from txstore.storage import LocalStorage, segment_key


class ShardFile:
    """Assembles a shard.

    Parameters
    ----------
    counts : tuple of int
        Chunks along each axis of a shard.
    index : tuple of int
        The shard's coordinates.
    chunks : tuple
        The coordinates, in the array, of the chunks in it that may hold anything.
    """

    def __init__(self, counts: tuple[int, ...], index: tuple[int, ...], chunks: tuple[tuple[int, ...], ...]) -> None:
        self._counts = counts
        self._chunks = chunks
        self.n_chunks = prod(counts)

    def _position(self, chunk: tuple[int, ...]) -> int:
        """The number of a chunk in the shard's index, in C order."""
        flat = 0
        for place, count in zip(map(mod, chunk, self._counts), self._counts, strict=True):
            flat = flat * count + place
        return flat

    def write(self, encoded: Iterable[Encoded | None], destination: Destination, key: str) -> tuple[int, int]:
        """Write the shard, from the encoded forms of its chunks in order; nothing where all of them are None.

        Returns
        -------
        tuple of int
            Bytes copied and bytes encoded, without the index.
        """
        places: list[tuple[int, int] | None] = [None] * self.n_chunks
        copied = made = 0
        with ExitStack() as stack:
            writer: Writer | None = None
            for chunk, found in zip(self._chunks, encoded, strict=True):
                if found is None:
                    continue
                if writer is None:
                    writer = stack.enter_context(destination.begin(key))
                size = len(found.data)
                places[self._position(chunk)] = copied + made, size
                writer.write(found.data)
                if found.copied:
                    copied += size
                else:
                    made += size
            if writer is not None:
                writer.write(pack_shard_index(places))
        return copied, made

    def clone(self, source: ChunkBytes, storage: LocalStorage, destination: Destination, key: str) -> int:
        """Let the shard share the blocks of a segment that is exactly it; how many bytes, or 0 where there is none.

        Notes
        -----
        Every chunk is read and checked all the same: what does not match its checksum must not go out.
        """
        if not destination.clones or not source.form.copies:
            return 0
        return source.retrying(lambda: self._clone(source, storage, destination, key))

    def _clone(self, source: ChunkBytes, storage: LocalStorage, destination: Destination, key: str) -> int:
        places = []
        expected: list[tuple[int, int] | None] = [None] * self.n_chunks
        for chunk in self._chunks:
            found = source.view.chunk(chunk)
            if isinstance(found, Place) and not found.inline:
                expected[self._position(chunk)] = found.offset, found.length
                places.append(found)
            elif found is not None:
                return 0
        if len({place.segment for place in places}) != 1:
            return 0
        segment = segment_key(places[0].segment)
        size, trailer = storage.size(segment), shard_index_size(self.n_chunks)
        if size is None or size < trailer:
            return 0
        try:
            index = unpack_shard_index(storage.read(segment, size - trailer, trailer), self.n_chunks, size)
        except CorruptionError:
            return 0  # these bytes are no index, but whatever comes last in the segment
        if index != expected:
            return 0
        for place in places:
            source.view.source.fetch(place)
        return size if destination.clone(os.path.join(storage.root, segment), key) else 0


__all__ = ["ShardFile"]
