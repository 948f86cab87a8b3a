"""Whether an edit may still be applied: what it did against what came since its base.

The check may run twice, on the same code: once outside the lock, so that most of the work is done before anybody
waits, and once inside, over what has come in between.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box, hull
from txstore.errors import Conflict
from txstore.fragment import Fetch, Fragment
from txstore.index import lookup, shaperows
from txstore.index.connection import Connection
from txstore.index.edits import ROOT, ArrayEdit, Change, Edit, NodeDelete, NodeMove
from txstore.index.readconflicts import read_conflicts
from txstore.index.since import Since, bounds, decoded
from txstore.index.structure import implicit_groups, structure_conflicts
from txstore.segment import Kind

_ACCUMULATIONS = (Kind.ADD, Kind.MIN, Kind.MAX)


def find(connection: Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    """Every reason why the edit can't be applied after what came since; empty: it can.

    Parameters
    ----------
    connection : Connection
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
        found += structure_conflicts(connection, edit, since)
    found += _cells(connection, edit, since, fetch)
    found += _attributes(edit, since, connection)
    if edit.reads is not None:
        found += read_conflicts(connection, edit, since, fetch)
    return found


# --- cells --------------------------------------------------------------------------------------


def commute(mine: Kind, theirs: Kind) -> bool:
    """Whether two writes of the same cells may come in either order."""
    return mine == theirs and mine in _ACCUMULATIONS


def _cells(connection: Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    found: list[Conflict] = []
    wanted: dict[int, ArrayEdit] = {}
    for array in edit.arrays:
        if array.node < 0:
            continue
        if since.changed(array.node, Change.SHAPE):
            conflict = _cut(connection, array, since)
            if conflict is not None:
                found.append(conflict)
        if array.shrinks and since.changed(array.node, Change.CELLS):
            wanted[array.node] = array
        elif not edit.overwrite:
            # Most writers of one array are far from each other, which the summaries of their commits tell.
            clips = [staged.fragment.clip for staged in array.fragments if not staged.floating]
            if clips and since.wrote(array.node, hull(clips)):
                wanted[array.node] = array
    if not wanted:
        return found
    rows = lookup.fragments_since(connection, since.seen, list(wanted), since.after)
    theirs: dict[int, list[Fragment]] = {}
    for node, row in rows:
        theirs.setdefault(node, []).append(decoded(row, len(wanted[node].grid.chunks)))
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


def _cut(connection: Connection, array: ArrayEdit, since: Since) -> Conflict | None:
    """Others have made the array smaller: whatever this edit wrote beyond the cut is in conflict."""
    rows = shaperows.since(connection, since.seen, array.node, since.after)
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
            box = bounds(both, box)
        return Conflict("cells", path, box, None, other.version)
    return None


def _exact(fragment: Fragment, box: Box, chunks: tuple[int, ...], fetch: Fetch) -> NDArray[np.bool_]:
    if fragment.masked and fragment.stripped:
        return np.ones(box.shape, bool)  # the mask is gone: rather a conflict too many than one too few
    return fragment.mask(box, chunks, fetch)


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


def _attributes(edit: Edit, since: Since, connection: Connection) -> list[Conflict]:
    if edit.overwrite:
        return []
    found: list[Conflict] = []
    # A missing parent that somebody else was first to make has their attributes.
    staged = since.structural and any(change.node < ROOT for change in edit.attributes)
    there = implicit_groups(connection, since.seen, edit) if staged else {}
    for staged_node in dict.fromkeys(change.node for change in edit.attributes):
        node = there.get(staged_node, staged_node)
        if node < ROOT or not since.changed(node, Change.ATTRIBUTES):
            continue
        theirs = {row.key: row.version for row in lookup.attributes(connection, since.seen, node, since.after)}
        found += [
            Conflict("attribute", change.path, None, change.key, theirs[change.key])
            for change in edit.attributes
            if change.node == staged_node and change.key in theirs
        ]
    return found
