"""The encoded tiles of a transaction, until it commits."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Any

from txstore.core import Core
from txstore.errors import TxStoreError
from txstore.index import retention
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

    def abort(self) -> None:
        """Remove what was written. What can't be removed now is found by vacuum.

        An interrupt that comes out of a commit does not mean that nothing has happened. So where the file is complete
        the index is asked first: a file that is still only announced becomes doomed, which no commit undoes, and
        goes then; one that a commit needs stays. In a forked child the file is the parent's.
        """
        writer = self._writer
        if writer is None or self._pid != os.getpid():
            return
        with contextlib.suppress(TxStoreError):
            if self._complete:
                ours = retention.doom_own(self._core.index, [writer.segment])
                if ours:
                    writer.abort()
                    retention.bury(self._core.index, ours)
                return
            announced = not writer.inline
            writer.abort()
            if announced:
                self._core.withdraw([writer.segment])
