"""Reading the index: each function is one statement (or two) and returns plain values.

Every function that reads history takes a :class:`Lineage`, which says what of it a reader sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from txstore.index.branches import Lineage
from txstore.index.connection import Connection, Row
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement, batches, visible


class NodeRow(NamedTuple):
    """A node as a lineage sees it."""

    id: int
    kind: str
    parent: int
    name: str
    metadata: str | None
    partition: str | None
    version: int  # since which it has hung there


class AttributeRow(NamedTuple):
    """The newest value of an attribute; None: deleted."""

    node: int
    key: str
    version: int
    value: str | None


class FragmentRow(NamedTuple):
    """One row of ``fragments``, undecoded."""

    version: int
    rank: int
    kind: int
    masked: int
    clip: bytes
    frame: bytes | None
    directory: bytes | None
    partition: bytes
    branch: int


#: Where the clip stands in it.
CLIP = FragmentRow._fields.index("clip")


class BaseRow(NamedTuple):
    """One row of ``bases``, undecoded."""

    partition: bytes
    branch: int
    version: int
    uuid: bytes
    clip: bytes
    frame: bytes
    directory: bytes


# --- nodes --------------------------------------------------------------------------------------


def _nodes(parts: int) -> sa.Select[Any]:
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
            visible(rows, parts),
            rows.c.parent.is_not(None),
            ~sa.exists().where(newer.c.node == rows.c.node, newer.c.version > rows.c.version, visible(newer, parts)),
        )
    )


_CHILD = Statement(
    "child",
    lambda parts: _nodes(parts).where(
        schema.node_versions.c.parent == sa.bindparam("parent"), schema.node_versions.c.name == sa.bindparam("name")
    ),
)
_CHILDREN = Statement(
    "children",
    lambda parts: (
        _nodes(parts)
        .where(schema.node_versions.c.parent == sa.bindparam("parent"))
        .order_by(schema.node_versions.c.name)
    ),
)
_ALL_NODES = Statement("all nodes", _nodes)
_NODE = Statement("node", lambda parts: _nodes(parts).where(schema.node_versions.c.node == sa.bindparam("node")))
_NODES_CHANGED = Statement(
    "nodes changed",
    lambda parts: (
        sa.select(schema.node_versions.c.node, schema.node_versions.c.version, schema.node_versions.c.parent)
        .where(visible(schema.node_versions, parts))
        .order_by(schema.node_versions.c.version)
    ),
)


def child(connection: Connection, seen: Lineage, parent: int, name: str) -> NodeRow | None:
    """The member of a group with that name."""
    row = connection.first(_CHILD, {"parent": parent, "name": name}, seen)
    return None if row is None else NodeRow._make(row)


def children(connection: Connection, seen: Lineage, parent: int) -> list[NodeRow]:
    """The direct members of a group, by name."""
    return [NodeRow._make(row) for row in connection.rows(_CHILDREN, {"parent": parent}, seen)]


def all_nodes(connection: Connection, seen: Lineage) -> list[NodeRow]:
    """Every node that hangs somewhere, those under deleted groups included."""
    return [NodeRow._make(row) for row in connection.rows(_ALL_NODES, seen=seen)]


def node(connection: Connection, seen: Lineage, node_id: int) -> NodeRow | None:
    """A node by its identity; None when it is deleted or not yet made."""
    row = connection.first(_NODE, {"node": node_id}, seen)
    return None if row is None else NodeRow._make(row)


def nodes_changed(connection: Connection, seen: Lineage, after: int) -> list[tuple[int, int, int | None]]:
    """(node, version, parent) of each move, creation and deletion after a version."""
    return [(row[0], row[1], row[2]) for row in connection.rows(_NODES_CHANGED, seen=seen, after=after)]


# --- attributes ---------------------------------------------------------------------------------


def _attributes(parts: int) -> sa.Select[Any]:
    table = schema.attributes
    columns = sa.select(table.c.node, table.c.key, table.c.version, table.c.value)
    return columns.where(visible(table, parts)).order_by(table.c.version, table.c.rank)


_ATTRIBUTES = Statement(
    "attributes", lambda parts: _attributes(parts).where(schema.attributes.c.node == sa.bindparam("node"))
)
_ALL_ATTRIBUTES = Statement("all attributes", _attributes)


def attributes(
    connection: Connection, seen: Lineage, node_id: int | None = None, after: int = -1
) -> list[AttributeRow]:
    """The newest row of each attribute key of a node (None: of all nodes), deletions included."""
    if node_id is None:
        rows = connection.rows(_ALL_ATTRIBUTES, seen=seen, after=after)
    else:
        rows = connection.rows(_ATTRIBUTES, {"node": node_id}, seen, after)
    newest: dict[tuple[int, str], AttributeRow] = {}
    for row in map(AttributeRow._make, rows):
        # A key that is set again keeps its old place in the order unless it was deleted in between.
        key = (row.node, row.key)
        if key in newest and newest[key].value is None:
            del newest[key]
        newest[key] = row
    return list(newest.values())


# --- fragments and bases ------------------------------------------------------------------------

_BASE = Statement(
    "base",
    lambda _: (
        sa.select(*(schema.bases.c[name] for name in BaseRow._fields))
        .where(
            schema.bases.c.node == sa.bindparam("node"),
            schema.bases.c.partition == sa.bindparam("partition"),
            schema.bases.c.branch == sa.bindparam("branch"),
            schema.bases.c.version <= sa.bindparam("upto"),
        )
        .order_by(schema.bases.c.version.desc())
        .limit(1)
    ),
)
_FRAGMENTS = Statement(
    "fragments",
    lambda parts: (
        sa.select(*(schema.fragments.c[name] for name in FragmentRow._fields))
        .where(
            schema.fragments.c.node == sa.bindparam("node"),
            schema.fragments.c.partition == sa.bindparam("partition"),
            visible(schema.fragments, parts),
        )
        .order_by(schema.fragments.c.version, schema.fragments.c.rank)
    ),
)
_BLOBS = Statement(
    "blobs",
    lambda _: sa.select(schema.blobs.c.uuid, schema.blobs.c.data).where(
        schema.blobs.c.uuid.in_(sa.bindparam("uuids", expanding=True))
    ),
)


def _fragments_since(parts: int) -> sa.Select[Any]:
    table = schema.fragments
    columns = [
        table.c[name] if name != "directory" else sa.case((table.c.masked == 1, table.c.directory)).label("directory")
        for name in FragmentRow._fields
    ]
    return (
        sa.select(table.c.node, *columns)
        .where(table.c.node == sa.bindparam("node"), visible(table, parts))
        .order_by(table.c.version, table.c.rank)
    )


_FRAGMENTS_SINCE = Statement("fragments since", _fragments_since)


def _partitions(table: sa.Table, parts: int) -> sa.Select[Any]:
    return sa.select(table.c.partition).distinct().where(table.c.node == sa.bindparam("node"), visible(table, parts))


_LOADS = Statement(
    "loads",
    lambda parts: sa.select(schema.fragments.c.partition, schema.fragments.c.version).where(
        schema.fragments.c.node == sa.bindparam("node"), visible(schema.fragments, parts)
    ),
)
_BASE_VERSIONS = Statement(
    "base versions",
    lambda parts: (
        sa.select(schema.bases.c.partition, sa.func.max(schema.bases.c.version))
        .where(schema.bases.c.node == sa.bindparam("node"), visible(schema.bases, parts))
        .group_by(schema.bases.c.partition)
    ),
)
_PARTITIONS_WRITTEN = Statement("partitions written", lambda parts: _partitions(schema.fragments, parts))
_PARTITIONS_COMPACTED = Statement("partitions compacted", lambda parts: _partitions(schema.bases, parts))


def base_versions(
    connection: Connection, seen: Lineage, node_id: int, partitions: Sequence[bytes] | None
) -> dict[bytes, int]:
    """The version of the newest base of each partition that has one (None: of all partitions)."""
    if partitions is None:
        return {row[0]: row[1] for row in connection.rows(_BASE_VERSIONS, {"node": node_id}, seen)}
    table = schema.bases
    statement = (
        sa.select(table.c.partition, sa.func.max(table.c.version))
        .where(table.c.node == node_id, seen.condition(table))
        .group_by(table.c.partition)
    )
    found: dict[bytes, int] = {}
    for batch in batches(partitions):
        found.update((row[0], row[1]) for row in connection.execute(statement.where(table.c.partition.in_(batch))))
    return found


def base(connection: Connection, seen: Lineage, node_id: int, partition: bytes) -> BaseRow | None:
    """The newest base of a partition on a lineage: of two at one version, the reader's own branch's."""
    best: BaseRow | None = None
    for branch_id, upto in seen.parts:
        values = {"node": node_id, "partition": partition, "branch": branch_id, "upto": upto}
        row = connection.first(_BASE, values)
        found = None if row is None else BaseRow._make(row)
        if found is not None and (best is None or found.version > best.version):
            best = found
    return best


def fragments(connection: Connection, seen: Lineage, node_id: int, partition: bytes, after: int) -> list[Row]:
    """The fragments of a partition after a version, in order of (version, rank): the fields of :class:`FragmentRow`."""
    return connection.rows(_FRAGMENTS, {"node": node_id, "partition": partition}, seen, after)


def fragments_since(
    connection: Connection, seen: Lineage, node_ids: Sequence[int], after: int
) -> list[tuple[int, FragmentRow]]:
    """(node, fragment) of what came into some arrays after a version; directories of masked ones only."""
    found: list[tuple[int, FragmentRow]] = []
    for node_id in node_ids:
        rows = connection.rows(_FRAGMENTS_SINCE, {"node": node_id}, seen, after)
        found.extend((node_id, FragmentRow._make(row[1:])) for row in rows)
    return found


def partitions(connection: Connection, seen: Lineage, node_id: int) -> list[bytes]:
    """Every partition of an array that has a row."""
    statements = (_PARTITIONS_WRITTEN, _PARTITIONS_COMPACTED)
    return sorted({row[0] for one in statements for row in connection.rows(one, {"node": node_id}, seen)})


def blobs(connection: Connection, uuids: Sequence[bytes]) -> dict[bytes, bytes]:
    """The bytes of inline segments; those that are gone are left out."""
    found: dict[bytes, bytes] = {}
    for batch in batches(uuids):
        found.update((row[0], row[1]) for row in connection.rows(_BLOBS, {"uuids": batch}))
    return found


def counts(connection: Connection) -> dict[str, int]:
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


def loads(connection: Connection, seen: Lineage, node_id: int) -> dict[bytes, tuple[int, int, bool]]:
    """(fragments, fragments since the base, whether there is a base) of each partition of an array."""
    rows = connection.rows(_LOADS, {"node": node_id}, seen)
    bases = base_versions(connection, seen, node_id, None)
    found: dict[bytes, tuple[int, int, bool]] = dict.fromkeys(bases, (0, 0, True))
    for partition, version in rows:
        total, since, has_base = found.get(partition, (0, 0, partition in bases))
        newer = version > bases.get(partition, -1)
        found[partition] = total + 1, since + newer, has_base
    return found


def live_segments(connection: Connection, uuids: Sequence[bytes]) -> dict[bytes, tuple[str, int, int]]:
    """(state, size, references) of some segments."""
    table = schema.segments
    found: dict[bytes, tuple[str, int, int]] = {}
    for batch in batches(uuids):
        rows = connection.execute(
            sa.select(table.c.uuid, table.c.state, table.c.size, table.c.refs).where(table.c.uuid.in_(batch))
        )
        found.update((row[0], (row[1], row[2], row[3])) for row in rows)
    return found
