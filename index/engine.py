"""The connection to the index: read transactions, write transactions, the clock."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from txstore.errors import FormatError, StoreClosedError
from txstore.index import schema
from txstore.index.dialects import SQLiteDialect


def now_us() -> int:
    """The database's clock in microseconds since 1970 (UTC). For SQLite that is the machine's."""
    return time.time_ns() // 1000


class Head(NamedTuple):
    """The one row of the table ``store``: what every read of the index begins with."""

    uuid: bytes
    format: int
    epoch: int
    head: int
    head_at: int
    next_node: int
    next_branch: int
    maintenance: int
    horizon: int
    conflict_horizon: int


_HEAD = sa.select(*(schema.store.c[name] for name in Head._fields))


def read_head(connection: sa.Connection) -> Head:
    """Read the head row and check the format.

    Raises
    ------
    FormatError
        If there is no head row, or the store was written in a format newer than this code's.
    """
    row = connection.execute(_HEAD).first()
    if row is None:
        raise FormatError("the index has no head row: this is not a store of txstore, or its creation was cut short")
    head = Head._make(row)
    if head.format > schema.FORMAT:
        raise FormatError(
            f"the store has format {head.format}, this txstore reads up to format {schema.FORMAT}: install a newer one"
        )
    return head


class Index:
    """One index, opened by one process.

    Parameters
    ----------
    dialect : SQLiteDialect
        How to speak to the database.

    Notes
    -----
    Safe for threads: a connection serves one thread at a time and is then used again. After a fork the
    child opens connections of its own and never touches its parent's.
    """

    def __init__(self, dialect: SQLiteDialect) -> None:
        self.dialect = dialect
        self._engine: sa.Engine | None = None
        self._idle: deque[sa.Connection] = deque()
        self._inherited: list[object] = []
        self._pid = os.getpid()
        self._closed = False

    def _take(self) -> sa.Connection:
        if self._closed:
            raise StoreClosedError("the store has been closed; open it again")
        if self._pid != os.getpid():
            # Closing an inherited connection would drop the parent's locks: keep it, unused, for ever.
            self._inherited.append((self._engine, self._idle))
            self._engine, self._idle, self._pid = None, deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            pass
        if self._engine is None:
            self._engine = self.dialect.create_engine()
        try:
            return self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            raise self.dialect.translate(error) from error

    def _give(self, connection: sa.Connection) -> None:
        if self._closed or connection.in_transaction():
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _drop(self, connection: sa.Connection) -> None:
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            connection.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One SQL snapshot.

        Raises
        ------
        StorageError, CorruptionError, FormatError
            If the database fails.
        StoreClosedError
            After :meth:`close`.
        """
        connection = self._take()
        try:
            with connection.begin():
                yield connection
        except sa.exc.SQLAlchemyError as error:
            self._drop(connection)
            raise self.dialect.translate(error) from error
        except BaseException:
            self._drop(connection)
            raise
        self._give(connection)

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One SQL transaction under the store's lock; durable when it ends, undone by an exception.

        Errors of the database come out untranslated, for only the caller knows whether its commit is in doubt.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError
            If the database fails.
        StorageError
            If the lock can't be had in time.
        """
        with self.dialect.exclusive():
            connection = self._take()
            try:
                connection.execution_options(txstore_write=True)
                with connection.begin():
                    yield connection
                connection.execution_options(txstore_write=False)
            except BaseException:
                # After a failed COMMIT the database may still be in the transaction: only closing is sure to end it.
                self._drop(connection)
                raise
            self.dialect.after_commit(connection)
            self._give(connection)

    @contextlib.contextmanager
    def bare(self) -> Iterator[sa.Connection]:
        """A connection without a transaction, for what the dialect alone knows how to do."""
        connection = self._take()
        try:
            yield connection
        finally:
            if connection.in_transaction():
                connection.rollback()
            self._give(connection)

    @contextlib.contextmanager
    def maintain(self) -> Iterator[sa.Connection]:
        """As :meth:`write`, for steps that can simply be done again: errors of the database are translated."""
        try:
            with self.write() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise self.dialect.translate(error) from error

    def close(self) -> None:
        """Close what is idle; idempotent. The last connection to go checkpoints, so the lock is held meanwhile."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        self.dialect.close(self._idle)
