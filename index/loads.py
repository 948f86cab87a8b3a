"""How much a reader has to pass: where fragments have come lately, and how many lie above a partition's base.

Asked for one partition by ranges of its own rows, so that planning costs what was written and not what is stored.
"""

from __future__ import annotations

from txstore.grid import WHOLE
from txstore.index import commitlog, lookup
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import Change, Touched
from txstore.index.sql import sa, schema


def touched(connection: Connection, seen: Lineage, after: int) -> dict[int, set[bytes]]:
    """The partitions, :data:`~txstore.grid.WHOLE` among them, into which something came after a version, by array."""
    table = schema.fragments
    summaries = [Touched.decode(data) for _, data, _ in commitlog.touched_since(connection, seen, after)]
    nodes = {node for summary in summaries for node, change in summary.nodes.items() if change & Change.CELLS}
    found: dict[int, set[bytes]] = {}
    for node in nodes:
        rows = connection.execute(
            sa.select(table.c.partition)
            .distinct()
            .where(table.c.node == node, table.c.version > after, seen.condition(table, after))
        )
        found[node] = {row[0] for row in rows}
    return found


def load(connection: Connection, seen: Lineage, node: int, partition: bytes) -> int:
    """How many fragments a reader of a partition applies to its base, fills of the whole array included."""
    table = schema.fragments
    base = lookup.base_versions(connection, seen, node, [partition]).get(partition, -1)
    rows = sa.select(sa.func.count()).where(
        table.c.node == node, table.c.partition.in_([partition, WHOLE]), seen.condition(table, base)
    )
    return int(connection.execute(rows).scalar() or 0)
