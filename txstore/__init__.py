"""txstore: a transactional, log-structured store for N-dimensional arrays."""

from __future__ import annotations

from txstore.array import Array
from txstore.boxes import Box
from txstore.commits import Appended, Commit
from txstore.errors import (
    AlreadyExistsError,
    CommitUnknownError,
    Conflict,
    ConflictError,
    CorruptionError,
    DTypeError,
    FormatError,
    InvalidIndexError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    SnapshotExpiredError,
    StorageError,
    StoreClosedError,
    StoreNotFoundError,
    TransactionClosedError,
    TxStoreError,
)
from txstore.group import Group
from txstore.snapshot import Snapshot
from txstore.store import Store, open
from txstore.transaction import Transaction

__version__ = "0.1.0"

__all__ = [
    "AlreadyExistsError",
    "Appended",
    "Array",
    "Box",
    "Commit",
    "CommitUnknownError",
    "Conflict",
    "ConflictError",
    "CorruptionError",
    "DTypeError",
    "FormatError",
    "Group",
    "InvalidIndexError",
    "InvalidInputError",
    "NotFoundError",
    "ReadOnlyError",
    "Snapshot",
    "SnapshotExpiredError",
    "StorageError",
    "Store",
    "StoreClosedError",
    "StoreNotFoundError",
    "Transaction",
    "TransactionClosedError",
    "TxStoreError",
    "__version__",
    "open",
]
