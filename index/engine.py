"""The connection to the index: read transactions, write transactions, the clock."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from txstore.errors import FormatError, StoreClosedError, TxStoreError
from txstore.index.connection import Connection
from txstore.index.dialects import SQLiteDialect
from txstore.index.format import FORMAT
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement


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


_HEAD = Statement("head", lambda _: sa.select(*(schema.store.c[name] for name in Head._fields)))


def read_head(connection: Connection) -> Head:
    """Read the head row and check the format.

    Raises
    ------
    FormatError
        If there is no head row, or the store was written in a format newer than this code's.
    """
    row = connection.first(_HEAD)
    if row is None:
        raise FormatError("the index has no head row: this is not a store of txstore, or its creation was cut short")
    head = Head._make(row)
    if head.format > FORMAT:
        raise FormatError(
            f"the store has format {head.format}, this txstore reads up to format {FORMAT}: install a newer one"
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
        self._idle: deque[Connection] = deque()
        self._inherited: list[object] = []
        self._pid = os.getpid()
        self._closed = False

    def _take(self) -> Connection:
        if self._closed:
            raise StoreClosedError("the store has been closed; open it again")
        if self._pid != os.getpid():
            # Closing an inherited connection would drop the parent's locks: keep it, unused, for ever.
            self._inherited.append(self._idle)
            self._idle, self._pid = deque(), os.getpid()
        self.dialect.check_place()
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self.dialect.connect()
        except Exception as error:
            self._raise_translated(error)
            raise

    def _give(self, connection: Connection) -> None:
        if self._closed or connection.in_transaction():
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        try:
            connection.close()
        except Exception as error:
            if self.dialect.translate(error) is None:
                raise

    def _raise_translated(self, error: BaseException) -> None:
        translated = self.dialect.translate(error)
        if translated is not None:
            raise translated from error

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
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
            connection.begin(write=False)
            yield connection
            connection.commit()
        except TxStoreError:
            # Somebody found that a name is not there: no fault of the connection.
            if connection.pristine:
                connection.rollback()
                self._give(connection)
            else:
                self._drop(connection)
            raise
        except BaseException as error:
            self._drop(connection)
            self._raise_translated(error)
            raise
        self._give(connection)

    def peek(self) -> Head:
        """The head row as it is now: one statement, which is a snapshot by itself.

        Raises
        ------
        StorageError, CorruptionError, FormatError
            If the database fails.
        StoreClosedError
            After :meth:`close`.
        """
        connection = self._take()
        try:
            head = read_head(connection)
        except BaseException as error:
            self._drop(connection)
            self._raise_translated(error)
            raise
        self._give(connection)
        return head

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One SQL transaction under the store's lock; durable when it ends, undone by an exception.

        Errors of the database come out untranslated, for only the caller knows whether its commit is in doubt.

        Raises
        ------
        Exception
            If the database fails, whatever the driver or SQLAlchemy raise: see :meth:`SQLiteDialect.translate`.
        StorageError
            If the lock can't be had in time.
        """
        with self.dialect.exclusive():
            connection = self._take()
            try:
                connection.begin(write=True)
                yield connection
                connection.commit()
            except BaseException:
                # After a failed COMMIT the database may still be in the transaction: only closing is sure to end it.
                self._drop(connection)
                raise
            self.dialect.after_commit(connection)
            self._give(connection)

    @contextlib.contextmanager
    def bare(self) -> Iterator[Connection]:
        """A connection without a transaction, for what the dialect alone knows how to do."""
        connection = self._take()
        try:
            yield connection
        finally:
            if connection.in_transaction():
                connection.rollback()
            self._give(connection)

    @contextlib.contextmanager
    def maintain(self) -> Iterator[Connection]:
        """As :meth:`write`, for steps that can simply be done again: errors of the database are translated."""
        try:
            with self.write() as connection:
                yield connection
        except Exception as error:
            self._raise_translated(error)
            raise

    def close(self) -> None:
        """Close what is idle; idempotent. The last connection to go checkpoints, so the lock is held meanwhile."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        self.dialect.close(self._idle)
