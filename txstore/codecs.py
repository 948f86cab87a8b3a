"""Tiles as bytes: the codec chain of an array, which makes of a whole chunk exactly a Zarr v3 chunk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from txstore.codecspecs import Codecs, auto_codecs, resolve_codecs
from txstore.errors import CorruptionError, DTypeError, InvalidInputError
from txstore.interrupts import let_through
from txstore.stages import Octets, stage

# Zarr's chunks are little-endian.
_SWAP = sys.byteorder == "big"


class Coded(Protocol):
    """What a codec is made from: an array's metadata. Hashable."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def codecs(self) -> Codecs: ...

    def __hash__(self) -> int: ...


class TileCodec:
    """Encodes and decodes the tiles of an array.

    Parameters
    ----------
    dtype : numpy.dtype
        The array's, in native byte order.
    codecs : tuple of dict
        As :func:`resolve_codecs` gives them.

    Attributes
    ----------
    dtype : numpy.dtype
        The array's.
    codecs : tuple of dict
        The chain, without ``bytes``.
    raw : bool
        No codec at all: an encoded tile is the memory of a C-contiguous array, and can be read straight into one.
    slow : bool
        Whether it pays to have few tiles decoded by several threads.

    Notes
    -----
    Immutable, safe for threads and forks, and can be pickled. numcodecs lets go of the interpreter's lock.
    """

    __slots__ = ("_cut", "_decode_frames", "_decode_start", "_stages", "_undo", "codecs", "dtype", "raw", "slow")

    def __init__(self, dtype: np.dtype[Any], codecs: Codecs) -> None:
        self.dtype = dtype
        self.codecs = codecs
        stages = [stage(codec["name"], codec.get("configuration", {})) for codec in codecs]
        self._stages = tuple(each.encode for each in stages)
        self.raw = not stages and not _SWAP
        self.slow = any(each.slow for each in stages)
        self._decode_frames = stages[0].decode_frames if len(stages) == 1 else None
        self._decode_start = stages[0].decode_start if len(stages) == 1 else None
        self._cut = stages[0].cut if len(stages) == 1 else None
        # Backwards, each with what was added to the length before it. Two compressors in a row are refused by
        # resolve_codecs, and so the length before each is known; for a checksum behind one it is not needed.
        undo = []
        before = 0
        for each in stages:
            undo.append((each.decode, before))
            before += each.overhead or 0
        self._undo = tuple(reversed(undo))

    @classmethod
    def of(cls, meta: Coded) -> TileCodec:
        """The codec of an array; one object for as long as it is in use somewhere."""
        return _of(meta)

    def __reduce__(self) -> tuple[Any, ...]:
        return TileCodec, (self.dtype, self.codecs)

    def __repr__(self) -> str:
        return f"TileCodec({self.dtype}, {', '.join(codec['name'] for codec in self.codecs) or 'raw'})"

    def encode(self, array: NDArray[Any]) -> bytes:
        """The bytes of a tile.

        Parameters
        ----------
        array : ndarray
            Of the codec's dtype, of any shape and layout. Its cells are stored in C order.

        Returns
        -------
        bytes
            Sharing no memory with the array. No bytes at all for an array without cells.

        Raises
        ------
        DTypeError
            When the array is of another dtype.
        InvalidInputError
            When a codec can't encode it (blosc ends at 2 GiB).
        """
        if array.dtype != self.dtype:
            raise DTypeError(f"a tile of {array.dtype}, where {self.dtype} is expected")
        if self.raw or not array.size:
            return array.tobytes()
        array = np.ascontiguousarray(array)
        if _SWAP:
            array = array.byteswap()
        data: Any = array.reshape(-1).view(np.uint8)
        try:
            for encode in self._stages:
                data = encode(data)
        except (ValueError, RuntimeError, OverflowError) as error:
            raise InvalidInputError(f"a tile of {array.nbytes} bytes can't be encoded by {self!r}: {error}") from error
        return data if type(data) is bytes else bytes(data)

    def parts(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """What may be encoded apart: encoded, and put back to back, the parts are a form of the whole.

        Not the form that :meth:`encode` makes of it, and not one that every reader of Zarr understands.

        Parameters
        ----------
        array : ndarray
            As for :meth:`encode`.

        Returns
        -------
        list of ndarray
            The array alone where it is small or the codec knows no parts; otherwise 1-d, in C order.
        """
        if self._cut is None:
            return [array]
        n_cells = max(1, self._cut(array.nbytes) // self.dtype.itemsize)
        if array.size <= n_cells:
            return [array]
        flat = np.ascontiguousarray(array).reshape(-1)
        return [flat[start : start + n_cells] for start in range(0, flat.size, n_cells)]

    def decode(
        self, data: Any, shape: Sequence[int], out: NDArray[Any] | None = None, stop: int | None = None
    ) -> NDArray[Any]:
        """The cells of an encoded tile.

        Parameters
        ----------
        data : bytes-like
            What :meth:`encode` made.
        shape : sequence of int
            The tile's.
        out : ndarray, optional
            Writable, of that shape and the codec's dtype; where it is C-contiguous nothing is copied on the way.
        stop : int, optional
            How many cells are wanted, in C order; the others may come out as anything.

        Returns
        -------
        ndarray
            ``out``, or a new array.

        Raises
        ------
        CorruptionError
            When the data are not those of a tile of this shape. Their declared sizes are looked at before memory
            is taken. ``out`` may hold anything then.
        """
        shape = tuple(shape)
        if out is not None and (out.shape != shape or out.dtype != self.dtype):
            raise ValueError(f"out is {out.dtype}{out.shape}, where {self.dtype}{shape} is expected")
        target = out if out is not None and out.flags.c_contiguous else np.empty(shape, self.dtype)
        flat = target.reshape(-1).view(np.uint8) if target.size else np.empty(0, np.uint8)
        try:
            if stop is None or self._decode_start is None:
                self._decode(data, flat)
            else:
                self._decode_start(data, stop * self.dtype.itemsize, flat)
        except (CorruptionError, MemoryError):
            raise
        except Exception as error:  # each library has errors of its own, and none of them is the caller's
            let_through(error)
            raise CorruptionError(f"a tile of {self!r} can't be decoded: {error}") from error
        if _SWAP:
            target.byteswap(inplace=True)
        if out is not None and target is not out:
            out[...] = target
            return out
        return target

    def decode_all(
        self, data: Octets, lengths: Sequence[int], tiles: Sequence[NDArray[Any]], cells: NDArray[Any]
    ) -> None:
        """The cells of several encoded tiles that lie back to back; by one call of the library where it has such.

        Parameters
        ----------
        data : ndarray of uint8, shape (sum(lengths),)
            What :meth:`encode` made of each.
        lengths : sequence of int
            How many bytes each has.
        tiles : sequence of ndarray
            Where the cells of each go: of the codec's dtype, back to back in `cells`.
        cells : ndarray, 1-d
            The memory of all tiles together.

        Raises
        ------
        CorruptionError
            As :meth:`decode`.
        """
        if data.size != sum(lengths) or cells.size != sum([tile.size for tile in tiles]) or cells.dtype != self.dtype:
            raise ValueError(f"{data.size} bytes for {cells.dtype}{cells.shape} are not those of {len(tiles)} tiles")
        if self._decode_frames is None:
            start = 0
            for length, tile in zip(lengths, tiles, strict=True):
                self.decode(data[start : start + length], tile.shape, tile)
                start += length
            return
        try:
            self._decode_frames(data, lengths, [tile.nbytes for tile in tiles], cells.view(np.uint8))
        except (CorruptionError, MemoryError):
            raise
        except Exception as error:
            let_through(error)
            raise CorruptionError(f"tiles of {self!r} can't be decoded: {error}") from error
        if _SWAP:
            cells.byteswap(inplace=True)

    def _decode(self, data: Any, flat: Octets) -> None:
        if not self._undo or not flat.size:
            if memoryview(data).nbytes != flat.size:
                raise CorruptionError(f"a tile of {memoryview(data).nbytes} bytes, where {flat.size} are expected")
            flat[:] = np.frombuffer(data, np.uint8) if flat.size else flat
            return
        for decode, before in self._undo[:-1]:
            data = decode(data, flat.size + before, None)
        self._undo[-1][0](data, flat.size, flat)


@lru_cache(maxsize=256)
def _of(meta: Coded) -> TileCodec:
    return TileCodec(meta.dtype, meta.codecs)


__all__ = ["Codecs", "TileCodec", "auto_codecs", "resolve_codecs"]
