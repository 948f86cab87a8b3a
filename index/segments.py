"""Segments before and after their life: announced while they are written, withdrawn when nothing came of them."""

from __future__ import annotations

from collections.abc import Sequence

from txstore.index.engine import Index
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement

_ANNOUNCE = Statement("announce segment", lambda _: schema.segments.insert())
_WITHDRAW = Statement(
    "withdraw segment",
    lambda _: schema.segments.delete().where(
        schema.segments.c.uuid == sa.bindparam("segment"), schema.segments.c.state == "intent"
    ),
)


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
        connection.change_many(_ANNOUNCE, rows)


def withdraw(index: Index, uuids: Sequence[bytes]) -> None:
    """Forget announced segments whose files have been removed (or were never made).

    Raises
    ------
    StorageError
        If the index fails; vacuum then finds the rows when the process has ended.
    """
    with index.maintain() as connection:
        connection.change_many(_WITHDRAW, [{"segment": uuid} for uuid in uuids])
