"""The encoded tiles of a transaction, until it commits."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from txstore.core import Core
from txstore.errors import TxStoreError
from txstore.index import segments
from txstore.index.edits import SegmentEdit
from txstore.segment import Place, SegmentWriter


class StagedSegments:
    """One segment, in memory while it is small and a file, announced to the index, from then on.

    Parameters
    ----------
    core : Core
        The store.

    Notes
    -----
    Safe for threads. What a dead process leaves is found by vacuum, by its announcement.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._writer: SegmentWriter | None = None
        self._complete = False  # a file that a commit may name
        #: Encoded bytes so far.
        self.n_bytes = 0

    def put(self, chunks: Sequence[Any]) -> list[Place]:
        """Append encoded tiles; see ``staging.Sink``.

        Raises
        ------
        StorageError
            If they can't be written.
        """
        with self._lock:
            if self._writer is None:
                core = self._core
                self._writer = SegmentWriter(core.storage, core.inline_bytes, announce=core.announce)
            writer = self._writer
        places = []
        for data in chunks:
            offset, length, crc = writer.append(data)
            places.append(Place(writer.segment, offset, length, crc, False))
        with self._lock:
            self.n_bytes += sum(place.length for place in places)
        return places

    def read(self, place: Place) -> bytes | None:
        """The bytes at a place; None where it is not of this transaction."""
        writer = self._writer
        if writer is None or place.segment != writer.segment:
            return None
        return writer.read(place.offset, place.length)

    def finish(self) -> tuple[tuple[bytes, bytes] | None, tuple[SegmentEdit, ...]]:
        """Make everything durable: ((segment, bytes) for the index, or None; files).

        Raises
        ------
        StorageError
            If that failed.
        """
        writer = self._writer
        if writer is None:
            return None, ()
        result = writer.finish()
        if isinstance(result, int):
            self._complete = True
            return None, (SegmentEdit(writer.segment, result),)
        return ((writer.segment, result) if result else None), ()

    def abort(self, *, certain: bool = True, wait: bool = True) -> None:
        """Remove what was written. What can't be removed now is found by vacuum. In a forked child it is the parent's.

        Parameters
        ----------
        certain : bool
            Whether no commit has landed that names the file, nor ever will. An interrupt that comes out of a commit
            does not say so: then a file that is still only announced is doomed first, which no commit undoes, and
            one that a commit needs stays.
        wait : bool
            Whether the store's lock may be waited for: not in a finalizer. What needs it is done later then.
        """
        writer = self._writer
        if writer is None or self._pid != os.getpid():
            return
        index = self._core.index
        with contextlib.suppress(TxStoreError):
            if self._complete and not certain:
                if not wait:
                    self._core.later(partial(self.abort, certain=False))
                    return
                ours = segments.doom_own(index, [writer.segment])
                if ours:
                    writer.abort()
                    segments.bury(index, ours)
                return
            # Where the disk is full, the file has to go before the index can be told.
            announced = not writer.inline
            writer.abort()
            if announced and wait:
                self._core.withdraw([writer.segment])
            elif announced:
                self._core.later(partial(self._core.withdraw, [writer.segment]))
