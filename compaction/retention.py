"""Expiry and vacuum: which versions stay readable, and letting go of what they do not need."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from txstore.commits import to_us
from txstore.compaction.renaming import sync_filesystem
from txstore.core import Core
from txstore.errors import CorruptionError, InvalidInputError
from txstore.failures import storage_error
from txstore.holder import Holder
from txstore.index import branches, commitlog, retention, segments, structure
from txstore.index import engine as clock
from txstore.index.edits import MAIN
from txstore.index.engine import read_head
from txstore.storage import segment_key

if TYPE_CHECKING:
    from txstore.store import Store


@dataclass(frozen=True)
class ExpireReport:
    """What expiry did, or (dry run) would do.

    Attributes
    ----------
    horizon : int
        Versions from here on can be read; older ones where a tag or a branch holds them.
    before : int
        The horizon before.
    expired : int
        Commits that fell below it.
    dry_run : bool
        Whether nothing was done.
    """

    horizon: int
    before: int
    expired: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return asdict(self)


@dataclass(frozen=True)
class VacuumReport:
    """What vacuum let go, or (dry run) would let go.

    Attributes
    ----------
    fragments, bases : int
        Rows of the index.
    segments : int
        Files deleted.
    inline : int
        Small segments deleted from the index.
    intents : int
        Files that dead processes had begun.
    bytes : int
        Encoded bytes freed.
    dry_run : bool
        Whether nothing was done.
    """

    fragments: int
    bases: int
    segments: int
    inline: int
    intents: int
    bytes: int
    dry_run: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return asdict(self)


def expire(store: Store, *, older_than: Any, keep_last: int | None, dry_run: bool) -> ExpireReport:
    """Move the horizon; see ``Store.expire``."""
    core = store._core
    if older_than is None and keep_last is None:
        raise InvalidInputError("expire needs older_than= or keep_last=, or both")
    if keep_last is not None and (not isinstance(keep_last, int) or isinstance(keep_last, bool) or keep_last < 1):
        raise InvalidInputError(f"keep_last={keep_last!r} must be an integer from 1 on")
    moment = None if older_than is None else _moment(older_than)
    with core.index.maintain() as connection:
        # Pins are read and the horizon is moved under one lock: whoever begins from now on sees the new horizon.
        head = read_head(connection)
        wanted = [head.head]
        if keep_last is not None:
            rows = commitlog.commits(connection, branches.lineage(connection, MAIN, head.head), limit=keep_last)
            wanted.append(rows[-1].version if len(rows) == keep_last else 0)
        if moment is not None:
            wanted.append(commitlog.version_at(connection, moment))
        wanted += Holder.live(core.locks).values()
        horizon = max(head.horizon, min(wanted))
        expired = commitlog.count_commits(connection, head.horizon, horizon)
        if not dry_run:
            retention.move_horizon(connection, head, horizon)
    return ExpireReport(horizon, head.horizon, expired, dry_run)


def _moment(value: Any) -> int:
    if isinstance(value, timedelta):
        if value < timedelta(0):
            raise InvalidInputError(f"older_than={value} must not be negative")
        return clock.now_us() - value // timedelta(microseconds=1)
    if isinstance(value, datetime | str):
        try:
            return to_us(value)
        except InvalidInputError as error:
            raise InvalidInputError(f"older_than={value!r}: {error}; or give timedelta(days=30), say") from None
    raise InvalidInputError(f"older_than={value!r} must be a timedelta or an aware datetime")


def vacuum(store: Store, *, dry_run: bool = False, throttle: Callable[[int], None] | None = None) -> VacuumReport:
    """Delete what nothing needs; see ``Store.vacuum``.

    Parameters
    ----------
    throttle : callable, optional
        Called with 0 between two steps, in which it may sleep, and raise to end the work there: the next vacuum goes
        on with it.
    """
    core = store._core
    pause = throttle or (lambda _: None)
    freed = retention.Freed()
    with core.index.read() as connection:
        head = read_head(connection)
        # Who has pinned a version and then found it retained, while expiry was just about to let it go, shows here.
        horizon = min([head.horizon, *Holder.live(core.locks).values()])
        found = list(retention.garbage(connection, head, horizon))
    if dry_run:
        return VacuumReport(
            sum(len(rows.fragments) for rows in found), sum(len(rows.bases) for rows in found), 0, 0, 0, 0, True
        )
    # What is on the disk for certain can't be lost by a power failure.
    synced = core.synced
    cuts = [None if synced else _cut(core, rows) for rows in found]
    try:
        if found:
            _sync(core)  # what stands in for what goes: bases, their rows and their files
        for rows in (rows for rows, cut in zip(found, cuts, strict=True) if cut is None):
            for step in retention.steps(rows):
                pause(0)
                retention.doom(core.index, step, freed, horizon)
        freed.intents = segments.doom_intents(core.index, lambda: Holder.live(core.locks))
        _delete_files(core, freed, pause)
        if freed.inline or freed.fragments:
            retention.shrink(core.index, between=lambda: pause(0))
    finally:
        core.forget()
    for rows, cut in zip(found, cuts, strict=True):
        if cut is not None:
            raise _refusal(core, rows.node, cut)
    return VacuumReport(freed.fragments, freed.bases, freed.segments, freed.inline, freed.intents, freed.bytes)


class _Cut(NamedTuple):
    """A file of which a power failure has left less than was written.

    Attributes
    ----------
    segment : bytes
    size : int
        How many bytes it had.
    left : int or None
        How many there are; None where there is no file.
    """

    segment: bytes
    size: int
    left: int | None


def _cut(core: Core, rows: retention.Garbage) -> _Cut | None:
    """The first cut file of those that are read in the stead of garbage."""
    found = None
    for _ in range(2):  # what is not there another vacuum may have deleted since the index was read
        with core.index.read() as connection:
            files = retention.stand_ins(connection, rows)
        sizes = ((segment, size, core.storage.size(segment_key(segment))) for segment, size in files.items())
        found = next((_Cut(*one) for one in sizes if one[1] != one[2]), None)
        if found is None:
            break
    return found


def _refusal(core: Core, node: int, cut: _Cut) -> CorruptionError:
    with core.index.read() as connection:
        newest = branches.lineage(connection, MAIN, read_head(connection).head)
        path = structure.Tree(connection, newest).path(node)
    array = f"node {node}" if path is None else f"array {path!r}"
    left = "nothing" if cut.left is None else f"{cut.left} bytes"
    return CorruptionError(
        f"{array}: of segment {cut.segment.hex()}, which is read in the stead of what vacuum would delete, {left} of "
        f"{cut.size} are there, so that this was kept, and all else vacuumed; run txstore verify, then restore the "
        "file, or delete the array and the tags that hold it, and expire"
    )


def _sync(core: Core) -> None:
    """Bring to the disk what was left to the system, here or by other processes; in most stores there is no such thing.

    Raises
    ------
    StorageError
        If the system can't.
    """
    if core.synced:
        return
    root = core.address.root
    try:
        number = os.open(root, os.O_RDONLY)
        try:
            sync_filesystem(number, root)
        finally:
            os.close(number)
    except OSError as error:
        raise storage_error(f"sync {root}", error) from error


def _delete_files(core: Core, freed: retention.Freed, pause: Callable[[int], None]) -> None:
    """The second phase: files first, their rows when the files are gone. A crash in between is simply gone on with."""
    buried = []
    doomed = segments.doomed(core.index)
    if doomed:
        _sync(core)  # no row that points to what is deleted may come back after a power failure
    try:
        for segment, size in doomed:
            pause(0)
            core.storage.delete(segment_key(segment))
            buried.append(segment)
            freed.segments += 1
            freed.bytes += size
    finally:
        segments.bury(core.index, buried, were_live=True)
