"""Tags and branches: names that get or lose a meaning, under the store's lock."""

from __future__ import annotations

from txstore.errors import AlreadyExistsError, NotFoundError
from txstore.index import branches
from txstore.index.connection import Connection
from txstore.index.edits import RefEdit
from txstore.index.engine import Head
from txstore.index.sql import schema


def insert_reference(connection: Connection, head: Head, ref: RefEdit, version: int) -> int | None:
    """Give or take a name; returns the id of a new branch."""
    current = branches.reference(connection, ref.kind, ref.name, head.head)
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
