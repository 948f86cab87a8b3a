"""The rows of one partition in memory, and which of them concern a chunk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from txstore.boxes import Box
from txstore.chunkindex import WIDE, ChunkIndex, Corners
from txstore.fragment import Fragment
from txstore.grid import Grid

#: From so many new rows on their corners are put into columns; fewer are listed one by one.
_FEW = 256

#: A stored row, not yet looked at.
Row = tuple[Any, ...]


class _Listed(NamedTuple):
    """Where fragments lie: the older ones in columns, the newest under each chunk that they touch."""

    columns: ChunkIndex | None
    by_chunk: dict[tuple[int, ...], list[int]]
    wide: list[int]


class PartitionTable:
    """The newest base of a partition below some version, and the fragments since, oldest first.

    Parameters
    ----------
    grid : Grid
        The array's grid.
    base : Fragment or None
        The base.
    base_uuid : bytes or None
        Its identity.
    decode : callable, optional
        Makes a fragment of a row. A row is decoded when it is first needed: a reader needs few of them.

    Notes
    -----
    Grows at its end only. So readers at older versions go on reading while a newer one extends it;
    :meth:`extend` and :meth:`load` must be called by one thread at a time.
    """

    __slots__ = (
        "_chunks",
        "_decode",
        "_entries",
        "_listed",
        "_versions",
        "base",
        "base_uuid",
        "checked",
        "upto",
    )

    def __init__(
        self,
        grid: Grid,
        base: Fragment | None = None,
        base_uuid: bytes | None = None,
        decode: Callable[[Row], Fragment] | None = None,
    ) -> None:
        self.base = base
        self.base_uuid = base_uuid
        self.upto = 0
        self.checked = -1
        self._decode = decode
        self._chunks = grid.chunks
        self._entries: list[Fragment | Row] = []
        self._versions: list[int] = []
        self._listed = _Listed(None, {}, [])

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def after(self) -> int:
        """The version of the base; -1 without one."""
        return -1 if self.base is None else self.base.version

    # --- growing --------------------------------------------------------------------------------

    def extend(self, fragments: Sequence[Fragment], upto: int) -> None:
        """Add fragments that came since, in order of (version, rank)."""
        for fragment in fragments:
            self._list(fragment.clip, len(self._entries))
            self._entries.append(fragment)
            self._versions.append(fragment.version)
        self.upto = max(self.upto, upto)

    def load(self, rows: Sequence[Row], clips: Callable[[Sequence[Row]], tuple[Corners, Corners]], upto: int) -> None:
        """Add stored rows that came since.

        Parameters
        ----------
        rows : sequence of tuple
            In order of (version, rank), the version first.
        clips : callable
            Gives the corners of their clips, as :class:`~txstore.chunkindex.ChunkIndex` takes them.
        upto : int
            The version up to which the rows are then complete.
        """
        columns = self._listed.columns
        known = 0 if columns is None else len(columns)
        if len(self._entries) - known + len(rows) <= max(_FEW, known // 16):
            assert self._decode is not None
            self.extend([self._decode(row) for row in rows], upto)
            return
        lo, hi = clips(rows)
        newest = [self.fragment(position).clip for position in range(known, len(self._entries))]
        parts = [] if columns is None else [(columns.lo, columns.hi)]
        if newest:
            parts.append((np.array([clip.lo for clip in newest]), np.array([clip.hi for clip in newest])))
        parts.append((lo, hi))
        columns = ChunkIndex(
            np.concatenate([low for low, _ in parts]), np.concatenate([high for _, high in parts]), self._chunks
        )
        self._entries.extend(rows)
        self._versions.extend([row[0] for row in rows])
        # All at once, for somebody may be reading.
        self._listed = _Listed(columns, {}, [])
        self.upto = max(self.upto, upto)

    def _list(self, clip: Box, position: int) -> None:
        spans = []
        count = 1
        for low, high, extent in zip(*clip, self._chunks, strict=True):
            first, last = low // extent, (high - 1) // extent
            count *= last - first + 1
            if count > WIDE:
                self._listed.wide.append(position)
                return
            spans.append(range(first, last + 1))
        for chunk in product(*spans):
            self._listed.by_chunk.setdefault(chunk, []).append(position)

    # --- looking --------------------------------------------------------------------------------

    def fragment(self, position: int) -> Fragment:
        """The fragment at a place in the order."""
        entry = self._entries[position]
        if isinstance(entry, tuple):
            assert self._decode is not None
            entry = self._entries[position] = self._decode(entry)
        return entry

    def fragments(self, version: int | None = None) -> Iterator[Fragment]:
        """The fragments that a reader of `version` (None: everybody) sees, oldest first."""
        return map(self.fragment, range(len(self) if version is None else self.upto_version(version)))

    def upto_version(self, version: int) -> int:
        """How many fragments a reader of `version` sees; counted anew, for somebody may be adding newer ones."""
        return bisect_right(self._versions, version)

    def of_chunk(self, chunk: tuple[int, ...], count: int, region: Box) -> list[Fragment]:
        """Those of the first `count` fragments that may touch a region of a chunk, oldest first."""
        columns, by_chunk, wide = self._listed
        positions: Sequence[int] = by_chunk.get(chunk, ())
        if wide:
            positions = sorted([*positions, *wide])
        if columns is not None:
            positions = [*columns.touching(chunk, region), *positions]
        return [self.fragment(position) for position in positions if position < count]

    def touched_chunks(self, count: int) -> tuple[set[tuple[int, ...]], list[Box]]:
        """The chunks that the first `count` fragments touch, and the boxes of the wide ones."""
        columns, by_chunk, wide = self._listed
        # Listed first: a table may grow meanwhile.
        chunks = {chunk for chunk, positions in list(by_chunk.items()) if positions[0] < count}
        far = [position for position in list(wide) if position < count]
        if columns is not None:
            chunks |= columns.chunks(count)
            far += columns.wide(count)
        return chunks, [self.fragment(position).clip for position in far]


__all__ = ["PartitionTable"]
