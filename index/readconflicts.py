"""Conflicts of reads: what a serializable transaction has looked at against what others changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from txstore.boxes import Box, hull
from txstore.errors import Conflict
from txstore.fragment import Fetch, Fragment
from txstore.index import lookup, shaperows
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import Change, Edit, ReadCells
from txstore.index.since import Since, bounds, decoded
from txstore.index.structure import Tree, implicit_groups
from txstore.metadata import ArrayMetadata


def read_conflicts(connection: Connection, edit: Edit, since: Since, fetch: Fetch) -> list[Conflict]:
    """Every read that would come out differently now."""
    reads = edit.reads
    assert reads is not None
    found: list[Conflict] = []
    # Staged groups that somebody else was first to make are theirs, with all that is in them.
    there = implicit_groups(connection, since.seen, edit) if since.structural else {}

    def path_of(node: int) -> str:
        return reads.paths.get(node, "")

    for node, axes in reads.extents.items():
        if node < 0 or not since.changed(node, Change.SHAPE):
            continue
        rows = shaperows.since(connection, since.seen, node, since.after)
        before = shaperows.newest(connection, since.seen.at(since.after), node)
        if before is not None and any(row.shape[axis] != before[axis] for row in rows for axis in axes):
            found.append(Conflict("read", path_of(node), None, "shape", rows[-1].version))
    cells = {
        node: regions
        for node, regions in reads.cells.items()
        if node >= 0 and regions and since.wrote(node, hull(region.box for region in regions))
    }
    for node, row in lookup.fragments_since(connection, since.seen, list(cells), since.after) if cells else []:
        regions = cells.get(node)
        if regions is None or not regions:
            continue
        theirs = decoded(row, len(regions[0].box.lo))
        hit = _read_overlap(regions, theirs, lambda: _chunks(connection, since.seen, node), fetch)  # noqa: B023
        if hit is not None:
            found.append(Conflict("read", path_of(node), hit, None, row.version))
            del cells[node]
    for node, regions in reads.cells.items():
        # A cut below what was read changes it to fill even though nobody wrote it.
        if node < 0 or not since.changed(node, Change.SHAPE):
            continue
        rows = shaperows.since(connection, since.seen, node, since.after)
        before = shaperows.newest(connection, since.seen.at(since.after), node)
        for region in regions:
            # What lies past the end that the transaction knew was fill before, too.
            limit = [min(high, end) for high, end in zip(region.box.hi, before or region.box.hi, strict=True)]
            if any(high > extent for row in rows for high, extent in zip(limit, row.shape, strict=True)):
                found.append(Conflict("read", path_of(node), region.box, None, rows[-1].version))
                break
    if since.structural:
        for (above, name), node_id in reads.names.items():
            parent = there.get(above, above)
            if parent < 0:
                continue
            now = lookup.child(connection, since.seen, parent, name)
            if (None if now is None else now.id) != node_id:
                found.append(Conflict("read", name, None, name, since.touched[-1][0]))
        changed = lookup.nodes_changed(connection, since.seen, since.after)
        before_tree = Tree(connection, since.seen.at(since.after))
        listings = {there.get(group, group) for group in reads.listings}
        for node, version, parent_now in changed:
            row_before = before_tree.node(node)
            parents = {parent_now, None if row_before is None else row_before.parent} - {None}
            if parents & listings:
                found.append(Conflict("read", path_of(node), None, "members", version))
                break
    for owner, key in reads.attributes:
        node = there.get(owner, owner)
        if node < 0 or not since.changed(node, Change.ATTRIBUTES):
            continue
        for attribute in lookup.attributes(connection, since.seen, node, since.after):
            if key is None or key == attribute.key:
                found.append(Conflict("read", path_of(node), None, attribute.key, attribute.version))
                break
    return found


def _chunks(connection: Connection, seen: Lineage, node: int) -> tuple[int, ...]:
    """The chunk shape of an array that was only read."""
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
            return bounds(both, box)
    return None
