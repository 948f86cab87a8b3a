"""The log of commits: each function is one statement and returns plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from txstore.index import schema
from txstore.index.branches import Lineage
from txstore.index.lookup import batches


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


_COMMITS = sa.select(*(schema.commits.c[name] for name in CommitRow._fields))


def commit_row(connection: sa.Connection, version: int) -> CommitRow | None:
    """One commit."""
    row = connection.execute(_COMMITS.where(schema.commits.c.version == version)).first()
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
    for batch in batches(sorted(set(versions))):
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


def touched_since(connection: sa.Connection, seen: Lineage, after: int) -> list[tuple[int, bytes, int]]:
    """(version, summary, committed_at) of what came on a lineage after a version, oldest first."""
    table = schema.commits
    columns = sa.select(table.c.version, table.c.touched, table.c.committed_at)
    rows = connection.execute(columns.where(seen.condition(table, after)).order_by(table.c.version))
    return [(row[0], row[1], row[2]) for row in rows]


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


def count_commits(connection: sa.Connection, first: int, last: int) -> int:
    """How many commits of branches have ``first <= version < last``."""
    table = schema.commits
    statement = sa.select(sa.func.count()).where(
        table.c.version >= first, table.c.version < last, table.c.branch.is_not(None)
    )
    return int(connection.execute(statement).scalar() or 0)
