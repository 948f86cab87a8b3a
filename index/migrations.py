"""From the format of an older txstore to this one's: steps in order, in one SQL transaction, through Alembic.

Format 1 is the first, so there is no step yet. A change of :mod:`txstore.index.schema`, or of what the values in it
mean, raises :data:`txstore.index.format.FORMAT` by one and adds the step that brings an existing index there. A step
has the body of an Alembic script, whose ``op`` it is given::

    def _to_2(op: Operations) -> None:
        op.add_column("commits", sa.Column("machine", sa.Text))

    STEPS = {2: _to_2}

What it leaves must be what a new store has: ``tests/test_faults_upgrade.py`` shows how to compare them. SQLite changes
a column only by copying its table (``op.batch_alter_table``), and the copy has a row id unless it is made from a table
that says otherwise (``copy_from=``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from txstore.errors import FormatError, StoreNotFoundError
from txstore.index import schema
from txstore.index.dialects import SQLiteDialect
from txstore.index.engine import Index
from txstore.index.format import FORMAT

if TYPE_CHECKING:
    from alembic.operations import Operations

    Step = Callable[[Operations], None]

#: The step that leads to each format from the one before.
STEPS: Mapping[int, Step] = {}


def upgrade_store(
    root: str | os.PathLike[str], *, timeout_s: float = 60.0, steps: Mapping[int, Step] = STEPS
) -> tuple[int, int]:
    """Bring a store to this code's format; (format before, format now), which are equal where nothing was to be done.

    Parameters
    ----------
    root : str or path
        The store.
    timeout_s : float
        How long to wait for its lock.
    steps : mapping of int to callable
        The step that leads to each format.

    Raises
    ------
    StoreNotFoundError
        If there is no store.
    FormatError
        If it is newer than this code, or so old that a step is missing.
    StorageError, CorruptionError
        If it can't be written.

    Notes
    -----
    Under the store's lock, and all or nothing: whatever comes out of here, and wherever it is killed, the store is then
    as it was. Who has it open with an older txstore is refused from the next read or commit on.
    """
    path = Path(root).absolute() / "index.sqlite"
    if not path.exists():
        raise StoreNotFoundError(f"there is no store at {root}")
    lock = path.parent / "locks" / "commit"
    index = Index(SQLiteDialect(str(path), str(lock), read_only=False, sync=True, timeout_s=timeout_s))
    try:
        with index.maintain() as connection:
            before = connection.execute(sa.select(schema.store.c.format)).scalar()
            found = _steps_from(before, steps)
            if found:
                _run(connection.core, found)
                connection.execute(schema.store.update().values(format=FORMAT))
            return FORMAT - len(found), FORMAT
    finally:
        index.close()


def _steps_from(before: int | None, steps: Mapping[int, Step]) -> list[Step]:
    if before is None:
        raise FormatError("the index has no head row: this is not a store of txstore, or its creation was cut short")
    if before > FORMAT:
        raise FormatError(f"the store has format {before}, this txstore writes format {FORMAT}: install a newer one")
    for number in range(before + 1, FORMAT + 1):
        if number not in steps:
            raise FormatError(
                f"there is no way from format {before} to format {FORMAT}, for the step to {number} is missing: "
                "install an older txstore first, and upgrade with that"
            )
    return [steps[number] for number in range(before + 1, FORMAT + 1)]


def _run(connection: sa.Connection, steps: Sequence[Step]) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    # As a context, so that scripts that say "from alembic import op" have theirs, too.
    with Operations.context(MigrationContext.configure(connection)) as operations:
        for step in steps:
            step(operations)


__all__ = ["STEPS", "upgrade_store"]
