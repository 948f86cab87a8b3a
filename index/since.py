"""What came on a branch since a transaction began."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.fragment import Fragment, Frame
from txstore.index import commitlog, lookup
from txstore.index.branches import Lineage
from txstore.index.connection import Connection
from txstore.index.edits import Touched
from txstore.segment import Kind


@dataclass(slots=True)
class Since:
    """What came on a branch after the edit's base.

    Attributes
    ----------
    seen : Lineage
        The head that the edit is checked against.
    after : int
        Versions at or below it have been checked already.
    touched : list of (int, Touched)
        The commits in between, oldest first.
    """

    seen: Lineage
    after: int
    touched: list[tuple[int, Touched]] = field(default_factory=list)

    def changed(self, node: int, change: int) -> int | None:
        """The last version in between that changed a node in that way."""
        for version, touched in reversed(self.touched):
            if touched.nodes.get(node, 0) & change:
                return version
        return None

    def wrote(self, node: int, box: Box) -> bool:
        """Whether anything in between may have written a cell of a box."""
        hulls = [touched.hulls.get(node) for _, touched in self.touched]
        return any(one is not None and one.intersect(box) is not None for one in hulls)

    @property
    def structural(self) -> bool:
        """Whether anything was made, moved or deleted in between."""
        return any(touched.structural for _, touched in self.touched)


def load_since(connection: Connection, seen: Lineage, after: int) -> Since:
    """Read the summaries of the commits after a version."""
    rows = commitlog.touched_since(connection, seen, after)
    return Since(seen, after, [(version, Touched.decode(data)) for version, data, _ in rows])


def decoded(row: lookup.FragmentRow, ndim: int) -> Fragment:
    """A fragment for comparing cells: its directory is only asked for masks, so the size of a cell does not matter."""
    frame = None if row.frame is None else Frame.from_bytes(row.frame, ndim)
    clip = Box.from_bytes(row.clip, ndim)
    return Fragment(row.version, row.rank, Kind(row.kind), bool(row.masked), clip, frame, row.directory, None)


def bounds(cells: NDArray[np.bool_], box: Box) -> Box:
    """The smallest box around the true cells of a mask that lies in `box`."""
    lo, hi = [], []
    for axis in range(cells.ndim):
        along = np.flatnonzero(cells.any(axis=tuple(k for k in range(cells.ndim) if k != axis)))
        lo.append(box.lo[axis] + int(along[0]))
        hi.append(box.lo[axis] + int(along[-1]) + 1)
    return Box(tuple(lo), tuple(hi))
