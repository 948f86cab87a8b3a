"""Cells made of layers: the tiles of fragments, decoded and pasted in order."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box
from txstore.fragment import Fragment
from txstore.layers import Layer, LayeredArray
from txstore.segment import Kind, Place
from txstore.source import TileSource
from txstore.storage import MissingFileError

#: Tiles are decoded together up to so many bytes of cells, which stay in a core's cache until they are pasted; one of
#: more than half as many goes alone, and so straight to where it belongs.
_TOGETHER_BYTES = 256 << 10

_ACCUMULATE: Final[dict[Kind, np.ufunc]] = {Kind.ADD: np.add, Kind.MIN: np.minimum, Kind.MAX: np.maximum}


class _Patch(NamedTuple):
    """A tile of a layer where it shows: the tile's number and shape, the part of it, and the cells that it changes."""

    fragment: Fragment
    number: int
    shape: tuple[int, ...]
    inner: tuple[slice, ...] | None  # None: all of it
    cells: NDArray[Any]


class Composer:
    """Puts together what an array's layers hold. Tiles wait until there are enough of them to be decoded together.

    Parameters
    ----------
    array : LayeredArray
        The array.
    source : TileSource
        Where tiles come from.

    Notes
    -----
    For one thread.
    """

    def __init__(self, array: LayeredArray, source: TileSource) -> None:
        self._array = array
        self._source = source
        self._chunks = array.grid.chunks
        self._itemsize = array.meta.dtype.itemsize
        self._waiting: list[tuple[_Patch, Place]] = []
        self._waiting_bytes = 0

    def compose(self, region: Box, layers: list[Layer], covered: bool, out: NDArray[Any]) -> None:
        """Put the cells of a region into `out`; with the next :meth:`finish` all of them are there.

        Parameters
        ----------
        region : Box
            A part of one chunk, in array coordinates.
        layers : list of (Fragment, Box)
            Oldest first, each with the part of the region in which it shows.
        covered : bool
            They cover the region, or `out` holds the fill value already.
        out : ndarray
            The cells of the region; of its shape.

        Raises
        ------
        CorruptionError
            If stored bytes do not match their checksum, or are no tiles.
        MissingFileError
            If they are gone.
        """
        if not covered:
            out[...] = self._array.meta.fill_value
        for fragment, box in layers:
            for patch in self._patches(fragment, box, out if box == region else box.of(out, region.lo)):
                place = None
                if not fragment.masked and fragment.kind != Kind.FILL:
                    place = fragment.directory(self._chunks).place(patch.number)
                n_bytes = prod(patch.shape) * self._itemsize
                if place is None or self._waiting_bytes + n_bytes > _TOGETHER_BYTES:
                    self.finish()
                if place is None:
                    self._apply(patch)
                else:
                    self._waiting.append((patch, place))
                    self._waiting_bytes += n_bytes

    def _patches(self, fragment: Fragment, box: Box, out: NDArray[Any]) -> Iterator[_Patch]:
        """The tiles of one fragment that lie in `box` (array coordinates), whose cells `out` holds."""
        if fragment.stripped:
            raise MissingFileError(
                f"the bytes of version {fragment.version} of {self._array.path!r} have been vacuumed"
            )
        if fragment.kind == Kind.FILL and not fragment.masked:
            yield _Patch(fragment, 0, out.shape, None, out)
            return
        frame = fragment.frame
        wanted = box if frame is None or not any(frame.shift) else box.shift([-step for step in frame.shift])
        for number, tile in fragment.tiles(self._chunks).tiles_touching(wanted):
            if tile == wanted:
                yield _Patch(fragment, number, out.shape, None, out)
                continue
            part = tile.intersect(wanted)
            if part is not None:
                cells = out if part == wanted else part.of(out, wanted.lo)
                yield _Patch(fragment, number, tile.shape, None if part == tile else part.slices(tile.lo), cells)

    def finish(self) -> None:
        """Paste what waits.

        Raises
        ------
        CorruptionError, MissingFileError
            As :meth:`compose`.
        """
        together, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not together:
            return
        codec = self._array.codec
        if len(together) == 1:
            patch, place = together[0]
            if patch.inner is None and patch.fragment.kind == Kind.SET and patch.cells.flags.c_contiguous:
                self._source.decode(place, codec, patch.cells)
                return
        wanted = [(place, patch.shape, patch.inner) for patch, place in together]
        for (patch, _), whole in zip(together, self._source.decoded(wanted, codec), strict=True):
            values = whole if patch.inner is None else whole[patch.inner]
            if patch.fragment.kind == Kind.SET:
                patch.cells[...] = values
            else:
                _accumulate(patch, values)

    def _apply(self, patch: _Patch) -> None:
        """Apply a patch that is masked, or has no data."""
        fragment, number, shape, inner, cells = patch
        directory = fragment.directory(self._chunks)
        value = self._array.value(fragment) if fragment.kind == Kind.FILL else self._array.meta.fill_value
        if not fragment.masked:
            if fragment.kind <= Kind.FILL:
                cells[...] = value
            else:
                _accumulate(patch, value)
            return
        mask_place = directory.mask_place(number)
        if mask_place is None:
            return
        mask = self._source.mask(mask_place, shape)
        where = mask if inner is None else mask[inner]
        if fragment.kind == Kind.FILL:
            np.copyto(cells, value, where=where)
            return
        sparse = self._unpacked(directory.place(number), mask)
        values = sparse if inner is None else sparse[inner]
        if fragment.kind == Kind.SET:
            np.copyto(cells, values, where=where)
        else:
            _accumulate(patch, values, where)

    def _unpacked(self, place: Place | None, mask: NDArray[np.bool_]) -> NDArray[Any]:
        """The values of a masked tile at their cells; what is not in the mask is arbitrary."""
        meta = self._array.meta
        out = np.empty(mask.shape, meta.dtype)
        if place is None:
            out[...] = meta.fill_value
        else:
            count = int(np.count_nonzero(mask))
            out[mask] = self._array.codec.decode(self._source.fetch(place), (count,))
        return out


def _accumulate(patch: _Patch, values: NDArray[Any], where: Any = True) -> None:
    # An overflow was the writer's to be warned of; every reader would be again.
    with np.errstate(all="ignore"):
        _ACCUMULATE[patch.fragment.kind](patch.cells, values, out=patch.cells, where=where)


__all__ = ["Composer"]
