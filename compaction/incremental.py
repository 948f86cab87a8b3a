"""Bringing an earlier export up to date: which of its chunks are still true.

What has changed since then is told by the rows of the index - fragments and shapes after that version - and never
by looking at bytes. Both versions may lie on different branches: what counts is what came on either side since they
parted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from txstore.boxes import Box, full
from txstore.compaction.marker import ADVICE, Marker
from txstore.core import Core
from txstore.errors import AlreadyExistsError, InvalidInputError, SnapshotExpiredError
from txstore.grid import WHOLE, Grid
from txstore.index import branches, commitlog, lookup
from txstore.index.branches import Lineage
from txstore.index.edits import Change, Touched
from txstore.index.engine import Head, read_head


class Changes:
    """Which chunks of one array may differ between two versions.

    Parameters
    ----------
    grid : Grid
        The array's.
    clips : iterable of (bytes, Box)
        Partition and cells of each fragment that came in between.
    cut : iterable of Box
        Cells that were cut off in between, whatever became of them later.
    """

    def __init__(self, grid: Grid, clips: Iterable[tuple[bytes, Box]] = (), cut: Iterable[Box] = ()) -> None:
        self._grid = grid
        self._clips: dict[bytes, list[Box]] = {}
        for partition, clip in clips:
            self._clips.setdefault(partition, []).append(clip)
        self._wide = [*cut, *self._clips.pop(WHOLE, ())]
        self._current: tuple[bytes, set[tuple[int, ...]]] = (WHOLE, set())

    @property
    def none(self) -> bool:
        """Whether nothing differs."""
        return not self._wide and not self._clips

    def touch(self, chunks: Iterable[tuple[int, ...]], box: Box) -> bool:
        """Whether one of the chunks, which all lie in `box` and in one partition, may differ."""
        if any(wide.intersect(box) is not None for wide in self._wide):
            return True
        if not self._clips:
            return False
        changed: set[tuple[int, ...]] | None = None
        for chunk in chunks:
            if changed is None:
                changed = self._changed(self._grid.partition_of(chunk))
            if chunk in changed:
                return True
        return False

    def _changed(self, partition: bytes) -> set[tuple[int, ...]]:
        # Objects come partition by partition, and so one set at a time is enough.
        known, chunks = self._current
        if known != partition:
            clips = self._clips.get(partition, ())
            chunks = {chunk for clip in clips for chunk, _ in self._grid.chunks_in(clip)}
            self._current = partition, chunks
        return chunks


class Since:
    """What has come between the version of an earlier export and the one that is exported now.

    Parameters
    ----------
    core : Core
        The store.
    old : Marker
        The earlier export.
    seen : Lineage
        The version that is exported now.
    options : mapping
        How.

    Raises
    ------
    AlreadyExistsError
        If the earlier export is of another store, or of a later state of this one than there is.
    InvalidInputError
        If it was made with other options.
    SnapshotExpiredError
        If the rows that tell the changes are gone, because the versions parted below the conflict horizon.
    """

    def __init__(self, core: Core, old: Marker, seen: Lineage, options: Mapping[str, Any], root: str) -> None:
        self._core = core
        self._root = root
        with core.index.read() as connection:
            head = read_head(connection)
            if old.arrays and (old.store != head.uuid.hex() or old.epoch != head.epoch or old.version > head.head):
                raise AlreadyExistsError(f"{root} is no export of this store; {ADVICE}")
            if old.arrays and dict(old.options) != dict(options):
                differ = ", ".join(sorted(key for key in options if old.options.get(key) != options[key]))
                raise InvalidInputError(f"{root} was exported with another {differ}; use the same, or {ADVICE}")
            before = branches.lineage(connection, old.branch, old.version)
            self._parted = parted(before, seen)
            if old.arrays:
                self._require_rows(head)
            self._sides = [before, seen]
            self._linear = self._parted == old.version
            self._touched: dict[int, int] = {}
            for side in self._sides:
                for _, data, _ in commitlog.touched_since(connection, side, self._parted):
                    for node, change in Touched.decode(data).nodes.items():
                        self._touched[node] = self._touched.get(node, 0) | change
        self.arrays = {one.node: one for one in old.arrays}

    def _require_rows(self, head: Head) -> None:
        if self._parted < head.conflict_horizon:
            raise SnapshotExpiredError(
                f"what has changed since version {self._parted} is known no longer, only since "
                f"{head.conflict_horizon}: {self._root} can't be brought up to date; {ADVICE}"
            )

    def changes(self, node: int, grid: Grid, old: tuple[int, ...], new: tuple[int, ...]) -> Changes:
        """Which chunks of an array may differ, given its shapes at both versions."""
        touched = self._touched.get(node, 0)
        if not touched & (Change.CELLS | Change.SHAPE):
            return Changes(grid)
        with self._core.index.read() as connection:
            # Again, and in the snapshot of the rows that are read here: vacuum may have come by.
            self._require_rows(read_head(connection))
            smallest = tuple(map(min, old, new))
            clips: list[tuple[bytes, Box]] = []
            for side in self._sides:
                for row in lookup.shapes(connection, side, node, self._parted):
                    smallest = tuple(map(min, smallest, row.shape))
                for _, fragment in lookup.fragments_since(connection, side, [node], self._parted):
                    clips.append((fragment.partition, Box.from_bytes(fragment.clip, grid.ndim)))
        cut = full(old).subtract(full(smallest))
        if not self._linear:
            # The newer state may hold cells from before they parted that the older one had cut off.
            cut += full(new).subtract(full(smallest))
        return Changes(grid, clips, cut)


def parted(one: Lineage, other: Lineage) -> int:
    """The newest version that two lineages have in common."""
    upto = dict(other.parts)
    for branch, version in one.parts:
        if branch in upto:
            return min(version, upto[branch])
    return 0


__all__ = ["Changes", "Since", "parted"]
