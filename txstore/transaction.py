"""A transaction: a snapshot, what is staged on top of it, and one atomic commit."""

from __future__ import annotations

import contextlib
import threading
import uuid
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from txstore.array import Array
from txstore.boxes import Box
from txstore.casting import cast
from txstore.commits import Appended, Commit
from txstore.core import Core, State, properties_text
from txstore.creation import new_array
from txstore.errors import (
    CommitUnknownError,
    DTypeError,
    InvalidInputError,
    TransactionClosedError,
    TxStoreError,
)
from txstore.fragment import Fragment
from txstore.grid import Grid
from txstore.group import Group
from txstore.index.commit import Committed, commit
from txstore.index.edits import AttributeEdit, Edit, ReadCells, Reads, SegmentEdit
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline, partition_extent
from txstore.jsonvalues import normalize_attribute
from txstore.nodes import StagedNodes
from txstore.pieces import Selection
from txstore.reader import ArrayView
from txstore.segment import Kind, Place, SegmentWriter
from txstore.selection import parse_basic
from txstore.snapshot import history
from txstore.stagedarray import StagedArray
from txstore.staging import Target, stage_box, stage_fill, stage_masked
from txstore.tree import Writer

_OPERATIONS = {"add": Kind.ADD, "min": Kind.MIN, "max": Kind.MAX}


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
        self._segments: dict[bytes, SegmentWriter] = {}
        self._writer_now: SegmentWriter | None = None
        self._written = 0
        self._source = core.source.with_staged(self._staged_bytes)
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
        if getattr(self, "_status", "") == "open" and not self._core.closed:
            warnings.warn(f"{self!r} was dropped without commit() or abort(): aborted", ResourceWarning, stacklevel=2)
            self.abort()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a transaction can't be pickled: its staged cells live in this process")

    def _check_open(self) -> None:
        self._core.check_open()
        if self._status != "open":
            raise TransactionClosedError(f"transaction {self._txid} is {self._status}; begin a new one")

    # --- Tree -----------------------------------------------------------------------------------

    def child(self, parent: int, name: str) -> NodeRow | None:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(parent)
            row = self._nodes.child(parent, name)
            if self._reads is not None and parent >= 0 and (row is None or row.id > 0):
                self._reads.names.setdefault((parent, name), None if row is None else row.id)
            return row

    def children(self, parent: int) -> list[NodeRow]:
        """See Tree."""
        with self._lock:
            self._check_open()
            self._nodes.require(parent)
            if self._reads is not None and parent >= 0:
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
            if self._reads is not None and node >= 0:
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
            if node < 0:
                return None
            if self._reads is not None:
                self._reads.attributes.add((node, key))
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
        base = self._view_of(row, path).shape if staged is None else staged.base_shape
        if any(low >= end for low, end in zip(selection.bounds.lo, base, strict=True)):
            return  # past the base's end lies only what this transaction has put there
        mask = None
        if selection.box is None:
            piece = selection.pieces(selection.bounds)
            if piece is not None:
                cells = np.zeros(selection.bounds.shape, bool)
                cells[piece.box.slices(selection.bounds.lo)] = piece.mask()
                mask = np.packbits(cells).tobytes()
        with self._lock:
            self._reads.cells.setdefault(row.id, []).append(ReadCells(selection.bounds, mask))
            self._reads.paths[row.id] = path

    def writer(self, what: str) -> Writer:
        """See Tree."""
        self._check_open()
        return _Writer(self)

    def history(self, row: NodeRow, selection: Selection | None) -> list[Commit]:
        """See Tree."""
        return history(self._core, self._view_of(row, row.name), selection)

    def _view_of(self, row: NodeRow, path: str) -> ArrayView:
        return self.view(row, path)

    def _staged(self, row: NodeRow, path: str) -> StagedArray:
        staged = self._arrays.get(row.id)
        if staged is None:
            view = self.view(row, path)
            staged = self._arrays[row.id] = StagedArray(row.id, path, view.grid, view.shape)
        return staged

    # --- segments -------------------------------------------------------------------------------

    def put(self, chunks: Sequence[Any]) -> list[Place]:
        """Append encoded tiles to the transaction's segment; see ``staging.Sink``."""
        places = []
        with self._lock:
            self._check_open()
            writer = self._writer_now
            if writer is None:
                writer = SegmentWriter(self._core.storage, self._core.inline_bytes, announce=self._core.announce)
                self._writer_now = self._segments[writer.segment] = writer
        for data in chunks:
            offset, length, crc = writer.append(data)
            places.append(Place(writer.segment, offset, length, crc, False))
        with self._lock:
            self._written += sum(place.length for place in places)
        return places

    def _staged_bytes(self, place: Place) -> bytes | None:
        writer = self._segments.get(place.segment)
        return None if writer is None else writer.read(place.offset, place.length)

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
            except BaseException:
                self.abort()
                raise
            self._finish("committed")
            return done

    def _commit(self) -> Commit | None:
        arrays = [staged for staged in self._arrays.values() if staged.changed]
        if not (arrays or self._nodes.edits or self._attributes or self._allow_empty):
            return None
        blob, segments = self._finish_segments()
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
                tuple(
                    AttributeEdit(node, path, key, text) for (node, key), (path, text) in self._attributes.items()
                ),
                tuple(staged.edit() for staged in arrays),
                reads=self._reads,
                blob=blob,
                segments=segments,
                bytes_written=self._written,
            ),
            self._source.fetch,
        )
        return self._landed(done, arrays)

    def _finish_segments(self) -> tuple[tuple[bytes, bytes] | None, tuple[SegmentEdit, ...]]:
        blob = None
        segments = []
        for writer in self._segments.values():
            result = writer.finish()
            if isinstance(result, bytes):
                if result:
                    blob = writer.segment, result
                    for staged in self._arrays.values():
                        staged.settle(writer.segment)
            else:
                segments.append(SegmentEdit(writer.segment, result))
        return blob, tuple(segments)

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
            files = []
            for writer in self._segments.values():
                if not writer.inline:
                    files.append(writer.segment)
                try:
                    writer.abort()
                except TxStoreError:
                    files.pop()  # the file is still there: vacuum finds it by its intent
            try:
                self._core.withdraw(files)
            except TxStoreError:
                pass  # likewise
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
        self._segments.clear()
        self._writer_now = None
        self._core.open_transactions.discard(self)


class _Writer:
    """The writing side of a transaction, for the handles that it has given out."""

    __slots__ = ("_tx",)

    def __init__(self, transaction: Transaction) -> None:
        self._tx = transaction

    def _target(self, row: NodeRow, path: str) -> tuple[StagedArray, Target]:
        tx = self._tx
        with tx._lock:
            view = tx.view(row, path)
            return tx._staged(row, path), Target(view.grid, view.meta, view.codec, view.shape)

    def _stage(self, staged: StagedArray, fragments: list[Fragment]) -> None:
        with self._tx._lock:
            self._tx._check_open()
            staged.add(fragments)

    def write(self, row: NodeRow, path: str, selection: Selection, values: Any, casting: Any) -> None:
        """Stage cells."""
        staged, target = self._target(row, path)
        cells = _cast(path, values, target.meta.dtype, casting)
        if cells.ndim == 0:
            selection.spread(cells)
            self._fill(staged, target, selection, cells)
            return
        self._cells(staged, target, selection, Kind.SET, selection.spread(cells))

    def _fill(self, staged: StagedArray, target: Target, selection: Selection, value: NDArray[Any]) -> None:
        if selection.bounds is None:
            return
        fragments: list[Fragment] = []
        for part in staged.parts(selection.bounds):
            if selection.box is not None:
                fragments.append(stage_fill(target, part, value))
            else:
                fragments += stage_masked(target, self._tx, Kind.FILL, selection, part, value)
        self._stage(staged, fragments)

    def _cells(
        self, staged: StagedArray, target: Target, selection: Selection, kind: Kind, values: NDArray[Any]
    ) -> None:
        if selection.bounds is None:
            return
        fragments: list[Fragment] = []
        for part in staged.parts(selection.bounds):
            if selection.box is not None:
                inner = values[(*part.slices(selection.box.lo), ...)]
                fragments += stage_box(target, self._tx, self._tx._core.pool, kind, part, inner)
            else:
                fragments += stage_masked(target, self._tx, kind, selection, part, values)
        self._stage(staged, fragments)

    def accumulate(self, row: NodeRow, path: str, selection: Selection, values: Any, op: str) -> None:
        """Stage an accumulation."""
        kind = _OPERATIONS.get(op)
        if kind is None:
            raise InvalidInputError(f"op={op!r} of array {path!r} must be one of 'add', 'min', 'max'")
        staged, target = self._target(row, path)
        dtype = target.meta.dtype
        if dtype.kind in "SUV" or (kind == Kind.ADD and dtype.kind == "M"):
            raise DTypeError(f"array {path!r} of dtype {dtype} can't accumulate with op={op!r}")
        cells = selection.spread(_cast(path, values, dtype, None))
        self._cells(staged, target, selection, kind, cells)

    def append(self, row: NodeRow, path: str, values: Any, axis: int, casting: Any) -> Appended:
        """Stage cells past the end of an axis."""
        staged, target = self._target(row, path)
        ndim = len(target.shape)
        if not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise InvalidInputError(f"array {path!r} of {ndim} dimensions has no axis {axis!r} to append along")
        axis %= ndim
        block = _cast(path, values, target.meta.dtype, casting)
        with staged.growing:
            shape = staged.shape
            if block.ndim == ndim - 1:
                block = np.expand_dims(block, axis)
            if block.ndim != ndim or any(
                block.shape[k] != shape[k] for k in range(ndim) if k != axis
            ):
                wanted = tuple("any" if k == axis else extent for k, extent in enumerate(shape))
                raise InvalidInputError(
                    f"what is appended to {path!r} along axis {axis} must have shape {wanted}, not {np.shape(values)}"
                )
            lo = tuple(shape[axis] if k == axis else 0 for k in range(ndim))
            hi = tuple(shape[k] + block.shape[k] if k == axis else shape[k] for k in range(ndim))
            box = Box(lo, hi)
            if box.empty:
                return Appended(box, final=True)
            grown = target._replace(shape=hi)
            fragments = stage_box(grown, self._tx, self._tx._core.pool, Kind.SET, box, block)
            with self._tx._lock:
                self._tx._check_open()
                appended = staged.append(axis, box)
                staged.add(fragments)
            return appended

    def resize(self, row: NodeRow, path: str, shape: Any) -> None:
        """Stage a new shape."""
        staged, target = self._target(row, path)
        new = _shape(path, shape, len(target.shape))
        with staged.growing, self._tx._lock:
            self._tx._check_open()
            staged.resize(new)

    def clear(self, row: NodeRow, path: str, selection: Selection) -> None:
        """Stage a return to fill."""
        staged, target = self._target(row, path)
        self._fill(staged, target, selection, target.meta.fill_value)

    def set_attribute(self, node: int, path: str, key: str, text: str | None) -> None:
        """Stage one attribute."""
        with self._tx._lock:
            self._tx._check_open()
            self._tx._nodes.require(node)
            self._tx._attributes.pop((node, key), None)
            self._tx._attributes[node, key] = path, text

    def create(self, parent: NodeRow, parent_path: str, path: str, **options: Any) -> Any:
        """Stage an array or a group."""
        tx = self._tx
        kind, overwrite = options.pop("kind"), options.pop("overwrite")
        attributes = options.pop("attributes") or {}
        implicit = options.pop("implicit", False)
        normal = {key: normalize_attribute(key, value) for key, value in dict(attributes).items()}
        data = options.pop("data", None)
        made = new_array(path, data=data, **options) if kind == "array" else None
        with tx._lock:
            tx._check_open()
            tx._nodes.require(parent.id)
            row, full = tx._nodes.create(
                parent,
                path,
                parent_path,
                kind,
                metadata=None if made is None else made.metadata.stored(),
                partition=None if made is None else made.partition,
                overwrite=overwrite,
                implicit=implicit,
            )
            if made is not None:
                grid = Grid(made.metadata.chunks, made.metadata.shards, partition_extent(made.partition))
                tx._arrays[row.id] = StagedArray(row.id, full, grid, made.shape)
        handle: Array | Group = Array(tx, row, full) if kind == "array" else Group(tx, row, full)
        for key, value in normal.items():
            handle.attrs[key] = value
        if data is not None and made is not None and made.data.size:
            self.write(row, full, parse_basic(..., made.shape), made.data, None)
        return handle

    def delete(self, parent: NodeRow, parent_path: str, path: str) -> None:
        """Stage a deletion."""
        with self._tx._lock:
            self._tx._check_open()
            self._tx._nodes.require(parent.id)
            self._tx._nodes.delete(parent, path, parent_path)

    def move(self, parent: NodeRow, parent_path: str, source: str, target: str) -> None:
        """Stage a move."""
        with self._tx._lock:
            self._tx._check_open()
            self._tx._nodes.require(parent.id)
            self._tx._nodes.move(parent, source, target, parent_path)


def _cast(path: str, values: Any, dtype: np.dtype[Any], casting: Any) -> NDArray[Any]:
    try:
        return cast(values, dtype, casting)
    except DTypeError as error:
        raise DTypeError(f"array {path!r}: {error}") from None


def _shape(path: str, shape: Any, ndim: int) -> tuple[int, ...]:
    extents = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if len(extents) != ndim:
        raise InvalidInputError(f"array {path!r} has {ndim} dimensions: it can't be resized to {extents}")
    for extent in extents:
        if not isinstance(extent, int | np.integer) or isinstance(extent, bool) or not 0 <= extent < 2**62:
            raise InvalidInputError(f"array {path!r} can't be resized to {extents}: extents are integers from 0 on")
    return tuple(int(extent) for extent in extents)


__all__ = ["Transaction"]
