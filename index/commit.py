"""The one door: every change of the store is an :class:`~txstore.index.edits.Edit` that goes through :func:`commit`.

Order of events, all under the store's lock: read the head and what came since *in statements after the
lock*, check, place appends, insert, move the head, commit. On SQLite the lock is a file lock and
``BEGIN IMMEDIATE``; a single statement that both waited and checked would see the state from before its wait.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    Conflict,
    ConflictError,
    TransactionClosedError,
    TxStoreError,
)
from txstore.fragment import Fetch
from txstore.index import branches, commitlog, conflicts, groupcommit
from txstore.index import engine as clock
from txstore.index.branches import Lineage
from txstore.index.commitlog import CommitRow
from txstore.index.connection import Connection
from txstore.index.edits import MAIN, Edit, Touched
from txstore.index.engine import Head, Index, read_head
from txstore.index.groupcommit import Errand
from txstore.index.inserts import insert
from txstore.index.publication import publish_bases, publish_segments
from txstore.index.references import insert_reference
from txstore.index.since import load_since
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement
from txstore.interrupts import let_through
from txstore.locks import NotNeeded
from txstore.requests import Taken
from txstore.shapelog import ShapeRow

#: An edit of at most so many fragments is checked under the lock only.
_FEW = 16

_COMMITS = Statement("insert commits", lambda _: schema.commits.insert())
_TXIDS = Statement("insert txids", lambda _: schema.txids.insert())
_STATUS = Statement(
    "status of txid", lambda _: sa.select(schema.txids.c.version).where(schema.txids.c.txid == sa.bindparam("txid"))
)
_MOVE_HEAD = Statement(
    "move head",
    lambda _: schema.store.update().values(
        {name: sa.bindparam(name) for name in ("head", "head_at", "next_node", "next_branch")}
    ),
)
_MAINTAINED = Statement(
    "count maintenance", lambda _: schema.store.update().values(maintenance=schema.store.c.maintenance + 1)
)


class Committed(NamedTuple):
    """What :func:`commit` did.

    Attributes
    ----------
    row : CommitRow or None
        The new commit; None where only bases were published.
    touched : Touched or None
        Its summary; None where a lost reply had to be looked up.
    branch : int or None
        The id of a branch that was made.
    published : int
        How many bases were new.
    since : tuple of (int, Touched)
        The commits between the edit's base and this one, on its branch: they had to be looked at.
    shapes : dict of int to list of ShapeRow
        What it has added to the logs of shapes.
    """

    row: CommitRow | None
    touched: Touched | None = None
    branch: int | None = None
    published: int = 0
    since: tuple[tuple[int, Touched], ...] = ()
    shapes: Mapping[int, Sequence[ShapeRow]] = MappingProxyType({})


def _nothing(place: Any) -> bytes:
    raise AssertionError("no masks in this edit")


def _nobody(done: Committed) -> None:
    """Tell it to nobody."""


def commit(
    index: Index, edit: Edit, fetch: Fetch = _nothing, landed: Callable[[Committed], None] = _nobody
) -> Committed:
    """Apply an edit, or raise and leave no trace of it.

    Parameters
    ----------
    index : Index
        The index.
    edit : Edit
        The change. Its segments are complete and synced already.
    fetch : callable
        Reads the bytes of a mask, for conflicts between masked writes.
    landed : callable
        Told as soon as it has landed. What is raised after that is no failure of the commit, but somebody else's, whom
        the lock has kept waiting: the handler of a signal.

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
    checked = _Checked(edit.base, edit.parent)
    errand = Errand(index, edit)
    in_doubt = elsewhere = False
    known: list[Committed] = []

    def note(done: Committed) -> Committed:
        known.append(done)
        landed(done)
        return done

    try:
        if edit.branch is not None and _worth_checking_outside(edit):
            checked = _check_outside(index, edit, checked, fetch)
        with index.dialect.exclusive(errand.wait):
            others: list[tuple[Taken, CommitRow]] = []
            elsewhere = errand.arrive()
            with index.write_locked() as connection:
                found = _landed(connection, edit.txid) if elsewhere else None
                if found is not None:
                    return note(Committed(found))
                elsewhere = False
                head = read_head(connection)
                if edit.lease is not None:
                    _check_lease(connection, edit)
                done = _apply(connection, head, edit, checked, fetch)
                others = _apply_others(index, connection, fetch)
                in_doubt = True
            note(done)
            groupcommit.answer(index, others)
    except BaseException as error:
        if errand.row is not None:
            errand.arrive()
            done = note(Committed(errand.row))
            if isinstance(error, NotNeeded):
                return done
        if known:
            raise
        elsewhere = errand.give_up() or elsewhere
        failure = error if elsewhere and isinstance(error, TxStoreError) else index.dialect.translate(error)
        if failure is None:
            raise
        if index.dialect.is_duplicate(error) and edit.txid:
            failure = _reused(index, edit.txid) or failure
        elif edit.txid and (elsewhere or (in_doubt and not index.dialect.is_full(error))):
            found = _settle(index, edit.txid, failure)
            if found is not None:
                note(Committed(found))
                let_through(error)
                return known[0]
        if failure is error:
            raise
        raise failure from error
    return done


def _apply_others(index: Index, connection: Connection, fetch: Fetch) -> list[tuple[Taken, CommitRow]]:
    """Apply what others ask for, each on top of the one before. What can't be is left to who has asked."""
    done: list[tuple[Taken, CommitRow]] = []
    requests = index.dialect.requests
    if requests is None or not index.dialect.lock.awaited:
        return done
    for taken in requests.take():
        connection.begin_part()
        try:
            head = read_head(connection)
            edit = groupcommit.edit_of(taken, head)
            row = _apply(connection, head, edit, _Checked(edit.base, edit.parent), fetch).row
        except Exception:
            if not connection.in_transaction():
                raise  # the database has undone everything
            connection.undo_part()
            taken.give_back()
        else:
            assert row is not None
            connection.end_part()
            done.append((taken, row))
    return done


def _settle(index: Index, txid: bytes, cause: TxStoreError) -> CommitRow | None:
    """The reply to a COMMIT was lost: find out what became of it, or make sure that it never lands."""
    try:
        return resolve(index, txid)
    except TxStoreError as error:
        raise CommitUnknownError(uuid.UUID(bytes=txid)) from (error or cause)


def resolve(index: Index, txid: bytes) -> CommitRow | None:
    """What became of a transaction id. If it has not committed, it never will: a tombstone takes its place.

    Raises
    ------
    StorageError
        If the index can't be reached.
    """
    with index.maintain() as connection:
        row = connection.first(_STATUS, {"txid": txid})
        if row is None:
            connection.change(_TXIDS, {"txid": txid, "version": None})
            return None
        return None if row[0] is None else commitlog.commit_row(connection, row[0])


def _landed(connection: Connection, txid: bytes) -> CommitRow | None:
    row = connection.first(_STATUS, {"txid": txid})
    return None if row is None or row[0] is None else commitlog.commit_row(connection, row[0])


def _reused(index: Index, txid: bytes) -> TxStoreError | None:
    with index.read() as connection:
        row = connection.first(_STATUS, {"txid": txid})
    if row is None:
        return None
    if row[0] is None:
        return TransactionClosedError(f"transaction {txid.hex()} was resolved as never to commit; begin a new one")
    return AlreadyExistsError(f"transaction {txid.hex()} has committed already, as version {row[0]}")


class _Checked(NamedTuple):
    """How far conflicts have been looked for.

    Attributes
    ----------
    upto : int
        Versions at or below it have been.
    newest : int
        The newest commit on the branch among them.
    since : tuple of (int, Touched)
        Those after the edit's base.
    """

    upto: int
    newest: int
    since: tuple[tuple[int, Touched], ...] = ()


def _check_outside(index: Index, edit: Edit, checked: _Checked, fetch: Fetch) -> _Checked:
    """Find the conflicts that can be found before waiting for the lock."""
    with index.read() as connection:
        head = read_head(connection)
        return _check(connection, head, edit, checked, fetch) if head.head > checked.upto else checked


def _worth_checking_outside(edit: Edit) -> bool:
    """Whether the check may take so long that others should not have to wait for it."""
    if edit.reads is not None or edit.nodes or len(edit.arrays) > _FEW:
        return True
    return any(
        len(array.fragments) > _FEW or any(staged.fragment.masked for staged in array.fragments)
        for array in edit.arrays
    )


def _check(connection: Connection, head: Head, edit: Edit, checked: _Checked, fetch: Fetch) -> _Checked:
    assert edit.branch is not None
    if edit.base < head.conflict_horizon:
        raise ConflictError(
            (Conflict("horizon", "", commit=head.conflict_horizon),),
            f"the transaction starts from version {edit.base}, below the conflict horizon "
            f"{head.conflict_horizon}: what came since can't be checked any more; run it again from a newer version",
        )
    if edit.branch != MAIN:
        row = branches.branch(connection, edit.branch)
        if row is None or row.deleted is not None:
            raise ConflictError((Conflict("structure", "", key=edit.branch_name, commit=row.deleted if row else None),))
    seen = _lineage(connection, edit.branch, head.head)
    since = load_since(connection, seen, checked.upto)
    found = conflicts.find(connection, edit, since, fetch)
    if found:
        raise ConflictError(tuple(dict.fromkeys(found)))
    newest = since.touched[-1][0] if since.touched else checked.newest
    return _Checked(head.head, newest, (*checked.since, *since.touched))


def _check_lease(connection: Connection, edit: Edit) -> None:
    lease = edit.lease
    assert lease is not None
    table = schema.leases
    row = connection.execute(sa.select(table.c.epoch).where(table.c.name == lease.name)).first()
    if row is None or row[0] != lease.epoch:
        raise ConflictError(
            (Conflict("lease", lease.name),), f"the lease {lease.name!r} has lapsed and somebody else holds it"
        )


# --- applying -----------------------------------------------------------------------------------


def _apply(connection: Connection, head: Head, edit: Edit, checked: _Checked, fetch: Fetch) -> Committed:
    published = publish_bases(connection, edit) if edit.bases else 0
    if not edit.txid:
        connection.change(_MAINTAINED, {})
        return Committed(None, published=published)
    version = head.head + 1
    committed_at = max(clock.now_us(), head.head_at + 1)
    values = {
        "head": version,
        "head_at": committed_at,
        "next_node": head.next_node,
        "next_branch": head.next_branch,
    }
    made: int | None = None
    shapes: Mapping[int, Sequence[ShapeRow]] = {}
    parents: list[int] = []
    if edit.branch is not None:
        if head.head > checked.upto:
            checked = _check(connection, head, edit, checked, fetch)
        parents = [checked.newest] if checked.newest else []
        seen = _lineage(connection, edit.branch, head.head)
        inserted = insert(connection, head, edit, seen, version, checked.since)
        publish_segments(connection, edit, inserted.segment_refs)
        touched, shapes = inserted.touched, inserted.shapes
        if inserted.nodes:
            values["next_node"] = head.next_node + inserted.nodes
    else:
        touched = Touched({})
        for ref in edit.refs:
            made = insert_reference(connection, head, ref, version)
        if made is not None:
            values["next_branch"] = head.next_branch + 1
    row = CommitRow(
        version,
        edit.branch,
        committed_at,
        edit.txid,
        msgpack.packb(parents),
        edit.author,
        edit.message,
        edit.properties,
        touched.encode(),
        edit.bytes_written,
    )
    connection.change(_COMMITS, row._asdict())
    connection.change(_TXIDS, {"txid": edit.txid, "version": version})
    connection.change(_MOVE_HEAD, values)
    return Committed(row, touched, made, published, checked.since, shapes)


def _lineage(connection: Connection, branch: int, version: int) -> Lineage:
    return Lineage(((MAIN, version),)) if branch == MAIN else branches.lineage(connection, branch, version)


__all__ = ["Committed", "commit", "resolve"]
