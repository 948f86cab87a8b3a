"""A version of a branch, and which one a reference means."""

from __future__ import annotations

from typing import Any, NamedTuple

from txstore.errors import InvalidInputError, NotFoundError
from txstore.index import branches, commitlog
from txstore.index.connection import Connection
from txstore.index.edits import MAIN
from txstore.index.engine import Head


class State(NamedTuple):
    """A version of a branch, resolved.

    Attributes
    ----------
    branch : int
        The branch's id.
    branch_name : str
        Its name.
    commit : int
        The newest commit that is seen; 0 before the first.
    version : int
        The version that rows are compared with: at or above `commit`, with the same state.
    committed_at : int
        Of the commit, microseconds; of the store's creation for commit 0.
    settled : bool
        False: later commits may still fall before the asked moment.
    head : int
        The head of the store when this was resolved.
    """

    branch: int
    branch_name: str
    commit: int
    version: int
    committed_at: int
    settled: bool
    head: int


def check_reference(branch: str | None, version: int | None, as_of: Any, tag: str | None) -> None:
    """Refuse what names no one state.

    Raises
    ------
    InvalidInputError
        If the arguments exclude each other, or are of the wrong kind.
    """
    if tag is not None and (version is not None or branch is not None):
        raise InvalidInputError("a tag names a version of a branch by itself: give tag= alone, or with as_of=")
    if version is not None and as_of is not None:
        raise InvalidInputError("give either version= or as_of=, not both")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise InvalidInputError(f"version={version!r} must be an integer, 0 or more")
    for what, name in (("branch", branch), ("tag", tag)):
        if name is not None and not isinstance(name, str):
            raise InvalidInputError(f"{what}={name!r} must be a str")


def resolve(
    connection: Connection, head: Head, branch: str | None, version: int | None, tag: str | None, upto: int
) -> tuple[int, int]:
    """(branch id, version) of a reference.

    Raises
    ------
    NotFoundError
        If there is no such branch, tag or version.
    """
    if tag is not None:
        found = branches.reference(connection, "tag", tag, upto)
        if found is None:
            raise NotFoundError(f"there is no tag {tag!r} at version {upto}")
        return found[1] or MAIN, found[0]
    if version is not None and version > head.head:
        raise NotFoundError(f"there is no version {version}; the newest is {head.head}")
    if version is not None and branch is None:
        row = commitlog.commit_row(connection, version) if version else None
        return (MAIN if row is None or row.branch is None else row.branch), version
    if branch is None or branch == "main":
        return MAIN, upto if version is None else version
    found = branches.reference(connection, "branch", branch, upto)
    if found is None:
        raise NotFoundError(f"there is no branch {branch!r} at version {upto}")
    return found[0], upto if version is None else version


def last_same(connection: Connection, head: Head, branch_id: int, version: int) -> int:
    """The newest version at which a branch still has the state of `version`."""
    following = commitlog.next_commit(connection, branch_id, version)
    last = head.head if following is None else following - 1
    row = branches.branch(connection, branch_id) if branch_id != MAIN else None
    if row is not None and row.deleted is not None:
        last = min(last, row.deleted - 1)
    return max(last, version)


def branch_name(connection: Connection, branch_id: int) -> str:
    """What a branch is called."""
    if branch_id == MAIN:
        return "main"
    row = branches.branch(connection, branch_id)
    assert row is not None
    return row.name


__all__ = ["State", "branch_name", "check_reference", "last_same", "resolve"]
