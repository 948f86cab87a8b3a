"""The shapes that an array has had: the shape at a version, and where it was made smaller.

A fragment shows only inside of the smallest shape since it was written. It was written inside of the shape of its time,
so only what made the array smaller since then can hide any of it: the log of an array that grows a million times says
no more about its fragments than that of one that never changed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import lt
from typing import NamedTuple

from txstore.boxes import Box, full


class ShapeRow(NamedTuple):
    """One entry of the log of shapes."""

    version: int
    rank: int
    shape: tuple[int, ...]


class Shapes(NamedTuple):
    """What the log says to readers of one version.

    Attributes
    ----------
    shape : tuple of int or None
        The shape at that version; None: there is no row yet.
    cuts : tuple of ShapeRow
        The rows up to it that made the array smaller along some axis, oldest first.
    """

    shape: tuple[int, ...] | None
    cuts: tuple[ShapeRow, ...]

    def then(self, rows: Iterable[ShapeRow]) -> Shapes:
        """What the log says after further rows."""
        shape, cuts = self
        for row in rows:
            if shape is not None and smaller(row.shape, shape):
                cuts = (*cuts, row)
            shape = row.shape
        return Shapes(shape, cuts)

    def limits(self) -> Limits | None:
        """The limits of what was written before the cuts; None where nothing was ever cut."""
        return Limits(self.cuts) if self.cuts else None


class Limits:
    """How far the fragments of a log show.

    Parameters
    ----------
    cuts : sequence of ShapeRow
        What made the array smaller, oldest first, all of one number of axes.
    """

    __slots__ = ("_boxes", "_orders")

    def __init__(self, cuts: tuple[ShapeRow, ...]) -> None:
        self._orders = [(row.version, row.rank) for row in cuts]
        self._boxes: list[Box] = []
        smallest = cuts[-1].shape
        for row in reversed(cuts):
            smallest = tuple(map(min, smallest, row.shape))
            self._boxes.append(full(smallest))
        self._boxes.reverse()

    def since(self, order: tuple[int, int]) -> Box | None:
        """The box inside of which shows what was written at (version, rank); None: all of it."""
        position = bisect_right(self._orders, order)
        return self._boxes[position] if position < len(self._boxes) else None


class ShapeLog:
    """The shapes of an array on one branch, from the version on at which this process has first looked.

    Parameters
    ----------
    began : int
        That version.
    shape : tuple of int or None
        The shape then.
    cuts : sequence of ShapeRow
        All rows until then that made the array smaller, oldest first.

    Attributes
    ----------
    began, upto : int
        The versions from which and up to which it is known.

    Notes
    -----
    Not safe for threads: who has it keeps them in turn. What :meth:`at` gives is immutable.
    """

    __slots__ = ("_cuts", "_shapes", "_versions", "began", "upto")

    def __init__(self, began: int, shape: tuple[int, ...] | None, cuts: Iterable[ShapeRow]) -> None:
        self.began = self.upto = began
        self._versions = [began]
        self._shapes = [shape]
        self._cuts = list(cuts)

    def extend(self, rows: Iterable[ShapeRow], upto: int) -> None:
        """Add the rows that came since, up to a version; what is known already is passed over."""
        for row in rows:
            if row.version > self.upto:
                before = self._shapes[-1]
                if before is not None and smaller(row.shape, before):
                    self._cuts.append(row)
                self._versions.append(row.version)
                self._shapes.append(row.shape)
        self.upto = max(self.upto, upto)

    def at(self, version: int) -> Shapes:
        """What it says to readers of a version from :attr:`began` to :attr:`upto`."""
        return self.before(version, self._shapes[bisect_right(self._versions, version) - 1])

    def before(self, version: int, shape: tuple[int, ...] | None) -> Shapes:
        """What it says to readers of any version up to :attr:`upto`, given the shape at that version."""
        return Shapes(shape, tuple(self._cuts[: bisect_left(self._cuts, (version + 1,))]))


def smaller(shape: tuple[int, ...], before: tuple[int, ...]) -> bool:
    """Whether a shape cuts cells off another one."""
    return any(map(lt, shape, before)) or len(shape) != len(before)


__all__ = ["Limits", "ShapeLog", "ShapeRow", "Shapes", "smaller"]
