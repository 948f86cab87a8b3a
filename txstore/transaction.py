"""A transaction: a snapshot, what is staged on top of it, and one atomic commit."""

from __future__ import annotations

import contextlib
import json
import uuid
import warnings
from types import TracebackType
from typing import Any

from txstore.commits import Commit
from txstore.core import Core
from txstore.errors import CommitUnknownError, InvalidInputError, TxStoreError
from txstore.group import Group
from txstore.index.commit import Committed, commit
from txstore.index.commitlog import CommitRow
from txstore.index.edits import AttributeEdit, Edit, NodeDelete, Touched
from txstore.index.timeline import Timeline
from txstore.metadata import normalize_attribute
from txstore.stagedtree import StagedTree
from txstore.states import State


class Transaction(Group):
    """A transaction: the root group as of its base, with what it has staged itself.

    Made by ``store.transaction()``. As a context manager it commits at the end and aborts on an exception.

    Notes
    -----
    Safe for threads: of overlapping writes the last call to return wins. Nothing is visible to others before
    :meth:`commit` returns; a crash at any point leaves nothing but, at most, files that vacuum takes.
    """

    _tree: StagedTree

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
        self._properties = _properties_text(properties)  # may refuse: nothing is open before
        self._pin: int | None = pin
        self._in_doubt = False
        super().__init__(StagedTree(core, state, timeline, txid, serializable=serializable))
        self._message = message
        self._author = author
        self._overwrite = overwrite
        self._allow_empty = allow_empty
        self._landed: CommitRow | None = None
        self._commit_info: Commit | None = None
        core.open_transactions.add(self)

    # --- state ----------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The commit that the transaction started from."""
        return self._tree.state.commit

    @property
    def branch(self) -> str:
        """The branch that it will commit to."""
        return self._tree.state.branch_name

    @property
    def txid(self) -> uuid.UUID:
        """Its id; ``store.resolve(txid)`` says what became of it."""
        return self._tree.txid

    @property
    def status(self) -> str:
        """``"open"``, ``"committed"``, ``"aborted"`` or ``"unknown"``."""
        return self._tree.status

    @property
    def commit_info(self) -> Commit | None:
        """The commit; None before it, and where there was nothing to commit."""
        # Made when it is first asked for: most programs only want to know that it has landed.
        if self._commit_info is None and self._landed is not None:
            self._commit_info = Commit.from_row(self._landed, self.branch)
        return self._commit_info

    def __repr__(self) -> str:
        return f"<txstore.Transaction {self.txid} on {self.branch!r} from version {self.version}: {self.status}>"

    def __enter__(self) -> Transaction:
        self._tree.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.status != "open":
            return
        if kind is None:
            self._commit()
        else:
            self.abort()

    def __del__(self) -> None:
        tree = getattr(self, "_tree", None)
        if tree is None or tree.core.closed or tree.forked:
            return
        if tree.status != "open":
            if self._pin is not None:  # the handler of a signal has raised before it was let go
                self._finish(tree.status)
        else:
            warnings.warn(f"{self!r} was dropped without commit() or abort(): aborted", ResourceWarning, stacklevel=2)
            # The collector comes anywhere: this very thread may be about to take the store's lock, or to give it back.
            self._abort(wait=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._tree.__reduce__()  # refuses

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
        self._commit()
        return self.commit_info

    def _commit(self) -> None:
        with self._tree.lock:
            self._tree.check_open()
            if self._tree.core.read_only:
                self._tree.core.require_writable("commit")
            self._tree.core.tidy()
            self._in_doubt = True
            try:
                self._apply()
            except BaseException as error:
                if self._landed is not None:
                    # It is not about the commit: the handler of a signal that came meanwhile has raised it.
                    self._finish("committed")
                elif isinstance(error, CommitUnknownError):
                    self._finish("unknown")
                elif isinstance(error, TxStoreError):
                    self._in_doubt = False
                    self.abort()
                else:
                    # An interrupt may have come after the commit had landed: then store.resolve(txid) tells.
                    self._tree.segments.abort(certain=False)
                    self._finish("unknown")
                raise
            self._finish("committed")

    def _apply(self) -> None:
        tree = self._tree
        # An array that is made and deleted again was never there, and its cells neither.
        gone = {edit.node for edit in tree.nodes.edits if isinstance(edit, NodeDelete) and edit.node < 0}
        arrays = [staged for staged in tree.arrays.values() if staged.changed and staged.node not in gone]
        if not (arrays or tree.nodes.edits or tree.attributes or self._allow_empty):
            return
        blob, segments = tree.segments.finish()
        if blob is not None:
            for staged in arrays:
                staged.settle(blob[0])

        def landed(done: Committed) -> None:
            assert done.row is not None
            self._landed = done.row
            touched = Touched.decode(done.row.touched) if done.touched is None else done.touched
            boxes = iter(touched.appended)
            for staged in arrays:
                for appended in staged.appends:
                    appended.box = next(boxes)[1]
                    appended.final = True
            # Here, where no handler of a signal can come in between: whoever asks afterwards is to hear of it.
            tree.status = "committed"

        done = commit(
            tree.core.index,
            Edit(
                tree.txid.bytes,
                tree.state.branch,
                tree.state.branch_name,
                tree.state.version,
                tree.state.commit,
                self._author,
                self._message,
                self._properties,
                self._overwrite,
                tuple(tree.nodes.edits),
                tuple(AttributeEdit(node, path, key, text) for (node, key), (path, text) in tree.attributes.items()),
                tuple(staged.edit() for staged in arrays),
                reads=tree.reads,
                blob=blob,
                segments=segments,
                bytes_written=tree.segments.n_bytes,
            ),
            tree.source.fetch,
            landed,
        )
        if done.touched is not None:
            tree.core.landed(tree.state, done)

    def abort(self) -> None:
        """Drop everything staged, with its files; idempotent. After a commit it does nothing."""
        self._abort()

    def _abort(self, *, wait: bool = True) -> None:
        with self._tree.lock:
            if self._tree.status != "open":
                return
            if self._tree.forked:
                self._tree.status = "aborted"  # a forked child drops its copy; the transaction is its parent's
                return
            try:
                self._tree.segments.abort(certain=not self._in_doubt, wait=wait)
            finally:
                self._finish("aborted")

    def _finish(self, status: str) -> None:
        self._tree.status = status
        if self._pin is not None:
            # What has been committed stays committed: a pin that can't be let go only keeps more than is needed.
            with contextlib.suppress(TxStoreError):
                self._tree.core.holder.unpin(self._pin)
            self._pin = None
        self._tree.arrays.clear()
        self._tree.views.clear()
        self._tree.core.open_transactions.discard(self)


def _properties_text(properties: Any) -> str | None:
    """The JSON text of a commit's properties.

    Raises
    ------
    InvalidInputError
        If they are no mapping of text to what JSON can hold.
    """
    if properties is None:
        return None
    if not hasattr(properties, "items"):
        raise InvalidInputError(f"properties must be a mapping, not {type(properties).__name__}")
    return json.dumps({key: normalize_attribute(key, value) for key, value in properties.items()}, allow_nan=False)


__all__ = ["Transaction"]
