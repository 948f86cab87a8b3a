"""Rows of fragments and bases, as the values that readers work with."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from txstore.boxes import Box
from txstore.chunkindex import Corners
from txstore.fragment import Fragment, Frame
from txstore.index import lookup
from txstore.index.connection import Row
from txstore.segment import Kind


def fragment_of(ndim: int, itemsize: int, found: Row) -> Fragment:
    """The fragment of a row with the fields of :class:`~txstore.index.lookup.FragmentRow`."""
    row = lookup.FragmentRow._make(found)
    frame = None if row.frame is None else Frame.from_bytes(row.frame, ndim)
    clip = Box.from_bytes(row.clip, ndim)
    return Fragment(row.version, row.rank, Kind(row.kind), bool(row.masked), clip, frame, row.directory, itemsize)


def clips_of(ndim: int, rows: Sequence[Row]) -> tuple[Corners, Corners]:
    """The corners of the clips of many rows."""
    clips = [row[lookup.CLIP] for row in rows]
    if all(len(clip) == 16 * ndim for clip in clips):
        corners = np.frombuffer(b"".join(clips), "<i8").reshape(len(rows), 2, ndim)
        lo, hi = corners[:, 0], corners[:, 1]
        if (lo >= 0).all() and (lo <= hi).all():
            return lo, hi
    for clip in clips:
        Box.from_bytes(clip, ndim)  # says which one is wrong
    raise AssertionError("a box of the index is wrong, but none of them is")


def base_of(row: lookup.BaseRow, ndim: int, itemsize: int) -> Fragment:
    """The base of a row."""
    frame = Frame.from_bytes(row.frame, ndim)
    clip = Box.from_bytes(row.clip, ndim)
    return Fragment(row.version, 1 << 31, Kind.SET, False, clip, frame, row.directory, itemsize)


def partition_extent(text: str | None) -> tuple[int, ...]:
    """The extent of a partition, from its JSON text."""
    return tuple(json.loads(text or "[]"))


__all__ = ["base_of", "clips_of", "fragment_of", "partition_extent"]
