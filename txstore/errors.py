"""The errors of txstore: one tree, whose classes say what a handler would do.

Every error carries its facts as attributes, so that nobody has to parse a message.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from txstore.boxes import Box


class TxStoreError(Exception):
    """Base of every error that txstore raises on purpose."""

    def __str__(self) -> str:
        # KeyError quotes and escapes its message; a user should read it as it was written.
        return str(self.args[0]) if self.args else type(self).__name__


@dataclass(frozen=True, slots=True)
class Conflict:
    """One reason why a transaction could not commit.

    Attributes
    ----------
    kind : str
        ``"cells"``, ``"shape"``, ``"append"``, ``"attribute"``, ``"structure"``, ``"read"`` or ``"horizon"``; for
        maintenance ``"lease"`` (it has lapsed) and ``"base"`` (what it was to stand on has been vacuumed).
    path : str
        The array or group concerned.
    box : Box or None
        The half-open box of cells in conflict, where the conflict is about cells.
    key : str or None
        The attribute key or the node name in conflict.
    commit : int or None
        The version that won.
    """

    kind: str
    path: str
    box: Box | None = None
    key: str | None = None
    commit: int | None = None

    def __str__(self) -> str:
        what = f"{self.kind} of {self.path or '/'!r}"
        if self.box is not None:
            what += f" in {self.box}"
        if self.key is not None:
            what += f" at {'name' if self.kind == 'structure' else 'key'} {self.key!r}"
        if self.commit is not None:
            what += f", changed by version {self.commit}"
        return what


class ConflictError(TxStoreError):
    """Somebody else committed first: nothing of this transaction is visible; run it again.

    Attributes
    ----------
    conflicts : tuple of Conflict
        What was in conflict; never empty.
    """

    def __init__(self, conflicts: tuple[Conflict, ...], message: str | None = None) -> None:
        self.conflicts = tuple(conflicts)
        if message is None:
            shown = "; ".join(str(conflict) for conflict in self.conflicts[:3])
            more = len(self.conflicts) - 3
            message = f"conflict: {shown}{f' (and {more} more)' if more > 0 else ''}; run the transaction again"
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.conflicts, self.args[0])


class CommitUnknownError(TxStoreError):
    """The index could not say whether the commit landed; ``store.resolve(txid)`` settles it.

    Attributes
    ----------
    txid : uuid.UUID
        The transaction in question. Nothing of it has been deleted.
    """

    def __init__(self, txid: uuid.UUID, message: str | None = None) -> None:
        self.txid = txid
        super().__init__(message or f"it is unknown whether transaction {txid} has committed; call store.resolve(txid)")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.txid, self.args[0])


class NotFoundError(TxStoreError, KeyError):
    """A node, tag, branch, version or attribute that is not there."""


class StoreNotFoundError(NotFoundError, FileNotFoundError):
    """There is no store at this root."""


class AlreadyExistsError(TxStoreError):
    """A node, tag, branch, store or destination that is there already."""


class InvalidInputError(TxStoreError, ValueError):
    """An argument that can't be used; the message says what would."""


class InvalidIndexError(InvalidInputError, IndexError):
    """A selection that does not fit the array."""


class DTypeError(InvalidInputError, TypeError):
    """Values that can't be cast safely, or a dtype that can't be stored."""


class ReadOnlyError(TxStoreError):
    """A write through something that only reads; the message says through what to write."""


class TransactionClosedError(TxStoreError):
    """The transaction has been committed or aborted already."""


class StoreClosedError(TxStoreError, ValueError):
    """The store has been closed."""


class SnapshotExpiredError(TxStoreError):
    """The version lies below the horizon that expiry has set: its bytes may be gone."""


class CorruptionError(TxStoreError):
    """Stored bytes that do not match their checksum or their description.

    Attributes
    ----------
    place : object or None
        Where the bytes lie: segment, offset and length, as far as they are known.
    """

    def __init__(self, message: str, place: Any = None) -> None:
        self.place = place
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.place)


class FormatError(TxStoreError):
    """A store written by a newer txstore, or something that is no txstore at all."""


class StorageError(TxStoreError, OSError):
    """The file system, the object store or the index refused or failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


__all__ = [
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
]
