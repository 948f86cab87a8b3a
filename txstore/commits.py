"""What a commit was: the values that the log and a finished transaction answer with."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgpack

from txstore.boxes import Box
from txstore.errors import CorruptionError, InvalidInputError
from txstore.index.commitlog import CommitRow
from txstore.index.edits import Touched

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(time_us: int) -> datetime:
    """Microseconds since 1970 as an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def to_text(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC, to the microsecond: the one form in JSON."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_us(moment: datetime | str) -> int:
    """An aware time, or an ISO 8601 text with offset, in microseconds since 1970.

    Raises
    ------
    InvalidInputError
        If there is no offset, or the text is no time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise InvalidInputError(f"{moment!r} is no time; write it as 2026-01-31T12:00:00+00:00") from None
    if not isinstance(moment, datetime):
        raise InvalidInputError(f"a time must be an aware datetime or an ISO text, not {type(moment).__name__}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidInputError(f"the time {moment.isoformat()} has no offset from UTC: add one, such as +00:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Commit:
    """One commit of the log.

    Attributes
    ----------
    version : int
        Its place in the total order of the store.
    txid : uuid.UUID
        The transaction.
    committed_at : datetime
        Aware, UTC; strictly monotone with the version.
    branch : str
        The branch that it was made on.
    parents : tuple of int
        The versions that it follows.
    author, message : str or None
        As given.
    properties : Mapping
        As given; read-only.
    paths : tuple of str
        Arrays and groups that it changed, as they were called then.
    appended : tuple of (str, Box)
        Where each append landed, half-open.
    bytes_written : int
        Encoded bytes of its tiles.
    """

    version: int
    txid: uuid.UUID
    committed_at: datetime
    branch: str
    parents: tuple[int, ...]
    author: str | None
    message: str | None
    properties: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    appended: tuple[tuple[str, Box], ...] = ()
    bytes_written: int = 0

    @classmethod
    def from_row(cls, row: CommitRow, branch: str) -> Commit:
        """The commit that a row of the index describes.

        Raises
        ------
        CorruptionError
            If the row is malformed.
        """
        touched = Touched.decode(row.touched)
        try:
            parents = tuple(int(parent) for parent in msgpack.unpackb(row.parents))
            properties = json.loads(row.properties) if row.properties else {}
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise CorruptionError(f"the row of commit {row.version} is malformed: {error}") from error
        return cls(
            row.version,
            uuid.UUID(bytes=row.txid),
            to_datetime(row.committed_at),
            branch,
            parents,
            row.author,
            row.message,
            MappingProxyType(properties),
            touched.paths,
            touched.appended,
            row.bytes_written,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        values = dict(self.__dict__)
        values["properties"] = dict(self.properties)
        return _rebuild, (values,)

    def to_dict(self) -> dict[str, Any]:
        """The commit as a JSON-able dict."""
        return {
            "version": self.version,
            "txid": str(self.txid),
            "committed_at": to_text(self.committed_at),
            "branch": self.branch,
            "parents": list(self.parents),
            "author": self.author,
            "message": self.message,
            "properties": dict(self.properties),
            "paths": list(self.paths),
            "appended": [[path, list(box.lo), list(box.hi)] for path, box in self.appended],
            "bytes_written": self.bytes_written,
        }


def _rebuild(values: dict[str, Any]) -> Commit:
    return Commit(**values)


class Appended:
    """Where one append lies.

    Attributes
    ----------
    box : Box
        Half-open, in cells. Within the transaction its own coordinates; final once `final` is True, after the commit.
    final : bool
        Whether the transaction has committed.
    """

    __slots__ = ("box", "final")

    def __init__(self, box: Box, final: bool = False) -> None:
        self.box = box
        self.final = final

    def __repr__(self) -> str:
        return f"Appended({self.box}{'' if self.final else ', not committed'})"
