"""What is kept: the horizon, the roots, and the rows that no root needs.

The one question: for every retained root (each branch from the horizon on, tags, fork points), is the row
invisible, or at or below the base that this root uses? docs/decisions/0001-the-read-rule.md derives the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from txstore.boxes import Box
from txstore.errors import CorruptionError
from txstore.grid import WHOLE, Grid
from txstore.index import branches, lookup
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import MAIN, ROOT
from txstore.index.engine import Head, Index, read_head
from txstore.index.sql import sa, schema

#: Rows that one transaction deletes at most, so that no writer waits long.
_STEP = 500
#: A fill over more partitions than this is kept until expiry of the array.
MAX_PARTITIONS = 10_000


class Root(NamedTuple):
    """States that must stay readable: one branch from one version to another, both included.

    Attributes
    ----------
    first : Lineage
        The oldest state.
    last : Lineage
        The newest state.
    nodes : frozenset of int
        The nodes that can be reached from the root group in the oldest state.
    """

    first: Lineage
    last: Lineage
    nodes: frozenset[int]


def roots(connection: Connection, head: Head, horizon: int) -> list[Root]:
    """Everything that is retained for a horizon."""
    found = []
    for branch in [None, *branches.all_branches(connection)]:
        created, deleted, branch_id = (0, None, MAIN) if branch is None else (branch.created, branch.deleted, branch.id)
        start = max(horizon, created)
        end = head.head if deleted is None else deleted - 1
        if start > end:
            continue
        found.append(_root(connection, branch_id, start, end))
    points = branches.tag_targets(connection, horizon) | branches.fork_points(connection, horizon)
    for branch_id, version in sorted(points):
        if version < horizon:
            found.append(_root(connection, branch_id, version, version))
    return found


def _root(connection: Connection, branch_id: int, start: int, end: int) -> Root:
    first = branches.lineage(connection, branch_id, start)
    return Root(first, branches.lineage(connection, branch_id, end), reachable(lookup.all_nodes(connection, first)))


def reachable(rows: Iterable[lookup.NodeRow]) -> frozenset[int]:
    """The nodes that hang, through others, on the root group."""
    below: dict[int, list[int]] = {}
    for row in rows:
        below.setdefault(row.parent, []).append(row.id)
    found: set[int] = set()
    todo = [ROOT]
    while todo:
        for node in below.get(todo.pop(), ()):
            if node not in found:
                found.add(node)
                todo.append(node)
    return frozenset(found)


def floor(bases: Iterable[tuple[int, int]], seen: Lineage) -> tuple[int, int] | None:
    """(branch, version) of the base that a reader uses: the newest visible, of equals the nearest branch's."""
    distance = {branch: -place for place, (branch, _) in enumerate(seen.parts)}
    visible = [base for base in bases if seen.sees(*base)]
    return max(visible, key=lambda base: (base[1], distance[base[0]]), default=None)


def needed_bases(bases: list[tuple[int, int]], retained: list[Root]) -> set[tuple[int, int]]:
    """The bases that some retained state uses."""
    needed = set()
    for root in retained:
        oldest = floor(bases, root.first)
        if oldest is not None:
            needed.add(oldest)
        after = root.first.version
        needed.update(base for base in bases if base[1] > after and root.last.sees(*base))
    return needed


def needs(branch: int, version: int, retained: list[Root], floors: list[int]) -> bool:
    """Whether some retained state applies a fragment; `floors` are the versions of the roots' oldest bases."""
    return any(root.last.sees(branch, version) and version > low for root, low in zip(retained, floors, strict=True))


@dataclass(frozen=True)
class Garbage:
    """Rows of one partition that nothing needs.

    Attributes
    ----------
    fragments : list of (branch, version, rank)
    bases : list of (branch, version)
    floors : frozenset of (partition, branch, version)
        The bases that are read in their stead.
    """

    node: int
    partition: bytes
    fragments: list[tuple[int, int, int]]
    bases: list[tuple[int, int]]
    floors: frozenset[tuple[bytes, int, int]]


def garbage(connection: Connection, head: Head, horizon: int) -> Iterator[Garbage]:
    """Every row that no retained root needs, partition by partition."""
    retained = roots(connection, head, horizon)
    nodes = connection.execute(
        sa.select(schema.nodes.c.id, schema.nodes.c.created, schema.nodes.c.partition).where(
            schema.nodes.c.kind == "array"
        )
    ).all()
    for node, created, _ in nodes:
        # A node that was made after the horizon is needed where its branch is; who is dead is dead for every root.
        alive = [root for root in retained if created > root.first.version or node in root.nodes]
        yield from _garbage_of(connection, node, alive, horizon)


def _garbage_of(connection: Connection, node: int, retained: list[Root], horizon: int) -> Iterator[Garbage]:
    fragments, bases = schema.fragments, schema.bases
    by_partition: dict[bytes, list[tuple[int, int]]] = {}
    for partition, branch, version in connection.execute(
        sa.select(bases.c.partition, bases.c.branch, bases.c.version).where(bases.c.node == node)
    ):
        by_partition.setdefault(partition, []).append((branch, version))
    rows: dict[bytes, list[tuple[int, int, int]]] = {}
    for partition, branch, version, rank in connection.execute(
        sa.select(fragments.c.partition, fragments.c.branch, fragments.c.version, fragments.c.rank).where(
            fragments.c.node == node, fragments.c.version <= horizon
        )
    ):
        rows.setdefault(partition, []).append((branch, version, rank))
    for partition in sorted({*rows, *by_partition}):
        known = by_partition.get(partition, [])
        if partition == WHOLE:
            dead = _dead_fills(connection, node, rows[WHOLE], by_partition, retained)
        else:
            floors = [_version(floor(known, root.first)) for root in retained]
            dead = [row for row in rows.get(partition, ()) if not needs(row[0], row[1], retained, floors)]
        keep = needed_bases(known, retained)
        unused = [base for base in known if base not in keep]
        if dead or unused:
            shown_in = by_partition if partition == WHOLE else [partition]
            gone = [*((branch, version) for branch, version, _ in dead), *unused]
            reading = [root for root in retained if any(root.last.sees(*row) for row in gone)]
            found = [(key, floor(by_partition.get(key, ()), root.first)) for root in reading for key in shown_in]
            floors_in = frozenset((key, *base) for key, base in found if base is not None)
            yield Garbage(node, partition, dead, unused, floors_in)


def _version(base: tuple[int, int] | None) -> int:
    return -1 if base is None else base[1]


def _dead_fills(
    connection: Connection,
    node: int,
    rows: list[tuple[int, int, int]],
    bases: dict[bytes, list[tuple[int, int]]],
    retained: list[Root],
) -> list[tuple[int, int, int]]:
    """Fills of the whole array that lie below the bases of every partition in which they show."""
    if not retained:
        return rows
    grid = _grid(connection, node)
    if grid is None:
        return []
    table = schema.fragments
    dead = []
    for branch, version, rank in rows:
        clip = connection.execute(
            sa.select(table.c.clip).where(
                table.c.node == node,
                table.c.partition == WHOLE,
                table.c.branch == branch,
                table.c.version == version,
                table.c.rank == rank,
            )
        ).scalar_one()
        box = Box.from_bytes(clip, grid.ndim)
        if grid.count_partitions(box) > MAX_PARTITIONS:
            continue
        keys = [key for key, _ in grid.partitions_in(box)]
        lowest = [min(_version(floor(bases.get(key, ()), root.first)) for key in keys) for root in retained]
        if not needs(branch, version, retained, lowest):
            dead.append((branch, version, rank))
    return dead


def _grid(connection: Connection, node: int) -> Grid | None:
    from txstore.index.rows import partition_extent
    from txstore.metadata import ArrayMetadata

    rows, nodes = schema.node_versions, schema.nodes
    row = connection.execute(
        sa.select(rows.c.metadata, nodes.c.partition)
        .join(nodes, nodes.c.id == rows.c.node)
        .where(rows.c.node == node, rows.c.metadata.is_not(None))
        .limit(1)
    ).first()
    if row is None:
        return None
    meta = ArrayMetadata.from_stored(row.metadata)
    return Grid(meta.chunks, meta.shards, partition_extent(row.partition))


def stand_ins(connection: Connection, rows: Garbage) -> dict[bytes, int]:
    """The segments of what is read in the stead of garbage, with their sizes."""
    table = schema.bases
    segments: set[bytes] = set()
    for partition, branch, version in rows.floors:
        directory = connection.execute(
            sa.select(table.c.directory).where(
                table.c.node == rows.node,
                table.c.partition == partition,
                table.c.branch == branch,
                table.c.version == version,
            )
        ).scalar()
        if directory is not None:
            segments.update(segment for segment, inline in pointed_to(directory) if not inline)
    return {segment: size for segment, (_, size, _) in lookup.live_segments(connection, list(segments)).items()}


# --- carrying it out ----------------------------------------------------------------------------


@dataclass
class Freed:
    """What a vacuum has let go so far."""

    fragments: int = 0
    bases: int = 0
    inline: int = 0
    intents: int = 0
    segments: int = 0
    bytes: int = 0


def move_horizon(connection: Connection, head: Head, horizon: int) -> None:
    """Raise the horizon, inside a write transaction; it never goes back."""
    if head.horizon < horizon <= head.head:
        connection.execute(schema.store.update().values(horizon=horizon, maintenance=schema.store.c.maintenance + 1))


def steps(rows: Garbage) -> Iterator[Garbage]:
    """The same in parts that one transaction deletes, so that no writer waits long."""
    fragments, bases = list(rows.fragments), list(rows.bases)
    while fragments or bases:
        yield Garbage(rows.node, rows.partition, fragments[:_STEP], bases[:_STEP], rows.floors)
        fragments, bases = fragments[_STEP:], bases[_STEP:]


def doom(index: Index, rows: Garbage, freed: Freed, horizon: int) -> None:
    """Delete rows that were garbage for a horizon; segments to which nothing points any more are doomed with them.

    Rows at or below the conflict horizon only, which is raised first: a transaction that starts below it is told so.
    """
    with index.maintain() as connection:
        head = read_head(connection)
        if head.conflict_horizon < horizon:
            connection.execute(schema.store.update().values(conflict_horizon=horizon))
        refs: Counter[tuple[bytes, bool]] = Counter()
        for branch, version, rank in rows.fragments:
            freed.fragments += _delete(
                connection, schema.fragments, rows, {"branch": branch, "version": version, "rank": rank}, refs
            )
        for branch, version in rows.bases:
            freed.bases += _delete(connection, schema.bases, rows, {"branch": branch, "version": version}, refs)
        _unrefer(connection, refs, freed)
        connection.execute(schema.store.update().values(maintenance=schema.store.c.maintenance + 1))


def _delete(
    connection: Connection, table: sa.Table, rows: Garbage, key: dict[str, int], refs: Counter[tuple[bytes, bool]]
) -> int:
    where = sa.and_(
        table.c.node == rows.node,
        table.c.partition == rows.partition,
        *(table.c[name] == value for name, value in key.items()),
    )
    found = connection.execute(sa.select(table.c.directory).where(where)).first()
    if found is None:
        return 0  # another vacuum was here
    if found[0] is not None:
        refs.update(pointed_to(found[0]))
    connection.execute(table.delete().where(where))
    return 1


def pointed_to(directory: bytes) -> set[tuple[bytes, bool]]:
    """The segments that an encoded directory points to, without decoding its places.

    Raises
    ------
    CorruptionError
        If it is malformed.
    """
    try:
        raw = msgpack.unpackb(directory)[3]
        if len(raw) % 17:
            raise ValueError(f"{len(raw)} bytes of segments")
        return {(raw[start : start + 16], raw[start + 16] == 1) for start in range(0, len(raw), 17)}
    except (ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException) as error:
        raise CorruptionError(f"a stored directory is malformed: {error}; run txstore verify") from error


def _unrefer(connection: Connection, refs: Counter[tuple[bytes, bool]], freed: Freed) -> None:
    segments, blobs = schema.segments, schema.blobs
    for (uuid, inline), count in refs.items():
        if inline:
            connection.execute(blobs.update().where(blobs.c.uuid == uuid).values(refs=blobs.c.refs - count))
            length = connection.execute(
                sa.select(sa.func.length(blobs.c.data)).where(blobs.c.uuid == uuid, blobs.c.refs <= 0)
            ).scalar()
            if length is not None:
                connection.execute(blobs.delete().where(blobs.c.uuid == uuid, blobs.c.refs <= 0))
                freed.inline += 1
                freed.bytes += int(length)
        else:
            connection.execute(segments.update().where(segments.c.uuid == uuid).values(refs=segments.c.refs - count))
            connection.execute(
                segments.update()
                .where(segments.c.uuid == uuid, segments.c.refs <= 0, segments.c.state == "live")
                .values(state="doomed")
            )


def shrink(index: Index, pages: int = 2000, between: Callable[[], object] | None = None) -> None:
    """Give free pages of the index back to the file system, in bounded steps; `between` is called after each."""
    left = None
    while True:
        with index.dialect.exclusive(), index.bare() as connection:
            now = index.dialect.shrink(connection, pages)
        if now == 0 or now == left:
            return
        left = now
        if between is not None:
            between()
