"""Spans: the stretches into which a regular grid cuts one axis, and the boxes that they make together.

Chunks, shards, partitions and tiles are all walked by the same few lines. They hand out one cell of
the grid after the other, so that the cost follows what is touched and never the array's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from txstore.boxes import Box

#: The stretch of an axis that lies in one cell of a grid: (grid coordinate, first cell, cell past the last).
Span = tuple[int, int, int]

#: Longer axes are walked by a generator: a list of their spans might not fit into memory.
_LIST_LIMIT = 4096


def cross(axes: Sequence[Iterable[Span]]) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Every combination of one span of each axis, in C order, as grid coordinates and box.

    Parameters
    ----------
    axes : sequence of iterable of Span
        All but the first are iterated over again and again. No axes at all: one box of zero dimensions.
    """
    if not axes:
        yield (), Box((), ())
    elif len(axes) == 1:
        for coord, lo, hi in axes[0]:
            yield (coord,), Box((lo,), (hi,))
    else:
        last = axes[-1]
        for coords, (los, his) in cross(axes[:-1]):
            for coord, lo, hi in last:
                yield (*coords, coord), Box((*los, lo), (*his, hi))


class _Spans:
    """The spans of an axis, made one at a time."""

    __slots__ = ("first", "hi", "last", "lo", "phase", "step")

    def __init__(self, lo: int, hi: int, step: int, phase: int, first: int, last: int) -> None:
        self.lo, self.hi, self.step, self.phase, self.first, self.last = lo, hi, step, phase, first, last

    def __iter__(self) -> Iterator[Span]:
        start = self.phase + self.first * self.step
        for coord in range(self.first, self.last + 1):
            stop = start + self.step
            yield coord, max(start, self.lo), min(stop, self.hi)
            start = stop


def spans(lo: int, hi: int, step: int, phase: int = 0) -> Iterable[Span]:
    """The cells ``lo <= i < hi`` of one axis, cut at ``phase + k * step``; may be iterated over again."""
    if hi <= lo:
        return ()
    first = (lo - phase) // step
    last = (hi - 1 - phase) // step
    if first == last:
        return ((first, lo, hi),)
    found = _Spans(lo, hi, step, phase, first, last)
    return list(found) if last - first < _LIST_LIMIT else found


def cell_box(index: Sequence[int], extent: Sequence[int]) -> Box:
    """A whole cell of the grid with this extent."""
    lo = tuple([place * cells for place, cells in zip(index, extent, strict=True)])
    return Box(lo, tuple([low + cells for low, cells in zip(lo, extent, strict=True)]))


def cells_in(box: Box, extent: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Every cell of the grid with this extent that ``box`` touches, in C order, with box ∩ cell."""
    coords = []
    for lo, hi, step in zip(*box, extent, strict=True):
        coord = lo // step
        if not lo < hi <= (coord + 1) * step:
            break
        coords.append(coord)
    else:
        # Small reads and writes mostly stay inside one cell.
        return iter(((tuple(coords), box),))
    return cross([spans(lo, hi, step) for lo, hi, step in zip(*box, extent, strict=True)])


__all__ = ["Span", "cell_box", "cells_in", "cross", "spans"]
