"""Where appends land and which shape results: pure arithmetic of one array's edit against the head's shape."""

from __future__ import annotations

from typing import NamedTuple

from txstore.boxes import Box
from txstore.fragment import Fragment, Frame
from txstore.index.edits import ArrayEdit


class Placement(NamedTuple):
    """The outcome for one array.

    Attributes
    ----------
    delta : tuple of int, shape (ndim,)
        What to add to everything that floats.
    shapes : list of (int, tuple of int)
        New rows of the log of shapes: (rank, shape).
    """

    delta: tuple[int, ...]
    shapes: list[tuple[int, tuple[int, ...]]]


def place(edit: ArrayEdit, head: tuple[int, ...]) -> Placement | str:
    """Bring the edit onto the shape at the head.

    Parameters
    ----------
    edit : ArrayEdit
        What one transaction did to one array.
    head : tuple of int, shape (ndim,)
        The array's shape at the head of the branch.

    Returns
    -------
    Placement or str
        Or the kind of the conflict that keeps it from being placed: ``"append"`` or ``"shape"``.
    """
    base = edit.base_shape
    still = (0,) * len(base)
    if not edit.steps:
        return Placement(still, [])
    if head == base:
        return Placement(still, list(edit.steps) if edit.shrinks else [edit.steps[-1]])
    changed = {axis for axis, extent in enumerate(head) if extent != base[axis]}
    floating = {axis for axis, count in enumerate(edit.appended) if count and axis not in edit.pinned}
    appending = {axis for axis, count in enumerate(edit.appended) if count}
    if edit.shrinks:
        return "shape"
    if appending and (changed - floating or len(appending) > 1):
        # The block was made for the other extents, or for an end that was observed.
        return "append"
    rank, staged = edit.steps[-1]
    shape = list(head)
    for axis, extent in enumerate(staged):
        if axis in floating:
            shape[axis] = head[axis] + edit.appended[axis]
        elif extent > base[axis]:
            if head[axis] < base[axis]:
                return "shape"
            shape[axis] = max(head[axis], extent)
    delta = tuple(head[axis] - base[axis] if axis in floating else 0 for axis in range(len(base)))
    final = tuple(shape)
    return Placement(delta, [(rank, final)] if final != head else [])


def moved(fragment: Fragment, clip: Box, delta: tuple[int, ...]) -> Fragment:
    """The part of a fragment that lies in `clip` after a move by `delta`; the tiles stay where they are."""
    frame = fragment.frame
    if any(delta) or clip != fragment.clip:
        if frame is None:
            frame = Frame(fragment.clip, (0,) * len(delta), (0,) * len(delta))
        shift = tuple(old + step for old, step in zip(frame.shift, delta, strict=True))
        frame = Frame(frame.box, frame.phase, shift)
    return Fragment(
        fragment.version,
        fragment.rank,
        fragment.kind,
        fragment.masked,
        clip,
        frame,
        fragment.stored_directory,
        fragment.itemsize,
    )
