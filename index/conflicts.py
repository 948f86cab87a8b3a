"""Whether an edit may still be applied: what it did against what came since its base.

The check runs twice, on the same code: once outside the lock, so that most of the work is done
before anybody waits, and once inside, over what has come in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.errors import Conflict
from txstore.fragment import Fetch, Fragment, Frame
from txstore.index import lookup
from txstore.index.edits import (
    ROOT,
    ArrayEdit,
    Change,
    Edit,
    NodeCreate,
    NodeDelete,
    NodeMove,
    ReadCells,
    Touched,
)
from txstore.index.lookup import Lineage
from txstore.segment import Kind

_ACCUMULATIONS = (Kind.ADD, Kind.MIN, Kind.MAX)


@dataclass(slots=True)
class Since:
    """What came on a branch after the edit's base.

    Attributes
    ----------
    seen : Lineage
        The head that the edit is checked against.
    after : int
        Versions at or below it have been checked already.
    touched : list of (int, Touched)
        The commits in between, oldest first.
    """

    seen: Lineage
    after: int
    touched: list[tuple[int, Touched]] = field(default_factory=list)

    def changed(self, node: int, change: Change) -> int | None:
        """The last version in between that changed a node in that way."""
        for version, touched in reversed(self.touched):
            if touched.nodes.get(node, Change(0)) & change:
                return version
        return None

    @property
    def structural(self) -> bool:
        """Whether anything was made, moved or deleted in between."""
        return any(touched.structural for _, touched in self.touched)


def load_since(connection: sa.Connection, seen: Lineage, after: int) -> Since:
    """Read the summaries of the commits after a version."""
    rows = lookup.touched_since(connection, seen, after)
    return Since(seen, after, [(version, Touched.decode(data)) for version, data in rows])


def find(connection: sa.Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    """Every reason why the edit can't be applied after what came since; empty: it can.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside one SQL snapshot, the one that `since` was read in.
    edit : Edit
        The change.
    since : Since
        What came after the edit's base (or after what has been checked already).
    fetch : callable
        Reads the bytes of a mask.
    """
    if not since.touched:
        return []
    found: list[Conflict] = []
    if since.structural or any(isinstance(change, NodeDelete | NodeMove) for change in edit.nodes):
        found += _structure(connection, edit, since)
    found += _cells(connection, edit, since, fetch)
    found += _attributes(edit, since, connection)
    if edit.reads is not None:
        found += _reads(connection, edit, since, fetch)
    return found


# --- cells --------------------------------------------------------------------------------------


def commute(mine: Kind, theirs: Kind) -> bool:
    """Whether two writes of the same cells may come in either order."""
    return mine == theirs and mine in _ACCUMULATIONS


def _cells(connection: sa.Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    found: list[Conflict] = []
    wanted: dict[int, ArrayEdit] = {}
    for array in edit.arrays:
        if array.node < 0:
            continue
        if since.changed(array.node, Change.SHAPE):
            conflict = _cut(connection, array, since)
            if conflict is not None:
                found.append(conflict)
        writes = any(not staged.floating for staged in array.fragments)
        if (array.shrinks or (writes and not edit.overwrite)) and since.changed(array.node, Change.CELLS):
            wanted[array.node] = array
    if not wanted:
        return found
    rows = lookup.fragments_since(connection, since.seen, list(wanted), since.after)
    theirs: dict[int, list[Fragment]] = {}
    for node, row in rows:
        theirs.setdefault(node, []).append(_decoded(row, len(wanted[node].grid.chunks)))
    for node, fragments in theirs.items():
        array = wanted[node]
        chunks = array.grid.chunks
        conflict = _beyond_cut(array, fragments)
        mine = [staged.fragment for staged in array.fragments if not staged.floating]
        if conflict is None and not edit.overwrite:
            conflict = _first_overlap(array.path, mine, fragments, chunks, fetch)
        if conflict is not None:
            found.append(conflict)
    return found


def _decoded(row: lookup.FragmentRow, ndim: int) -> Fragment:
    frame = None if row.frame is None else Frame.from_bytes(row.frame, ndim)
    clip = Box.from_bytes(row.clip, ndim)
    # Directories are only asked for their masks here, so the size of a cell does not matter.
    return Fragment(row.version, row.rank, Kind(row.kind), bool(row.masked), clip, frame, row.directory, None)


def _cut(connection: sa.Connection, array: ArrayEdit, since: Since) -> Conflict | None:
    """Others have made the array smaller: whatever this edit wrote beyond the cut is in conflict."""
    rows = lookup.shapes(connection, since.seen, array.node, since.after)
    if not rows:
        return None
    ndim = len(array.base_shape)
    smallest = tuple(min(row.shape[axis] for row in rows) for axis in range(ndim))
    for staged in array.fragments:
        if staged.floating:
            continue
        clip = staged.fragment.clip
        # Beyond the base's end lies only what this transaction has grown by itself.
        limit = tuple(min(high, extent) for high, extent in zip(clip.hi, array.base_shape, strict=True))
        if any(high > low for high, low in zip(limit, smallest, strict=True)):
            return Conflict("shape", array.path, clip, None, rows[-1].version)
    return None


def _beyond_cut(array: ArrayEdit, theirs: Iterable[Fragment]) -> Conflict | None:
    """This edit makes the array smaller: whatever others wrote beyond the cut is in conflict."""
    if not array.shrinks:
        return None
    ndim = len(array.base_shape)
    smallest = tuple(min(shape[axis] for _, shape in array.steps) for axis in range(ndim))
    for fragment in theirs:
        cut = any(
            high > low and low < base
            for high, low, base in zip(fragment.clip.hi, smallest, array.base_shape, strict=True)
        )
        if cut:
            return Conflict("shape", array.path, fragment.clip, None, fragment.version)
    return None


def _first_overlap(
    path: str, mine: list[Fragment], theirs: list[Fragment], chunks: tuple[int, ...], fetch: Fetch
) -> Conflict | None:
    for i, j in overlapping([m.clip for m in mine], [t.clip for t in theirs]):
        one, other = mine[i], theirs[j]
        if commute(one.kind, other.kind):
            continue
        box = one.clip.intersect(other.clip)
        if box is None:
            continue
        if one.masked or other.masked:
            both = _exact(one, box, chunks, fetch) & _exact(other, box, chunks, fetch)
            if not both.any():
                continue
            box = _bounds(both, box)
        return Conflict("cells", path, box, None, other.version)
    return None


def _exact(fragment: Fragment, box: Box, chunks: tuple[int, ...], fetch: Fetch) -> NDArray[np.bool_]:
    if fragment.masked and fragment.stripped:
        return np.ones(box.shape, bool)  # the mask is gone: rather a conflict too many than one too few
    return fragment.mask(box, chunks, fetch)


def _bounds(cells: NDArray[np.bool_], box: Box) -> Box:
    lo, hi = [], []
    for axis in range(cells.ndim):
        along = np.flatnonzero(cells.any(axis=tuple(k for k in range(cells.ndim) if k != axis)))
        lo.append(box.lo[axis] + int(along[0]))
        hi.append(box.lo[axis] + int(along[-1]) + 1)
    return Box(tuple(lo), tuple(hi))


def overlapping(mine: list[Box], theirs: list[Box]) -> Iterable[tuple[int, int]]:
    """Pairs (i, j) of boxes that intersect, in order of i."""
    if len(mine) * len(theirs) <= 64:
        for i, one in enumerate(mine):
            for j, other in enumerate(theirs):
                if one.intersect(other) is not None:
                    yield i, j
        return
    lo = np.array([box.lo for box in theirs], np.int64)
    hi = np.array([box.hi for box in theirs], np.int64)
    for i, one in enumerate(mine):
        hits = ((lo < np.array(one.hi)) & (hi > np.array(one.lo))).all(axis=1)
        for hit in np.flatnonzero(hits):
            yield i, int(hit)


# --- attributes ---------------------------------------------------------------------------------


def _attributes(edit: Edit, since: Since, connection: sa.Connection) -> list[Conflict]:
    if edit.overwrite:
        return []
    found: list[Conflict] = []
    for node in {change.node for change in edit.attributes if change.node >= 0}:
        if not since.changed(node, Change.ATTRIBUTES):
            continue
        theirs = {row.key: row.version for row in lookup.attributes(connection, since.seen, node, since.after)}
        found += [
            Conflict("attribute", change.path, None, change.key, theirs[change.key])
            for change in edit.attributes
            if change.node == node and change.key in theirs
        ]
    return found


# --- structure ----------------------------------------------------------------------------------


class _Tree:
    """Parents of nodes on one lineage, looked up when asked for."""

    def __init__(self, connection: sa.Connection, seen: Lineage) -> None:
        self._connection = connection
        self._seen = seen
        self._nodes: dict[int, lookup.NodeRow | None] = {}

    def node(self, node: int) -> lookup.NodeRow | None:
        if node not in self._nodes:
            self._nodes[node] = lookup.node(self._connection, self._seen, node)
        return self._nodes[node]

    def chain(self, node: int) -> tuple[list[int], bool]:
        """The node and all above it, and whether the chain reaches the root (False: something is deleted)."""
        chain = []
        while node != ROOT:
            chain.append(node)
            row = self.node(node)
            if row is None or len(chain) > 10_000:
                return chain, False
            node = row.parent
        return chain, True

    def child(self, parent: int, name: str) -> lookup.NodeRow | None:
        return lookup.child(self._connection, self._seen, parent, name)


def _touches(edit: Edit) -> dict[int, str]:
    """The nodes that must still be there for the edit to mean anything, with a path for messages."""
    nodes: dict[int, str] = {array.node: array.path for array in edit.arrays}
    nodes.update((change.node, change.path) for change in edit.attributes)
    for change in edit.nodes:
        if isinstance(change, NodeCreate | NodeMove):
            nodes.setdefault(change.parent, change.path.rpartition("/")[0])
        if isinstance(change, NodeMove | NodeDelete):
            nodes[change.node] = change.path
    return {node: path for node, path in nodes.items() if node > ROOT}


def implicit_groups(connection: sa.Connection, seen: Lineage, edit: Edit) -> dict[int, int]:
    """Missing parents that somebody else has made meanwhile: staged id to the id at the head."""
    there: dict[int, int] = {}
    gone = {change.node for change in edit.nodes if isinstance(change, NodeDelete | NodeMove)}
    for change in edit.nodes:
        if isinstance(change, NodeCreate) and change.implicit:
            parent = there.get(change.parent, change.parent)
            row = lookup.child(connection, seen, parent, change.name) if parent >= ROOT else None
            # What the edit itself takes away is not there for what it makes afterwards.
            if row is not None and row.kind == "group" and row.id not in gone:
                there[change.node] = row.id
    return there


def _structure(connection: sa.Connection, edit: Edit, since: Since) -> list[Conflict]:
    found: list[Conflict] = []
    head, base = _Tree(connection, since.seen), _Tree(connection, since.seen.at(since.after))
    there = implicit_groups(connection, since.seen, edit)
    changed = {node: version for node, version, _ in lookup.nodes_changed(connection, since.seen, since.after)}
    newest = since.touched[-1][0]
    gone = {change.node for change in edit.nodes if isinstance(change, NodeDelete | NodeMove)}
    # Case 1: something that this edit stands on has been deleted, itself or above it.
    for node, path in _touches(edit).items():
        chain, reaches = head.chain(node)
        if not reaches:
            found.append(Conflict("structure", path, None, None, changed.get(chain[-1], newest)))
    # Case 2: a name that this edit gives is taken, unless by what this edit itself takes away.
    for change in edit.nodes:
        if isinstance(change, NodeDelete):
            continue
        parent = there.get(change.parent, change.parent)
        taken = head.child(parent, change.name) if parent >= ROOT else None
        if taken is None or taken.id in gone or taken.id in (change.node, there.get(change.node)):
            continue
        found.append(Conflict("structure", change.path, None, change.name, taken.version))
    for change in edit.nodes:
        if isinstance(change, NodeMove):
            # Case 3: two moves of one node, or a move that would hang a group below itself.
            chain, reaches = head.chain(change.parent) if change.parent > ROOT else ([], True)
            if change.node in changed or change.node in chain:
                found.append(
                    Conflict("structure", change.old_path, None, change.name, changed.get(change.node, newest))
                )
        elif isinstance(change, NodeDelete) and change.node > ROOT:
            # Case 4: somebody worked below what this edit deletes, where it is now or where it was.
            for version, touched in since.touched:
                if any(
                    change.node in head.chain(node)[0] or change.node in base.chain(node)[0]
                    for node in touched.nodes
                    if node > ROOT
                ):
                    found.append(Conflict("structure", change.path, None, None, version))
                    break
    return found


# --- reads --------------------------------------------------------------------------------------


def _reads(connection: sa.Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    reads = edit.reads
    assert reads is not None
    found: list[Conflict] = []

    def path_of(node: int) -> str:
        return reads.paths.get(node, "")

    for node, axes in reads.extents.items():
        if node < 0 or not since.changed(node, Change.SHAPE):
            continue
        rows = lookup.shapes(connection, since.seen, node, since.after)
        before = lookup.shapes(connection, since.seen.at(since.after), node)
        if before and any(row.shape[axis] != before[-1].shape[axis] for row in rows for axis in axes):
            found.append(Conflict("read", path_of(node), None, "shape", rows[-1].version))
    cells = {node: regions for node, regions in reads.cells.items() if node >= 0 and since.changed(node, Change.CELLS)}
    for node, row in lookup.fragments_since(connection, since.seen, list(cells), since.after) if cells else []:
        regions = cells.get(node)
        if regions is None or not regions:
            continue
        theirs = _decoded(row, len(regions[0].box.lo))
        hit = _read_overlap(regions, theirs, lambda: _chunks(connection, since.seen, node), fetch)  # noqa: B023
        if hit is not None:
            found.append(Conflict("read", path_of(node), hit, None, row.version))
            del cells[node]
    for node, regions in reads.cells.items():
        # A cut below what was read changes it to fill even though nobody wrote it.
        if node < 0 or not since.changed(node, Change.SHAPE):
            continue
        rows = lookup.shapes(connection, since.seen, node, since.after)
        for region in regions:
            if any(high > extent for row in rows for high, extent in zip(region.box.hi, row.shape, strict=True)):
                found.append(Conflict("read", path_of(node), region.box, None, rows[-1].version))
                break
    if since.structural:
        for (parent, name), node_id in reads.names.items():
            if parent < 0:
                continue
            now = lookup.child(connection, since.seen, parent, name)
            if (None if now is None else now.id) != node_id:
                found.append(Conflict("read", name, None, name, since.touched[-1][0]))
        changed = lookup.nodes_changed(connection, since.seen, since.after)
        before_tree = _Tree(connection, since.seen.at(since.after))
        for node, version, parent_now in changed:
            row_before = before_tree.node(node)
            parents = {parent_now, None if row_before is None else row_before.parent} - {None}
            if parents & reads.listings:
                found.append(Conflict("read", path_of(node), None, "members", version))
                break
    for node, key in reads.attributes:
        if node < 0 or not since.changed(node, Change.ATTRIBUTES):
            continue
        for attribute in lookup.attributes(connection, since.seen, node, since.after):
            if key is None or key == attribute.key:
                found.append(Conflict("read", path_of(node), None, attribute.key, attribute.version))
                break
    return found


def _chunks(connection: sa.Connection, seen: Lineage, node: int) -> tuple[int, ...]:
    """The chunk shape of an array that was only read."""
    from txstore.metadata import ArrayMetadata

    row = lookup.node(connection, seen, node)
    assert row is not None and row.metadata is not None
    return ArrayMetadata.from_stored(row.metadata).chunks


def _read_overlap(
    regions: Iterable[ReadCells], theirs: Fragment, chunks: Callable[[], tuple[int, ...]], fetch: Fetch
) -> Box | None:
    for region in regions:
        box = region.box.intersect(theirs.clip)
        if box is None:
            continue
        if region.mask is None and not theirs.masked:
            return box
        both = np.ones(box.shape, bool)
        if region.mask is not None:
            bits = np.unpackbits(np.frombuffer(region.mask, np.uint8), count=region.box.size)
            both &= bits.reshape(region.box.shape)[box.slices(region.box.lo)].astype(bool)
        if theirs.masked and not theirs.stripped:
            both &= theirs.mask(box, chunks(), fetch)
        if both.any():
            return _bounds(both, box)
    return None
