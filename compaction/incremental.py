"""Bringing an earlier export up to date: which of its chunks are still true.

An export carries a marker: of which store and version it is, and with which options it was made. What has changed
since then is told by the rows of the index - fragments and shapes after that version - and never by looking at
bytes. Both versions may lie on different branches: what counts is what came on either side since they parted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from txstore.boxes import Box, full
from txstore.compaction.profiles import Form
from txstore.core import Core
from txstore.errors import AlreadyExistsError, InvalidInputError, SnapshotExpiredError, StorageError
from txstore.failures import storage_error
from txstore.grid import WHOLE, Grid
from txstore.index import lookup
from txstore.index.edits import Change, Touched
from txstore.index.engine import read_head
from txstore.index.lookup import Lineage

#: The file with the marker. It lies in the first array's directory, where no reader lists: at the root zarr-python
#: would warn of it.
MARKER = ".txstore-export.json"
#: The number of the form of the marker, and of what the exported bytes are made like. Raised with either.
FORMAT = 1

_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", MARKER)


@dataclass(frozen=True)
class Exported:
    """One array of an earlier export.

    Attributes
    ----------
    path : str
        Below its root.
    node : int
        The array's identity in the store.
    shape : tuple of int
        At that version.
    form : str
        Fingerprint of how it was written, shape and attributes apart.
    """

    path: str
    node: int
    shape: tuple[int, ...]
    form: str


@dataclass(frozen=True)
class Marker:
    """What an export was made from.

    Attributes
    ----------
    store : str
        The UUID of the store, hexadecimal.
    epoch : int
        Of the store: raised when it was restored from a copy, after which versions mean something else.
    branch, version : int
        Of the state that was exported.
    options : dict
        JSON values: those arguments of the export that its bytes depend on.
    arrays : tuple of Exported
        In the order of their paths.
    """

    store: str
    epoch: int
    branch: int
    version: int
    options: Mapping[str, Any]
    arrays: tuple[Exported, ...]

    def encode(self) -> bytes:
        """The content of the marker's file."""
        value = {
            "format": FORMAT,
            "store": self.store,
            "epoch": self.epoch,
            "branch": self.branch,
            "version": self.version,
            "options": self.options,
            "arrays": [[one.path, one.node, one.shape, one.form] for one in self.arrays],
        }
        return json.dumps(value, allow_nan=False).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        """The inverse of :meth:`encode`.

        Raises
        ------
        ValueError
            If it is none, or of another form.
        """
        value = json.loads(data)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"its format is {value['format']!r}, this is {FORMAT}")
            arrays = tuple(
                Exported(str(path), int(node), tuple(map(int, shape)), str(form))
                for path, node, shape, form in value["arrays"]
            )
            numbers = [int(value[key]) for key in ("epoch", "branch", "version")]
            return cls(str(value["store"]), *numbers, dict(value["options"]), arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is malformed: {error!r}") from error


def fingerprint(form: Form) -> str:
    """Two forms with the same fingerprint make the same bytes of the same cells, and put them under the same keys."""
    facts = [form.meta.stored(), form.dense, form.convert is None]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


# --- finding it ----------------------------------------------------------------------------------


def first_array(root: str) -> str | None:
    """The path of the first array below a directory, by name; None when there is none."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                found = {entry.name: entry.is_dir() for entry in entries}
        except OSError as error:
            raise storage_error(f"list {os.path.join(root, folder)}", error) from error
        if _is_array(os.path.join(root, folder), found):
            return folder
        below = sorted((name for name, is_dir in found.items() if is_dir), reverse=True)
        folders += [f"{folder}/{name}" if folder else name for name in below]
    return None


def _is_array(folder: str, names: Mapping[str, bool]) -> bool:
    if ".zarray" in names:
        return True
    if "zarr.json" not in names:
        return False
    try:
        with open(os.path.join(folder, "zarr.json"), "rb") as file:
            return bool(json.load(file)["node_type"] == "array")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_marker(root: str) -> Marker:
    """The marker of the export in a directory.

    Raises
    ------
    AlreadyExistsError
        If there is none: the hierarchy was not made by an export, or somebody has changed it.
    """
    first = first_array(root)
    if first is None:
        return Marker("", 0, 0, 0, {}, ())
    try:
        with open(os.path.join(root, first, MARKER), "rb") as file:
            return Marker.decode(file.read())
    except (OSError, ValueError) as error:
        why = "it has no marker of an export" if isinstance(error, OSError) else f"its marker can't be used: {error}"
        raise AlreadyExistsError(f"{root} can't be brought up to date: {why}; {_ADVICE}") from None


_ADVICE = "export it whole with overwrite=True"


def count_objects(root: str, arrays: Iterable[Exported]) -> int:
    """How many chunks and shards an export holds."""

    def count(folder: str) -> int:
        found = 0
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        found += count(entry.path)
                    elif entry.name not in _DOCUMENTS:
                        found += 1
        except FileNotFoundError:
            return 0
        return found

    return sum(count(os.path.join(root, one.path)) for one in arrays)


# --- what has changed ----------------------------------------------------------------------------


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
        with core.index.read() as connection:
            head = read_head(connection)
            if old.arrays and (old.store != head.uuid.hex() or old.epoch != head.epoch or old.version > head.head):
                raise AlreadyExistsError(f"{root} is no export of this store; {_ADVICE}")
            if old.arrays and dict(old.options) != dict(options):
                differ = ", ".join(sorted(key for key in options if old.options.get(key) != options[key]))
                raise InvalidInputError(f"{root} was exported with another {differ}; use the same, or {_ADVICE}")
            before = lookup.lineage(connection, old.branch, old.version)
            self._parted = parted(before, seen)
            if old.arrays and self._parted < head.conflict_horizon:
                raise SnapshotExpiredError(
                    f"what has changed since version {self._parted} is known no longer, only since "
                    f"{head.conflict_horizon}: {root} can't be brought up to date; {_ADVICE}"
                )
            self._sides = [before, seen]
            self._linear = self._parted == old.version
            self._touched: dict[int, Change] = {}
            for side in self._sides:
                for _, data in lookup.touched_since(connection, side, self._parted):
                    for node, change in Touched.decode(data).nodes.items():
                        self._touched[node] = self._touched.get(node, Change(0)) | change
        self.arrays = {one.node: one for one in old.arrays}

    def changes(self, node: int, grid: Grid, old: tuple[int, ...], new: tuple[int, ...]) -> Changes:
        """Which chunks of an array may differ, given its shapes at both versions."""
        touched = self._touched.get(node, Change(0))
        if not touched & (Change.CELLS | Change.SHAPE):
            return Changes(grid)
        with self._core.index.read() as connection:
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


__all__ = ["MARKER", "Changes", "Exported", "Marker", "Since", "count_objects", "fingerprint", "first_array", "read_marker"]
