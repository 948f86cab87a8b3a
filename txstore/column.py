"""A column of places: those of the data, or of the masks, of a directory's tiles.

A handful of places are kept as lists of int, for which NumPy is too slow; more of them as arrays, for which Python is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from txstore.errors import CorruptionError
from txstore.segment import Place

#: Up to how many numbers are a list, and stored as one. Of the writer; a reader takes both forms of any length.
FEW = 32

_MAX_OFFSET = 2**62
_MAX_LENGTH = 2**40
_MAX_CRC = 2**32 - 1
_WIDTHS: dict[int, np.dtype[np.unsignedinteger[Any]]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
    8: np.dtype("<u8"),
}

Array = NDArray[np.unsignedinteger[Any]]
Numbers = list[int] | Array


def corrupt(what: str) -> NoReturn:
    """Refuse a directory."""
    raise CorruptionError(f"a stored directory is damaged: {what}; run txstore verify")


class Column:
    """Places, of some or all of the tiles.

    Attributes
    ----------
    tiles : list, array or None
        The tiles that have a place, ascending; None: all of them.

    Notes
    -----
    Immutable. The numbers are lists when they are few and arrays otherwise, all of them alike.
    """

    __slots__ = ("_crcs", "_lengths", "_of", "_offsets", "tiles")

    def __init__(
        self, tiles: Numbers | None, of: Numbers | None, offsets: Numbers, lengths: Numbers, crcs: Numbers
    ) -> None:
        self.tiles = tiles
        self._of = of  # the number of each place's segment; None: the first's
        self._offsets = offsets
        self._lengths = lengths
        self._crcs = crcs

    def __len__(self) -> int:
        return len(self._lengths)

    @classmethod
    def of_places(cls, places: Sequence[Place | None], segments: dict[tuple[bytes, bool], int]) -> Column | None:
        """The column of the places of all tiles; None when there is no place. Numbers new segments in `segments`.

        Raises
        ------
        ValueError
            If a place has a length, offset, checksum or segment that can't be.
        """
        tiles, of, offsets, lengths, crcs = [], [], [], [], []
        for tile, place in enumerate(places):
            if place is not None:
                segment, offset, length, crc, inline = place
                if not (0 <= offset <= _MAX_OFFSET and 0 < length <= _MAX_LENGTH and 0 <= crc <= _MAX_CRC):
                    raise ValueError(f"no place: {place}")
                if len(segment) != 16:
                    raise ValueError(f"no name of a segment: {segment!r}")
                tiles.append(tile)
                of.append(segments.setdefault((segment, inline), len(segments)))
                offsets.append(offset)
                lengths.append(length)
                crcs.append(crc)
        if not tiles:
            return None
        some = None if len(tiles) == len(places) else _kept(tiles)
        return cls(some, _kept(of) if any(of) else None, _kept(offsets), _kept(lengths), _kept(crcs))

    @classmethod
    def replaced(
        cls,
        old: Column | None,
        n_tiles: int,
        places: Mapping[int, Place | None],
        segments: dict[tuple[bytes, bool], int],
    ) -> tuple[Column | None, list[int]]:
        """A column with other places for some tiles.

        Parameters
        ----------
        old : Column or None
            None: without a place.
        n_tiles : int
            How many tiles there are.
        places : mapping of int to Place or None
            By tile; None takes its place away.
        segments : dict
            The numbers of the old column's segments. New ones are added.

        Returns
        -------
        column : Column or None
            As :meth:`of_places` makes it: its segments are numbered in the order in which they come.
        used : list of int
            The numbers that they had in `segments`.

        Raises
        ------
        ValueError
            As :meth:`of_places`.
        """
        changed = np.array(sorted(places), np.int64)
        tables = []
        if old is not None:
            stays = np.ones(n_tiles, bool)
            stays[changed] = False
            table = old._table(n_tiles)
            tables.append(table[:, stays[table[0]]])
        new = cls.of_places([places[tile] for tile in changed.tolist()], segments)
        if new is not None:
            table = new._table(len(changed))
            table[0] = changed[table[0]]
            tables.append(table)
        table = np.concatenate(tables, axis=1) if tables else np.empty((5, 0), np.int64)
        if not table.size:
            return None, []
        table = table[:, np.argsort(table[0])]
        used = list(dict.fromkeys(table[1].tolist()))
        renumbered = np.zeros(len(segments), np.int64)
        renumbered[used] = range(len(used))
        tiles, of, offsets, lengths, crcs = map(_held, (table[0], renumbered[table[1]], *table[2:]))
        return cls(tiles if len(tiles) < n_tiles else None, of if len(used) > 1 else None, offsets, lengths, crcs), used

    def _table(self, n_tiles: int) -> NDArray[np.int64]:
        """Tile, number of the segment, offset, length and CRC32C of each place; shape (5, n)."""
        tiles = np.arange(n_tiles) if self.tiles is None else self.tiles
        of = np.zeros(len(self), np.int64) if self._of is None else self._of
        return np.array([tiles, of, self._offsets, self._lengths, self._crcs], np.int64)

    def get(self, tile: int) -> tuple[int, int, int, int] | None:
        """Segment number, offset, length and CRC32C of a tile's place; None when it has none."""
        tiles = self.tiles
        if tiles is not None:
            index = int(tiles.searchsorted(tile)) if isinstance(tiles, np.ndarray) else bisect_left(tiles, tile)
            if index == len(tiles) or tiles[index] != tile:
                return None
            tile = index
        of = 0 if self._of is None else int(self._of[tile])
        return of, int(self._offsets[tile]), int(self._lengths[tile]), int(self._crcs[tile])

    def numbers(self, n_tiles: int) -> Sequence[int]:
        """The tiles that have a place, ascending."""
        if self.tiles is None:
            return range(n_tiles)
        return self.tiles.tolist() if isinstance(self.tiles, np.ndarray) else self.tiles

    def used(self) -> set[int]:
        """The numbers of the segments in which something lies."""
        if self._of is None:
            return {0}
        return set(_listed(self._of))

    def add_usage(self, totals: list[int]) -> None:
        """Add the bytes that lie in each segment to `totals`, by the segment's number."""
        lengths = _listed(self._lengths)
        if self._of is None:
            totals[0] += sum(lengths)
        else:
            for of, length in zip(_listed(self._of), lengths, strict=True):
                totals[of] += length

    def pack(self, one: bool) -> list[Any]:
        """The fields to store; `one`: the directory has only one segment."""
        of = self._of
        if of is None and not one:
            of = [0] * len(self) if len(self) <= FEW else np.zeros(len(self), "<u1")
        offsets = self._run() if one else None
        return [
            None if self.tiles is None else _packed(self.tiles),
            None if of is None else _packed(of),
            _packed(self._offsets) if offsets is None else offsets,
            _packed(self._lengths),
            _packed(self._crcs),
        ]

    def _run(self) -> int | None:
        """The first offset, when the places lie back to back."""
        offsets, lengths = self._offsets, self._lengths
        if isinstance(offsets, np.ndarray):
            assert isinstance(lengths, np.ndarray)
            back_to_back = bool((offsets[1:] == offsets[:-1].astype(np.uint64) + lengths[:-1]).all())
        else:
            end = offsets[0]
            for offset, length in zip(offsets, lengths, strict=True):
                if offset != end:
                    return None
                end = offset + length
            back_to_back = True
        return int(offsets[0]) if back_to_back else None

    @classmethod
    def unpack(cls, raw: Any, n_tiles: int, n_segments: int) -> Column:
        """The inverse of :meth:`pack`.

        Raises
        ------
        CorruptionError
            If the fields are no column for so many tiles and segments.
        """
        if type(raw) is not list or len(raw) != 5:
            corrupt("a column")
        raw_tiles, raw_of, raw_offsets, raw_lengths, raw_crcs = raw
        lengths = _unpacked(raw_lengths, 1, _MAX_LENGTH, -1, "lengths")
        count = len(lengths)
        crcs = _unpacked(raw_crcs, 0, _MAX_CRC, count, "checksums")
        if raw_tiles is None:
            tiles = None
            if count != n_tiles:
                corrupt(f"{count} places for {n_tiles} tiles")
        else:
            tiles = _unpacked(raw_tiles, 0, n_tiles - 1, count, "tiles")
            if not _ascending(tiles):
                corrupt("tiles out of order")
            if count == n_tiles:
                tiles = None
        if not count or not n_segments:
            corrupt("a column without places")
        of: Numbers | None = None
        if raw_of is not None:
            of = _unpacked(raw_of, 0, n_segments - 1, count, "segments")
            of = of if n_segments > 1 else None
        elif n_segments != 1:
            corrupt("places without a segment")
        if type(raw_offsets) is int:
            offsets = _laid(raw_offsets, lengths)
        else:
            offsets = _unpacked(raw_offsets, 0, _MAX_OFFSET, count, "offsets")
        return cls(tiles, of, offsets, lengths, crcs)


def _kept(numbers: list[int]) -> Numbers:
    """Numbers as they are kept in memory."""
    return numbers if len(numbers) <= FEW else _narrow(np.array(numbers, np.uint64))


def _held(numbers: NDArray[np.int64]) -> Numbers:
    """As :func:`_kept`, of an array."""
    return numbers.tolist() if len(numbers) <= FEW else _narrow(numbers.astype(np.uint64))


def _narrow(numbers: Array) -> Array:
    largest = int(numbers.max())
    for dtype in _WIDTHS.values():
        if largest < 1 << 8 * dtype.itemsize:
            return numbers.astype(dtype, copy=False)
    raise AssertionError


def _listed(numbers: Numbers) -> list[int]:
    return numbers.tolist() if isinstance(numbers, np.ndarray) else numbers


def _packed(numbers: Numbers) -> list[int] | bytes:
    if isinstance(numbers, np.ndarray):
        narrow = _narrow(numbers)
        return narrow.tobytes() + bytes([narrow.itemsize])
    return numbers


def _unpacked(raw: Any, least: int, most: int, count: int, what: str) -> Numbers:
    """A list of integers, or little-endian unsigned ones back to back and then a byte that says how wide they are."""
    if type(raw) is list:
        if count >= 0 and len(raw) != count:
            corrupt(f"{len(raw)} {what} for {count} places")
        for number in raw:
            if type(number) is not int or not least <= number <= most:
                corrupt(f"the {what}")
        return _kept(raw)
    if type(raw) is not bytes or not raw:
        corrupt(f"the {what}")
    width = raw[-1]
    dtype = _WIDTHS.get(width)
    if dtype is None or (len(raw) - 1) % width or len(raw) == 1:
        corrupt(f"the {what}")
    if count >= 0 and len(raw) - 1 != count * width:
        corrupt(f"{(len(raw) - 1) // width} {what} for {count} places")
    numbers: Array = np.frombuffer(raw, dtype, (len(raw) - 1) // width)
    if int(numbers.min()) < least or int(numbers.max()) > most:
        corrupt(f"the {what}")
    return numbers if len(numbers) > FEW else numbers.tolist()


def _ascending(numbers: Numbers) -> bool:
    if isinstance(numbers, np.ndarray):
        return bool((numbers[1:] > numbers[:-1]).all())
    return all(low < high for low, high in pairwise(numbers))


def _laid(start: int, lengths: Numbers) -> Numbers:
    """The offsets of what lies back to back from `start` on."""
    # Summed in Python or as floats first: the sum may be beyond what an array can hold.
    total = float(lengths.sum(dtype=np.float64)) if isinstance(lengths, np.ndarray) else sum(lengths)
    if not 0 <= start <= _MAX_OFFSET or start + total > _MAX_OFFSET:
        corrupt("the offsets")
    if isinstance(lengths, np.ndarray):
        ends = np.cumsum(lengths, dtype=np.uint64)
        return _narrow(ends - lengths + np.uint64(start))
    return list(accumulate(lengths[:-1], initial=start))


__all__ = ["FEW", "Column", "corrupt"]
