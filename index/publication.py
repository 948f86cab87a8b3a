"""Segments that become live, and bases: what compaction publishes, under the store's lock."""

from __future__ import annotations

from collections import Counter
from typing import Any

from txstore.directory import Directory
from txstore.errors import Conflict, ConflictError, StorageError
from txstore.index.connection import Connection
from txstore.index.edits import BaseEdit, Edit
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement

_PUBLISH = Statement(
    "publish segment",
    lambda _: (
        schema.segments.update()
        .where(schema.segments.c.uuid == sa.bindparam("segment"), schema.segments.c.state == "intent")
        .values(state=sa.bindparam("to"), holder=None, size=sa.bindparam("bytes"), refs=sa.bindparam("count"))
    ),
)
_POINT = Statement(
    "point to segment",
    lambda _: (
        schema.segments.update()
        .where(schema.segments.c.uuid == sa.bindparam("segment"), schema.segments.c.state == "live")
        .values(refs=schema.segments.c.refs + sa.bindparam("count"))
    ),
)
_STANDING = Statement(
    "base standing",
    lambda _: sa.select(schema.bases.c.uuid).where(
        *(schema.bases.c[name] == sa.bindparam(name) for name in ("node", "partition", "branch", "version"))
    ),
)
_BASES = Statement("insert bases", lambda _: schema.bases.insert())


def publish_segments(connection: Connection, edit: Edit, refs: Counter[bytes]) -> None:
    """Turn announced files into live ones; an intent that is gone means that vacuum took us for dead."""
    for segment in edit.segments:
        count = refs.pop(segment.uuid, 0)
        state = "live" if count else "doomed"
        values = {"segment": segment.uuid, "to": state, "bytes": segment.size, "count": count}
        if connection.change(_PUBLISH, values) != 1:
            raise StorageError(
                f"segment {segment.uuid.hex()} was announced and reclaimed before its commit: the lease of this "
                "process had lapsed; run the transaction again"
            )
    for uuid, count in refs.items():
        if connection.change(_POINT, {"segment": uuid, "count": count}) != 1:
            raise ConflictError(
                (Conflict("base", uuid.hex()),), f"segment {uuid.hex()} has been vacuumed meanwhile; plan again"
            )


def publish_bases(connection: Connection, edit: Edit) -> int:
    """Insert bases; where one stands already at that version, the first one stays."""
    refs: Counter[bytes] = Counter()
    published = 0
    for base in edit.bases:
        row = _base_row(base)
        if connection.first(_STANDING, row) is not None:
            continue
        connection.change(_BASES, row)
        published += 1
        directory = base.fragment.stored_directory
        assert isinstance(directory, Directory)
        for segment, inline in directory.segments():
            assert not inline, "a base never points into blobs"
            refs[segment] += 1
    publish_segments(connection, edit, refs)
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
