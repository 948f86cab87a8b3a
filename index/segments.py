"""Segments before and after their life: announced and withdrawn, doomed and buried."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from txstore.index.engine import Index
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement

#: Rows that one transaction deletes at most, so that no writer waits long.
_STEP = 500

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


def doom_intents(index: Index, alive: Callable[[], Container[bytes]]) -> int:
    """Doom what dead processes had announced; returns how many.

    Who lives is asked after the intents have been read: a process shows that it lives before it announces anything,
    so whoever began meanwhile is seen. A writer that was only thought dead finds its intent gone when it commits,
    and fails cleanly.
    """
    table = schema.segments
    with index.maintain() as connection:
        rows = connection.execute(sa.select(table.c.uuid, table.c.holder).where(table.c.state == "intent")).all()
        living = alive() if rows else ()
        dead = [uuid for uuid, holder in rows if holder not in living]
        for uuid in dead:
            connection.execute(table.update().where(table.c.uuid == uuid).values(state="doomed", holder=None))
    return len(dead)


def doom_own(index: Index, uuids: Iterable[bytes]) -> list[bytes]:
    """Doom files that this process has announced and gives up; those that a commit needs after all stay.

    Returns
    -------
    list of bytes
        The segments whose files may be deleted, and are then to be buried.
    """
    table = schema.segments
    found = []
    with index.maintain() as connection:
        for uuid in uuids:
            changed = connection.execute(
                table.update()
                .where(table.c.uuid == uuid, table.c.state.in_(["intent", "doomed"]))
                .values(state="doomed", holder=None)
            )
            if changed.rowcount == 1:
                found.append(uuid)
    return found


def doomed(index: Index) -> list[tuple[bytes, int]]:
    """(segment, size) of the files that may be deleted."""
    table = schema.segments
    with index.read() as connection:
        rows = connection.execute(sa.select(table.c.uuid, table.c.size).where(table.c.state == "doomed")).all()
    return [(row[0], row[1]) for row in rows]


def bury(index: Index, uuids: list[bytes], *, were_live: bool = False) -> None:
    """Forget doomed segments whose files have been deleted; of those that were live, readers may still have some open.

    So maintenance is raised once more: who sees that closes what is gone
    (:meth:`txstore.storage.LocalStorage.maintained`), and only then the room on the disk is free.
    """
    table = schema.segments
    for start in range(0, len(uuids), _STEP):
        with index.maintain() as connection:
            connection.execute(
                table.delete().where(table.c.uuid.in_(uuids[start : start + _STEP]), table.c.state == "doomed")
            )
            if were_live:
                connection.execute(schema.store.update().values(maintenance=schema.store.c.maintenance + 1))
