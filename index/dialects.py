"""What only one database knows: the one place for statements that are not portable.

A dialect opens connections, compiles statements, checkpoints and classifies errors. Everything else in
``txstore.index`` is plain SQLAlchemy Core.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from txstore.errors import CorruptionError, FormatError, StorageError, TxStoreError
from txstore.failures import storage_error
from txstore.index.connection import Connection
from txstore.index.format import FORMAT
from txstore.index.sql import sa
from txstore.index.sqlitetexts import TEXTS
from txstore.locks import FileLock
from txstore.requests import Requests

#: When the log is so long, whoever commits copies it back into the database, under the store's lock.
WAL_LIMIT_BYTES = 4 << 20
#: Beyond this size of the file, whoever wrote it, readers are waited for (briefly), so that the log starts over.
WAL_RESTART_BYTES = 64 << 20
#: After so many of its commits a process looks at that size.
_COMMITS = 64
_PAGE_BYTES = 4096


class _Immutable(sqlite3.Connection):
    """A connection to a file beside which SQLite can't make the one by which it shares.

    Attributes
    ----------
    seen : tuple of int
        The file as it was before it was opened.
    """

    seen: tuple[int, ...]


class SQLiteDialect:
    """SQLite in a local directory: WAL, ``synchronous=FULL``, a file lock of our own before ``BEGIN IMMEDIATE``.

    Parameters
    ----------
    path : str
        The database file.
    lock_path : str
        The file of the store's lock. SQLite's own busy handler polls and starves; a blocking file
        lock hands over at once and in order.
    read_only : bool
        Open the file without the right to write.
    sync : bool
        False leaves durability to the operating system (``synchronous=NORMAL`` plus no directory sync).
    timeout_s : float
        How long to wait for the lock.

    Notes
    -----
    SQLite 3.7.0 to 3.51.2 can lose committed transactions when a checkpoint overlaps a commit that
    restarts the log. So checkpoints run only while the lock is held: at the end of a commit, and where the database is
    closed.
    """

    def __init__(self, path: str, lock_path: str, *, read_only: bool, sync: bool, timeout_s: float) -> None:
        self.path = path
        self._wal = path + "-wal"
        self._read_only = read_only
        self._sync = sync
        self._timeout_s = timeout_s
        self._commits = 0
        self._identity: tuple[int, int] | None = None
        self.lock = FileLock(lock_path, timeout_s)
        #: Commits that others ask who holds the lock to make; None: each makes their own. Who leaves syncing to the
        #: system must not commit for others.
        self.requests = None if read_only or not sync else Requests(lock_path + ".requests")

    def connect(self) -> Connection:
        """Open a connection.

        Raises
        ------
        sqlite3.Error, StorageError
            If the file can't be opened.
        """
        if self._read_only and not os.path.exists(self.path):
            raise StorageError(f"{self.path} is not there")
        uri = "file:" + self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        immutable = self._read_only and self._immutable()
        seen = self._file() if immutable else ()
        raw = sqlite3.connect(
            uri + ("?immutable=1" if immutable else "?mode=ro" if self._read_only else "?mode=rw"),
            factory=_Immutable if immutable else sqlite3.Connection,
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        if isinstance(raw, _Immutable):
            raw.seen = seen
        raw.executescript(
            "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=OFF; PRAGMA cache_size=-16384; "
            f"PRAGMA wal_autocheckpoint={0 if self._read_only else WAL_LIMIT_BYTES // _PAGE_BYTES}; "
            # NORMAL syncs what is copied back, for others may have committed it with FULL; but no commit.
            f"PRAGMA synchronous={'FULL' if self._sync else 'NORMAL'}"
        )
        return Connection(raw, self)

    def check_place(self) -> None:
        """Make sure that the file is still the one that was opened: SQLite goes on writing into one that is gone.

        Raises
        ------
        StorageError
            If it has been removed, or another one has taken its place.
        """
        try:
            found = os.stat(self.path)
        except OSError:
            identity = None
        else:
            identity = found.st_dev, found.st_ino
        if self._identity is None:
            self._identity = identity  # the first connection, which is about to be made, tells what is wrong
        elif identity != self._identity:
            raise StorageError(
                f"the index {self.path} has been removed or replaced since the store was opened; open the store again"
            )

    def _immutable(self) -> bool:
        """Whether nobody writes beside this reader, who can't make the file by which SQLite shares.

        Another user may begin to at any time: see :meth:`overtaken`.

        Raises
        ------
        StorageError
            If there is a log that could only be read with that file.
        """
        if os.access(os.path.dirname(self.path), os.W_OK) or os.path.exists(self.path + "-shm"):
            return False
        if os.path.exists(self._wal) and os.path.getsize(self._wal):
            raise StorageError(
                f"{self.path} was not closed and lies in a directory that can't be written: copy the store, or open it "
                "once where it can be written"
            )
        return True

    def _file(self) -> tuple[int, ...]:
        found = os.stat(self.path)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def overtaken(self, connection: Connection) -> bool:
        """Whether what is read as immutable has been written meanwhile: SQLite would then mix old pages with new ones.

        To be asked before each read and after it. Who writes has files beside the index for as long as he has it open,
        and who has closed it has copied his log into it.
        """
        raw = connection.raw
        if not isinstance(raw, _Immutable):
            return False
        try:
            return os.path.exists(self.path + "-shm") or self._file() != raw.seen
        except OSError:
            return True

    # --- statements -----------------------------------------------------------------------------

    #: What has been compiled, by name of the statement and parts of the lineage.
    texts: ClassVar[dict[str, str]] = dict(TEXTS)
    begin_read: ClassVar[str] = "BEGIN"
    begin_write: ClassVar[str] = "BEGIN IMMEDIATE"

    @staticmethod
    def compile(statement: sa.ClauseElement) -> str:
        """The text of a statement, with parameters by name."""
        from sqlalchemy.dialects import sqlite

        compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
        text = str(compiled)
        for name, parameter in compiled.binds.items():  # type: ignore[attr-defined]
            if parameter.unique:
                # No parameter of ours: a value that the statement itself gives.
                text = re.sub(rf":{name}\b", compiled.render_literal_bindparam(parameter), text)  # type: ignore[attr-defined]
        return text

    @staticmethod
    def parameter(name: str) -> str:
        """How a parameter stands in the text."""
        return f":{name}"

    def core(self, raw: sqlite3.Connection) -> sa.Connection:
        """SQLAlchemy's connection over an open one."""
        engine = sa.create_engine(
            "sqlite://", creator=lambda: raw, poolclass=sa.pool.StaticPool, pool_reset_on_return=None
        )
        # It rolls back what it has asked when it first connects: but the transaction is not its own.
        engine.dialect.do_rollback = engine.dialect.do_commit = _leave  # type: ignore[method-assign]
        return engine.connect()

    # --- the file -------------------------------------------------------------------------------

    @classmethod
    def initialize(cls, path: str) -> None:
        """Make an empty database file with the settings that can only be given at its birth."""
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error as error:
            raise StorageError(f"the index {path} can't be made: {error}") from error
        finally:
            connection.close()

    @contextlib.contextmanager
    def exclusive(self, wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the store's lock: one writer at a time over all processes, mostly in the order of arrival.

        While it waits it calls `wait` now and then, which may raise.
        """
        try:
            with self.lock.taken(wait):
                yield
        except StorageError:
            self.check_place()  # may say it better
            raise

    def close(self, connections: deque[Connection]) -> None:
        """Close connections. The last one of a store to go checkpoints, so the lock is held meanwhile."""
        if connections:
            # A reader may not be allowed to make the file of the lock; SQLite then checkpoints alone or not at all.
            with contextlib.nullcontext() if self._read_only else self.exclusive():
                while connections:
                    with contextlib.suppress(sqlite3.Error):
                        connections.pop().close()
        if self.requests is not None:
            self.requests.close()
        self.lock.close()

    def after_commit(self, connection: Connection) -> None:
        """Keep the write-ahead log short. Called with the lock held and no transaction open.

        SQLite has copied it back where it was long, but starts it over only when nobody reads from it any more. Where
        there is always somebody who does, they have to be waited for.
        """
        self._commits += 1
        if self._commits % _COMMITS:
            return
        # The commit has landed; what fails here is simply tried again later.
        with contextlib.suppress(sqlite3.Error, OSError):
            if os.stat(self._wal).st_size >= WAL_RESTART_BYTES:
                raw: sqlite3.Connection = connection.raw
                raw.execute("PRAGMA busy_timeout=50")
                try:
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    raw.execute(f"PRAGMA busy_timeout={int(self._timeout_s * 1000)}")

    def shrink(self, connection: Connection, pages: int) -> int:
        """Give at most `pages` free pages back to the file system; the number of free pages left."""
        raw: sqlite3.Connection = connection.raw
        raw.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
        return int(raw.execute("PRAGMA freelist_count").fetchone()[0])

    def integrity_problems(self, connection: Connection) -> list[str]:
        """What ``PRAGMA integrity_check`` finds wrong, one string each."""
        rows = connection.raw.execute("PRAGMA integrity_check(20)").fetchall()
        return [str(row[0]) for row in rows if row[0] != "ok"]

    def size_bytes(self) -> int:
        """The bytes of the database and its log on disk."""
        total = 0
        for path in (self.path, self._wal):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(path).st_size
        return total

    def translate(self, error: BaseException) -> TxStoreError | None:
        """The error of ours that says the same, classified by code and never by text; None for one of another kind."""
        original = _original(error)
        if original is None:
            return None
        code = getattr(original, "sqlite_errorcode", None)
        primary = code & 0xFF if code is not None else None
        if primary == sqlite3.SQLITE_CORRUPT:
            return CorruptionError(f"the index {self.path} is damaged ({original}); run txstore verify", self.path)
        if primary == sqlite3.SQLITE_NOTADB:
            return FormatError(f"{self.path} is not an index of txstore ({original})")
        if primary == sqlite3.SQLITE_BUSY:
            return StorageError(f"the index {self.path} stayed locked by another program ({original}); try again")
        if primary == sqlite3.SQLITE_ERROR:
            # No statement of ours is wrong by itself: the tables are not those that it expects.
            return FormatError(f"the tables of the index {self.path} are not those of format {FORMAT} ({original})")
        if code == sqlite3.SQLITE_IOERR_WRITE:
            return StorageError(
                f"the index {self.path} can't be written ({original}): the disk fails, or a quota or a limit on the "
                "size of files is reached"
            )
        if primary == sqlite3.SQLITE_FULL:
            return storage_error(f"write the index {self.path}", OSError(errno.ENOSPC, str(original)))
        if primary == sqlite3.SQLITE_READONLY:
            return StorageError(f"the index {self.path} can't be written by this user; open the store with mode='r'")
        if primary == sqlite3.SQLITE_CANTOPEN and not os.access(os.path.dirname(self.path), os.W_OK):
            return StorageError(
                f"the index {self.path} can't be opened for writing, for its directory can't be written (it is another "
                "user's, or the file system is read-only); open the store with mode='r'"
            )
        return StorageError(f"the index {self.path} failed: {original}")

    def is_full(self, error: BaseException) -> bool:
        """Whether there was no room: the log could not even be written, so that nothing has been committed."""
        code = getattr(_original(error), "sqlite_errorcode", None)
        return code is not None and code & 0xFF == sqlite3.SQLITE_FULL

    def is_duplicate(self, error: BaseException) -> bool:
        """Whether a unique constraint was violated."""
        code = getattr(_original(error), "sqlite_errorcode", None)
        return code in (sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE)


def _leave(dbapi_connection: Any) -> None:
    """Do nothing."""


def _original(error: BaseException) -> BaseException | None:
    """The driver's error, be it wrapped by SQLAlchemy or not; None where it is no error of the database."""
    if isinstance(error, sqlite3.Error):
        return error
    if type(error).__module__ == "sqlalchemy.exc":
        return getattr(error, "orig", None) or error
    return None
