"""From the schema of an older format to this one's: steps in order, through Alembic's operations.

Format 1 is the first, so there is no step yet. A change of :mod:`txstore.index.schema` raises
``schema.FORMAT`` by one and adds the step that brings an existing index there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from txstore.errors import FormatError
from txstore.index import schema

if TYPE_CHECKING:
    from alembic.operations import Operations

#: The step that leads to each format from the one before.
STEPS: Mapping[int, Callable[[Operations], None]] = {}


def create(connection: sa.Connection) -> None:
    """Make the tables of the newest format in an empty database."""
    schema.metadata.create_all(connection)


def upgrade(connection: sa.Connection, steps: Mapping[int, Callable[[Operations], None]] = STEPS) -> int:
    """Bring an index to the newest format, inside the caller's write transaction; returns the format then.

    Raises
    ------
    FormatError
        If a step is missing.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    current = int(connection.execute(sa.select(schema.store.c.format)).scalar_one())
    newest = max([schema.FORMAT, *steps])
    operations = Operations(MigrationContext.configure(connection))
    while current < newest:
        step = steps.get(current + 1)
        if step is None:
            raise FormatError(
                f"there is no way from format {current} to format {newest}: install an older txstore first"
            )
        step(operations)
        current += 1
        connection.execute(schema.store.update().values(format=current))
    return current
