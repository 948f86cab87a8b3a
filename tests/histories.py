"""What the tests of the promises share: tiny arrays, comparison by bits, and faults on order."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.engine.default import DefaultDialect

from txstore.errors import Conflict, ConflictError
from txstore.index.connection import Connection

# -- making and looking ---------------------------------------------------------------------------


def create(store: Any, path: str = "a", data: Any = None, **options: Any) -> Any:
    """Create an array in a commit of its own, holding `data` where given; return the commit."""
    if data is not None:
        data = np.asarray(data)
        options = {"shape": data.shape, "dtype": data.dtype, **options}
    options = {"dtype": "i4", "chunks": tuple(min(4, n) or 1 for n in options["shape"]), **options}
    with store.transaction() as tx:
        array = tx.create_array(path, **options)
        if data is not None:
            array[...] = data
    return tx.commit_info


def put(store: Any, path: str, sel: Any, values: Any, **options: Any) -> Any:
    """Write in a commit of its own; return the commit."""
    with store.transaction(**options) as tx:
        tx[path][sel] = values
    return tx.commit_info


def resize(store: Any, path: str, shape: tuple[int, ...], **options: Any) -> Any:
    """Resize in a commit of its own; return the commit."""
    with store.transaction(**options) as tx:
        tx[path].resize(shape)
    return tx.commit_info


def append(store: Any, path: str, block: Any, axis: int = 0, **options: Any) -> Any:
    """Append in a commit of its own; return the commit."""
    with store.transaction(**options) as tx:
        tx[path].append(np.asarray(block), axis=axis)
    return tx.commit_info


def same(actual: Any, expected: Any) -> None:
    """Dtype, shape and every bit are the same, the payloads of NaN and the sign of zero included."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.tobytes() != expected.tobytes():
        np.testing.assert_array_equal(actual, expected)  # says where, unless the values compare equal
        pytest.fail("the values are equal, but their bits are not")


def plain(value: Any) -> Any:
    """Turn an immutable attribute value into lists and dictionaries."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def noise(shape: tuple[int, ...] | int, dtype: str = "i4", seed: int = 0) -> np.ndarray[Any, Any]:
    """Integers that no codec makes smaller."""
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max, size=shape, dtype=dtype)


# -- conflicts ------------------------------------------------------------------------------------


class Refusal:
    """What a refused commit said."""

    def __init__(self) -> None:
        self.conflicts: tuple[Conflict, ...] = ()

    @property
    def one(self) -> Conflict:
        """The only conflict."""
        (conflict,) = self.conflicts
        return conflict


@contextmanager
def conflict(*kinds: str, path: str | None = None) -> Iterator[Refusal]:
    """The block raises a ConflictError; one of its conflicts is of one of `kinds` (and about `path`)."""
    refusal = Refusal()
    with pytest.raises(ConflictError) as caught:
        yield refusal
    refusal.conflicts = caught.value.conflicts
    assert refusal.conflicts
    assert all(isinstance(conflict, Conflict) for conflict in refusal.conflicts)
    assert any(
        (not kinds or conflict.kind in kinds) and (path is None or conflict.path == path)
        for conflict in refusal.conflicts
    ), f"expected one of {kinds} about {path}: {refusal.conflicts}"


# -- files and rows -------------------------------------------------------------------------------


def files(root: Path) -> set[Path]:
    """Every file below `root`, temporary ones too, but for the index itself."""
    found = (path for path in root.rglob("*") if path.is_file())
    return {path for path in found if not path.name.startswith("index.sqlite")}


def index_of(root: Path) -> Path:
    """The SQLite file of the only store below `root`."""
    (path,) = root.rglob("index.sqlite")
    return path


def sql(root: Path, statement: str, *parameters: Any) -> list[Any]:
    """Run one statement on the index behind the store's back."""
    connection = sqlite3.connect(index_of(root), timeout=30)
    try:
        with connection:
            return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()


# -- time -----------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Clock:
    """Takes the place of the database's clock; moved by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> int:
        return (self.now - EPOCH) // MICROSECOND


# -- faults ---------------------------------------------------------------------------------------

WRITING_CALLS = ("write", "pwrite", "writev", "fsync", "fdatasync", "rename", "replace", "link")


@contextmanager
def wrapped_calls(wrap: Callable[[str, Callable[..., Any]], Callable[..., Any]], *names: str) -> Iterator[None]:
    """Put wrappers around functions of `os`, wherever the package has bound them."""
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "txstore"]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            real = getattr(os, name)
            wrapper = wrap(name, real)
            patch.setattr(os, name, wrapper)
            for module in modules:
                for bound in [key for key, value in vars(module).items() if value is real]:
                    patch.setattr(module, bound, wrapper)
        yield


@contextmanager
def failing_io(at: int) -> Iterator[list[str]]:
    """Let the call number `at` that writes, syncs or renames fail with ENOSPC, once; yield the calls made."""
    calls: list[str] = []

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call

    with wrapped_calls(wrap, *WRITING_CALLS):
        yield calls


def io_error() -> sqlite3.OperationalError:
    """What SQLite says when its disk fails."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    error.sqlite_errorname = "SQLITE_IOERR"
    return error


@contextmanager
def watched_sql(
    before: Callable[[str, Any], None], after: Callable[[str, Any], None] = lambda statement, connection: None
) -> Iterator[None]:
    """Call `before` and `after` around every statement, BEGIN and COMMIT among them, that is sent; they may raise."""

    def sending(real: Any) -> Callable[..., Any]:
        def call(connection: Connection, text: str, *args: Any) -> Any:
            before(text, connection.raw)
            result = real(connection, text, *args)
            after(text, connection.raw)
            return result

        return call

    def executing(real: Any) -> Callable[..., Any]:
        def call(dialect: Any, cursor: Any, statement: str, *args: Any, **kwargs: Any) -> Any:
            before(statement, cursor.connection)
            result = real(dialect, cursor, statement, *args, **kwargs)
            after(statement, cursor.connection)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_send", "_send_many"):
            patch.setattr(Connection, name, sending(getattr(Connection, name)))
        for name in ("do_execute", "do_execute_no_params", "do_executemany"):
            patch.setattr(DefaultDialect, name, executing(getattr(DefaultDialect, name)))
        yield


class LostReply:
    """The connection breaks at the COMMIT that moves the head of the store, before or after it took effect.

    With `dark`, nothing of the index can be reached from then on, until the block ends.
    """

    def __init__(self, *, landed: bool, dark: bool) -> None:
        self.landed, self.dark = landed, dark
        self.broken = False

    @contextmanager
    def armed(self, head: int) -> Iterator[LostReply]:
        """Break at the first commit that moves the head past `head`."""
        moving = False

        def before(statement: str, connection: Any) -> None:
            nonlocal moving
            if self.broken:
                if self.dark:
                    raise io_error()
                return
            if not statement.lstrip().upper().startswith("COMMIT"):
                return
            moving = connection.cursor().execute("SELECT head FROM store").fetchone()[0] > head
            if moving and not self.landed:
                self.broken = True
                connection.rollback()
                raise io_error()

        def after(statement: str, connection: Any) -> None:
            if moving and not self.broken and statement.lstrip().upper().startswith("COMMIT"):
                self.broken = True
                raise io_error()

        with watched_sql(before, after):
            yield self
        assert self.broken, "no COMMIT was seen to move the head: the fault was never injected"
