"""The rows of one partition in memory, and which of them concern a chunk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.fragment import Fragment
from txstore.grid import Grid

#: A fragment over more chunks than this is looked at for every chunk instead of being listed under each.
_WIDE = 64
#: So many fragments of one chunk are looked at one by one; more are compared in columns first.
_SCAN = 48


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
    upto : int
        The version up to which the fragments are complete.

    Notes
    -----
    Grows at its end only. So readers at older versions go on reading while a newer one extends it;
    :meth:`extend` itself must be called by one thread at a time.
    """

    __slots__ = (
        "_by_chunk",
        "_chunks",
        "_corners",
        "_versions",
        "_wide",
        "base",
        "base_uuid",
        "checked",
        "fragments",
        "upto",
    )

    def __init__(self, grid: Grid, base: Fragment | None = None, base_uuid: bytes | None = None, upto: int = 0) -> None:
        self.base = base
        self.base_uuid = base_uuid
        self.upto = upto
        self.checked = -1
        self.fragments: list[Fragment] = []
        self._versions: list[int] = []
        self._chunks = grid.chunks
        self._by_chunk: dict[tuple[int, ...], list[int]] = {}
        self._wide: list[int] = []
        self._corners: dict[tuple[int, ...], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return len(self.fragments)

    @property
    def after(self) -> int:
        """The version of the base; -1 without one."""
        return -1 if self.base is None else self.base.version

    def extend(self, fragments: list[Fragment], upto: int) -> None:
        """Add what came since, in order of (version, rank)."""
        for fragment in fragments:
            self._list(fragment, len(self.fragments))
            self.fragments.append(fragment)
            self._versions.append(fragment.version)
        self.upto = max(self.upto, upto)

    def _list(self, fragment: Fragment, position: int) -> None:
        lo, hi = fragment.clip
        spans = []
        count = 1
        for low, high, extent in zip(lo, hi, self._chunks, strict=True):
            first, last = low // extent, (high - 1) // extent
            count *= last - first + 1
            if count > _WIDE:
                self._wide.append(position)
                return
            spans.append(range(first, last + 1))
        for chunk in product(*spans):
            self._by_chunk.setdefault(chunk, []).append(position)

    def upto_version(self, version: int) -> int:
        """How many fragments a reader of `version` sees; counted anew, for somebody may be adding newer ones."""
        return bisect_right(self._versions, version)

    def of_chunk(self, chunk: tuple[int, ...], count: int, region: Box) -> list[Fragment]:
        """Those of the first `count` fragments that may touch a region of a chunk, oldest first."""
        positions: Sequence[int] | None = self._by_chunk.get(chunk)
        if positions is not None and len(positions) > _SCAN:
            positions = self._near(chunk, positions, region)
        if self._wide:
            positions = sorted([*(positions or ()), *self._wide])
        if not positions:
            return []
        fragments = self.fragments
        return [fragments[position] for position in positions if position < count]

    def _near(self, chunk: tuple[int, ...], positions: Sequence[int], region: Box) -> list[int]:
        """The positions whose clips touch a region: compared all at once, but for the last few."""
        corners = self._corners.get(chunk)
        known = 0 if corners is None else len(corners[0])
        if corners is None or len(positions) - known > max(_SCAN, known // 8):
            known = len(positions)
            clips = [self.fragments[position].clip for position in positions[:known]]
            corners = np.array([clip.lo for clip in clips]), np.array([clip.hi for clip in clips])
            self._corners[chunk] = corners
        lo, hi = corners
        hits = np.flatnonzero(((lo < region.hi) & (hi > region.lo)).all(axis=1))
        return [*[positions[hit] for hit in hits.tolist()], *positions[known:]]

    def touched_chunks(self, count: int) -> tuple[set[tuple[int, ...]], list[Box]]:
        """The chunks that the first `count` fragments touch, and the boxes of the wide ones."""
        # Listed first: a table may grow meanwhile.
        chunks = {chunk for chunk, positions in list(self._by_chunk.items()) if positions[0] < count}
        return chunks, [self.fragments[position].clip for position in list(self._wide) if position < count]
