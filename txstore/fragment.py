"""A fragment: what one commit wrote into one partition of one array, as the index describes it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.directory import Directory
from txstore.errors import CorruptionError
from txstore.grid import TileGrid
from txstore.segment import Kind, Place, decode_mask

#: Reads the bytes at a place, checked against their checksum.
Fetch = Callable[[Place], bytes]


@cache
def _vectors(ndim: int, count: int) -> struct.Struct:
    return struct.Struct(f"<{ndim * count}q")


def pack_shape(shape: Sequence[int]) -> bytes:
    """A shape as the index stores it: little-endian int64, back to back."""
    return _vectors(len(shape), 1).pack(*shape)


def unpack_shape(data: bytes, ndim: int | None = None) -> tuple[int, ...]:
    """The inverse of :func:`pack_shape`.

    Raises
    ------
    CorruptionError
        If the length is wrong or an extent is negative.
    """
    if len(data) % 8 or (ndim is not None and len(data) != 8 * ndim):
        raise CorruptionError(f"a stored shape has {len(data)} bytes", bytes(data))
    shape = _vectors(len(data) // 8, 1).unpack(data)
    if shape and min(shape) < 0:
        raise CorruptionError(f"a stored shape is negative: {shape}", bytes(data))
    return shape


class Frame(NamedTuple):
    """The stored extent of a fragment and how its tiles lie in it.

    Attributes
    ----------
    box : Box
        The stored extent, padding included, in frame coordinates.
    phase : tuple of int, shape (ndim,)
        Tile boundaries lie at ``phase + k * chunks``, in frame coordinates.
    shift : tuple of int, shape (ndim,)
        Array coordinates are frame coordinates plus shift.
    """

    box: Box
    phase: tuple[int, ...]
    shift: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Lo, hi, phase, shift: ``4 * ndim`` little-endian int64."""
        values = (*self.box.lo, *self.box.hi, *self.phase, *self.shift)
        return _vectors(len(self.phase), 4).pack(*values)

    @classmethod
    def from_bytes(cls, data: bytes, ndim: int) -> Frame:
        """The inverse of :meth:`to_bytes`.

        Raises
        ------
        CorruptionError
            If the length or the order of the bounds is wrong.
        """
        if len(data) != 32 * ndim:
            raise CorruptionError(f"a stored frame has {len(data)} bytes instead of {32 * ndim}", bytes(data))
        values = _vectors(ndim, 4).unpack(data)
        lo, hi = values[:ndim], values[ndim : 2 * ndim]
        if any(low < 0 or low > high for low, high in zip(lo, hi, strict=True)):
            raise CorruptionError(f"a stored frame is no box: {lo} to {hi}", bytes(data))
        return cls(Box(lo, hi), values[2 * ndim : 3 * ndim], values[3 * ndim :])


class Fragment:
    """One row of ``fragments`` or ``bases``, stored or still staged.

    Parameters
    ----------
    version : int
        The version that wrote it; for staged ones larger than every version.
    rank : int
        Its order within the version.
    kind : Kind
        What it does to the cells below it.
    masked : bool
        Whether its cells are those of the mask instead of the whole clip.
    clip : Box
        The cells that count, in array coordinates.
    frame : Frame or None
        None: the frame is the clip itself, with phase and shift zero.
    directory : Directory, bytes or None
        Where the tiles lie; bytes are decoded when first needed. None: vacuumed.
    itemsize : int or None
        Bytes of one cell, to check the directory with; None where values do not matter.
    """

    __slots__ = ("_directory", "_tiles", "clip", "frame", "itemsize", "kind", "masked", "rank", "version")

    def __init__(
        self,
        version: int,
        rank: int,
        kind: Kind,
        masked: bool,
        clip: Box,
        frame: Frame | None,
        directory: Directory | bytes | None,
        itemsize: int | None,
    ) -> None:
        self.version = version
        self.rank = rank
        self.kind = kind
        self.masked = masked
        self.clip = clip
        self.frame = frame
        self.itemsize = itemsize
        self._directory = directory
        self._tiles: TileGrid | None = None

    def __repr__(self) -> str:
        return f"Fragment({self.kind.name}, version={self.version}, rank={self.rank}, clip={self.clip})"

    @property
    def order(self) -> tuple[int, int]:
        """The place in the log: (version, rank)."""
        return self.version, self.rank

    @property
    def stripped(self) -> bool:
        """Whether vacuum has taken the bytes."""
        return self._directory is None

    @property
    def shift(self) -> tuple[int, ...]:
        """Array coordinates minus frame coordinates."""
        return self.frame.shift if self.frame is not None else (0,) * len(self.clip.lo)

    def tiles(self, chunks: tuple[int, ...]) -> TileGrid:
        """The tile grid of the frame."""
        if self._tiles is None:
            if self.frame is None:
                self._tiles = TileGrid(self.clip, (0,) * len(chunks), chunks)
            else:
                self._tiles = TileGrid(self.frame.box, self.frame.phase, chunks)
        return self._tiles

    def directory(self, chunks: tuple[int, ...]) -> Directory:
        """Where the tiles lie.

        Raises
        ------
        CorruptionError
            If the stored directory is malformed or does not fit the frame, or has been vacuumed.
        """
        directory = self._directory
        if directory is None:
            raise CorruptionError(f"the bytes of version {self.version} in {self.clip} have been vacuumed", self.clip)
        if isinstance(directory, bytes):
            directory = Directory.decode(directory, self.tiles(chunks).size, self.masked, self.kind, self.itemsize)
            self._directory = directory
        return directory

    def settle(self, segment: bytes) -> None:
        """Note that a segment with staged tiles has become a row of ``blobs``."""
        assert isinstance(self._directory, Directory)
        self._directory = self._directory.inlined(segment)

    @property
    def stored_directory(self) -> Directory | bytes | None:
        """The directory as it is at hand, decoded or not."""
        return self._directory

    def mask(self, box: Box, chunks: tuple[int, ...], fetch: Fetch) -> NDArray[np.bool_]:
        """Which cells of `box` (within the clip, array coordinates) the fragment writes; shape ``box.shape``."""
        if not self.masked:
            return np.ones(box.shape, bool)
        out = np.zeros(box.shape, bool)
        back = tuple(-step for step in self.shift)
        wanted = box.shift(back)
        directory = self.directory(chunks)
        for index, tile in self.tiles(chunks).tiles_touching(wanted):
            place = directory.mask_place(index)
            part = tile.intersect(wanted)
            if place is None or part is None:
                continue
            cells = decode_mask(fetch(place), tile.shape)
            out[part.slices(wanted.lo)] = cells[part.slices(tile.lo)]
        return out
