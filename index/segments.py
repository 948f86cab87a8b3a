"""Segments before and after their life: announced while they are written, withdrawn when nothing came of them."""

from __future__ import annotations

from collections.abc import Sequence

from txstore.index import schema
from txstore.index.engine import Index


def announce(index: Index, holder: bytes, uuids: Sequence[bytes]) -> None:
    """Say that a process is about to write these files; durable before the first byte is written.

    Raises
    ------
    StorageError
        If the index fails.
    """
    rows = [
        {"uuid": uuid, "state": "intent", "holder": holder, "size": 0, "refs": 0, "location": None} for uuid in uuids
    ]
    with index.maintain() as connection:
        connection.execute(schema.segments.insert(), rows)


def withdraw(index: Index, uuids: Sequence[bytes]) -> None:
    """Forget announced segments whose files have been removed (or were never made).

    Raises
    ------
    StorageError
        If the index fails; vacuum then finds the rows when the process has ended.
    """
    table = schema.segments
    with index.maintain() as connection:
        for uuid in uuids:
            connection.execute(table.delete().where(table.c.uuid == uuid, table.c.state == "intent"))
