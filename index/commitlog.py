"""The log of commits: each function is one statement and returns plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement, batches, visible


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


def _commits() -> sa.Select[Any]:
    return sa.select(*(schema.commits.c[name] for name in CommitRow._fields))


_COMMIT = Statement("commit", lambda _: _commits().where(schema.commits.c.version == sa.bindparam("version")))
_SOME = Statement(
    "commits by version",
    lambda _: _commits().where(schema.commits.c.version.in_(sa.bindparam("versions", expanding=True))),
)
_NEWEST = Statement(
    "newest commit",
    lambda _: (
        sa.select(schema.commits.c.version)
        .where(schema.commits.c.branch == sa.bindparam("branch"), schema.commits.c.version <= sa.bindparam("upto"))
        .order_by(schema.commits.c.version.desc())
        .limit(1)
    ),
)
_NEXT = Statement(
    "next commit",
    lambda _: (
        sa.select(schema.commits.c.version)
        .where(schema.commits.c.branch == sa.bindparam("branch"), schema.commits.c.version > sa.bindparam("version"))
        .order_by(schema.commits.c.version)
        .limit(1)
    ),
)
_AT = Statement(
    "version at",
    lambda _: (
        sa.select(schema.commits.c.version)
        .where(schema.commits.c.committed_at <= sa.bindparam("time"))
        .order_by(schema.commits.c.committed_at.desc())
        .limit(1)
    ),
)
_TOUCHED = Statement(
    "touched since",
    lambda parts: (
        sa.select(schema.commits.c.version, schema.commits.c.touched, schema.commits.c.committed_at)
        .where(visible(schema.commits, parts))
        .order_by(schema.commits.c.version)
    ),
)


def commit_row(connection: Connection, version: int) -> CommitRow | None:
    """One commit."""
    row = connection.first(_COMMIT, {"version": version})
    return None if row is None else CommitRow._make(row)


class Identity(NamedTuple):
    """What tells a commit from one that has its number in a copy of the store; all zero for the empty version 0."""

    version: int = 0
    branch: int = 0
    txid: bytes = b""
    committed_at: int = 0


def identity(connection: Connection, version: int) -> Identity:
    """What is to be known of a commit to find out later whether it is still the same; empty for one that is none."""
    row = commit_row(connection, version)
    return Identity() if row is None else Identity(row.version, row.branch or 0, row.txid, row.committed_at)


def commits(
    connection: Connection, seen: Lineage, *, after: int | None = None, before: int | None = None, limit: int
) -> list[CommitRow]:
    """At most `limit` commits of a lineage, newest first; both bounds are exclusive."""
    table = schema.commits
    statement = _commits().where(seen.condition(table, after))
    if before is not None:
        statement = statement.where(table.c.version < before)
    rows = connection.execute(statement.order_by(table.c.version.desc()).limit(limit))
    return [CommitRow._make(row) for row in rows]


def commits_by_version(connection: Connection, versions: Iterable[int]) -> dict[int, CommitRow]:
    """The commits of some versions."""
    found: dict[int, CommitRow] = {}
    for batch in batches(sorted(set(versions))):
        for row in map(CommitRow._make, connection.rows(_SOME, {"versions": batch})):
            found[row.version] = row
    return found


def newest_commit(connection: Connection, seen: Lineage) -> int:
    """The newest version on a lineage that is a commit; 0 when there is none."""
    for branch_id, upto in seen.parts:
        row = connection.first(_NEWEST, {"branch": branch_id, "upto": upto})
        if row is not None:
            return int(row[0])
    return 0


def version_at(connection: Connection, time_us: int) -> int:
    """The newest version committed at or before a moment; 0 when there is none."""
    row = connection.first(_AT, {"time": time_us})
    return 0 if row is None else int(row[0])


def touched_since(connection: Connection, seen: Lineage, after: int) -> list[tuple[int, bytes, int]]:
    """(version, summary, committed_at) of what came on a lineage after a version, oldest first."""
    return [(row[0], row[1], row[2]) for row in connection.rows(_TOUCHED, seen=seen, after=after)]


def next_commit(connection: Connection, branch_id: int, version: int) -> int | None:
    """The first commit of a branch after a version."""
    row = connection.first(_NEXT, {"branch": branch_id, "version": version})
    return None if row is None else int(row[0])


def count_commits(connection: Connection, first: int, last: int) -> int:
    """How many commits of branches have ``first <= version < last``."""
    table = schema.commits
    statement = sa.select(sa.func.count()).where(
        table.c.version >= first, table.c.version < last, table.c.branch.is_not(None)
    )
    return int(connection.execute(statement).scalar() or 0)
