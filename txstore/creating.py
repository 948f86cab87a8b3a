"""Making a new store in an empty directory, and telling a store from other things."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from txstore.errors import AlreadyExistsError, StorageError, TxStoreError
from txstore.filesystems import check_local
from txstore.index import engine as clock
from txstore.index.dialects import SQLiteDialect
from txstore.index.engine import Index
from txstore.index.format import FORMAT
from txstore.index.sql import schema
from txstore.locks import FileLock

_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def find_store(root: Path) -> bool:
    """Whether there is a store.

    Raises
    ------
    AlreadyExistsError
        If there is something else: a file, a Zarr hierarchy, a directory with other things in it.
    StorageError
        If one may not look.
    """
    try:
        return _find(root)
    except TxStoreError:
        raise
    except OSError as error:
        raise StorageError(f"the store {root} can't be opened: {error.strerror}") from error


def _find(root: Path) -> bool:
    if not root.exists():
        return False
    if not root.is_dir():
        raise AlreadyExistsError(f"{root} is a file, not the directory of a store")
    if (root / "index.sqlite").exists():
        return True
    names = set(os.listdir(root)) - {"locks"}
    # A creation that was cut short, or that another process is busy with, leaves only these.
    names = {name for name in names if not name.startswith("index.new")}
    zarr = [name for name in _ZARR if name in names]
    if zarr:
        raise AlreadyExistsError(
            f"{root} is a Zarr hierarchy ({zarr[0]}): bring it into a store with 'txstore import {root} STORE' "
            "or store.import_zarr()"
        )
    if names:
        raise AlreadyExistsError(
            f"{root} is not empty and holds no store ({sorted(names)[0]!r} is there): give an absent or empty directory"
        )
    return False


def create_store(root: Path, *, exclusive: bool, timeout_s: float) -> None:
    """Make an empty store; of several processes at once one makes it and the others find it.

    Raises
    ------
    AlreadyExistsError
        If somebody else was first and `exclusive` is set.
    StorageError
        If the directory can't be written, or is on a file system on which SQLite's log does not work.
    """
    try:
        (root / "locks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the store {root} can't be made: {error.strerror}") from error
    check_local(root)
    with FileLock(str(root / "locks" / "create"), timeout_s):
        final = root / "index.sqlite"
        if final.exists():
            if exclusive:
                raise AlreadyExistsError(f"there is a store at {root} already; open it with mode='r+'")
            return
        # Built under another name, so that nobody ever opens half an index.
        fresh = root / "index.new.sqlite"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{fresh}{suffix}")
        try:
            SQLiteDialect.initialize(str(fresh))
            _fill(fresh, root, timeout_s)
            log = Path(f"{fresh}-wal")
            if log.exists() and log.stat().st_size:
                raise StorageError(
                    f"the store {root} can't be made: its index was not written whole; is the disk full?"
                )
            _sync(fresh)
            os.rename(fresh, final)
            _sync(root)
            _sync(root.parent)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"the store {root} can't be made: {getattr(error, 'strerror', None) or error}"
            ) from error


def _fill(path: Path, root: Path, timeout_s: float) -> None:
    dialect = SQLiteDialect(str(path), str(root / "locks" / "commit"), read_only=False, sync=True, timeout_s=timeout_s)
    index = Index(dialect)
    try:
        with index.maintain() as connection:
            schema.metadata.create_all(connection.core)
            now = clock.now_us()
            connection.execute(
                schema.store.insert(),
                {
                    "id": 1,
                    "uuid": uuid.uuid4().bytes,
                    "format": FORMAT,
                    "epoch": 0,
                    "head": 0,
                    "head_at": now - 1,
                    "next_node": 1,
                    "next_branch": 1,
                    "maintenance": 0,
                    "horizon": 0,
                    "conflict_horizon": 0,
                    "created_at": now,
                },
            )
    finally:
        index.close()  # the last connection copies the log back, so that the file alone is whole


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


__all__ = ["create_store", "find_store"]
