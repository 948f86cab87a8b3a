"""How much a reader has to pass: where fragments have come lately, and how many lie above a partition's base.

Asked for one partition by ranges of its own rows, so that planning costs what was written and not what is stored.
"""

from __future__ import annotations

import sqlalchemy as sa

from txstore.grid import WHOLE
from txstore.index import lookup, schema
from txstore.index.branches import Lineage


def touched(connection: sa.Connection, seen: Lineage, after: int) -> dict[int, set[bytes]]:
    """The partitions, :data:`~txstore.grid.WHOLE` among them, into which something came after a version, by array."""
    table = schema.fragments
    rows = connection.execute(
        sa.select(table.c.node, table.c.partition)
        .distinct()
        .where(table.c.version > after, seen.condition(table, after))
    )
    found: dict[int, set[bytes]] = {}
    for node, partition in rows:
        found.setdefault(node, set()).add(partition)
    return found


def load(connection: sa.Connection, seen: Lineage, node: int, partition: bytes) -> int:
    """How many fragments a reader of a partition applies to its base, fills of the whole array included."""
    table = schema.fragments
    base = lookup.base_versions(connection, seen, node, [partition]).get(partition, -1)
    rows = sa.select(sa.func.count()).where(
        table.c.node == node, table.c.partition.in_([partition, WHOLE]), seen.condition(table, base)
    )
    return int(connection.execute(rows).scalar() or 0)
