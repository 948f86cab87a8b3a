"""An array in the export that is brought up to date: what of it is still true."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from operator import lt
from typing import Literal

from txstore.compaction.exportmeta import chunk_index
from txstore.compaction.incremental import Changes
from txstore.compaction.marker import Exported, folders_of


@dataclass(frozen=True)
class Earlier:
    """An array of the earlier export.

    Attributes
    ----------
    root : str
        Where the export lies.
    array : Exported
        The array in it.
    changes : Changes or None
        Which of its objects may differ from there; None: all.
    zarr_format : {2, 3}
        Of both exports.
    """

    root: str
    array: Exported
    changes: Changes | None
    zarr_format: Literal[2, 3]

    def folders(self) -> Iterator[tuple[str, list[str], int]]:
        """(path below the array, names of the objects in it that are still true, how many are not) of each folder."""
        for folder, names in folders_of(self.root, self.array):
            true = list(self._true(f"{folder}/" if folder else "", names))
            yield folder, true, len(names) - len(true)

    def _true(self, prefix: str, names: list[str]) -> Iterator[str]:
        if self.changes is None:
            return
        counts = self.changes.counts(self.array.shape)
        rows: dict[tuple[int, ...], dict[int, str]] = {}
        for name in names:
            index = chunk_index(prefix + name, self.zarr_format, len(counts))
            # What somebody else has put beside them is not taken over.
            if index is not None and all(map(lt, index, counts)):
                rows.setdefault(index[:-1], {})[index[-1] if index else 0] = name
        for row, places in rows.items():
            touched = self.changes.touched(row, list(places))
            yield from (name for name, gone in zip(places.values(), touched, strict=True) if not gone)

    def holds(self, key: str) -> bool:
        """Whether it has an object of this key."""
        return os.path.lexists(os.path.join(self.root, self.array.path, key))


__all__ = ["Earlier"]
