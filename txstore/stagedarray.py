"""What a transaction has done to one array, until it commits."""

from __future__ import annotations

import threading

from txstore.boxes import Box, full
from txstore.commits import Appended
from txstore.errors import InvalidIndexError
from txstore.fragment import Fragment
from txstore.grid import Grid
from txstore.index.edits import ArrayEdit, StagedFragment
from txstore.layers import Overlay
from txstore.shapelog import ShapeRow, smaller
from txstore.staging import STAGED
from txstore.tables import PartitionTable


class StagedArray:
    """Staged fragments, shapes and appends of one array.

    Parameters
    ----------
    node : int
        The array; negative for one that this transaction makes.
    path : str
        For messages.
    grid : Grid
        Its grid.
    base_shape : tuple of int
        The shape that the transaction started from.

    Notes
    -----
    The transaction's lock protects every field; :attr:`growing` keeps appends and resizes of one array in turn.
    """

    def __init__(self, node: int, path: str, grid: Grid, base_shape: tuple[int, ...]) -> None:
        self.node = node
        self.path = path
        self.grid = grid
        self.base_shape = base_shape
        self.shape = base_shape
        self.growing = threading.RLock()
        self.observed: set[int] = set()
        self.appended = [0] * len(base_shape)
        self.appends: list[Appended] = []
        self._boxes: list[Box] = []
        self._steps: list[tuple[int, tuple[int, ...]]] = []
        self._shrinks = False
        self._rank = 0
        self._fragments: list[StagedFragment] = []
        self.overlay = Overlay(PartitionTable(grid), [])
        if node < 0:
            self._step(base_shape)

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self._fragments or self._steps)

    def _next_rank(self) -> int:
        self._rank += 1
        return self._rank

    def _step(self, shape: tuple[int, ...]) -> None:
        rank = self._next_rank()
        self._steps.append((rank, shape))
        self.overlay = Overlay(self.overlay.table, [*self.overlay.shapes, ShapeRow(STAGED, rank, shape)])
        self.shape = shape

    def parts(self, box: Box) -> list[Box]:
        """Cut a box where cells begin to float: at the base's end of each axis that has been appended to."""
        parts = [box]
        for axis, count in enumerate(self.appended):
            if not count:
                continue
            end = self.base_shape[axis]
            cut: list[Box] = []
            for part in parts:
                if part.lo[axis] < end < part.hi[axis]:
                    cut.append(Box(part.lo, (*part.hi[:axis], end, *part.hi[axis + 1 :])))
                    cut.append(Box((*part.lo[:axis], end, *part.lo[axis + 1 :]), part.hi))
                else:
                    cut.append(part)
            parts = cut
        return parts

    def floats(self, clip: Box) -> bool:
        """Whether cells get their place at the commit."""
        return any(
            count and low >= end for count, low, end in zip(self.appended, clip.lo, self.base_shape, strict=True)
        )

    def add(self, fragments: list[Fragment]) -> None:
        """Stage fragments on top of everything so far.

        Raises
        ------
        InvalidIndexError
            If another thread has made the array smaller meanwhile.
        """
        inside = full(self.shape)
        for fragment in fragments:
            if not inside.contains(fragment.clip):
                raise InvalidIndexError(
                    f"array {self.path!r} was resized to {self.shape} while {fragment.clip} was being written"
                )
        for fragment in fragments:
            fragment.rank = self._next_rank()
            self._fragments.append(StagedFragment(fragment, self.floats(fragment.clip)))
        self.overlay.table.extend(fragments, STAGED)

    def append(self, axis: int, box: Box) -> Appended:
        """Note that `box` is about to be appended along an axis, and grow by it."""
        self.appended[axis] += box.hi[axis] - box.lo[axis]
        appended = Appended(box)
        self.appends.append(appended)
        self._boxes.append(box)
        self._step((*self.shape[:axis], box.hi[axis], *self.shape[axis + 1 :]))
        return appended

    def resize(self, shape: tuple[int, ...]) -> None:
        """Take another shape. A shape that is given in full says where the ends are: appends are then pinned."""
        if shape == self.shape:
            return
        self.observed.update(range(len(shape)))
        if smaller(shape, self.shape):
            self._shrinks = True
        self._step(shape)

    def settle(self, segment: bytes) -> None:
        """Note that a segment of this transaction became a row of ``blobs``."""
        for staged in self._fragments:
            staged.fragment.settle(segment)

    def edit(self) -> ArrayEdit:
        """What the commit is asked to do."""
        return ArrayEdit(
            self.node,
            self.path,
            self.grid,
            self.base_shape,
            tuple(self._steps),
            tuple(self.appended),
            tuple(self._boxes),
            frozenset(self.observed),
            self._shrinks,
            tuple(self._fragments),
        )
