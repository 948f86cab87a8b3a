"""Writing through a transaction: from selections and values to what is staged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from txstore.array import Array
from txstore.boxes import Box
from txstore.casting import cast
from txstore.commits import Appended
from txstore.creation import extents, new_array
from txstore.errors import DTypeError, InvalidInputError
from txstore.fragment import Fragment
from txstore.grid import MAX_EXTENT, Grid
from txstore.group import Group
from txstore.index.lookup import NodeRow
from txstore.index.rows import partition_extent
from txstore.jsonvalues import normalize_attribute
from txstore.names import check_name
from txstore.pieces import Selection
from txstore.segment import Kind
from txstore.selection import parse_basic
from txstore.stagedarray import StagedArray
from txstore.staging import Target, stage_box, stage_fill, stage_masked

if TYPE_CHECKING:
    from txstore.stagedtree import StagedTree

_OPERATIONS = {"add": Kind.ADD, "min": Kind.MIN, "max": Kind.MAX}
#: What to do about values that would lose something, by those ways of writing that can be told to.
_WRITE_ANYHOW = "convert first, or use write(sel, values, casting='unsafe')"
_APPEND_ANYHOW = "convert first, or use append(values, casting='unsafe')"


class StagingWriter:
    """The writing side of a transaction, for the handles that it has given out.

    Notes
    -----
    Safe for threads: cells are cut and encoded outside the transaction's lock and staged under it, in the order in
    which the calls finish.
    """

    __slots__ = ("_tree",)

    def __init__(self, tree: StagedTree) -> None:
        self._tree = tree

    def _target(self, row: NodeRow, path: str) -> tuple[StagedArray, Target]:
        tree = self._tree
        with tree.lock:
            view = tree.view(row, path)
            return tree.staged(row, path), Target(view.grid, view.meta, view.codec, view.shape)

    def _stage(self, staged: StagedArray, fragments: list[Fragment]) -> None:
        with self._tree.lock:
            self._tree.check_open()
            staged.add(fragments)

    def adopt(self, row: NodeRow, path: str, fragment: Fragment) -> None:
        """Stage a fragment whose tiles ``StagedTree.put`` has taken: for importers, which have encoded chunks."""
        self._stage(self._target(row, path)[0], [fragment])

    def write(self, row: NodeRow, path: str, selection: Selection, values: Any, casting: Any) -> None:
        """Stage cells."""
        staged, target = self._target(row, path)
        cells = _cast(path, values, target.meta.dtype, casting, _WRITE_ANYHOW)
        if cells.ndim == 0:
            self._fill(staged, target, selection, cells)
            return
        self._cells(staged, target, selection, Kind.SET, _spread(path, selection, cells))

    def _fill(self, staged: StagedArray, target: Target, selection: Selection, value: NDArray[Any]) -> None:
        if selection.bounds is None:
            return
        fragments: list[Fragment] = []
        for part in staged.parts(selection.bounds):
            if selection.box is not None:
                fragments.append(stage_fill(target, part, value))
            else:
                fragments += stage_masked(target, self._tree, Kind.FILL, selection, part, value)
        self._stage(staged, fragments)

    def _cells(
        self, staged: StagedArray, target: Target, selection: Selection, kind: Kind, values: NDArray[Any]
    ) -> None:
        if selection.bounds is None:
            return
        fragments: list[Fragment] = []
        for part in staged.parts(selection.bounds):
            if selection.box is not None:
                inner = part.of(values, selection.box.lo)
                fragments += stage_box(target, self._tree, self._tree.core.pool, kind, part, inner)
            else:
                fragments += stage_masked(target, self._tree, kind, selection, part, values)
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
        cells = _spread(path, selection, _cast(path, values, dtype, None, "convert first"))
        self._cells(staged, target, selection, kind, cells)

    def append(self, row: NodeRow, path: str, values: Any, axis: int, casting: Any) -> Appended:
        """Stage cells past the end of an axis."""
        staged, target = self._target(row, path)
        ndim = len(target.shape)
        if not isinstance(axis, int) or not -ndim <= axis < ndim:
            raise InvalidInputError(f"array {path!r} of {ndim} dimensions has no axis {axis!r} to append along")
        axis %= ndim
        block = _cast(path, values, target.meta.dtype, casting, _APPEND_ANYHOW)
        with staged.growing:
            shape = staged.shape
            if block.ndim == ndim - 1:
                block = np.expand_dims(block, axis)
            if block.ndim != ndim or any(block.shape[k] != shape[k] for k in range(ndim) if k != axis):
                wanted = ", ".join(["any" if k == axis else str(extent) for k, extent in enumerate(shape)])
                raise InvalidInputError(
                    f"what is appended to {path!r} along axis {axis} must have shape ({wanted}), not {np.shape(values)}"
                )
            if shape[axis] + block.shape[axis] > MAX_EXTENT:
                raise InvalidInputError(
                    f"array {path!r} can't grow beyond {MAX_EXTENT} (2**62 - 1) cells along axis {axis}"
                )
            lo = tuple(shape[axis] if k == axis else 0 for k in range(ndim))
            hi = tuple(shape[k] + block.shape[k] if k == axis else shape[k] for k in range(ndim))
            box = Box(lo, hi)
            if lo[axis] == hi[axis]:
                return Appended(box, final=True)
            grown = target._replace(shape=hi)
            pool = self._tree.core.pool
            fragments = [] if box.empty else stage_box(grown, self._tree, pool, Kind.SET, box, block)
            with self._tree.lock:
                self._tree.check_open()
                appended = staged.append(axis, box)
                staged.add(fragments)
            return appended

    def resize(self, row: NodeRow, path: str, shape: Any) -> None:
        """Stage a new shape."""
        staged, target = self._target(row, path)
        new = _shape(path, shape, len(target.shape))
        with staged.growing, self._tree.lock:
            self._tree.check_open()
            staged.resize(new)

    def clear(self, row: NodeRow, path: str, selection: Selection) -> None:
        """Stage a return to fill."""
        staged, target = self._target(row, path)
        self._fill(staged, target, selection, target.meta.fill_value)

    def set_attribute(self, node: int, path: str, key: str, text: str | None) -> None:
        """Stage one attribute."""
        with self._tree.lock:
            self._tree.check_open()
            self._tree.nodes.require(node)
            staged = self._tree.attributes
            if staged.get((node, key), ("", ""))[1] is None:
                del staged[node, key]  # what was deleted and is set again comes last, as in a dict
            staged[node, key] = path, text

    def create(self, parent: NodeRow, parent_path: str, path: str, **options: Any) -> Any:
        """Stage an array or a group."""
        tree = self._tree
        kind, overwrite = options.pop("kind"), options.pop("overwrite")
        attributes = options.pop("attributes") or {}
        implicit = options.pop("implicit", False)
        if not hasattr(attributes, "items"):
            raise InvalidInputError(f"attributes of {path!r} must be a mapping, not {type(attributes).__name__}")
        normal = {key: normalize_attribute(key, value) for key, value in attributes.items()}
        data = options.pop("data", None)
        made = new_array(path, data=data, **options) if kind == "array" else None
        with tree.lock:
            tree.check_open()
            tree.nodes.require(parent.id)
            with _looking_up(tree, parent, path):
                row, full = tree.nodes.create(
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
                tree.arrays[row.id] = StagedArray(row.id, full, grid, made.shape)
        handle: Array | Group = Array(tree, row, full) if kind == "array" else Group(tree, row, full)
        for key, value in normal.items():
            handle.attrs[key] = value
        if data is not None and made is not None and made.data.size:
            self.write(row, full, parse_basic(..., made.shape), made.data, None)
        return handle

    def delete(self, parent: NodeRow, parent_path: str, path: str) -> None:
        """Stage a deletion."""
        with self._tree.lock:
            self._tree.check_open()
            self._tree.nodes.require(parent.id)
            with _looking_up(self._tree, parent, path):
                self._tree.nodes.delete(parent, path, parent_path)

    def move(self, parent: NodeRow, parent_path: str, source: str, target: str) -> None:
        """Stage a move."""
        with self._tree.lock:
            self._tree.check_open()
            self._tree.nodes.require(parent.id)
            with _looking_up(self._tree, parent, source, target):
                self._tree.nodes.move(parent, source, target, parent_path)


@contextlib.contextmanager
def _looking_up(tree: StagedTree, parent: NodeRow, *paths: str) -> Iterator[None]:
    """Note the names that a change of structure goes by: those that it finds and, if it is refused, all of them.

    A name that it finds free and then takes is checked as structure.
    """
    reads = tree.reads
    if reads is None:
        yield
        return
    steps: list[tuple[int, str, NodeRow | None]] = []
    for path in paths:
        row: NodeRow | None = parent
        for name in check_name(path):
            if row is None or row.kind != "group":
                break
            above, row = row.id, tree.nodes.child(row.id, name)
            steps.append((above, name, row))
    done = False
    try:
        yield
        done = True
    finally:
        for above, name, row in steps:
            if not done if row is None else above >= 0 and row.id > 0:
                reads.names.setdefault((above, name), None if row is None else row.id)


def _spread(path: str, selection: Selection, values: NDArray[Any]) -> NDArray[Any]:
    try:
        return selection.spread(values)
    except InvalidInputError as error:
        raise InvalidInputError(f"array {path!r}: {error}") from None


def _cast(path: str, values: Any, dtype: np.dtype[Any], casting: Any, advice: str) -> NDArray[Any]:
    try:
        return cast(values, dtype, casting, advice=advice)
    except DTypeError as error:
        raise DTypeError(f"array {path!r}: {error}") from None


def _shape(path: str, shape: Any, ndim: int) -> tuple[int, ...]:
    try:
        return extents("shape", (shape,) if isinstance(shape, int | np.integer) else shape, 0, ndim)
    except InvalidInputError as error:
        raise InvalidInputError(f"array {path!r} can't be resized: {error}") from None


__all__ = ["StagingWriter"]
