"""The one door: every change of the store is an :class:`~txstore.index.edits.Edit` that goes through :func:`commit`.

Order of events, all under the store's lock: read the head and what came since *in statements after the
lock*, check, place appends, insert, move the head, commit. On SQLite the lock is a file lock and
``BEGIN IMMEDIATE``; a single statement that both waited and checked would see the state from before its wait.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgpack
import sqlalchemy as sa

from txstore.boxes import Box
from txstore.directory import Directory
from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    Conflict,
    ConflictError,
    NotFoundError,
    StorageError,
    TransactionClosedError,
    TxStoreError,
)
from txstore.fragment import Fetch, Fragment, pack_shape
from txstore.grid import WHOLE, Grid
from txstore.index import conflicts, lookup, schema
from txstore.index import engine as clock
from txstore.index.edits import (
    MAIN,
    ArrayEdit,
    BaseEdit,
    Change,
    Edit,
    NodeCreate,
    NodeDelete,
    RefEdit,
    Touched,
)
from txstore.index.engine import Head, Index, read_head
from txstore.index.lookup import CommitRow, Lineage
from txstore.index.placement import moved, place
from txstore.segment import Kind

#: A fill that touches more partitions than this becomes one row of the partition WHOLE.
WHOLE_FROM = 4


class Committed(NamedTuple):
    """What :func:`commit` did.

    Attributes
    ----------
    row : CommitRow or None
        The new commit; None where only bases were published.
    branch : int or None
        The id of a branch that was made.
    published : int
        How many bases were new.
    """

    row: CommitRow | None
    branch: int | None = None
    published: int = 0


def _nothing(place: Any) -> bytes:
    raise AssertionError("no masks in this edit")


def commit(index: Index, edit: Edit, fetch: Fetch = _nothing) -> Committed:
    """Apply an edit, or raise and leave no trace of it.

    Parameters
    ----------
    index : Index
        The index.
    edit : Edit
        The change. Its segments are complete and synced already.
    fetch : callable
        Reads the bytes of a mask, for conflicts between masked writes.

    Returns
    -------
    Committed
        Durable when this returns (unless the store was opened with ``durability="os"``).

    Raises
    ------
    ConflictError
        If somebody else was first.
    CommitUnknownError
        If it could not be found out whether the commit landed.
    StorageError
        If the index failed and the commit did not land, now or later.
    AlreadyExistsError, NotFoundError
        From edits of tags and branches; AlreadyExistsError also for a transaction id used before.
    TransactionClosedError
        If the transaction id has been declared dead by :func:`resolve`.

    Notes
    -----
    Safe for threads and processes. A crash at any point leaves either everything or nothing.
    """
    checked = edit.base
    in_doubt = False
    try:
        if edit.branch is not None and (edit.arrays or edit.nodes or edit.attributes):
            checked = _check_outside(index, edit, fetch)
        with index.write() as connection:
            head = read_head(connection)
            if edit.lease is not None:
                _check_lease(connection, edit)
            done = _apply(index, connection, head, edit, checked, fetch)
            in_doubt = True
    except sa.exc.SQLAlchemyError as error:
        translated = index.dialect.translate(error)
        if index.dialect.is_duplicate(error) and edit.txid:
            translated = _reused(index, edit.txid) or translated
        elif in_doubt and edit.txid:
            landed = _settle(index, edit.txid, translated)
            if landed is not None:
                return Committed(landed)
        raise translated from error
    return done


def _settle(index: Index, txid: bytes, cause: TxStoreError) -> CommitRow | None:
    """The reply to a COMMIT was lost: find out what became of it, or make sure that it never lands."""
    try:
        return resolve(index, txid)
    except TxStoreError as error:
        import uuid

        raise CommitUnknownError(uuid.UUID(bytes=txid)) from (error or cause)


def resolve(index: Index, txid: bytes) -> CommitRow | None:
    """What became of a transaction id. If it has not committed, it never will: a tombstone takes its place.

    Raises
    ------
    StorageError
        If the index can't be reached.
    """
    table = schema.txids
    try:
        with index.write() as connection:
            row = connection.execute(sa.select(table.c.version).where(table.c.txid == txid)).first()
            if row is None:
                connection.execute(table.insert(), {"txid": txid, "version": None})
                return None
            return None if row[0] is None else lookup.commit_row(connection, row[0])
    except sa.exc.SQLAlchemyError as error:
        raise index.dialect.translate(error) from error


def _reused(index: Index, txid: bytes) -> TxStoreError | None:
    with index.read() as connection:
        row = connection.execute(sa.select(schema.txids.c.version).where(schema.txids.c.txid == txid)).first()
    if row is None:
        return None
    if row[0] is None:
        return TransactionClosedError(f"transaction {txid.hex()} was resolved as never to commit; begin a new one")
    return AlreadyExistsError(f"transaction {txid.hex()} has committed already, as version {row[0]}")


def _check_outside(index: Index, edit: Edit, fetch: Fetch) -> int:
    """The conflicts that can be found before waiting for the lock; the version up to which they were."""
    with index.read() as connection:
        head = read_head(connection)
        if head.head > edit.base:
            _check(connection, head, edit, edit.base, fetch)
    return max(head.head, edit.base)


def _check(connection: sa.Connection, head: Head, edit: Edit, after: int, fetch: Fetch) -> None:
    assert edit.branch is not None
    if edit.base < head.conflict_horizon:
        raise ConflictError(
            (Conflict("horizon", "", commit=head.conflict_horizon),),
            f"the transaction starts from version {edit.base}, below the conflict horizon "
            f"{head.conflict_horizon}: what came since can't be checked any more; run it again from a newer version",
        )
    if edit.branch != MAIN:
        row = lookup.branch(connection, edit.branch)
        if row is None or row.deleted is not None:
            raise ConflictError((Conflict("structure", "", key=edit.branch_name, commit=row.deleted if row else None),))
    seen = lookup.lineage(connection, edit.branch, head.head)
    since = conflicts.load_since(connection, seen, after)
    found = conflicts.find(connection, edit, since, fetch)
    if found:
        raise ConflictError(tuple(found))


def _check_lease(connection: sa.Connection, edit: Edit) -> None:
    lease = edit.lease
    assert lease is not None
    table = schema.leases
    row = connection.execute(sa.select(table.c.epoch).where(table.c.name == lease.name)).first()
    if row is None or row[0] != lease.epoch:
        raise ConflictError(
            (Conflict("lease", lease.name),), f"the lease {lease.name!r} has lapsed and somebody else holds it"
        )


# --- applying -----------------------------------------------------------------------------------


def _apply(
    index: Index, connection: sa.Connection, head: Head, edit: Edit, checked: int, fetch: Fetch
) -> Committed:
    published = _publish(index, connection, edit) if edit.bases else 0
    if not edit.txid:
        connection.execute(
            schema.store.update().values(maintenance=schema.store.c.maintenance + 1)
        )
        return Committed(None, published=published)
    if edit.branch is not None and head.head > checked:
        _check(connection, head, edit, checked, fetch)
    version = head.head + 1
    committed_at = max(clock.now_us(), head.head_at + 1)
    parents: list[int] = []
    changes: Counter[int] = Counter()
    appended: list[tuple[str, Box]] = []
    values: dict[str, Any] = {"head": version, "head_at": committed_at}
    made: int | None = None
    if edit.branch is not None:
        seen = _lineage(connection, edit.branch, head.head)
        parents = [lookup.newest_commit(connection, seen)] if edit.branch != MAIN or edit.base else []
        ids: dict[int, int] = {}
        if edit.nodes:
            ids = _insert_nodes(connection, head, edit, seen, version, changes)
            values["next_node"] = head.next_node + len(edit.nodes)
        for change in edit.attributes:
            changes[ids.get(change.node, change.node)] |= Change.ATTRIBUTES
        if edit.attributes:
            connection.execute(
                schema.attributes.insert(),
                [
                    {
                        "node": ids.get(change.node, change.node),
                        "key": change.key,
                        "branch": edit.branch,
                        "version": version,
                        "value": change.value,
                    }
                    for change in edit.attributes
                ],
            )
        appended = _insert_arrays(connection, edit, seen, ids, version, changes)
    else:
        for ref in edit.refs:
            made = _insert_ref(connection, head, ref, version)
        if made is not None:
            values["next_branch"] = head.next_branch + 1
    summary = Touched({node: Change(change) for node, change in changes.items()}, _paths(edit), tuple(appended))
    row = CommitRow(
        version,
        edit.branch,
        committed_at,
        edit.txid,
        msgpack.packb(parents),
        edit.author,
        edit.message,
        edit.properties,
        summary.encode(),
        edit.bytes_written,
    )
    connection.execute(schema.commits.insert(), row._asdict())
    connection.execute(schema.txids.insert(), {"txid": edit.txid, "version": version})
    connection.execute(schema.store.update(), values)
    return Committed(row, made, published)


def _lineage(connection: sa.Connection, branch: int, version: int) -> Lineage:
    return Lineage(((MAIN, version),)) if branch == MAIN else lookup.lineage(connection, branch, version)


def _paths(edit: Edit) -> tuple[str, ...]:
    paths = dict.fromkeys(array.path for array in edit.arrays)
    paths.update(dict.fromkeys(change.path for change in edit.nodes))
    paths.update(dict.fromkeys(change.path for change in edit.attributes))
    return tuple(paths)


def _insert_nodes(
    connection: sa.Connection, head: Head, edit: Edit, seen: Lineage, version: int, changes: Counter[int]
) -> dict[int, int]:
    """Make, move and delete nodes; returns the ids of staged ones."""
    ids = conflicts.implicit_groups(connection, seen, edit)
    nodes, places = [], {}
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
        connection.execute(schema.nodes.insert(), nodes)
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
        connection.execute(schema.node_versions.insert(), rows)
    return ids


def _metadata(connection: sa.Connection, seen: Lineage, node: int) -> str | None:
    row = lookup.node(connection, seen, node)
    return None if row is None else row.metadata


def _insert_arrays(
    connection: sa.Connection, edit: Edit, seen: Lineage, ids: dict[int, int], version: int, changes: Counter[int]
) -> list[tuple[str, Box]]:
    """Place and insert shapes and fragments; returns where the appends landed."""
    assert edit.branch is not None
    shapes: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    appended: list[tuple[str, Box]] = []
    segment_refs: Counter[bytes] = Counter()
    blob_refs = 0
    for array in edit.arrays:
        node = ids.get(array.node, array.node)
        placement = place(array, _head_shape(connection, array, seen))
        if isinstance(placement, str):
            newest = lookup.shapes(connection, seen, node, edit.base)
            winner = newest[-1].version if newest else None
            raise ConflictError((Conflict(placement, array.path, commit=winner),))
        for rank, shape in placement.shapes:
            changes[node] |= Change.SHAPE
            shapes.append(
                {
                    "node": node,
                    "branch": edit.branch,
                    "version": version,
                    "rank": rank,
                    "shape": pack_shape(shape),
                }
            )
        appended += [(array.path, box.shift(placement.delta)) for box in array.appends]
        still = (0,) * len(array.base_shape)
        for staged in array.fragments:
            delta = placement.delta if staged.floating else still
            directory = staged.fragment.directory(array.grid.chunks)
            encoded = directory.encode()
            parts = _parts(staged.fragment, array.grid, delta)
            for partition, part in parts:
                rows.append(_row(node, partition, edit.branch, version, part, encoded))
            changes[node] |= Change.CELLS
            for segment, inline in directory.segments():
                if inline:
                    blob_refs += len(parts)
                else:
                    segment_refs[segment] += len(parts)
    if shapes:
        connection.execute(schema.shapes.insert(), shapes)
    if rows:
        connection.execute(schema.fragments.insert(), rows)
    if edit.blob is not None and blob_refs:
        connection.execute(
            schema.blobs.insert(), {"uuid": edit.blob[0], "refs": blob_refs, "data": edit.blob[1]}
        )
    _publish_segments(connection, edit, segment_refs)
    return appended


def _head_shape(connection: sa.Connection, array: ArrayEdit, seen: Lineage) -> tuple[int, ...]:
    if array.node < 0 or not array.steps:
        return array.base_shape
    return lookup.shapes(connection, seen, array.node)[-1].shape


def _parts(fragment: Fragment, grid: Grid, delta: tuple[int, ...]) -> list[tuple[bytes, Fragment]]:
    """Cut a fragment at the partitions in which it comes to lie."""
    clip = fragment.clip.shift(delta) if any(delta) else fragment.clip
    if fragment.kind == Kind.FILL and not fragment.masked:
        count = 1
        for low, high, extent in zip(clip.lo, clip.hi, grid.partition, strict=True):
            count *= (high - 1) // extent - low // extent + 1
        if count > WHOLE_FROM:
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


def _publish_segments(connection: sa.Connection, edit: Edit, refs: Counter[bytes]) -> None:
    """Turn announced files into live ones; an intent that is gone means that vacuum took us for dead."""
    table = schema.segments
    for segment in edit.segments:
        count = refs.pop(segment.uuid, 0)
        changed = connection.execute(
            table.update()
            .where(table.c.uuid == segment.uuid, table.c.state == "intent")
            .values(state="live" if count else "doomed", holder=None, size=segment.size, refs=count)
        )
        if changed.rowcount != 1:
            raise StorageError(
                f"segment {segment.uuid.hex()} was announced and reclaimed before its commit: the lease of this "
                "process had lapsed; run the transaction again"
            )
    for uuid, count in refs.items():
        changed = connection.execute(
            table.update()
            .where(table.c.uuid == uuid, table.c.state == "live")
            .values(refs=table.c.refs + count)
        )
        if changed.rowcount != 1:
            raise ConflictError(
                (Conflict("base", uuid.hex()),), f"segment {uuid.hex()} has been vacuumed meanwhile; plan again"
            )


def _publish(index: Index, connection: sa.Connection, edit: Edit) -> int:
    """Insert bases; where one stands already at that version, the first one stays."""
    insert = index.dialect.insert_ignore(schema.bases)
    refs: Counter[bytes] = Counter()
    published = 0
    for base in edit.bases:
        if connection.execute(insert, _base_row(base)).rowcount == 1:
            published += 1
            directory = base.fragment.stored_directory
            assert isinstance(directory, Directory)
            for segment, inline in directory.segments():
                assert not inline, "a base never points into blobs"
                refs[segment] += 1
    _publish_segments(connection, edit, refs)
    return published


def _base_row(base: BaseEdit) -> dict[str, Any]:
    fragment = base.fragment
    directory = fragment.stored_directory
    assert fragment.frame is not None and isinstance(directory, Directory)
    return {
        "node": base.node,
        "partition": base.partition,
        "branch": base.branch,
        "version": base.version,
        "uuid": base.uuid,
        "clip": fragment.clip.to_bytes(),
        "frame": fragment.frame.to_bytes(),
        "directory": directory.encode(),
    }


# --- tags and branches --------------------------------------------------------------------------


def _insert_ref(connection: sa.Connection, head: Head, ref: RefEdit, version: int) -> int | None:
    """Give or take a name; returns the id of a new branch."""
    current = lookup.reference(connection, ref.kind, ref.name, head.head)
    if ref.target is None:
        if current is None:
            raise NotFoundError(f"there is no {ref.kind} {ref.name!r}")
        if ref.kind == "branch":
            connection.execute(
                schema.branches.update().where(schema.branches.c.id == current[0]).values(deleted=version)
            )
        target, target_branch, made = None, None, None
    elif current is not None and not ref.move:
        raise AlreadyExistsError(f"the {ref.kind} {ref.name!r} exists already")
    elif ref.kind == "tag":
        target, target_branch, made = ref.target, ref.target_branch, None
    else:
        target, target_branch, made = head.next_branch, ref.target_branch, head.next_branch
        connection.execute(
            schema.branches.insert(),
            {
                "id": made,
                "name": ref.name,
                "parent": ref.target_branch,
                "fork": ref.target,
                "created": version,
                "deleted": None,
            },
        )
    connection.execute(
        schema.refs.insert(),
        {
            "kind": ref.kind,
            "name": ref.name,
            "version": version,
            "target": target,
            "target_branch": target_branch,
        },
    )
    return made


__all__ = ["Committed", "commit", "resolve"]
