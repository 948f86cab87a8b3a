"""txstore: a transactional, log-structured store for N-dimensional arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_ERRORS = (
    "AlreadyExistsError",
    "CommitUnknownError",
    "Conflict",
    "ConflictError",
    "CorruptionError",
    "DTypeError",
    "FormatError",
    "InvalidIndexError",
    "InvalidInputError",
    "NotFoundError",
    "ReadOnlyError",
    "SnapshotExpiredError",
    "StorageError",
    "StoreClosedError",
    "StoreNotFoundError",
    "TransactionClosedError",
    "TxStoreError",
)
#: Where each public name lives; imported when it is first asked for, for a command line that only wants to print its
#: help should not have to load SQLAlchemy (PEP 562).
_HOMES = {
    **dict.fromkeys(_ERRORS, "txstore.errors"),
    "Appended": "txstore.commits",
    "Array": "txstore.array",
    "Box": "txstore.boxes",
    "Commit": "txstore.commits",
    "Group": "txstore.group",
    "Snapshot": "txstore.snapshot",
    "Store": "txstore.store",
    "Transaction": "txstore.transaction",
    "open": "txstore.store",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)  # without what the module imports for itself


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
