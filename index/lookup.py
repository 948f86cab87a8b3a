"""Reading the index: each function is one statement (or two) and returns plain values.

Every function that reads history takes a :class:`Lineage`, which says what of it a reader sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from txstore.fragment import unpack_shape
from txstore.index import schema
from txstore.index.branches import Lineage

#: How many values an IN list takes at most; SQLite allows 32,766 variables in a statement.
_BATCH = 500


class NodeRow(NamedTuple):
    """A node as a lineage sees it."""

    id: int
    kind: str
    parent: int
    name: str
    metadata: str | None
    partition: str | None
    version: int  # since which it has hung there


class ShapeRow(NamedTuple):
    """One entry of the log of shapes."""

    version: int
    rank: int
    shape: tuple[int, ...]


class AttributeRow(NamedTuple):
    """The newest value of an attribute; None: deleted."""

    node: int
    key: str
    version: int
    value: str | None


class FragmentRow(NamedTuple):
    """One row of ``fragments``, undecoded."""

    partition: bytes
    branch: int
    version: int
    rank: int
    kind: int
    masked: int
    clip: bytes
    frame: bytes | None
    directory: bytes | None


class BaseRow(NamedTuple):
    """One row of ``bases``, undecoded."""

    partition: bytes
    branch: int
    version: int
    uuid: bytes
    clip: bytes
    frame: bytes
    directory: bytes


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut values for an IN list."""
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]


# --- nodes --------------------------------------------------------------------------------------


def _visible(seen: Lineage) -> sa.Select[Any]:
    """Nodes as a lineage sees them: the newest row of each, unless it says deleted."""
    rows, newer = schema.node_versions, schema.node_versions.alias()
    return (
        sa.select(
            rows.c.node,
            schema.nodes.c.kind,
            rows.c.parent,
            rows.c.name,
            rows.c.metadata,
            schema.nodes.c.partition,
            rows.c.version,
        )
        .join(schema.nodes, schema.nodes.c.id == rows.c.node)
        .where(
            seen.condition(rows),
            rows.c.parent.is_not(None),
            ~sa.exists().where(newer.c.node == rows.c.node, newer.c.version > rows.c.version, seen.condition(newer)),
        )
    )


def child(connection: sa.Connection, seen: Lineage, parent: int, name: str) -> NodeRow | None:
    """The member of a group with that name."""
    rows = schema.node_versions
    row = connection.execute(_visible(seen).where(rows.c.parent == parent, rows.c.name == name)).first()
    return None if row is None else NodeRow._make(row)


def children(connection: sa.Connection, seen: Lineage, parent: int) -> list[NodeRow]:
    """The direct members of a group, by name."""
    rows = schema.node_versions
    statement = _visible(seen).where(rows.c.parent == parent).order_by(rows.c.name)
    return [NodeRow._make(row) for row in connection.execute(statement)]


def all_nodes(connection: sa.Connection, seen: Lineage) -> list[NodeRow]:
    """Every node that hangs somewhere, those under deleted groups included."""
    return [NodeRow._make(row) for row in connection.execute(_visible(seen))]


def node(connection: sa.Connection, seen: Lineage, node_id: int) -> NodeRow | None:
    """A node by its identity; None when it is deleted or not yet made."""
    row = connection.execute(_visible(seen).where(schema.node_versions.c.node == node_id)).first()
    return None if row is None else NodeRow._make(row)


def nodes_changed(connection: sa.Connection, seen: Lineage, after: int) -> list[tuple[int, int, int | None]]:
    """(node, version, parent) of each move, creation and deletion after a version."""
    rows = schema.node_versions
    found = connection.execute(
        sa.select(rows.c.node, rows.c.version, rows.c.parent)
        .where(seen.condition(rows, after), rows.c.version > after)
        .order_by(rows.c.version)
    )
    return [(row[0], row[1], row[2]) for row in found]


# --- shapes and attributes ----------------------------------------------------------------------


def shapes(connection: sa.Connection, seen: Lineage, node_id: int, after: int | None = None) -> list[ShapeRow]:
    """The log of an array's shapes, oldest first."""
    table = schema.shapes
    rows = connection.execute(
        sa.select(table.c.version, table.c.rank, table.c.shape)
        .where(table.c.node == node_id, seen.condition(table, after))
        .order_by(table.c.version, table.c.rank)
    )
    return [ShapeRow(row[0], row[1], unpack_shape(row[2])) for row in rows]


def all_shapes(connection: sa.Connection, seen: Lineage) -> dict[int, list[ShapeRow]]:
    """The logs of the shapes of all arrays."""
    table = schema.shapes
    rows = connection.execute(
        sa.select(table.c.node, table.c.version, table.c.rank, table.c.shape)
        .where(seen.condition(table))
        .order_by(table.c.node, table.c.version, table.c.rank)
    )
    found: dict[int, list[ShapeRow]] = {}
    for node_id, version, rank, shape in rows:
        found.setdefault(node_id, []).append(ShapeRow(version, rank, unpack_shape(shape)))
    return found


def attributes(
    connection: sa.Connection, seen: Lineage, node_id: int | None = None, after: int | None = None
) -> list[AttributeRow]:
    """The newest row of each attribute key of a node (None: of all nodes), deletions included."""
    table = schema.attributes
    statement = sa.select(table.c.node, table.c.key, table.c.version, table.c.value).where(seen.condition(table, after))
    if node_id is not None:
        statement = statement.where(table.c.node == node_id)
    newest: dict[tuple[int, str], AttributeRow] = {}
    for row in connection.execute(statement.order_by(table.c.version)):
        # A key that is set again keeps its old place in the order unless it was deleted in between.
        key = (row.node, row.key)
        if key in newest and newest[key].value is None:
            del newest[key]
        newest[key] = AttributeRow._make(row)
    return list(newest.values())


# --- fragments and bases ------------------------------------------------------------------------

_FRAGMENTS = sa.select(*(schema.fragments.c[name] for name in FragmentRow._fields))
_BASES = sa.select(*(schema.bases.c[name] for name in BaseRow._fields))


def base_versions(
    connection: sa.Connection, seen: Lineage, node_id: int, partitions: Sequence[bytes] | None
) -> dict[bytes, int]:
    """The version of the newest base of each partition that has one (None: of all partitions)."""
    table = schema.bases
    statement = (
        sa.select(table.c.partition, sa.func.max(table.c.version))
        .where(table.c.node == node_id, seen.condition(table))
        .group_by(table.c.partition)
    )
    if partitions is None:
        return {row[0]: row[1] for row in connection.execute(statement)}
    found: dict[bytes, int] = {}
    for batch in batches(partitions):
        found.update((row[0], row[1]) for row in connection.execute(statement.where(table.c.partition.in_(batch))))
    return found


def base(connection: sa.Connection, seen: Lineage, node_id: int, partition: bytes) -> BaseRow | None:
    """The newest base of a partition on a lineage: of two at one version, the reader's own branch's."""
    table = schema.bases
    best: BaseRow | None = None
    for branch_id, upto in seen.parts:
        row = connection.execute(
            _BASES.where(
                table.c.node == node_id,
                table.c.partition == partition,
                table.c.branch == branch_id,
                table.c.version <= upto,
            )
            .order_by(table.c.version.desc())
            .limit(1)
        ).first()
        if row is not None and (best is None or row.version > best.version):
            best = BaseRow._make(row)
    return best


def fragments(
    connection: sa.Connection, seen: Lineage, node_id: int, partition: bytes, after: int
) -> list[FragmentRow]:
    """The fragments of a partition after a version, in order of (version, rank)."""
    table = schema.fragments
    rows = connection.execute(
        _FRAGMENTS.where(
            table.c.node == node_id, table.c.partition == partition, seen.condition(table, after)
        ).order_by(table.c.version, table.c.rank)
    )
    return [FragmentRow._make(row) for row in rows]


def fragments_since(
    connection: sa.Connection, seen: Lineage, node_ids: Sequence[int], after: int
) -> list[tuple[int, FragmentRow]]:
    """(node, fragment) of what came into some arrays after a version; directories of masked ones only."""
    table = schema.fragments
    columns = [
        table.c[name] if name != "directory" else sa.case((table.c.masked == 1, table.c.directory)).label("directory")
        for name in FragmentRow._fields
    ]
    found: list[tuple[int, FragmentRow]] = []
    for batch in batches(node_ids):
        statement = (
            sa.select(table.c.node, *columns)
            .where(table.c.version > after, table.c.node.in_(batch), seen.condition(table, after))
            .order_by(table.c.version, table.c.rank)
        )
        found.extend((row[0], FragmentRow._make(row[1:])) for row in connection.execute(statement))
    return found


def partitions(connection: sa.Connection, seen: Lineage, node_id: int) -> list[bytes]:
    """Every partition of an array that has a row."""
    found: set[bytes] = set()
    for table in (schema.fragments, schema.bases):
        rows = connection.execute(
            sa.select(table.c.partition).distinct().where(table.c.node == node_id, seen.condition(table))
        )
        found.update(row[0] for row in rows)
    return sorted(found)


def blobs(connection: sa.Connection, uuids: Sequence[bytes]) -> dict[bytes, bytes]:
    """The bytes of inline segments; those that are gone are left out."""
    table = schema.blobs
    found: dict[bytes, bytes] = {}
    for batch in batches(uuids):
        rows = connection.execute(sa.select(table.c.uuid, table.c.data).where(table.c.uuid.in_(batch)))
        found.update((row[0], row[1]) for row in rows)
    return found


def counts(connection: sa.Connection) -> dict[str, int]:
    """How many rows of each kind there are, and the bytes of segments."""

    def count(table: sa.Table) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)

    segments = schema.segments
    live = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(segments.c.size), 0)).where(segments.c.state == "live")
    ).one()
    lengths = sa.func.sum(sa.func.length(schema.blobs.c.data))
    inline = connection.execute(sa.select(sa.func.coalesce(lengths, 0))).scalar()
    return {
        "commits": count(schema.commits),
        "nodes": count(schema.nodes),
        "fragments": count(schema.fragments),
        "bases": count(schema.bases),
        "segments": int(live[0]),
        "segment_bytes": int(live[1]),
        "inline_segments": count(schema.blobs),
        "inline_bytes": int(inline or 0),
    }


def loads(connection: sa.Connection, seen: Lineage, node_id: int) -> dict[bytes, tuple[int, int, bool]]:
    """(fragments, fragments since the base, whether there is a base) of each partition of an array."""
    table = schema.fragments
    rows = connection.execute(
        sa.select(table.c.partition, table.c.version).where(table.c.node == node_id, seen.condition(table))
    )
    bases = base_versions(connection, seen, node_id, None)
    found: dict[bytes, tuple[int, int, bool]] = dict.fromkeys(bases, (0, 0, True))
    for partition, version in rows:
        total, since, has_base = found.get(partition, (0, 0, partition in bases))
        newer = version > bases.get(partition, -1)
        found[partition] = total + 1, since + newer, has_base
    return found


def live_segments(connection: sa.Connection, uuids: Sequence[bytes]) -> dict[bytes, tuple[str, int, int]]:
    """(state, size, references) of some segments."""
    table = schema.segments
    found: dict[bytes, tuple[str, int, int]] = {}
    for batch in batches(uuids):
        rows = connection.execute(
            sa.select(table.c.uuid, table.c.state, table.c.size, table.c.refs).where(table.c.uuid.in_(batch))
        )
        found.update((row[0], (row[1], row[2], row[3])) for row in rows)
    return found
