"""One connection to the index: statements in one SQL transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from txstore.index.sql import sa
from txstore.index.statement import Statement, bound

if TYPE_CHECKING:
    from txstore.index.branches import Lineage
    from txstore.index.dialects import SQLiteDialect

_NONE: Mapping[str, Any] = {}

#: The row of a result.
Row = tuple[Any, ...]


class Connection:
    """A connection of the driver, with two ways to run what SQLAlchemy Core describes.

    A :class:`~txstore.index.statement.Statement` runs on the driver's cursor; any other expression goes through
    SQLAlchemy, on the same connection and in the same SQL transaction.

    Parameters
    ----------
    raw : DB-API connection
        In autocommit: only this class begins and ends transactions.
    dialect : SQLiteDialect
        How to speak to the database.

    Notes
    -----
    Serves one thread at a time. Errors are those of the driver, or SQLAlchemy's around them;
    :meth:`~txstore.index.dialects.SQLiteDialect.translate` knows both.
    """

    __slots__ = ("_core", "_dialect", "_raw")

    def __init__(self, raw: Any, dialect: SQLiteDialect) -> None:
        self._raw = raw
        self._dialect = dialect
        self._core: sa.Connection | None = None

    @property
    def raw(self) -> Any:
        """The driver's connection, for the dialect."""
        return self._raw

    def _send(self, text: str, values: Mapping[str, Any] = _NONE) -> Any:
        # All that is sent but for what goes through SQLAlchemy; a seam for tests, which make it fail.
        return self._raw.execute(text, values)

    def _send_many(self, text: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._raw.executemany(text, rows)

    @property
    def pristine(self) -> bool:
        """Whether nothing went through SQLAlchemy, whose results may keep a statement open, and with it a snapshot."""
        return self._core is None

    # --- transactions ---------------------------------------------------------------------------

    def begin(self, *, write: bool) -> None:
        """Begin a SQL transaction: a snapshot, or one that may write and holds the database's own lock."""
        self._send(self._dialect.begin_write if write else self._dialect.begin_read)

    def commit(self) -> None:
        """End it; durable when this returns, as far as the dialect makes it so."""
        self._send("COMMIT")

    def rollback(self) -> None:
        """Undo it, if there is one."""
        if self.in_transaction():
            self._send("ROLLBACK")

    def begin_part(self) -> None:
        """Begin a part of the transaction, which :meth:`undo_part` can undo alone, and :meth:`end_part` ends."""
        self._send("SAVEPOINT part")

    def undo_part(self) -> None:
        """Undo what was done since :meth:`begin_part`. Where that fails, the transaction must not be committed."""
        self._send("ROLLBACK TO part")
        self._send("RELEASE part")

    def end_part(self) -> None:
        """Keep it, for as long as the transaction is not undone."""
        self._send("RELEASE part")

    def in_transaction(self) -> bool:
        """Whether a SQL transaction is open."""
        return bool(self._raw.in_transaction)

    def close(self) -> None:
        """Give the connection back to the driver; an open transaction is undone."""
        self._core = None
        self._raw.close()

    # --- statements -----------------------------------------------------------------------------

    def _run(self, statement: Statement, values: Mapping[str, Any], seen: Lineage | None, after: int) -> Any:
        dialect = self._dialect
        text = statement.text(dialect, 0 if seen is None else len(seen.parts))
        text, values = bound(text, values, seen, after, dialect)
        return self._send(text, values)

    def rows(
        self, statement: Statement, values: Mapping[str, Any] = _NONE, seen: Lineage | None = None, after: int = -1
    ) -> list[Row]:
        """All rows of a result.

        Parameters
        ----------
        statement : Statement
            What to ask.
        values : mapping of str to object
            Its parameters, but for those of the lineage.
        seen : Lineage, optional
            For a statement that reads history: what of it is seen.
        after : int
            And only what came after this version.
        """
        found: list[Row] = self._run(statement, values, seen, after).fetchall()
        return found

    def first(
        self, statement: Statement, values: Mapping[str, Any] = _NONE, seen: Lineage | None = None, after: int = -1
    ) -> Row | None:
        """The first row of a result, or None; parameters as of :meth:`rows`."""
        found: Row | None = self._run(statement, values, seen, after).fetchone()
        return found

    def change(self, statement: Statement, values: Mapping[str, Any]) -> int:
        """Insert, update or delete; the number of rows."""
        return int(self._run(statement, values, None, -1).rowcount)

    def change_many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """The same statement for several rows."""
        self._send_many(statement.text(self._dialect, 0), rows)

    # --- everything else ------------------------------------------------------------------------

    @property
    def core(self) -> sa.Connection:
        """SQLAlchemy's connection over this one; it neither begins nor ends transactions."""
        if self._core is None:
            self._core = self._dialect.core(self._raw)
        return self._core

    def execute(self, statement: sa.Executable, parameters: Any = None) -> sa.CursorResult[*tuple[Any, ...]]:
        """Run an expression through SQLAlchemy."""
        return self.core.execute(statement, parameters)


__all__ = ["Connection", "Row"]
