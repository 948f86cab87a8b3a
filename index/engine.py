"""The connection to the index: read transactions, write transactions, the clock."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from txstore.descriptors import pause_for_forks
from txstore.errors import FormatError, StorageError, StoreClosedError, TxStoreError
from txstore.index.connection import Connection
from txstore.index.dialects import SQLiteDialect
from txstore.index.format import FORMAT
from txstore.index.sql import sa, schema
from txstore.index.statement import Statement
from txstore.interrupts import let_through

#: How long a fork waits for the other threads to end what they are asking the index.
_FORK_PATIENCE_S = 10.0

#: (device, inode) of the files that a parent had open in SQLite when this process was forked.
_inherited: set[tuple[int, int]] = set()


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

    @property
    def identity(self) -> bytes:
        """What tells this store, and what has been restored from an older state of it, from others."""
        return self.uuid + self.epoch.to_bytes(8, "little")


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
        raise _newer(head.format)
    return head


_FORMAT = Statement("format", lambda _: sa.select(schema.store.c.format))


def require_format(connection: Connection, root: str) -> None:
    """Refuse a store of another format by its number, which stands in the same column in all of them.

    Raises
    ------
    FormatError
        With what to do.
    """
    row = connection.first(_FORMAT)
    if row is not None and row[0] < FORMAT:
        raise FormatError(
            f"the store {root} has format {row[0]}, this txstore reads and writes format {FORMAT}: run "
            f"'txstore upgrade {root}', after which older ones can't read it any more"
        )
    if row is not None and row[0] > FORMAT:
        raise _newer(row[0])


def _newer(found: int) -> FormatError:
    return FormatError(f"the store has format {found}, this txstore reads up to format {FORMAT}: install a newer one")


class _Loan:
    """That a thread uses a connection, and which: None before, and as soon as somebody else sees to it."""

    __slots__ = ("connection",)

    def __init__(self) -> None:
        self.connection: Connection | None = None


class Index:
    """One index, opened by one process.

    Parameters
    ----------
    dialect : SQLiteDialect
        How to speak to the database.

    Notes
    -----
    Safe for threads: a connection serves one thread at a time and is then used again.

    Forks: SQLite keeps the locks of a file in the memory of the process. A child would inherit them as if it held
    them, and not take its own: its commits would be lost when its parent closes the file, or it would wait for ever
    for a thread that it does not have. So a fork waits until no other thread is in SQLite, and idle connections
    are closed before it; parent and child then open their own. Where that can't be, the child is refused.
    """

    def __init__(self, dialect: SQLiteDialect) -> None:
        self.dialect = dialect
        self.identity: bytes | None = None  # of the store, once it has been looked at
        self._idle: deque[Connection] = deque()
        self._left: list[object] = []  # what a parent had open: never to be used, nor to be closed
        self._guard = threading.RLock()
        self._gate = threading.Condition(self._guard)
        self._busy: dict[_Loan, int] = {}  # and the thread that has it
        self._forks = 0
        self._closed = False
        pause_for_forks(self)

    # --- forks ----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Before a fork: see the class."""
        me = threading.get_ident()
        deadline, wait_s = time.monotonic() + _FORK_PATIENCE_S, 0.05
        with self._gate:
            self._forks += 1
            while not self._gate.wait_for(lambda: not self._threads() - {me}, wait_s):
                if time.monotonic() > deadline:
                    return
                # Who is inside may wait for a lock of one who is kept out: let that one in, and try again for longer.
                self._forks -= 1
                self._gate.notify_all()
                self._gate.wait(0.005)
                self._forks += 1
                wait_s *= 2
            if not self._busy:
                while self._idle:
                    self._close(self._idle.pop())

    def resume(self) -> None:
        """After a fork, in the parent."""
        with self._gate:
            self._forks = max(self._forks - 1, 0)
            self._gate.notify_all()

    def renew(self) -> None:
        """After a fork, in the child."""
        if self._busy or self._idle:
            self._left.append(self._idle)
            with contextlib.suppress(OSError):
                found = os.stat(self.dialect.path)
                _inherited.add((found.st_dev, found.st_ino))
        self._idle = deque()
        self._guard = threading.RLock()
        self._gate = threading.Condition(self._guard)
        self._busy = {}
        self._forks = 0

    def _require_own(self) -> None:
        if _inherited:
            found = os.stat(self.dialect.path)
            if (found.st_dev, found.st_ino) in _inherited:
                raise StorageError(
                    f"the index {self.dialect.path} can't be used in this process, for it was forked while its parent "
                    "was using it; start processes by 'spawn' or 'forkserver', or while nothing is read or written"
                )

    # --- connections ----------------------------------------------------------------------------

    # An interrupt may come after any call in here; the loan always says whether there is something to be closed.

    def _take(self, loan: _Loan) -> Connection:
        if self._closed:
            raise StoreClosedError(f"the store {os.path.dirname(self.dialect.path)} has been closed; open it again")
        self.dialect.check_place()
        me = threading.get_ident()
        with self._guard:
            while self._forks and me not in self._threads():
                self._gate.wait()
            self._busy[loan] = me
        try:
            while self._idle:
                with contextlib.suppress(IndexError):  # another thread was quicker
                    connection = loan.connection = self._idle.pop()
                    if not self.dialect.overtaken(connection):
                        return connection
                    loan.connection = None
                    self._close(connection)
            self._require_own()
            connection = loan.connection = self.dialect.connect()
            return connection
        except Exception as error:
            self._drop(loan)
            self._raise_translated(error)
            raise

    def _threads(self) -> set[int]:
        return set(self._busy.copy().values())

    def _give(self, loan: _Loan) -> None:
        connection = loan.connection
        if connection is not None and loan in self._busy and not (self._closed or connection.in_transaction()):
            loan.connection = None
            self._idle.append(connection)
        self._drop(loan)

    def _drop(self, loan: _Loan) -> None:
        """End a loan, and close its connection if it still has one; idempotent."""
        connection, loan.connection = loan.connection, None
        try:
            if connection is not None:
                if loan in self._busy:
                    self._close(connection)
                else:
                    self._left.append(connection)  # forked in the midst of it: it is the parent's
        finally:
            self._busy.pop(loan, None)
            if self._forks:
                with self._gate:
                    self._gate.notify_all()

    def _close(self, connection: Connection) -> None:
        try:
            connection.close()
        except Exception as error:
            if self.dialect.translate(error) is None:
                raise

    def _require_still(self, loan: _Loan, cause: BaseException | None = None) -> None:
        """Refuse what was read without locks while somebody wrote."""
        connection = loan.connection
        if connection is None or not self.dialect.overtaken(connection):
            return
        if cause is None or isinstance(cause, Exception):
            self._drop(loan)
            raise StorageError(f"the index {self.dialect.path} was written while it was read; read again") from cause

    def _raise_translated(self, error: BaseException) -> None:
        let_through(error)
        translated = self.dialect.translate(error)
        if translated is not None:
            raise translated from error

    @contextlib.contextmanager
    def _lent(self) -> Iterator[Connection]:
        """A connection for reading; it comes back unless something may be wrong with it."""
        loan = _Loan()
        try:
            yield self._take(loan)
            self._require_still(loan)
            self._give(loan)
        except BaseException as error:
            try:
                self._require_still(loan, error)
                if isinstance(error, TxStoreError) and loan.connection is not None and loan.connection.pristine:
                    # Somebody found that a name is not there: no fault of the connection.
                    loan.connection.rollback()
                    self._give(loan)
            finally:
                self._drop(loan)
            self._raise_translated(error)
            raise

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
        with self._lent() as connection:
            connection.begin(write=False)
            yield connection
            connection.commit()

    def glance(self) -> contextlib.AbstractContextManager[Connection]:
        """A connection on which each statement is a snapshot by itself.

        For whoever reads the head row first and then only history up to that head, which no commit changes any more: it
        saves to begin and to end a transaction.

        Raises
        ------
        StorageError, CorruptionError, FormatError
            If the database fails.
        StoreClosedError
            After :meth:`close`.
        """
        return self._lent()

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
        with self.dialect.exclusive(), self.write_locked() as connection:
            yield connection

    @contextlib.contextmanager
    def write_locked(self) -> Iterator[Connection]:
        """As :meth:`write`, for who holds the store's lock: see :meth:`SQLiteDialect.exclusive`."""
        loan = _Loan()
        try:
            connection = self._take(loan)
            connection.begin(write=True)
            yield connection
            connection.commit()
        except BaseException:
            # After a failed COMMIT the database may still be in the transaction: only closing is sure to end it.
            self._drop(loan)
            raise
        self.dialect.after_commit(connection)
        self._give(loan)

    @contextlib.contextmanager
    def bare(self) -> Iterator[Connection]:
        """A connection without a transaction, for what the dialect alone knows how to do."""
        loan = _Loan()
        try:
            yield self._take(loan)
        finally:
            if loan.connection is not None:
                loan.connection.rollback()
            self._give(loan)

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
        self.dialect.close(self._idle)
