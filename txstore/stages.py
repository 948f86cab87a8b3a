"""One codec each: bytes in, bytes out, through numcodecs; nothing is decoded that could grow past what is expected.

A stage is made from its Zarr v3 description. What it decodes comes from outside, so every length in it is held
against the length that the array's shape and dtype allow before memory is taken: 8 KB of zstd or gzip can
describe gigabytes. zlib, gzip, bz2 and lzma run on the modules of Python that numcodecs wraps, for only these can
stop at a limit (and gzip, so called, does not write the time of day into every chunk).

numcodecs is imported where the first of its codecs is made: it costs as much as NumPy. It has no partial decode; the
beginning of zstd data comes from the module that Python has since 3.14.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from txstore import zstdframe
from txstore.errors import CorruptionError

Octets: TypeAlias = NDArray[np.uint8]

#: The largest dictionary of lzma's presets, and what its decoder needs besides.
_LZMA_BYTES = 96 * 1024 * 1024
_BLOSC_HEADER = struct.Struct("<BBBBIII")  # version, version of the codec, flags, typesize, nbytes, blocksize, cbytes
#: What zstd encodes at once where a tile is cut into frames. It goes by the length of what it is given: up to level 3
#: floats of 128 to 256 KiB come out a tenth longer, and take half as long again to decode, than in parts of 128 KiB;
#: above it is the other way round. Beyond 256 KiB, or in twice as much, it loses nothing worth mentioning.
_SHORT_BYTES = 128 << 10
_LONG_BYTES = 512 << 10
#: zstd's blocks: it pays to stop early in what is at least twice as long, and up to three quarters of it. Beyond the
#: other length the module's decoder refuses what would need so much memory.
_BLOCK_BYTES = 128 << 10
_MOST_STREAMED_BYTES = 128 << 20
_FED_BYTES = 32 << 10
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


class Stage(NamedTuple):
    """One step of a chain.

    Attributes
    ----------
    encode : callable
        Any bytes to any bytes.
    decode : callable
        ``decode(data, size, out)``: exactly ``size`` bytes, into ``out`` when it is given, else into new memory.
        Raises whatever it likes for data that are not of this codec.
    overhead : int or None
        How many bytes longer the encoded form is; None for compressors, where nobody knows.
    decode_frames : callable, optional
        ``decode_frames(data, lengths, sizes, out)``: as ``decode``, of several encoded forms back to back in `data`
        at once, whose lengths and decoded sizes are given. Where a library has no such thing there is none.
    decode_start : callable, optional
        ``decode_start(data, stop, out)``: as ``decode``, but only the first ``stop`` bytes of `out` have to be right.
        None where nothing would be saved by that.
    slow : bool
        Whether decoding a mebibyte takes several times as long as waking a thread, which is 0.1 ms.
    cut : callable, optional
        ``cut(n_bytes)``: so many of that many bytes may be encoded apart, for what is made of parts is, back to back,
        an encoded form of the whole. None where it is not.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any, int, Octets | None], Any]
    overhead: int | None
    decode_frames: Callable[[Octets, Sequence[int], Sequence[int], Octets], None] | None = None
    decode_start: Callable[[Any, int, Octets], None] | None = None
    slow: bool = False
    cut: Callable[[int], int] | None = None


def _octets(data: Any) -> Octets:
    return np.frombuffer(data, np.uint8)


def _put(data: Any, out: Octets | None) -> Any:
    if out is None:
        return data
    octets = _octets(data)
    if octets.size != out.size:  # NumPy would spread a single byte over all of them
        raise CorruptionError(f"{octets.size} bytes, where {out.size} are expected")
    out[:] = octets
    return out


def _expect(declared: int, size: int, codec: str) -> None:
    if declared != size:
        raise CorruptionError(f"{codec} data declare {declared} bytes, where {size} are expected")


# --- compressors that decode into memory given ---------------------------------------------------


def _zstd(level: int, checksum: bool) -> Stage:
    from numcodecs import zstd

    def encode(data: Any) -> Any:
        return zstd.compress(data, level, checksum)

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        declared = zstdframe.content_size(data)
        if declared is not None:
            # A shorter first frame is one of several.
            _expect(declared if declared >= size else zstdframe.total_size(data), size, "zstd")
        # Where the size is unknown, or further frames follow, numcodecs fills `out` exactly or raises.
        out = np.empty(size, np.uint8) if out is None else out
        zstd.decompress(data, out)
        return out

    def decode_frames(data: Octets, lengths: Sequence[int], sizes: Sequence[int], out: Octets) -> None:
        # Frames back to back are one piece of data by RFC 8878, 3. A frame that holds another number of bytes would
        # move all that come after it; the library holds each against what it declares. What may be several frames is
        # decoded by itself.
        start = end = 0
        whole = True
        for length, size in zip(lengths, sizes, strict=True):
            if zstdframe.content_size(data[start : start + length]) != size:
                whole = False
            start += length
        if whole:
            zstd.decompress(data, out)
            return
        start = 0
        for length, size in zip(lengths, sizes, strict=True):
            decode(data[start : start + length], size, out[end : end + size])
            start += length
            end += size

    def decode_start(data: Any, stop: int, out: Octets) -> None:
        worthwhile = 2 * _BLOCK_BYTES <= out.size <= _MOST_STREAMED_BYTES and 4 * stop <= 3 * out.size
        module = _zstd_module() if worthwhile and zstdframe.content_size(data) == out.size else None
        if module is None:
            decode(data, out.size, out)
            return
        try:
            _zstd_start(module.ZstdDecompressor(), data, stop, out)
        except module.ZstdError:  # a window that it refuses; what is wrong, the other says, too
            decode(data, out.size, out)

    def cut(n_bytes: int) -> int:
        return _SHORT_BYTES if level <= 3 and n_bytes <= _LONG_BYTES else _LONG_BYTES

    return Stage(encode, decode, None, decode_frames, decode_start, True, cut)


def _zstd_start(decoder: Any, data: Any, stop: int, out: Octets) -> None:
    view = memoryview(data).cast("B")
    fed = end = 0
    while end < stop:
        if decoder.eof or (decoder.needs_input and fed == len(view)):
            raise CorruptionError(f"zstd data end after {end} bytes of {out.size}")
        # Fed little by little: it copies what it is given before it has a use for it.
        part = view[fed : fed + _FED_BYTES] if decoder.needs_input else b""
        fed += len(part)
        piece = decoder.decompress(part, min(stop - end, _BLOCK_BYTES))
        out[end : end + len(piece)] = _octets(piece)
        end += len(piece)


@functools.cache
def _zstd_module() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:  # a Python that was built without it
        return None
    return zstd


def _blosc(cname: str, clevel: int, shuffle: int, blocksize: int, typesize: int) -> Stage:
    from numcodecs import blosc

    # Blosc's own threads hang in forked children and take turns at one lock; we bring threads of our own.
    # zarr-python sets the same switch.
    blosc.use_threads = False
    name = cname.encode()

    def encode(data: Any) -> Any:
        return blosc.compress(data, name, clevel, shuffle, blocksize, typesize)

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        # The decoder trusts these lengths, that of the input among them, and reads where they point.
        length = memoryview(data).nbytes
        if length < _BLOSC_HEADER.size:
            raise CorruptionError("no blosc frame")
        _, _, _, _, nbytes, _, cbytes = _BLOSC_HEADER.unpack_from(data)
        _expect(nbytes, size, "blosc")
        if cbytes != length:
            raise CorruptionError(f"a blosc frame of {cbytes} bytes in {length}")
        out = np.empty(size, np.uint8) if out is None else out
        blosc.decompress(data, out)
        return out

    return Stage(encode, decode, None, slow=cname in ("zlib", "zstd"))


def _lz4(acceleration: int) -> Stage:
    from numcodecs import lz4

    def encode(data: Any) -> Any:
        return lz4.compress(data, acceleration)

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        _expect(int.from_bytes(memoryview(data)[:4], "little"), size, "lz4")
        out = np.empty(size, np.uint8) if out is None else out
        lz4.decompress(data, out)
        return out

    return Stage(encode, decode, None)


# --- compressors that decode piece by piece ------------------------------------------------------


def _streamed(codec: str, encode: Callable[[Any], Any], start: Callable[[], Any]) -> Stage:
    def decode(data: Any, size: int, out: Octets | None) -> Any:
        stream = start()
        # One byte more than there should be: enough to know, too little to hurt.
        decoded = stream.decompress(data, size + 1)
        if len(decoded) != size or not stream.eof or stream.unused_data:
            raise CorruptionError(f"{codec} data do not hold the {size} bytes that are expected")
        return _put(decoded, out)

    return Stage(encode, decode, None, slow=True)


def _zlib(level: int) -> Stage:
    import zlib

    return _streamed("zlib", lambda data: zlib.compress(data, level), zlib.decompressobj)


def _gzip(level: int) -> Stage:
    import zlib

    def encode(data: Any) -> Any:
        return zlib.compress(data, level, zlib.MAX_WBITS + 16)

    return _streamed("gzip", encode, lambda: zlib.decompressobj(zlib.MAX_WBITS + 16))


def _bz2(level: int) -> Stage:
    import bz2

    return _streamed("bz2", lambda data: bz2.compress(data, level), bz2.BZ2Decompressor)


def _lzma(format: int, check: int, preset: int | None, filters: None) -> Stage:
    import lzma

    def encode(data: Any) -> Any:
        return lzma.compress(data, format, check, preset)

    return _streamed("lzma", encode, lambda: lzma.LZMADecompressor(format, _LZMA_BYTES))


# --- what keeps the length, or adds a checksum ---------------------------------------------------


def _crc32c() -> Stage:
    from google_crc32c import value as crc32c

    def encode(data: Any) -> Any:
        return b"".join((data, crc32c(_octets(data)).to_bytes(4, "little")))

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        octets = _octets(data)
        body = octets[:-4]
        if octets.size < 4 or crc32c(body).to_bytes(4, "little") != octets[-4:].tobytes():
            raise CorruptionError("a crc32c checksum does not match")
        return _put(body, out)

    return Stage(encode, decode, 4)


def _checksum(codec: Any) -> Stage:
    def decode(data: Any, size: int, out: Octets | None) -> Any:
        octets = _octets(data)
        if octets.size <= 4:
            raise CorruptionError(f"no {codec.codec_id} checksum")
        return _put(codec.decode(octets), out)

    return Stage(codec.encode, decode, 4)


def _shuffle(elementsize: int) -> Stage:
    from numcodecs.shuffle import Shuffle

    codec = Shuffle(elementsize)

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        out = np.empty(size, np.uint8) if out is None else out
        if memoryview(data).nbytes != size:
            raise CorruptionError(f"{memoryview(data).nbytes} shuffled bytes, where {size} are expected")
        return codec.decode(_octets(data), out)

    return Stage(codec.encode, decode, 0)


def _delta(dtype: str, astype: str) -> Stage:
    from numcodecs.delta import Delta

    codec = Delta(dtype)

    def encode(data: Any) -> Any:
        return codec.encode(data).view(np.uint8)

    def decode(data: Any, size: int, out: Octets | None) -> Any:
        out = np.empty(size, np.uint8) if out is None else out
        if memoryview(data).nbytes != size:
            raise CorruptionError(f"{memoryview(data).nbytes} bytes of differences, where {size} are expected")
        differences = np.frombuffer(data, codec.dtype)
        np.add.accumulate(differences, dtype=codec.dtype, out=out.view(codec.dtype))
        return out

    return Stage(encode, decode, 0)


def stage(name: str, configuration: dict[str, Any]) -> Stage:
    """The stage of a codec whose configuration is complete, as :func:`txstore.codecspecs.resolve_codecs` makes it."""
    short = name.removeprefix("numcodecs.")
    if name == "blosc":
        return _blosc(**(configuration | {"shuffle": _SHUFFLES[configuration["shuffle"]]}))
    if name == "numcodecs.blosc":
        return _blosc(**configuration)
    if name == "crc32c":
        return _crc32c()
    plain: dict[str, Callable[..., Stage]] = {
        "zstd": _zstd,
        "lz4": _lz4,
        "zlib": _zlib,
        "gzip": _gzip,
        "bz2": _bz2,
        "lzma": _lzma,
        "shuffle": _shuffle,
        "delta": _delta,
    }
    if short in plain:
        return plain[short](**configuration)
    import numcodecs

    return _checksum(numcodecs.get_codec({"id": short, **configuration}))


__all__ = ["Octets", "Stage", "stage"]
