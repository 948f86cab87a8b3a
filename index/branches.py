"""Branches and names: what a reader of a branch sees, what tags and branches meant at a version, and what they keep."""

from __future__ import annotations

from typing import Any, NamedTuple

from txstore.index.connection import Connection
from txstore.index.edits import MAIN
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement


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


def _branches() -> sa.Select[Any]:
    return sa.select(*(schema.branches.c[name] for name in BranchRow._fields))


_BRANCH = Statement("branch", lambda _: _branches().where(schema.branches.c.id == sa.bindparam("id")))
_REFERENCE = Statement(
    "reference",
    lambda _: (
        sa.select(schema.refs.c.target, schema.refs.c.target_branch)
        .where(
            schema.refs.c.kind == sa.bindparam("kind"),
            schema.refs.c.name == sa.bindparam("name"),
            schema.refs.c.version <= sa.bindparam("upto"),
        )
        .order_by(schema.refs.c.version.desc())
        .limit(1)
    ),
)


def branch(connection: Connection, branch_id: int) -> BranchRow | None:
    """The row of a branch."""
    row = connection.first(_BRANCH, {"id": branch_id})
    return None if row is None else BranchRow._make(row)


def all_branches(connection: Connection) -> list[BranchRow]:
    """Every branch that there ever was."""
    return [BranchRow._make(row) for row in connection.execute(_branches().order_by(schema.branches.c.id))]


def lineage(connection: Connection, branch_id: int, version: int) -> Lineage:
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


def reference(connection: Connection, kind: str, name: str, version: int) -> tuple[int, int | None] | None:
    """(target, target branch) of a name as of a version, or None."""
    row = connection.first(_REFERENCE, {"kind": kind, "name": name, "upto": version})
    return None if row is None or row[0] is None else (row[0], row[1])


def references(connection: Connection, kind: str, version: int) -> dict[str, tuple[int, int | None]]:
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


def reference_log(connection: Connection) -> list[tuple[str, str, int, int | None, int | None]]:
    """Every row of ``refs``: (kind, name, version, target, target branch)."""
    refs = schema.refs
    rows = connection.execute(
        sa.select(refs.c.kind, refs.c.name, refs.c.version, refs.c.target, refs.c.target_branch).order_by(
            refs.c.version
        )
    )
    return [tuple(row) for row in rows]


def tag_targets(connection: Connection, horizon: int) -> set[tuple[int, int]]:
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


def fork_points(connection: Connection, horizon: int) -> set[tuple[int, int]]:
    """(parent branch, version) of the forks of branches that are alive at some version from the horizon on."""
    return {
        (row.parent, row.fork)
        for row in all_branches(connection)
        if row.parent is not None and (row.deleted is None or row.deleted > horizon)
    }


def is_root(connection: Connection, horizon: int, commit: int, branch_id: int) -> bool:
    """Whether a commit below the horizon is kept all the same, as seen from a branch."""
    if commit == 0:
        return True
    roots = tag_targets(connection, horizon) | fork_points(connection, horizon)
    return any(version == commit and branch_id == branch for branch, version in roots)
