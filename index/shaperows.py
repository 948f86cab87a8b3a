"""The log of shapes in the index: each function is one statement (or two) and returns plain values."""

from __future__ import annotations

from typing import Any

from txstore.fragment import unpack_shape
from txstore.index.branches import Lineage
from txstore.index.connection import Connection, Row
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement, visible
from txstore.shapelog import ShapeRow


def _shapes(parts: int) -> sa.Select[Any]:
    table = schema.shapes
    return (
        sa.select(table.c.node, table.c.version, table.c.rank, table.c.shape)
        .where(visible(table, parts))
        .order_by(table.c.node, table.c.version, table.c.rank)
    )


_SHAPES = Statement("shapes", lambda parts: _shapes(parts).where(schema.shapes.c.node == sa.bindparam("node")))


def _newest_shape(parts: int, node: sa.ColumnElement[int]) -> sa.Select[Any]:
    table = schema.shapes
    return (
        sa.select(table.c.shape)
        .where(visible(table, parts), table.c.node == node)
        .order_by(table.c.version.desc(), table.c.rank.desc())
        .limit(1)
    )


def _that_cut(parts: int) -> sa.Select[Any]:
    # Written out, for so says the index that holds only these.
    return _shapes(parts).where(schema.shapes.c.cuts == sa.literal_column("1"))


_NEWEST_SHAPE = Statement("newest shape", lambda parts: _newest_shape(parts, sa.bindparam("node")))
_THAT_CUT = Statement(
    "shapes that cut", lambda parts: _that_cut(parts).where(schema.shapes.c.node == sa.bindparam("node"))
)
_NEWEST_SHAPES = Statement(
    "newest shapes",
    lambda parts: sa.select(
        schema.nodes.c.id, _newest_shape(parts, schema.nodes.c.id).correlate(schema.nodes).scalar_subquery()
    ).where(schema.nodes.c.kind == sa.literal_column("'array'")),
)
_ALL_THAT_CUT = Statement("all shapes that cut", _that_cut)


def _row(found: Row) -> ShapeRow:
    _, version, rank, shape = found
    return ShapeRow(version, rank, unpack_shape(shape))


def since(connection: Connection, seen: Lineage, node_id: int, after: int = -1) -> list[ShapeRow]:
    """The log of an array's shapes, oldest first."""
    return [_row(row) for row in connection.rows(_SHAPES, {"node": node_id}, seen, after)]


def that_cut(connection: Connection, seen: Lineage, node_id: int) -> list[ShapeRow]:
    """Those that made the array smaller along some axis, oldest first."""
    return [_row(row) for row in connection.rows(_THAT_CUT, {"node": node_id}, seen)]


def newest(connection: Connection, seen: Lineage, node_id: int) -> tuple[int, ...] | None:
    """The shape of an array; None where it has none yet."""
    row = connection.first(_NEWEST_SHAPE, {"node": node_id}, seen)
    return None if row is None else unpack_shape(row[0])


def of_all(connection: Connection, seen: Lineage) -> tuple[dict[int, tuple[int, ...]], dict[int, list[ShapeRow]]]:
    """The shapes of all arrays, and the rows that made one smaller, by array."""
    found = {row[0]: unpack_shape(row[1]) for row in connection.rows(_NEWEST_SHAPES, seen=seen) if row[1] is not None}
    cuts: dict[int, list[ShapeRow]] = {}
    for row in connection.rows(_ALL_THAT_CUT, seen=seen):
        cuts.setdefault(row[0], []).append(_row(row))
    return found, cuts


__all__ = ["newest", "of_all", "since", "that_cut"]
