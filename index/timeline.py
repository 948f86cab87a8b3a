"""What has been read of one branch, kept while it is true.

History is append-only, so what was read at one version often answers for others: a row that hangs at the
newest version and is older than the asked one was there then as well; a log read up to a version holds the
log of every earlier one; and the summaries of commits tell which nodes a newer version has not touched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial

from txstore.descriptors import renew_in_children
from txstore.errors import SnapshotExpiredError
from txstore.fragment import Fragment
from txstore.grid import WHOLE, Grid
from txstore.index import branches, commitlog, lookup, shaperows
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import Change, Touched
from txstore.index.engine import Head, Index, read_head
from txstore.index.lookup import AttributeRow, NodeRow
from txstore.index.rows import base_of, clips_of, fragment_of
from txstore.shapelog import ShapeLog, ShapeRow, Shapes
from txstore.tables import PartitionTable

#: Partition tables kept in memory for one branch.
_MAX_TABLES = 16384
#: And of those of older bases.
_MAX_OLD = 64
#: Shapes that are remembered of older versions than the first that was asked for.
_MAX_OLD_SHAPES = 4096


class Timeline:
    """One branch of one store, as far as this process has read it.

    Parameters
    ----------
    index : Index
        The index.
    lineage : Lineage
        The branch at its newest version.
    head : Head
        The head row of the same SQL snapshot.

    Notes
    -----
    Safe for threads. Every method takes the version that it answers for; it must not lie above the
    newest one that :meth:`advance` was given.
    """

    def __init__(self, index: Index, lineage: Lineage, head: Head) -> None:
        self._index = index
        self._lineage = lineage
        self._lock = threading.RLock()
        self._upto = lineage.version
        self._maintenance = head.maintenance
        self._began = lineage.version
        self._structure = lineage.version
        self._newest: tuple[int, int] | None = None
        self._changed: dict[tuple[int, int], int] = {}
        self._children: dict[tuple[int, str], tuple[int, NodeRow | None]] = {}
        self._shapes: dict[int, ShapeLog] = {}
        #: Of versions from before those logs begin.
        self._old_shapes: OrderedDict[tuple[int, int], Shapes] = OrderedDict()
        self._attributes: dict[int, tuple[int, list[AttributeRow]]] = {}
        self._tables: OrderedDict[tuple[int, bytes], PartitionTable] = OrderedDict()
        #: Tables of older bases, by the version of the base, and which base a version has.
        self._old_tables: OrderedDict[tuple[int, bytes, int], PartitionTable] = OrderedDict()
        self._old_bases: OrderedDict[tuple[int, bytes, int], int] = OrderedDict()
        self._partitions: dict[int, tuple[tuple[int, int], list[bytes]]] = {}
        renew_in_children(self)

    def renew(self) -> None:
        """In a forked child: another thread may have been in the midst of extending a table, or a log of shapes."""
        self._lock = threading.RLock()
        self._shapes = {}
        self._tables, self._old_tables, self._old_bases = OrderedDict(), OrderedDict(), OrderedDict()

    @property
    def branch(self) -> int:
        """The branch's id."""
        return self._lineage.branch

    @property
    def upto(self) -> int:
        """The newest version that this process has learned of."""
        return self._upto

    @property
    def began(self) -> int:
        """The version at which this process first looked at the branch: what changed until then is not known."""
        return self._began

    def at(self, version: int) -> Lineage:
        """What a reader of that version sees."""
        return self._lineage.at(version)

    def advance(self, connection: Connection, head: Head, version: int) -> None:
        """Learn what commits up to `version` have touched, in the SQL snapshot of `head`."""
        with self._lock:
            if version > self._upto:
                seen = self._lineage.at(version)
                for newer, data, committed_at in commitlog.touched_since(connection, seen, self._upto):
                    self._note(newer, Touched.changes(data))
                    self._newest = newer, committed_at
                self._upto = version
            self._maintenance = max(self._maintenance, head.maintenance)

    def knows(self, head: Head) -> bool:
        """Whether there is nothing to learn from a head row: no commit, and no maintenance."""
        return self._upto == head.head and self._maintenance >= head.maintenance

    def newest_after(self, version: int) -> tuple[int, int] | None:
        """(version, committed_at) of the newest commit seen to come after a version; None: there is none."""
        with self._lock:
            return self._newest if self._newest is not None and self._newest[0] > version else None

    def landed(
        self,
        base: int,
        since: Sequence[tuple[int, Touched]],
        version: int,
        committed_at: int,
        touched: Touched,
        shapes: Mapping[int, Sequence[ShapeRow]],
    ) -> bool:
        """Learn of a commit of this process without asking the index; False: it brings nothing, or not enough.

        Parameters
        ----------
        base : int
            The version that it started from.
        since : sequence of (int, Touched)
            All commits between the two.
        version, committed_at, touched, shapes
            Of the commit itself.
        """
        with self._lock:
            if not base <= self._upto < version:
                return False
            for between, summary in since:
                if between > self._upto:
                    self._note(between, summary.nodes)
            for node, rows in shapes.items():
                log = self._shapes.get(node)
                if log is not None and self._unchanged(node, Change.SHAPE, log.upto):
                    log.extend(rows, version)
            self._note(version, touched.nodes)
            self._newest = version, committed_at
            self._upto = version
            return True

    def _note(self, version: int, nodes: Mapping[int, int]) -> None:
        for node, change in nodes.items():
            for flag in Change.ALL:
                if change & flag:
                    self._changed[node, flag] = version
            if change & Change.STRUCTURE:
                self._structure = version

    def _unchanged(self, node: int, flag: int, since: int) -> bool:
        # What was changed before this process looked at the branch is not known, only that it was before.
        return self._changed.get((node, flag), self._began) <= since

    # --- nodes ----------------------------------------------------------------------------------

    def child(self, parent: int, name: str, version: int) -> NodeRow | None:
        """The member of a group with that name, or None."""
        key = (parent, name)
        with self._lock:
            entry = self._children.get(key)
            if entry is not None:
                upto, row = entry
                if (version >= upto and self._structure <= upto) or (row is not None and row.version <= version < upto):
                    return row
        with self._index.read() as connection:
            row = lookup.child(connection, self.at(version), parent, name)
        with self._lock:
            if entry is None or version >= entry[0]:
                self._children[key] = version, row
        return row

    def children(self, parent: int, version: int) -> list[NodeRow]:
        """The direct members of a group, by name."""
        with self._index.read() as connection:
            rows = lookup.children(connection, self.at(version), parent)
        self._remember(rows, version)
        return rows

    def all_nodes(self, version: int) -> list[NodeRow]:
        """Every node that hangs somewhere, with what hangs below deleted ones; one query."""
        with self._index.read() as connection:
            rows = lookup.all_nodes(connection, self.at(version))
        self._remember(rows, version)
        return rows

    def load_all(self, version: int) -> None:
        """Bring the shapes and attributes of all nodes into memory: one query each."""
        with self._index.read() as connection:
            seen = self.at(version)
            shapes, cuts = shaperows.of_all(connection, seen)
            attributes = lookup.attributes(connection, seen)
        by_node: dict[int, list[AttributeRow]] = {}
        for row in attributes:
            by_node.setdefault(row.node, []).append(row)
        with self._lock:
            for node, shape in shapes.items():
                log = self._shapes.get(node)
                if log is None or (log.upto < version and not self._unchanged(node, Change.SHAPE, log.upto)):
                    self._shapes[node] = ShapeLog(version, shape, cuts.get(node, ()))
            for node in {*shapes, *by_node}:
                if node not in self._attributes or self._attributes[node][0] <= version:
                    self._attributes[node] = version, by_node.get(node, [])

    def _remember(self, rows: list[NodeRow], version: int) -> None:
        with self._lock:
            for row in rows:
                entry = self._children.get((row.parent, row.name))
                if entry is None or version >= entry[0]:
                    self._children[row.parent, row.name] = version, row

    # --- shapes and attributes ------------------------------------------------------------------

    def shapes(self, node: int, version: int) -> Shapes:
        """The shape of an array at a version, and where it has been cut until then."""
        key = (node, version)
        with self._lock:
            log = self._shapes.get(node)
            if log is not None and log.began <= version:
                if version <= log.upto or self._unchanged(node, Change.SHAPE, log.upto):
                    return log.at(version)
            elif key in self._old_shapes:
                return self._old_shapes[key]
            known = -1 if log is None else log.upto
        seen = self.at(version)
        if log is not None and log.began <= version:
            with self._index.read() as connection:
                rows = shaperows.since(connection, seen, node, known)
            with self._lock:
                log.extend(rows, version)
                return log.at(version)
        with self._index.read() as connection:
            shape = shaperows.newest(connection, seen, node)
            cuts = shaperows.that_cut(connection, seen, node) if log is None else ()
        with self._lock:
            if log is None:
                self._shapes.setdefault(node, ShapeLog(version, shape, cuts))
                return Shapes(shape, tuple(cuts))
            found = self._old_shapes[key] = log.before(version, shape)
            if len(self._old_shapes) > _MAX_OLD_SHAPES:
                self._old_shapes.popitem(last=False)
            return found

    def attributes(self, node: int, version: int) -> dict[str, str]:
        """The attributes of a node as JSON texts."""
        with self._lock:
            entry = self._attributes.get(node)
        rows = None
        if entry is not None:
            upto, cached = entry
            if version >= upto:
                rows = cached if self._unchanged(node, Change.ATTRIBUTES, upto) else None
            elif all(row.version <= version for row in cached):
                rows = cached
        if rows is None:
            with self._index.read() as connection:
                rows = lookup.attributes(connection, self.at(version), node)
            with self._lock:
                if entry is None or version >= entry[0]:
                    self._attributes[node] = version, rows
        return {row.key: row.value for row in rows if row.value is not None}

    # --- fragments ------------------------------------------------------------------------------

    def table(self, node: int, partition: bytes, grid: Grid, itemsize: int, version: int) -> PartitionTable:
        """The rows of a partition for a reader of `version`; it may hold newer ones at its end.

        Raises
        ------
        SnapshotExpiredError
            If the version has fallen below the horizon and nothing keeps it.
        """
        key = (node, partition)
        with self._lock:
            table = self._tables.get(key)
            if table is not None and table.after <= version:
                current = table.checked == self._maintenance
                if version <= table.upto and (current or version < table.upto):
                    return table
                if current and self._unchanged(node, Change.CELLS, table.upto):
                    return table
            elif table is not None:
                old = self._old_tables.get((*key, self._old_bases.get((*key, version), -2)))
                if old is not None and version <= old.upto:
                    return old
            return self._load(key, table, grid, itemsize, version)

    def _load(
        self, key: tuple[int, bytes], table: PartitionTable | None, grid: Grid, itemsize: int, version: int
    ) -> PartitionTable:
        node, partition = key
        ndim = grid.ndim
        seen = self.at(version)
        with self._index.read() as connection:
            head = read_head(connection)
            require_retained(connection, head, seen)
            row = None if partition == WHOLE else lookup.base(connection, seen, node, partition)
            after = -1 if row is None else row.version
            known = table if table is None or table.after == after else self._old_tables.get((*key, after))
            if known is None:
                base = None if row is None else base_of(row, ndim, itemsize)
                fresh = PartitionTable(
                    grid, base, None if row is None else row.uuid, partial(fragment_of, ndim, itemsize)
                )
            else:
                fresh = known
            rows = lookup.fragments(connection, seen, node, partition, max(fresh.upto, after))
            fresh.load(rows, partial(clips_of, ndim), version)
            fresh.checked = max(fresh.checked, head.maintenance)
            self._maintenance = max(self._maintenance, head.maintenance)
        if partition == WHOLE and fresh is not table:
            # Vacuum may have taken fills from it that still count where an older base, or none, is remembered.
            self._old_tables.clear()
        if table is not None and table.upto > version and fresh is not table:
            self._old_tables[(*key, after)] = fresh
            self._old_tables.move_to_end((*key, after))
            self._old_bases[(*key, version)] = after
            if len(self._old_tables) > _MAX_OLD:
                self._old_tables.popitem(last=False)
            if len(self._old_bases) > 16 * _MAX_OLD:
                self._old_bases.popitem(last=False)
        else:
            self._tables[key] = fresh
            self._tables.move_to_end(key)
            if partition != WHOLE and (node, WHOLE) in self._tables:
                self._tables.move_to_end((node, WHOLE))  # goes last of its array, for the same reason
            if len(self._tables) > _MAX_TABLES:
                self._tables.popitem(last=False)
        return fresh

    def log(self, node: int, partitions: list[bytes] | None, ndim: int, itemsize: int, version: int) -> list[Fragment]:
        """Every fragment of some partitions (None: of all) and of WHOLE that the index still has, oldest first."""
        seen = self.at(version)
        with self._index.read() as connection:
            keys = lookup.partitions(connection, seen, node) if partitions is None else [*partitions, WHOLE]
            rows = [row for key in keys for row in lookup.fragments(connection, seen, node, key, -1)]
        return sorted((fragment_of(ndim, itemsize, row) for row in rows), key=lambda fragment: fragment.order)

    def partitions(self, node: int, version: int) -> list[bytes]:
        """The partitions of an array that hold anything at that version, WHOLE left out."""
        with self._lock:
            # Vacuum may have put a base where there was nothing but a fill of the whole array.
            known = version, self._maintenance
            entry = self._partitions.get(node)
            if entry is not None and entry[0] == known:
                return entry[1]
        with self._index.read() as connection:
            found = [key for key in lookup.partitions(connection, self.at(version), node) if key != WHOLE]
        with self._lock:
            self._partitions[node] = known, found
        return found

    def require_retained(self, version: int) -> None:
        """Raise SnapshotExpiredError if expiry has let a version go."""
        with self._index.read() as connection:
            require_retained(connection, read_head(connection), self.at(version))

    def forget(self, node: int | None = None) -> None:
        """Drop what is known of the fragments of an array (None: of all), so that it is read again."""
        with self._lock:
            self._partitions.clear()
            for tables in (self._tables, self._old_tables):
                for key in [key for key in tables if node is None or key[0] == node]:
                    del tables[key]  # type: ignore[arg-type]


def require_retained(connection: Connection, head: Head, seen: Lineage) -> None:
    """Refuse to read what expiry has let go.

    Raises
    ------
    SnapshotExpiredError
        If the version lies below the horizon and is no root that retention keeps.
    """
    if seen.version >= head.horizon:
        return
    commit = commitlog.newest_commit(connection, seen)
    if not branches.is_root(connection, head.horizon, commit, seen.branch):
        raise SnapshotExpiredError(
            f"version {commit} has expired: versions below {head.horizon} are kept only where a tag or a branch "
            "holds them"
        )
