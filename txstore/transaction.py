"""A transaction: a snapshot, what is staged on top of it, and one atomic commit."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from txstore.commits import Commit
from txstore.core import Core, State, properties_text
from txstore.errors import (
    CommitUnknownError,
    TransactionClosedError,
    TxStoreError,
)
from txstore.group import Group
from txstore.index.commit import Committed, commit
from txstore.index.edits import AttributeEdit, Edit, ReadCells, Reads
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.nodes import StagedNodes
from txstore.pieces import Selection
from txstore.reader import ArrayView
from txstore.segment import Place
from txstore.snapshot import history
from txstore.stagedarray import StagedArray
from txstore.stagedsegments import StagedSegments
from txstore.tree import Writer
from txstore.writer import StagingWriter


class Transaction(Group):
    """A transaction: the root group as of its base, with what it has staged itself.

    Made by ``store.transaction()``. As a context manager it commits at the end and aborts on an exception.

    Notes
    -----
    Safe for threads: of overlapping writes the last call to return wins. Nothing is visible to others before
    :meth:`commit` returns; a crash at any point leaves nothing but, at most, files that vacuum takes.
    """

    def __init__(
        self,
        core: Core,
        state: State,
        timeline: Timeline,
        pin: int,
        *,
        txid: uuid.UUID,
        message: str | None,
        author: str | None,
        properties: Any,
        serializable: bool,
        overwrite: bool,
        allow_empty: bool,
    ) -> None:
        super().__init__(self)
        self._core = core
        self._state = state
        self._timeline = timeline
        self._pin: int | None = pin
        self._pid = os.getpid()
        self._txid = txid
        self._message = message
        self._author = author
        self._properties = properties_text(properties)
        self._overwrite = overwrite
        self._allow_empty = allow_empty
        self._reads = Reads() if serializable else None
        self._lock = threading.RLock()
        self._status = "open"
        self._commit_info: Commit | None = None
        self._nodes = StagedNodes(timeline, state.version)
        self._arrays: dict[int, StagedArray] = {}
        self._attributes: dict[tuple[int, str], tuple[str, str | None]] = {}
        self._segments = StagedSegments(core)
        self._source = core.source.with_staged(self._segments.read)
        core.open_transactions.add(self)

    # --- state ----------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The commit that the transaction started from."""
        return self._state.commit

    @property
    def branch(self) -> str:
        """The branch that it will commit to."""
        return self._state.branch_name

    @property
    def txid(self) -> uuid.UUID:
        """Its id; ``store.resolve(txid)`` says what became of it."""
        return self._txid

    @property
    def status(self) -> str:
        """``"open"``, ``"committed"``, ``"aborted"`` or ``"unknown"``."""
        return self._status

    @property
    def commit_info(self) -> Commit | None:
        """The commit; None before it, and where there was nothing to commit."""
        return self._commit_info

    def __repr__(self) -> str:
        return f"<txstore.Transaction {self._txid} on {self.branch!r} from version {self.version}: {self._status}>"

    def __enter__(self) -> Transaction:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status != "open":
            return
        if kind is None:
            self.commit()
        else:
            self.abort()

    def __del__(self) -> None:
        if getattr(self, "_status", "") == "open" and not self._core.closed and self._pid == os.getpid():
            warnings.warn(f"{self!r} was dropped without commit() or abort(): aborted", ResourceWarning, stacklevel=2)
            self.abort()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a transaction can't be pickled: its staged cells live in this process")

    def _check_open(self) -> None:
        self._core.check_open()
        if self._status != "open":
            raise TransactionClosedError(f"transaction {self._txid} is {self._status}; begin a new one")
        if self._pid != os.getpid():
            raise TransactionClosedError(
                f"transaction {self._txid} belongs to the process that this one was forked from; begin a new one"
            )

    # --- Tree -----------------------------------------------------------------------------------

    def child(self, parent: int, name: str) -> NodeRow | None:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(parent)
            row = self._nodes.child(parent, name)
            # Staged groups, too: a missing parent may turn out to be somebody else's.
            if self._reads is not None and (row is None or (parent >= 0 and row.id > 0)):
                self._reads.names.setdefault((parent, name), None if row is None else row.id)
            return row

    def children(self, parent: int) -> list[NodeRow]:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(parent)
            if self._reads is not None:
                self._reads.listings.add(parent)
            return self._nodes.children(parent)

    def all_nodes(self) -> dict[int, list[NodeRow]]:
        """See Tree."""
        with self._lock:
            self._check_open()
            below = self._nodes.all_nodes()
            if self._reads is not None:
                self._reads.listings.update(row.id for rows in below.values() for row in rows if row.kind == "group")
                self._reads.listings.add(0)
            return below

    def attribute_texts(self, node: int) -> dict[str, str]:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(node)
            if self._reads is not None:
                self._reads.attributes.add((node, None))
            texts = dict(self._timeline.attributes(node, self._state.version)) if node >= 0 else {}
            for (owner, key), (_, text) in self._attributes.items():
                if owner == node:
                    texts.pop(key, None)
                    if text is not None:
                        texts[key] = text
            return texts

    def attribute_text(self, node: int, key: str) -> str | None:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(node)
            staged = self._attributes.get((node, key))
            if staged is not None:
                return staged[1]
            if self._reads is not None:
                self._reads.attributes.add((node, key))
            if node < 0:
                return None
            return self._timeline.attributes(node, self._state.version).get(key)

    def view(self, row: NodeRow, path: str) -> ArrayView:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(row.id)
            staged = self._arrays.get(row.id)
            overlay = None if staged is None else staged.overlay
            core = self._core
            return ArrayView(self._timeline, self._state.version, row, path, self._source, core.pool, overlay)

    def observe(self, row: NodeRow, path: str, axes: tuple[bool, ...]) -> None:
        """See Tree: an append along an axis whose end was seen is pinned to where it was."""
        with self._lock:
            seen = {axis for axis, looked in enumerate(axes) if looked}
            self._staged(row, path).observed.update(seen)
            if self._reads is not None and row.id >= 0:
                self._reads.extents.setdefault(row.id, set()).update(seen)
                self._reads.paths[row.id] = path

    def note_read(self, row: NodeRow, path: str, selection: Selection) -> None:
        """See Tree."""
        if self._reads is None or row.id < 0 or selection.bounds is None:
            return
        staged = self._arrays.get(row.id)
        parts = [selection.bounds] if staged is None else staged.parts(selection.bounds)
        regions = [ReadCells(part) for part in parts]
        if selection.box is None:
            grid = self.view(row, path).grid
            pieces = [selection.pieces(grid.chunk_box(chunk)) for chunk, _ in selection.chunks(grid)]
            regions = [ReadCells(piece.box, np.packbits(piece.mask()).tobytes()) for piece in pieces if piece]
        if staged is not None:
            # What floats is this transaction's own; past an end that was only resized others may write as well.
            regions = [region for region in regions if not staged.floats(region.box)]
        with self._lock:
            self._reads.cells.setdefault(row.id, []).extend(regions)
            self._reads.paths[row.id] = path

    def writer(self, what: str) -> Writer:
        """See Tree."""
        self._check_open()
        return StagingWriter(self)

    def history(self, row: NodeRow, selection: Selection | None) -> list[Commit]:
        """See Tree."""
        return history(self._core, self.view(row, row.name), selection)

    def _staged(self, row: NodeRow, path: str) -> StagedArray:
        staged = self._arrays.get(row.id)
        if staged is None:
            view = self.view(row, path)
            staged = self._arrays[row.id] = StagedArray(row.id, path, view.grid, view.shape)
        return staged

    # --- staging --------------------------------------------------------------------------------

    def put(self, chunks: Sequence[Any]) -> list[Place]:
        """Append encoded tiles to the transaction's segment; see ``staging.Sink``."""
        self._check_open()
        return self._segments.put(chunks)

    # --- commit and abort -----------------------------------------------------------------------

    def commit(self) -> Commit | None:
        """Make everything staged visible, at once and durably.

        Returns
        -------
        Commit or None
            None where there was nothing to commit (and ``allow_empty`` was not given).

        Raises
        ------
        ConflictError
            If somebody else was first; the transaction is aborted.
        CommitUnknownError
            If the index can't be reached to find out; nothing is deleted, ``store.resolve(txid)`` settles it.
        StorageError
            If bytes or index could not be written; the transaction is aborted.
        TransactionClosedError
            If it is not open.
        """
        with self._lock:
            self._check_open()
            if self._core.read_only:
                self._core.require_writable("commit")
            try:
                done = self._commit()
            except CommitUnknownError:
                self._finish("unknown")
                raise
            except TxStoreError:
                self.abort()
                raise
            except BaseException:
                # An interrupt may have come after the commit had landed: then store.resolve(txid) tells.
                self._segments.abort()
                self._finish("unknown")
                raise
            self._finish("committed")
            return done

    def _commit(self) -> Commit | None:
        arrays = [staged for staged in self._arrays.values() if staged.changed]
        if not (arrays or self._nodes.edits or self._attributes or self._allow_empty):
            return None
        blob, segments = self._segments.finish()
        if blob is not None:
            for staged in arrays:
                staged.settle(blob[0])
        done = commit(
            self._core.index,
            Edit(
                self._txid.bytes,
                self._state.branch,
                self._state.branch_name,
                self._state.version,
                self._state.commit,
                self._author,
                self._message,
                self._properties,
                self._overwrite,
                tuple(self._nodes.edits),
                tuple(AttributeEdit(node, path, key, text) for (node, key), (path, text) in self._attributes.items()),
                tuple(staged.edit() for staged in arrays),
                reads=self._reads,
                blob=blob,
                segments=segments,
                bytes_written=self._segments.n_bytes,
            ),
            self._source.fetch,
        )
        return self._landed(done, arrays)

    def _landed(self, done: Committed, arrays: list[StagedArray]) -> Commit:
        assert done.row is not None
        if done.touched is not None:
            self._core.landed(self._state, done.row, done.touched)
        info = Commit.from_row(done.row, self._state.branch_name)
        boxes = iter(info.appended)
        for staged in arrays:
            for appended in staged.appends:
                appended.box = next(boxes)[1]
                appended.final = True
        self._commit_info = info
        return info

    def abort(self) -> None:
        """Drop everything staged, with its files; idempotent. After a commit it does nothing."""
        with self._lock:
            if self._status != "open":
                return
            if self._pid != os.getpid():
                self._status = "aborted"  # a forked child drops its copy; the transaction is its parent's
                return
            try:
                self._segments.abort()
            finally:
                self._finish("aborted")

    def _finish(self, status: str) -> None:
        self._status = status
        if self._pin is not None:
            # What has been committed stays committed: a pin that can't be let go only keeps more than is needed.
            with contextlib.suppress(TxStoreError):
                self._core.holder.unpin(self._pin)
            self._pin = None
        self._arrays.clear()
        self._core.open_transactions.discard(self)


__all__ = ["Transaction"]
