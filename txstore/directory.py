"""The directory of a fragment or base: where each of its tiles lies.

docs/segment-format.md describes the encoded form field by field. It is input like any other: whatever it claims is
checked against its own length and against what the caller knows, before memory is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgpack

from txstore.column import Column, corrupt
from txstore.errors import CorruptionError
from txstore.segment import Kind, Place

#: The number of the encoded form that this code reads and writes.
FORMAT = 1

_SEGMENT_ENTRY = 17  # the name of a segment, and 1 where it is a row of blobs
_TILE_BYTES = 128  # no tile needs that many: two places, each with its own segment
_MAX_VALUE = 2**20  # of a fill whose dtype the caller does not know


class Directory:
    """Where each tile of one fragment or base lies.

    Made by :meth:`tiles`, :meth:`masked` or :meth:`fill`, or by :meth:`decode`.

    Attributes
    ----------
    n_tiles : int
        How many tiles the frame has, in C order; 0 where it does not matter, because no tile has bytes.
    value : bytes or None
        Kind ``FILL`` only: the one value of all cells; None is the array's fill value.

    Notes
    -----
    Immutable, and so safe for threads.
    """

    __slots__ = ("_data", "_masks", "_segments", "n_tiles", "value")

    def __init__(
        self,
        n_tiles: int,
        segments: tuple[tuple[bytes, bool], ...],
        data: Column | None,
        masks: Column | None,
        value: bytes | None,
    ) -> None:
        self.n_tiles = n_tiles
        self.value = value
        self._segments = segments
        self._data = data
        self._masks = masks

    @classmethod
    def tiles(cls, places: Sequence[Place | None]) -> Directory:
        """Of a fragment or base that is not masked.

        Parameters
        ----------
        places : sequence of Place or None
            Of the encoded data of each tile; None for a tile that is all fill.

        Raises
        ------
        ValueError
            If a place has a length, offset, checksum or segment that can't be.
        """
        numbers: dict[tuple[bytes, bool], int] = {}
        data = Column.of_places(places, numbers)
        return cls(len(places), tuple(numbers), data, None, None)

    @classmethod
    def masked(
        cls, places: Sequence[Place | None], masks: Sequence[Place | None], value: bytes | None = None
    ) -> Directory:
        """Of a masked fragment.

        Parameters
        ----------
        places : sequence of Place or None
            Of the encoded data of each tile: the values of the mask's cells, in C order. None: they are all fill, or
            the kind has no data.
        masks : sequence of Place or None
            Of the encoded mask of each tile; None for a tile of which no cell is written.
        value : bytes, optional
            Kind ``FILL`` only.

        Raises
        ------
        ValueError
            If the lengths differ, a tile has data without a mask, or a place can't be.
        """
        if len(places) != len(masks):
            raise ValueError(f"{len(places)} places and {len(masks)} masks")
        numbers: dict[tuple[bytes, bool], int] = {}
        data = Column.of_places(places, numbers)
        mask = Column.of_places(masks, numbers)
        if not _within(data, mask, len(places)):
            raise ValueError("a tile of a masked fragment has data without a mask")
        return cls(len(places), tuple(numbers), data, mask, value)

    @classmethod
    def fill(cls, value: bytes | None = None) -> Directory:
        """Of a box of one value, or of the array's fill value; not masked."""
        return cls(0, (), None, None, value)

    def replaced(self, places: Mapping[int, Place | None]) -> Directory:
        """The same but for some tiles, by number; None for one that is all fill. Not of a masked fragment or a fill.

        What it makes is what :meth:`tiles` makes of all places, without a look at those that stay.

        Raises
        ------
        ValueError
            If a place can't be.
        """
        assert self._masks is None and self.value is None
        numbers = {segment: number for number, segment in enumerate(self._segments)}
        data, used = Column.replaced(self._data, self.n_tiles, places, numbers)
        names = list(numbers)
        return Directory(self.n_tiles, tuple([names[number] for number in used]), data, None, None)

    def inlined(self, segment: bytes) -> Directory:
        """The same places, with `segment` a row of ``blobs`` instead of a file."""
        segments = tuple([(name, inline or name == segment) for name, inline in self._segments])
        return Directory(self.n_tiles, segments, self._data, self._masks, self.value)

    def __repr__(self) -> str:
        stored = len(self.stored())
        return f"Directory({self.n_tiles} tiles, {stored} stored in {len(self._segments)} segments)"

    def place(self, tile: int) -> Place | None:
        """Where the data of a tile lie; None when it is all fill, or its kind has no data."""
        return self._place(self._data, tile)

    def mask_place(self, tile: int) -> Place | None:
        """Where the mask of a tile lies; None when none of its cells is written, or nothing is masked."""
        return self._place(self._masks, tile)

    def _place(self, column: Column | None, tile: int) -> Place | None:
        if column is None:
            return None
        if not 0 <= tile < self.n_tiles:
            raise IndexError(f"tile {tile} of {self.n_tiles}")
        found = column.get(tile)
        if found is None:
            return None
        number, offset, length, crc = found
        segment, inline = self._segments[number]
        return Place(segment, offset, length, crc, inline)

    def stored(self) -> Sequence[int]:
        """The tiles that have bytes, ascending: data or, where the fragment is masked, a mask."""
        column = self._data if self._masks is None else self._masks
        return () if column is None else column.numbers(self.n_tiles)

    def places(self) -> Iterator[tuple[int, Place]]:
        """Every place with its tile, the data's first and then those of masks."""
        for column in (self._data, self._masks):
            if column is not None:
                for tile in column.numbers(self.n_tiles):
                    place = self._place(column, tile)
                    assert place is not None
                    yield tile, place

    def segments(self) -> set[tuple[bytes, bool]]:
        """The segments that are pointed to, each with whether it is inline."""
        return set(self._segments)

    def inline_segments(self) -> list[bytes]:
        """Those of them that are rows of ``blobs``."""
        return [segment for segment, inline in self._segments if inline]

    def usage(self) -> dict[tuple[bytes, bool], int]:
        """How many bytes of each segment are pointed to."""
        totals = [0] * len(self._segments)
        for column in (self._data, self._masks):
            if column is not None:
                column.add_usage(totals)
        return dict(zip(self._segments, totals, strict=True))

    @property
    def nbytes(self) -> int:
        """How many bytes are pointed to, masks included."""
        return sum(self.usage().values())

    def encode(self) -> bytes:
        """The stored form; the same for the same places."""
        segments = b"".join([segment + (b"\1" if inline else b"\0") for segment, inline in self._segments])
        one = len(self._segments) == 1
        n_tiles = self.n_tiles if self._segments else 0
        data = None if self._data is None else self._data.pack(one)
        masks = None if self._masks is None else self._masks.pack(one)
        packed: bytes = msgpack.packb([FORMAT, n_tiles, self.value, segments, data, masks])
        return packed

    @classmethod
    def decode(cls, data: bytes, n_tiles: int, masked: bool, kind: Kind, itemsize: int | None) -> Directory:
        """The inverse of :meth:`encode`.

        Parameters
        ----------
        data : bytes
            As stored in the index.
        n_tiles : int
            How many tiles the frame has.
        masked : bool
            Whether the fragment is masked.
        kind : Kind
            What the fragment does.
        itemsize : int or None
            The length of a value of kind ``FILL``; None leaves that to whoever uses the value.

        Raises
        ------
        CorruptionError
            If it is anything but a directory of such a fragment. Memory is taken in proportion to `data` only.
        """
        if len(data) > 256 + (_MAX_VALUE if itemsize is None else itemsize) + _TILE_BYTES * n_tiles:
            corrupt(f"{len(data)} bytes are too many for {n_tiles} tiles")
        try:
            raw = msgpack.unpackb(data, strict_map_key=True)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
            raise CorruptionError(f"a stored directory is no msgpack: {error}; run txstore verify") from error
        if type(raw) is not list or not raw or type(raw[0]) is not int:
            corrupt("no list of fields")
        if raw[0] != FORMAT:
            corrupt(f"its format is {raw[0]}, this is {FORMAT}")
        if len(raw) != 6:
            corrupt(f"{len(raw)} fields instead of 6")
        _, stored_tiles, value, raw_segments, raw_data, raw_masks = raw
        expected = 0 if raw_data is None and raw_masks is None else n_tiles
        if type(stored_tiles) is not int or stored_tiles != expected:
            corrupt(f"it is not for {n_tiles} tiles")
        if kind == Kind.FILL:
            if raw_data is not None:
                corrupt("a fill with data")
            if value is not None and (type(value) is not bytes or itemsize not in (None, len(value))):
                corrupt(f"the value of a fill is not of {itemsize} bytes")
        elif value is not None:
            corrupt("a value although it is no fill")
        if raw_masks is not None and not masked:
            corrupt("masks although it is not masked")

        segments = _unpack_segments(raw_segments)
        column = None if raw_data is None else Column.unpack(raw_data, n_tiles, len(segments))
        masks = None if raw_masks is None else Column.unpack(raw_masks, n_tiles, len(segments))
        if masked and not _within(column, masks, n_tiles):
            corrupt("data without a mask")
        used = (set() if column is None else column.used()) | (set() if masks is None else masks.used())
        if len(used) != len(segments):
            corrupt("a segment in which nothing lies")
        return cls(n_tiles, segments, column, masks, value)


def _within(data: Column | None, masks: Column | None, n_tiles: int) -> bool:
    if data is None:
        return True
    if masks is None:
        return False
    return masks.tiles is None or set(data.numbers(n_tiles)) <= set(masks.numbers(n_tiles))


def _unpack_segments(raw: Any) -> tuple[tuple[bytes, bool], ...]:
    if type(raw) is not bytes or len(raw) % _SEGMENT_ENTRY:
        corrupt("the segments")
    if len(raw) == _SEGMENT_ENTRY and raw[16] < 2:
        return ((raw[:16], raw[16] == 1),)
    entries = [raw[start : start + _SEGMENT_ENTRY] for start in range(0, len(raw), _SEGMENT_ENTRY)]
    if len(set(entries)) != len(entries) or any(entry[16] > 1 for entry in entries):
        corrupt("the segments")
    return tuple([(entry[:16], entry[16] == 1) for entry in entries])


__all__ = ["FORMAT", "Directory"]
