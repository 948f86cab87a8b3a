"""An edit as bytes, for whoever commits it in another process. Never stored: it need not be read by other versions."""

from __future__ import annotations

from typing import Any

import msgpack

from txstore.boxes import Box
from txstore.errors import CorruptionError
from txstore.fragment import Fragment, Frame
from txstore.grid import Grid
from txstore.index.edits import ArrayEdit, AttributeEdit, Edit, SegmentEdit, StagedFragment
from txstore.requests import MOST_BYTES
from txstore.segment import Kind

#: Of this form only, by whichever version it was written.
FORM = 1
#: What has more fragments takes so long that others should not have to wait for it.
MOST_FRAGMENTS = 64

_PLAIN = ("txid", "branch", "branch_name", "base", "parent", "author", "message", "properties", "overwrite")


def portable(edit: Edit) -> bool:
    """Whether an edit is small, and of the kind that most are: cells, shapes and attributes of what is there."""
    return (
        edit.branch is not None
        and edit.lease is None
        and edit.reads is None
        and not (edit.nodes or edit.refs or edit.bases)
        and (edit.blob is None or len(edit.blob[1]) < MOST_BYTES)
        and sum(len(array.fragments) for array in edit.arrays) <= MOST_FRAGMENTS
        and not any(staged.fragment.masked for array in edit.arrays for staged in array.fragments)
    )


def pack(edit: Edit) -> bytes:
    """The bytes of a :func:`portable` edit."""
    data: bytes = msgpack.packb(
        [
            FORM,
            [getattr(edit, name) for name in _PLAIN],
            [[change.node, change.path, change.key, change.value] for change in edit.attributes],
            [_array(array) for array in edit.arrays],
            edit.blob,
            [[segment.uuid, segment.size] for segment in edit.segments],
            edit.bytes_written,
        ]
    )
    return data


def _array(array: ArrayEdit) -> list[Any]:
    grid = array.grid
    return [
        array.node,
        array.path,
        [grid.chunks, grid.shards, grid.partition],
        array.base_shape,
        array.steps,
        array.appended,
        array.appends,
        list(array.pinned),
        array.shrinks,
        [_fragment(staged, grid) for staged in array.fragments],
    ]


def _fragment(staged: StagedFragment, grid: Grid) -> list[Any]:
    fragment = staged.fragment
    frame = None if fragment.frame is None else fragment.frame.to_bytes()
    directory = fragment.directory(grid.chunks).encode()
    return [fragment.version, fragment.rank, fragment.kind, fragment.clip, frame, directory, staged.floating]


def unpack(data: bytes) -> Edit:
    """The inverse of :func:`pack`.

    Raises
    ------
    CorruptionError
        If it is of another form.
    """
    try:
        form, values, attributes, arrays, blob, segments, bytes_written = msgpack.unpackb(data, use_list=False)
        if form != FORM:
            raise ValueError(f"form {form}")
        edit = Edit(
            **dict(zip(_PLAIN, values, strict=True)),
            attributes=tuple(AttributeEdit(*change) for change in attributes),
            arrays=tuple(_unpack_array(*array) for array in arrays),
            blob=blob,
            segments=tuple(SegmentEdit(*segment) for segment in segments),
            bytes_written=bytes_written,
        )
        if not portable(edit) or len(edit.txid) != 16:
            raise ValueError("of another kind")
        return edit
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptionError(f"an edit that was handed over is malformed: {error}") from error


def _unpack_array(
    node: int,
    path: str,
    grid: tuple[Any, ...],
    base_shape: tuple[int, ...],
    steps: tuple[tuple[int, tuple[int, ...]], ...],
    appended: tuple[int, ...],
    appends: tuple[tuple[Any, Any], ...],
    pinned: tuple[int, ...],
    shrinks: bool,
    fragments: tuple[Any, ...],
) -> ArrayEdit:
    whole = Grid(*grid)
    return ArrayEdit(
        node,
        path,
        whole,
        base_shape,
        steps,
        appended,
        tuple(Box(lo, hi) for lo, hi in appends),
        frozenset(pinned),
        shrinks,
        tuple(_unpack_fragment(whole, *fragment) for fragment in fragments),
    )


def _unpack_fragment(
    grid: Grid,
    version: int,
    rank: int,
    kind: int,
    clip: tuple[Any, Any],
    frame: bytes | None,
    directory: bytes,
    floating: bool,
) -> StagedFragment:
    ndim = len(grid.chunks)
    where = None if frame is None else Frame.from_bytes(frame, ndim)
    return StagedFragment(Fragment(version, rank, Kind(kind), False, Box(*clip), where, directory, None), floating)


__all__ = ["MOST_FRAGMENTS", "pack", "portable", "unpack"]
