"""Reading the index: each function is one statement (or two) and returns plain values.

Every function that reads history takes a :class:`Lineage`, which says what of it a reader sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from txstore.fragment import unpack_shape
from txstore.index import schema
from txstore.index.edits import MAIN

#: How many values an IN list takes at most; SQLite allows 32,766 variables in a statement.
_BATCH = 500


class Lineage(NamedTuple):
    """What a reader of one version of one branch sees: rows of each branch up to a version.

    Attributes
    ----------
    parts : tuple of (int, int)
        (branch id, newest version seen of it), the reader's own branch first.
    """

    parts: tuple[tuple[int, int], ...]

    @property
    def branch(self) -> int:
        """The branch that is read."""
        return self.parts[0][0]

    @property
    def version(self) -> int:
        """The version that is read."""
        return self.parts[0][1]

    def at(self, version: int) -> Lineage:
        """The same branch at another version."""
        parts = [(branch, min(upto, version)) for branch, upto in self.parts[1:]]
        return Lineage(((self.parts[0][0], version), *parts))

    def sees(self, branch: int, version: int) -> bool:
        """Whether a row of that branch and version is visible."""
        return any(part == branch and version <= upto for part, upto in self.parts)

    def condition(self, table: sa.FromClause, after: int | None = None) -> sa.ColumnElement[bool]:
        """The SQL condition on a table with columns branch and version; `after` is exclusive."""
        clauses: list[sa.ColumnElement[bool]] = []
        for branch, upto in self.parts:
            if after is not None and upto <= after:
                continue
            clause = sa.and_(table.c.branch == branch, table.c.version <= upto)
            if after is not None:
                clause = sa.and_(clause, table.c.version > after)
            clauses.append(clause)
        return sa.or_(*clauses) if clauses else sa.false()


class BranchRow(NamedTuple):
    """One row of ``branches``."""

    id: int
    name: str
    parent: int | None
    fork: int
    created: int
    deleted: int | None


class CommitRow(NamedTuple):
    """One row of ``commits``."""

    version: int
    branch: int | None
    committed_at: int
    txid: bytes
    parents: bytes
    author: str | None
    message: str | None
    properties: str | None
    touched: bytes
    bytes_written: int


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


def _batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]


# --- branches and names -------------------------------------------------------------------------

_BRANCHES = sa.select(*(schema.branches.c[name] for name in BranchRow._fields))


def branch(connection: sa.Connection, branch_id: int) -> BranchRow | None:
    """The row of a branch."""
    row = connection.execute(_BRANCHES.where(schema.branches.c.id == branch_id)).first()
    return None if row is None else BranchRow._make(row)


def all_branches(connection: sa.Connection) -> list[BranchRow]:
    """Every branch that there ever was."""
    return [BranchRow._make(row) for row in connection.execute(_BRANCHES.order_by(schema.branches.c.id))]


def lineage(connection: sa.Connection, branch_id: int, version: int) -> Lineage:
    """What a reader of `version` of a branch sees."""
    parts = [(branch_id, version)]
    current: int | None = branch_id
    while current is not None and current != MAIN:
        row = branch(connection, current)
        if row is None or row.parent is None:
            break
        parts.append((row.parent, min(row.fork, parts[-1][1])))
        current = row.parent
    return Lineage(tuple(parts))


def reference(connection: sa.Connection, kind: str, name: str, version: int) -> tuple[int, int | None] | None:
    """(target, target branch) of a name as of a version, or None."""
    refs = schema.refs
    row = connection.execute(
        sa.select(refs.c.target, refs.c.target_branch)
        .where(refs.c.kind == kind, refs.c.name == name, refs.c.version <= version)
        .order_by(refs.c.version.desc())
        .limit(1)
    ).first()
    return None if row is None or row.target is None else (row.target, row.target_branch)


def references(connection: sa.Connection, kind: str, version: int) -> dict[str, tuple[int, int | None]]:
    """Every name of a kind as of a version, in order of name."""
    refs = schema.refs
    rows = connection.execute(
        sa.select(refs.c.name, refs.c.target, refs.c.target_branch)
        .where(refs.c.kind == kind, refs.c.version <= version)
        .order_by(refs.c.name, refs.c.version)
    )
    found: dict[str, tuple[int, int | None]] = {}
    for name, target, target_branch in rows:
        if target is None:
            found.pop(name, None)
        else:
            found[name] = (target, target_branch)
    return dict(sorted(found.items()))


def reference_log(connection: sa.Connection) -> list[tuple[str, str, int, int | None, int | None]]:
    """Every row of ``refs``: (kind, name, version, target, target branch)."""
    refs = schema.refs
    rows = connection.execute(
        sa.select(refs.c.kind, refs.c.name, refs.c.version, refs.c.target, refs.c.target_branch).order_by(
            refs.c.version
        )
    )
    return [tuple(row) for row in rows]


# --- commits ------------------------------------------------------------------------------------

_COMMITS = sa.select(*(schema.commits.c[name] for name in CommitRow._fields))


def commit_row(connection: sa.Connection, version: int) -> CommitRow | None:
    """One commit."""
    row = connection.execute(_COMMITS.where(schema.commits.c.version == version)).first()
    return None if row is None else CommitRow._make(row)


def commit_of(connection: sa.Connection, txid: bytes) -> CommitRow | None:
    """The commit of a transaction id."""
    row = connection.execute(_COMMITS.where(schema.commits.c.txid == txid)).first()
    return None if row is None else CommitRow._make(row)


def commits(
    connection: sa.Connection, seen: Lineage, *, after: int | None = None, before: int | None = None, limit: int
) -> list[CommitRow]:
    """At most `limit` commits of a lineage, newest first; both bounds are exclusive."""
    table = schema.commits
    statement = _COMMITS.where(seen.condition(table, after))
    if before is not None:
        statement = statement.where(table.c.version < before)
    rows = connection.execute(statement.order_by(table.c.version.desc()).limit(limit))
    return [CommitRow._make(row) for row in rows]


def commits_by_version(connection: sa.Connection, versions: Iterable[int]) -> dict[int, CommitRow]:
    """The commits of some versions."""
    found: dict[int, CommitRow] = {}
    for batch in _batches(sorted(set(versions))):
        for row in connection.execute(_COMMITS.where(schema.commits.c.version.in_(batch))):
            found[row.version] = CommitRow._make(row)
    return found


def newest_commit(connection: sa.Connection, seen: Lineage) -> int:
    """The newest version on a lineage that is a commit; 0 when there is none."""
    table = schema.commits
    for branch_id, upto in seen.parts:
        version = connection.execute(
            sa.select(table.c.version)
            .where(table.c.branch == branch_id, table.c.version <= upto)
            .order_by(table.c.version.desc())
            .limit(1)
        ).scalar()
        if version is not None:
            return int(version)
    return 0


def version_at(connection: sa.Connection, time_us: int) -> int:
    """The newest version committed at or before a moment; 0 when there is none."""
    table = schema.commits
    version = connection.execute(
        sa.select(table.c.version).where(table.c.committed_at <= time_us).order_by(table.c.committed_at.desc()).limit(1)
    ).scalar()
    return int(version or 0)


def touched_since(connection: sa.Connection, seen: Lineage, after: int) -> list[tuple[int, bytes]]:
    """(version, summary) of what came on a lineage after a version, oldest first."""
    table = schema.commits
    rows = connection.execute(
        sa.select(table.c.version, table.c.touched).where(seen.condition(table, after)).order_by(table.c.version)
    )
    return [(row[0], row[1]) for row in rows]


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


def named_children(connection: sa.Connection, seen: Lineage, parent: int, names: Sequence[str]) -> dict[str, NodeRow]:
    """Those members of a group that have one of some names."""
    rows = schema.node_versions
    found = {}
    for batch in _batches(names):
        for row in connection.execute(_visible(seen).where(rows.c.parent == parent, rows.c.name.in_(batch))):
            found[row.name] = NodeRow._make(row)
    return found


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
    for batch in _batches(partitions):
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
    for batch in _batches(node_ids):
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
    for batch in _batches(uuids):
        rows = connection.execute(sa.select(table.c.uuid, table.c.data).where(table.c.uuid.in_(batch)))
        found.update((row[0], row[1]) for row in rows)
    return found


# --- roots --------------------------------------------------------------------------------------


def tag_targets(connection: sa.Connection, horizon: int) -> set[tuple[int, int]]:
    """(branch, version) of every tag that was in force at some version from the horizon on."""
    in_force: dict[str, tuple[int, int | None] | None] = {}
    targets: set[tuple[int, int]] = set()
    for kind, name, version, target, target_branch in reference_log(connection):
        if kind != "tag":
            continue
        if version <= horizon:
            in_force[name] = None if target is None else (target, target_branch)
        elif target is not None:
            targets.add((target_branch or MAIN, target))
    targets.update((entry[1] or MAIN, entry[0]) for entry in in_force.values() if entry is not None)
    return targets


def fork_points(connection: sa.Connection, horizon: int) -> set[tuple[int, int]]:
    """(parent branch, version) of the forks of branches that are alive at some version from the horizon on."""
    return {
        (row.parent, row.fork)
        for row in all_branches(connection)
        if row.parent is not None and (row.deleted is None or row.deleted > horizon)
    }


def is_root(connection: sa.Connection, horizon: int, commit: int, branch_id: int) -> bool:
    """Whether a commit below the horizon is kept all the same, as seen from a branch."""
    if commit == 0:
        return True
    roots = tag_targets(connection, horizon) | fork_points(connection, horizon)
    return any(version == commit and branch_id == branch for branch, version in roots)


def next_commit(connection: sa.Connection, branch_id: int, version: int) -> int | None:
    """The first commit of a branch after a version."""
    table = schema.commits
    found = connection.execute(
        sa.select(table.c.version)
        .where(table.c.branch == branch_id, table.c.version > version)
        .order_by(table.c.version)
        .limit(1)
    ).scalar()
    return None if found is None else int(found)


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
    for batch in _batches(uuids):
        rows = connection.execute(
            sa.select(table.c.uuid, table.c.state, table.c.size, table.c.refs).where(table.c.uuid.in_(batch))
        )
        found.update((row[0], (row[1], row[2], row[3])) for row in rows)
    return found


def count_commits(connection: sa.Connection, first: int, last: int) -> int:
    """How many commits of branches have ``first <= version < last``."""
    table = schema.commits
    statement = sa.select(sa.func.count()).where(
        table.c.version >= first, table.c.version < last, table.c.branch.is_not(None)
    )
    return int(connection.execute(statement).scalar() or 0)
