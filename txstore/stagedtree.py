"""The store as a transaction sees it: the version that it started from, under what it has staged."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from txstore.commits import Commit
from txstore.core import Core
from txstore.descriptors import renew_in_children
from txstore.errors import TransactionClosedError
from txstore.index.edits import ReadCells, Reads
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.nodes import StagedNodes
from txstore.pieces import Selection
from txstore.reader import ArrayView
from txstore.segment import Place
from txstore.snapshot import history
from txstore.stagedarray import StagedArray
from txstore.stagedsegments import StagedSegments
from txstore.states import State
from txstore.tree import Writer
from txstore.writer import StagingWriter


class StagedTree:
    """What a transaction has staged and, if it is serializable, read.

    Parameters
    ----------
    core : Core
        The store.
    state : State
        The version that the transaction starts from.
    timeline : Timeline
        Its branch.
    txid : UUID
        For messages.
    serializable : bool
        Whether to note what is read.

    Notes
    -----
    Safe for threads: :attr:`lock` protects every field. Handles hold this and not the Transaction, so that one whose
    last reference goes is aborted at once, whoever still has a handle.
    """

    def __init__(self, core: Core, state: State, timeline: Timeline, txid: uuid.UUID, *, serializable: bool) -> None:
        self.core = core
        self.state = state
        self.txid = txid
        self.status = "open"
        self.lock = threading.RLock()
        self.nodes = StagedNodes(timeline, state.version)
        self.arrays: dict[int, StagedArray] = {}
        self.attributes: dict[tuple[int, str], tuple[str, str | None]] = {}
        self.segments = StagedSegments(core)
        self.source = core.source.with_staged(self.segments.read)
        self.reads = Reads() if serializable else None
        self._timeline = timeline
        self.views: dict[int, ArrayView] = {}
        #: Whether this process is a fork of the one that the transaction belongs to.
        self.forked = False
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child, where nothing can be done with it: but who tries must be told, and not wait for ever."""
        self.lock = threading.RLock()
        self.forked = True

    def check_open(self) -> None:
        """Raise TransactionClosedError after the end of the transaction, and in a forked child."""
        if self.status == "open" and not self.forked and not self.core.closed:
            return
        self.core.check_open()
        if self.status != "open":
            raise TransactionClosedError(f"transaction {self.txid} is {self.status}; begin a new one")
        raise TransactionClosedError(
            f"transaction {self.txid} belongs to the process that this one was forked from; begin a new one"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a transaction can't be pickled: its staged cells live in this process")

    # --- Tree -----------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """See Tree."""
        return self.state.commit

    def child(self, parent: int, name: str) -> NodeRow | None:
        """See Tree."""
        with self.lock:
            self.check_open()
            self.nodes.require(parent)
            row = self.nodes.child(parent, name)
            # Staged groups, too: a missing parent may turn out to be somebody else's.
            if self.reads is not None and (row is None or (parent >= 0 and row.id > 0)):
                self.reads.names.setdefault((parent, name), None if row is None else row.id)
            return row

    def children(self, parent: int) -> list[NodeRow]:
        """See Tree."""
        with self.lock:
            self.check_open()
            self.nodes.require(parent)
            if self.reads is not None:
                self.reads.listings.add(parent)
            return self.nodes.children(parent)

    def all_nodes(self) -> dict[int, list[NodeRow]]:
        """See Tree."""
        with self.lock:
            self.check_open()
            below = self.nodes.all_nodes()
            if self.reads is not None:
                self.reads.listings.update(row.id for rows in below.values() for row in rows if row.kind == "group")
                self.reads.listings.add(0)
            return below

    def attribute_texts(self, node: int) -> dict[str, str]:
        """See Tree."""
        with self.lock:
            self.check_open()
            self.nodes.require(node)
            if self.reads is not None:
                self.reads.attributes.add((node, None))
            texts = dict(self._timeline.attributes(node, self.state.version)) if node >= 0 else {}
            for (owner, key), (_, text) in self.attributes.items():
                if owner == node and text is not None:
                    texts[key] = text  # where it was, if it was there, as in a dict
                elif owner == node:
                    texts.pop(key, None)
            return texts

    def attribute_text(self, node: int, key: str) -> str | None:
        """See Tree."""
        with self.lock:
            self.check_open()
            self.nodes.require(node)
            staged = self.attributes.get((node, key))
            if staged is not None:
                return staged[1]
            if self.reads is not None:
                self.reads.attributes.add((node, key))
            if node < 0:
                return None
            return self._timeline.attributes(node, self.state.version).get(key)

    def view(self, row: NodeRow, path: str) -> ArrayView:
        """See Tree."""
        with self.lock:
            self.check_open()
            self.nodes.require(row.id)
            staged = self.arrays.get(row.id)
            overlay = None if staged is None else staged.overlay
            view = self.views.get(row.id)
            # An overlay is replaced when the shape changes; what it holds may grow under a view.
            if view is None or view.row is not row or view.path != path or view.overlay is not overlay:
                core = self.core
                view = ArrayView(self._timeline, self.state.version, row, path, self.source, core.crew, overlay)
                self.views[row.id] = view
            return view

    def observe(self, row: NodeRow, path: str, axes: tuple[bool, ...]) -> None:
        """See Tree: an append along an axis whose end was seen is pinned to where it was."""
        with self.lock:
            seen = {axis for axis, looked in enumerate(axes) if looked}
            self.staged(row, path).observed.update(seen)
            if self.reads is not None and row.id >= 0:
                self.reads.extents.setdefault(row.id, set()).update(seen)
                self.reads.paths[row.id] = path

    def note_read(self, row: NodeRow, path: str, selection: Selection) -> None:
        """See Tree."""
        if self.reads is None or row.id < 0 or selection.bounds is None:
            return
        staged = self.arrays.get(row.id)
        parts = [selection.bounds] if staged is None else staged.parts(selection.bounds)
        regions = [ReadCells(part) for part in parts]
        if selection.box is None:
            grid = self.view(row, path).grid
            pieces = [selection.pieces(grid.chunk_box(chunk)) for chunk, _ in selection.chunks(grid)]
            regions = [ReadCells(piece.box, np.packbits(piece.mask()).tobytes()) for piece in pieces if piece]
        if staged is not None:
            # What floats is this transaction's own; past an end that was only resized others may write as well.
            regions = [region for region in regions if not staged.floats(region.box)]
        with self.lock:
            self.reads.cells.setdefault(row.id, []).extend(regions)
            self.reads.paths[row.id] = path

    def writer(self, what: str) -> Writer:
        """See Tree."""
        self.check_open()
        return StagingWriter(self)

    def history(self, row: NodeRow, selection: Selection | None) -> list[Commit]:
        """See Tree."""
        return history(self.core, self.view(row, row.name), selection)

    # --- staging --------------------------------------------------------------------------------

    def staged(self, row: NodeRow, path: str) -> StagedArray:
        """What has been done to an array so far; the caller holds :attr:`lock`."""
        staged = self.arrays.get(row.id)
        if staged is None:
            view = self.view(row, path)
            staged = self.arrays[row.id] = StagedArray(row.id, path, view.grid, view.shape)
        return staged

    def put(self, chunks: Sequence[Any]) -> list[Place]:
        """Append encoded tiles to the transaction's segment; see ``staging.Sink``."""
        self.check_open()
        return self.segments.put(chunks)


__all__ = ["StagedTree"]
