"""The rows of one edit: nodes, attributes, shapes, fragments and inline bytes, under the store's lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from txstore.boxes import Box, hull
from txstore.errors import Conflict, ConflictError, InvalidInputError
from txstore.fragment import Fragment, pack_shape
from txstore.grid import MAX_EXTENT, WHOLE, Grid
from txstore.index import lookup, shaperows
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import ArrayEdit, Change, Edit, NodeCreate, NodeDelete, NodeMove, Touched
from txstore.index.engine import Head
from txstore.index.placement import moved, place
from txstore.index.sql import schema
from txstore.index.statement import Statement
from txstore.index.structure import Tree, implicit_groups
from txstore.segment import Kind
from txstore.shapelog import ShapeRow, smaller

#: A fill that touches more partitions than this becomes one row of the partition WHOLE.
WHOLE_FROM = 4

_ATTRIBUTES = Statement("insert attributes", lambda _: schema.attributes.insert())
_NODES = Statement("insert nodes", lambda _: schema.nodes.insert())
_NODE_VERSIONS = Statement("insert node versions", lambda _: schema.node_versions.insert())
_SHAPES = Statement("insert shapes", lambda _: schema.shapes.insert())
_FRAGMENTS = Statement("insert fragments", lambda _: schema.fragments.insert())
_BLOBS = Statement("insert blobs", lambda _: schema.blobs.insert())


@dataclass
class Inserted:
    """What went in.

    Attributes
    ----------
    touched : Touched
        The summary for the commit's row.
    nodes : int
        How many ids of nodes were used.
    segment_refs : Counter of bytes
        How many rows point to each file.
    shapes : dict of int to list of ShapeRow
        The new rows of the log of shapes, by array.
    """

    touched: Touched
    nodes: int = 0
    segment_refs: Counter[bytes] = field(default_factory=Counter)
    shapes: dict[int, list[ShapeRow]] = field(default_factory=dict)


def insert(
    connection: Connection, head: Head, edit: Edit, seen: Lineage, version: int, since: Sequence[tuple[int, Touched]]
) -> Inserted:
    """Insert everything of an edit but its commit row; `since`: the commits after its base.

    Raises
    ------
    ConflictError
        If an append or a shape can't be placed on what the head has become.
    """
    changes: Counter[int] = Counter()
    ids: dict[int, int] = {}
    if edit.nodes:
        ids = _insert_nodes(connection, head, edit, seen, version, changes)
    for change in edit.attributes:
        changes[ids.get(change.node, change.node)] |= Change.ATTRIBUTES
    if edit.attributes:
        connection.change_many(
            _ATTRIBUTES,
            [
                {
                    "node": ids.get(change.node, change.node),
                    "key": change.key,
                    "branch": edit.branch,
                    "version": version,
                    "rank": rank,
                    "value": change.value,
                }
                for rank, change in enumerate(edit.attributes)
            ],
        )
    refs: Counter[bytes] = Counter()
    hulls: dict[int, Box] = {}
    shapes: dict[int, list[ShapeRow]] = {}
    moves = any(touched.structural for _, touched in since) or any(isinstance(node, NodeMove) for node in edit.nodes)
    names = _names(connection, edit, seen, ids, version) if moves else {}
    reshaped = {node for _, touched in since for node, change in touched.nodes.items() if change & Change.SHAPE}
    appended = _insert_arrays(connection, edit, seen, ids, version, changes, hulls, refs, shapes, reshaped)
    appended_to = [(names.get(array.node, array.path), box) for array, box in appended]
    touched = Touched(dict(changes), _paths(edit, names), tuple(appended_to), hulls)
    return Inserted(touched, len(edit.nodes), refs, shapes)


def _names(connection: Connection, edit: Edit, seen: Lineage, ids: dict[int, int], version: int) -> dict[int, str]:
    """Where the nodes of an edit hang, by its own numbers of them: it or others may have moved them, or what is above.

    What it has deleted itself hangs where it did.
    """
    now, before = Tree(connection, seen.at(version)), Tree(connection, seen)
    found = {}
    for change in (*edit.arrays, *edit.nodes, *edit.attributes):
        node = ids.get(change.node, change.node)
        path = now.path(node) or before.path(node)
        if path:
            found[change.node] = path
    return found


def _paths(edit: Edit, names: dict[int, str]) -> tuple[str, ...]:
    changes = (*edit.arrays, *edit.nodes, *edit.attributes)
    return tuple(dict.fromkeys(names.get(change.node, change.path) for change in changes))


def _insert_nodes(
    connection: Connection, head: Head, edit: Edit, seen: Lineage, version: int, changes: Counter[int]
) -> dict[int, int]:
    """Make, move and delete nodes; returns the ids of staged ones."""
    ids = implicit_groups(connection, seen, edit)
    nodes: list[dict[str, Any]] = []
    places: dict[int, tuple[int | None, str | None, str | None]] = {}
    following = head.next_node
    for change in edit.nodes:
        if isinstance(change, NodeCreate):
            if change.node in ids:
                continue  # a missing parent that somebody else was first to make
            ids[change.node] = node = following
            following += 1
            nodes.append({"id": node, "kind": change.kind, "partition": change.partition, "created": version})
            places[node] = (ids.get(change.parent, change.parent), change.name, change.metadata)
        else:
            node = ids.get(change.node, change.node)
            if isinstance(change, NodeDelete):
                places[node] = (None, None, None)
            else:
                metadata = places[node][2] if node in places else _metadata(connection, seen, node)
                places[node] = (ids.get(change.parent, change.parent), change.name, metadata)
        changes[node] |= Change.STRUCTURE
    if nodes:
        connection.change_many(_NODES, nodes)
    rows = [
        {
            "node": node,
            "branch": edit.branch,
            "version": version,
            "parent": parent,
            "name": name,
            "metadata": metadata,
        }
        for node, (parent, name, metadata) in places.items()
    ]
    if rows:
        connection.change_many(_NODE_VERSIONS, rows)
    return ids


def _metadata(connection: Connection, seen: Lineage, node: int) -> str | None:
    row = lookup.node(connection, seen, node)
    return None if row is None else row.metadata


def _insert_arrays(
    connection: Connection,
    edit: Edit,
    seen: Lineage,
    ids: dict[int, int],
    version: int,
    changes: Counter[int],
    hulls: dict[int, Box],
    segment_refs: Counter[bytes],
    shapes: dict[int, list[ShapeRow]],
    reshaped: set[int],
) -> list[tuple[ArrayEdit, Box]]:
    """Place and insert shapes and fragments; returns where the appends landed."""
    assert edit.branch is not None
    steps: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    appended: list[tuple[ArrayEdit, Box]] = []
    blob_refs = 0
    for array in edit.arrays:
        node = ids.get(array.node, array.node)
        head_shape = array.base_shape
        if array.steps and array.node in reshaped:
            head_shape = shaperows.newest(connection, seen, array.node) or array.base_shape
        placement = place(array, head_shape)
        if isinstance(placement, str):
            newest = shaperows.since(connection, seen, node, edit.base)
            winner = newest[-1].version if newest else None
            raise ConflictError((Conflict(placement, array.path, commit=winner),))
        if placement.shapes:
            if any(extent > MAX_EXTENT for _, shape in placement.shapes for extent in shape):
                raise InvalidInputError(f"array {array.path!r} can't grow beyond {MAX_EXTENT} (2**62 - 1) cells")
            changes[node] |= Change.SHAPE
            shapes[node] = [ShapeRow(version, rank, shape) for rank, shape in placement.shapes]
            steps += _steps(node, edit.branch, head_shape, shapes[node])
        appended += [(array, box.shift(placement.delta)) for box in array.appends]
        still = (0,) * len(array.base_shape)
        clips = []
        for staged in array.fragments:
            delta = placement.delta if staged.floating else still
            directory = staged.fragment.directory(array.grid.chunks)
            encoded = directory.encode()
            parts = _parts(staged.fragment, array.grid, delta)
            for partition, part in parts:
                rows.append(_row(node, partition, edit.branch, version, part, encoded))
            clips += [part.clip for _, part in parts]
            for segment, inline in directory.segments():
                if inline:
                    blob_refs += len(parts)
                else:
                    segment_refs[segment] += len(parts)
        if clips:
            changes[node] |= Change.CELLS
            hulls[node] = hull(clips)
    if steps:
        connection.change_many(_SHAPES, steps)
    if rows:
        connection.change_many(_FRAGMENTS, rows)
    if edit.blob is not None and blob_refs:
        connection.change(_BLOBS, {"uuid": edit.blob[0], "refs": blob_refs, "data": edit.blob[1]})
    return appended


def _steps(node: int, branch: int, before: tuple[int, ...], log: Sequence[ShapeRow]) -> Iterator[dict[str, Any]]:
    for row in log:
        yield {
            "node": node,
            "branch": branch,
            "version": row.version,
            "rank": row.rank,
            "shape": pack_shape(row.shape),
            "cuts": int(smaller(row.shape, before)),
        }
        before = row.shape


def _parts(fragment: Fragment, grid: Grid, delta: tuple[int, ...]) -> list[tuple[bytes, Fragment]]:
    """Cut a fragment at the partitions in which it comes to lie."""
    clip = fragment.clip.shift(delta) if any(delta) else fragment.clip
    if fragment.kind == Kind.FILL and not fragment.masked:
        if grid.count_partitions(clip) > WHOLE_FROM:
            return [(WHOLE, moved(fragment, clip, delta))]
    return [(partition, moved(fragment, part, delta)) for partition, part in grid.partitions_in(clip)]


def _row(
    node: int, partition: bytes, branch: int, version: int, fragment: Fragment, directory: bytes
) -> dict[str, Any]:
    return {
        "node": node,
        "partition": partition,
        "branch": branch,
        "version": version,
        "rank": fragment.rank,
        "kind": int(fragment.kind),
        "masked": int(fragment.masked),
        "clip": fragment.clip.to_bytes(),
        "frame": None if fragment.frame is None else fragment.frame.to_bytes(),
        "directory": directory,
    }
