"""Codecs: every chain makes chunks that zarr-python reads, and hostile bytes end in CorruptionError, cheaply."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from test_dtypes import DTYPES, NESTED, same_bits

import txstore.codecs
from txstore import stages
from txstore.codecs import TileCodec, auto_codecs, resolve_codecs
from txstore.codecspecs import _SPECS
from txstore.dtypes import cast_fill, parse_dtype
from txstore.errors import CorruptionError, DTypeError, InvalidInputError
from txstore.metadata import ArrayMetadata

pytestmark = pytest.mark.filterwarnings(
    "ignore:Numcodecs codecs are not in the Zarr version 3 specification",
    "ignore:crc32c usage is deprecated",
)

F4 = np.dtype("f4")


def values(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Cells of any dtype that are its own bits, as far as its values have any that don't count."""
    random = np.random.default_rng(seed)
    if dtype.names:
        out = np.zeros(shape, dtype)
        for name in dtype.names:
            out[name] = values(dtype[name], shape, seed + 1)
        return out
    if dtype.kind in "SUb":
        return random.integers(0, 2, shape).astype(dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(count), dtype).reshape(shape).copy()


def chain(codecs: Any, dtype: Any = F4) -> TileCodec:
    dtype = parse_dtype(dtype)
    return TileCodec(dtype, resolve_codecs(codecs, dtype))


def in_zarr(path: Path, meta: ArrayMetadata, chunk: np.ndarray[Any, Any], attributes: dict[str, Any]) -> Any:
    """An array of 2 x 1 chunks of which only the first is there, as zarr-python opens it."""
    shape = (2 * chunk.shape[0], *chunk.shape[1:]) if chunk.ndim else ()
    (path / "zarr.json").write_text(json.dumps(meta.to_document(shape, attributes), allow_nan=False))
    key = path.joinpath("c", *["0"] * chunk.ndim)
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_bytes(TileCodec.of(meta).encode(chunk))
    return zarr.open_array(path, mode="r")


def check_in_zarr(path: Path, meta: ArrayMetadata, chunk: np.ndarray[Any, Any]) -> None:
    attributes = {"units": "m", "n": [1, 2.5, None]}
    opened = in_zarr(path, meta, chunk, attributes)
    assert opened.dtype == meta.dtype and dict(opened.attrs) == attributes
    assert opened.metadata.dimension_names == meta.dimension_names
    read = np.asarray(opened[...])
    assert same_bits(read[: len(chunk)] if chunk.ndim else read, chunk)
    if chunk.ndim:
        for fill in (opened.fill_value, read[-1, -1]):
            assert same_bits(np.asarray(fill, meta.dtype), meta.fill_value)


FILL: dict[Any, Any] = {
    "?": True, "M8[ns]": "2026-01-01", "M8[10s]": "2026-01-01T00:00:10", "S5": b"ab", "U7": "é", "V3": b"\1\2\3",
    "m8": None,
}  # fmt: skip


@pytest.mark.parametrize("code", DTYPES, ids=str)
def test_every_dtype_in_zarr(code: Any, tmp_path: Path) -> None:
    dtype = parse_dtype(code)
    fill = (1, np.datetime64(7, "ns"), b"x", (0.5, "é")) if code is NESTED else FILL.get(code, 7)
    meta = ArrayMetadata(dtype, cast_fill(fill, dtype), (4, 5), None, auto_codecs(dtype), ("y", None))
    check_in_zarr(tmp_path, meta, values(dtype, (4, 5)))


CHAINS: list[Any] = [
    (),
    "auto",
    *([{"name": "blosc", "configuration": {"cname": name}}] for name in ("lz4", "lz4hc", "blosclz", "zlib", "zstd")),
    *([{"name": "blosc", "configuration": {"shuffle": name}}] for name in ("noshuffle", "shuffle", "bitshuffle")),
    [{"name": "zstd", "configuration": {"level": -5, "checksum": True}}],
    *([name] for name in _SPECS),
    ["numcodecs.delta", "numcodecs.shuffle", "crc32c", "zstd", "crc32c"],
]


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_every_codec_in_zarr(codecs: Any, tmp_path: Path) -> None:
    dtype = np.dtype("i4") if "numcodecs.delta" in codecs else F4
    meta = ArrayMetadata(dtype, cast_fill(3, dtype), (16, 20), None, resolve_codecs(codecs, dtype))
    check_in_zarr(tmp_path, meta, values(dtype, (16, 20)))
    if isinstance(codecs, list) and len(codecs) == 1:
        # And the other way about: what zarr-python has written under the same codecs.
        array = zarr.open_array(tmp_path, mode="r+")
        cells = np.arange(320, dtype=dtype).reshape(16, 20)
        array[:16] = cells
        assert same_bits(TileCodec.of(meta).decode((tmp_path / "c/0/0").read_bytes(), (16, 20)), cells)


def test_scalars_in_zarr(tmp_path: Path) -> None:
    meta = ArrayMetadata(F4, cast_fill(1, F4), (), None, auto_codecs(F4))
    check_in_zarr(tmp_path, meta, np.array(2.5, F4))


# --- tiles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_tiles_of_any_layout(codecs: Any) -> None:
    dtype = np.dtype("i4")
    codec = chain(codecs, dtype)
    whole = values(dtype, (6, 8))
    for cells in (whole, whole.T, whole[::2, ::-3], whole[1:, 2:3], whole[0, :1], whole[0, 0:1].reshape(()), whole[:0]):
        data = codec.encode(cells)
        assert type(data) is bytes
        assert same_bits(codec.decode(data, cells.shape), cells)
        assert same_bits(codec.decode(memoryview(bytearray(data)), cells.shape), cells)
        frame = np.zeros((*cells.shape, 2), dtype)
        assert codec.decode(data, cells.shape, frame[..., 0]) is not None
        assert same_bits(frame[..., 0], cells) and not frame[..., 1].any()
        out = np.empty(cells.shape, dtype)
        assert codec.decode(data, cells.shape, out) is out and same_bits(out, cells)


def test_raw_is_the_memory_of_the_array() -> None:
    codec = chain(())
    cells = values(F4, (3, 4))
    assert codec.raw and not chain("auto").raw
    data = codec.encode(cells)
    assert data == cells.tobytes()
    cells[:] = 0
    assert data != cells.tobytes()


def test_wrong_arrays_are_told_apart_from_wrong_bytes() -> None:
    codec = chain("auto")
    with pytest.raises(DTypeError):
        codec.encode(np.zeros(3))
    data = codec.encode(np.zeros(3, F4))
    for out in (np.zeros(4, F4), np.zeros(3)):
        with pytest.raises(ValueError, match="out is"):
            codec.decode(data, (3,), out)


def test_pickled_and_shared() -> None:
    meta = ArrayMetadata(F4, cast_fill(0, F4), (2,), None, auto_codecs(F4))
    assert TileCodec.of(meta) is TileCodec.of(ArrayMetadata.from_stored(meta.stored()))
    again = pickle.loads(pickle.dumps(TileCodec.of(meta)))
    assert same_bits(again.decode(TileCodec.of(meta).encode(np.ones(2, F4)), (2,)), np.ones(2, F4))


def test_the_same_cells_are_the_same_bytes() -> None:
    for codecs in CHAINS:
        codec = chain(codecs, "i4")
        cells = values(np.dtype("i4"), (50,))
        assert codec.encode(cells) == chain(codecs, "i4").encode(np.repeat(cells, 2)[::2])


def test_little_endian_on_a_big_endian_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(txstore.codecs, "_SWAP", True)
    for code in ("i4", "c8", [("a", "i2"), ("b", "f8")], "M8[s]", "U2", "V3"):
        codec = chain(["zstd"] if code != "i4" else (), code)
        cells = values(codec.dtype, (5,))
        assert same_bits(codec.decode(codec.encode(cells), (5,)), cells)
        assert not codec.raw
    assert chain((), "i4").encode(np.array([1], "i4")) == b"\0\0\0\1"


# --- configurations ------------------------------------------------------------------------------


def test_resolved_as_zarr_python_would() -> None:
    assert resolve_codecs(["zstd", "crc32c"], F4) == (
        {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
        {"name": "crc32c"},
    )
    blosc = {"typesize": 4, "cname": "zstd", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
    assert resolve_codecs("blosc", F4) == ({"name": "blosc", "configuration": blosc},)
    assert resolve_codecs(["bytes", {"name": "gzip"}], F4) == ({"name": "gzip", "configuration": {"level": 5}},)
    assert resolve_codecs((), F4) == ()
    for code in DTYPES:
        dtype = parse_dtype(code)
        assert resolve_codecs(auto_codecs(dtype), dtype) == resolve_codecs("auto", dtype)


REFUSED: list[tuple[Any, str]] = [
    (["lz5"], "known are zstd, blosc"), ("zip", "unknown"), (3, "sequence"), ([3], "a codec is"), (None, "sequence"),
    ([{"name": "zstd", "level": 3}], "a codec is"), ([{"name": "zstd", "configuration": []}], "a codec is"),
    ([{"name": "zstd", "configuration": {"lvl": 3}}], "has no setting 'lvl'"),
    ([{"name": "zstd", "configuration": {"level": 23}}], "level"),
    ([{"name": "zstd", "configuration": {"level": True}}], "level"),
    ([{"name": "zstd", "configuration": {"checksum": 1}}], "checksum"),
    ([{"name": "gzip", "configuration": {"level": "5"}}], "level"),
    ([{"name": "blosc", "configuration": {"cname": "snappy"}}], "cname"),
    ([{"name": "blosc", "configuration": {"shuffle": 1}}], "shuffle"),
    ([{"name": "blosc", "configuration": {"typesize": 0}}], "typesize"),
    ([{"name": "numcodecs.shuffle", "configuration": {"elementsize": 3}}], "divisor"),
    ([{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}], "whole numbers"),
    ([{"name": "numcodecs.lzma", "configuration": {"filters": [{"id": 3}]}}], "filters"),
    (["zstd", "gzip"], "compressed"), (["zstd", "numcodecs.shuffle"], "whole cells"),
    (["crc32c", "numcodecs.shuffle"], "whole cells"), (["zstd", "bytes"], "'bytes'"), (["bytes", "bytes"], "'bytes'"),
    ([{"name": "bytes", "configuration": {"endian": "big"}}], "little-endian"),
    (["numcodecs.bitround"], "changes values"), (["transpose"], "shape"), (["sharding_indexed"], "shards"),
    (["numcodecs.zfpy"], "unknown"), (["numcodecs.pickle"], "unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("codecs", "match"), REFUSED, ids=str)
def test_refused(codecs: Any, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        resolve_codecs(codecs, F4)


def test_delta_is_for_whole_numbers_of_this_dtype() -> None:
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i4", "astype": "<i1"}}
    for codecs in ([delta], ["bytes", "numcodecs.delta"], ["zstd", "numcodecs.delta"]):
        with pytest.raises(InvalidInputError):
            resolve_codecs(codecs, np.dtype("i4"))


def test_numcodecs_is_not_imported_before_it_is_needed() -> None:
    # A package without the rest of txstore, which may well need numcodecs at once.
    code = (
        "import sys, types, numpy as np\n"
        "sys.modules['txstore'] = package = types.ModuleType('txstore'); package.__path__ = ['txstore']\n"
        "import txstore.metadata, txstore.codecs as c\n"
        "f4 = np.dtype('f4'); c.resolve_codecs('auto', f4); c.TileCodec(f4, c.resolve_codecs('gzip', f4))\n"
        "print(*{'numcodecs', 'zarr', 'lzma', 'bz2'} & set(sys.modules))"
    )
    root = Path(__file__).parent.parent
    assert not subprocess.run([sys.executable, "-c", code], check=True, cwd=root, stdout=subprocess.PIPE).stdout.strip()


# --- hostile bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_damaged_tiles_end_in_corruption_errors(codecs: Any) -> None:
    codec = chain(codecs, "i4")
    cells = np.cumsum(np.arange(600) % 7).astype("i4")
    good = np.frombuffer(codec.encode(cells), np.uint8)
    random = np.random.default_rng(1)
    for _ in range(60):
        bad = good.copy()
        bad[random.integers(0, min(24, bad.size), 3)] = random.integers(0, 256, 3)
        try:
            assert codec.decode(bad.tobytes(), cells.shape).shape == cells.shape
        except CorruptionError:
            pass
    for wrong in (b"", good[:-1].tobytes(), good.tobytes() + b"\0", good[:5].tobytes(), b"\0" * 30):
        with pytest.raises(CorruptionError):
            codec.decode(wrong, cells.shape)
    for shape in ((599,), (601,), (600, 2), (1,), (0,)):
        with pytest.raises(CorruptionError):
            codec.decode(good.tobytes(), shape)


def test_one_byte_is_not_spread_over_a_tile() -> None:
    for codecs in ("crc32c", "numcodecs.adler32", "numcodecs.gzip", ["crc32c", "zstd"]):
        codec = chain(codecs, "u1")
        with pytest.raises(CorruptionError):
            codec.decode(codec.encode(np.ones(1, "u1")), (5,))


BOMB = 256 * 1024 * 1024


def bombs() -> dict[str, bytes]:
    from numcodecs import blosc, zstd

    deflate = zlib.compressobj(wbits=-15)
    run = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    # A frame that declares no size: a header, and blocks that each repeat one byte 128 Ki times (RFC 8878, 3.1.1.2).
    header = b"\x28\xb5\x2f\xfd\x00\x58"
    block, last = ((2**17 << 3 | kind).to_bytes(3, "little") + b"\0" for kind in (0b010, 0b011))
    return {
        "zstd": zstd.compress(bytes(BOMB)),
        "zstd, in a second frame": zstd.compress(bytes(40)) + zstd.compress(bytes(BOMB)),
        "zstd, undeclared": header + block * 2047 + last,
        "blosc": blosc.compress(bytes(BOMB), b"lz4", 5, 1, 0, 4),
        "gzip": gzip.compress(b"", mtime=0)[:10] + run * 256,
        "numcodecs.zlib": b"\x78\x9c" + run * 256,
        "numcodecs.bz2": bz2.compress(bytes(BOMB // 8)),
        "numcodecs.lzma": lzma.compress(bytes(BOMB // 8), preset=0),
        "numcodecs.lz4": struct.pack("<I", BOMB) + bytes(100),
    }


def peak_bytes() -> int:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read as Linux tells it")
def test_bombs_take_no_memory() -> None:
    made = bombs()
    assert max(map(len, made.values())) < 2_000_000
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak_bytes()
    for name, bomb in made.items():
        with pytest.raises(CorruptionError):
            chain(name.split(",")[0]).decode(bomb, (10,))
    assert peak_bytes() - before < 16 * 1024 * 1024


def test_a_frame_without_a_declared_size_is_read() -> None:
    header = b"\x28\xb5\x2f\xfd\x00\x58"
    data = header + (40 << 3 | 0b011).to_bytes(3, "little") + b"\0"
    assert same_bits(chain("zstd").decode(data, (10,)), np.zeros(10, F4))
    for shape in ((9,), (11,)):
        with pytest.raises(CorruptionError):
            chain("zstd").decode(data, shape)


@pytest.mark.parametrize("level", [-5, 1, 3, 4, 9])
@pytest.mark.parametrize("checksum", [False, True])
def test_a_tile_may_be_several_frames(level: int, checksum: bool) -> None:
    codec = chain([{"name": "zstd", "configuration": {"level": level, "checksum": checksum}}])
    small = np.zeros((32, 1024), F4)
    assert codec.parts(small)[0] is small and codec.parts(small[:0])[0].size == 0
    for count in (129, 256, 512, 513, 1500):  # KiB
        tile = np.random.default_rng(count).integers(0, 50, (count, 256)).astype(F4).T
        parts = codec.parts(tile)
        assert same_bits(np.concatenate([part.ravel() for part in parts]), tile.ravel())
        encoded = [codec.encode(part) for part in parts]
        assert same_bits(codec.decode(b"".join(encoded), tile.shape), np.ascontiguousarray(tile))
        for bad in (encoded[:-1], [*encoded, encoded[0]], [encoded[0][:-9], *encoded[1:]], [*encoded, b"\0" * 9]):
            with pytest.raises(CorruptionError):
                codec.decode(b"".join(bad), tile.shape)
    assert len(parts) > 1


def test_other_chains_have_no_parts() -> None:
    tile = np.zeros((1 << 10, 1 << 10), F4)
    for codecs in ("auto", "numcodecs.lz4", "gzip", ["zstd", "crc32c"], ()):
        assert chain(codecs).parts(tile)[0] is tile


# --- the beginning of a tile ---------------------------------------------------------------------


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_the_beginning_of_a_tile(codecs: Any) -> None:
    dtype = np.dtype("i4")
    codec = chain(codecs, dtype)
    tile = np.random.default_rng(1).integers(0, 50, (300, 500)).astype(dtype)
    data = codec.encode(tile)
    for stop in (1, 499, 70_000, 112_499, 112_500, 112_501, tile.size):
        found = codec.decode(data, tile.shape, np.zeros(tile.shape, dtype), stop)
        assert same_bits(found.reshape(-1)[:stop], tile.reshape(-1)[:stop])


def test_zstd_stops_at_the_end_of_what_is_wanted() -> None:
    codec = chain("zstd", "i4")
    tile = np.random.default_rng(2).integers(0, 50, 300_000).astype("i4")
    data = codec.encode(tile)
    cut = data[: len(data) // 2]  # nothing behind it is looked at
    assert same_bits(codec.decode(cut, tile.shape, stop=100_000)[:100_000], tile[:100_000])
    for bad, size, stop in ((cut, 300_000, 200_000), (data[:30], 300_000, 1), (data, 299_999, 1), (b"no", 300_000, 1)):
        with pytest.raises(CorruptionError):
            codec.decode(bad, (size,), stop=stop)
    # What has several frames, or declares no size, is decoded as a whole.
    both = codec.encode(tile) + codec.encode(tile[:9])
    assert same_bits(codec.decode(both, (300_009,), stop=10)[:10], tile[:10])
    for bad in (both[:-9], codec.encode(tile[:9]) + data[:-9]):
        with pytest.raises(CorruptionError):
            codec.decode(bad, (300_009,), stop=1)
    for name, bomb in bombs().items():
        if name.startswith("zstd"):
            with pytest.raises(CorruptionError):
                codec.decode(bomb, (300_000,), stop=1)


def with_window(frame: bytes, log2: int) -> bytes:
    """The same zstd frame, its content size kept, with a window of its own (RFC 8878, 3.1.1.1)."""
    descriptor = frame[4]
    assert descriptor >> 6 == 2 and not descriptor & 3
    single_segment = descriptor >> 5 & 1
    return frame[:4] + bytes([descriptor & ~0x20, (log2 - 10) << 3]) + frame[6 - single_segment :]


def test_a_large_window_is_no_damage() -> None:
    codec = chain("zstd", "i4")
    tile = np.random.default_rng(3).integers(0, 50, 300_000).astype("i4")
    data = with_window(bytes(codec.encode(tile)), 28)
    assert same_bits(codec.decode(data, tile.shape), tile)
    assert same_bits(codec.decode(data, tile.shape, stop=1000)[:1000], tile[:1000])


def test_a_python_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = chain("zstd", "i4")
    tile = np.random.default_rng(4).integers(0, 50, 300_000).astype("i4")
    monkeypatch.setattr(stages, "_zstd_module", lambda: None)
    assert same_bits(codec.decode(codec.encode(tile), tile.shape, stop=1000), tile)


# --- several tiles at once -----------------------------------------------------------------------


def joined(codec: TileCodec, encoded: list[bytes], counts: list[int]) -> np.ndarray[Any, Any]:
    out = np.empty(sum(counts), codec.dtype)
    tiles = np.split(out, np.cumsum(counts)[:-1])
    codec.decode_all(np.frombuffer(b"".join(encoded), np.uint8), [len(one) for one in encoded], tiles, out)
    return out


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_tiles_back_to_back_decode_to_their_cells(codecs: Any) -> None:
    codec = chain(codecs, "i4")
    tiles = [values(codec.dtype, (count,), seed) for seed, count in enumerate((1, 600, 77))]
    found = joined(codec, [codec.encode(tile) for tile in tiles], [tile.size for tile in tiles])
    assert same_bits(found, np.concatenate(tiles))


def test_a_tile_of_another_size_does_not_move_its_neighbours() -> None:
    codec = chain("zstd", "i4")
    short, right, long = (codec.encode(np.arange(count, dtype="i4")) for count in (9, 10, 11))
    assert joined(codec, [right, right], [10, 10]).tolist() == 2 * list(range(10))
    for encoded in ([short, long], [long, short], [right, short], [right + right, b""], [right, right + right]):
        with pytest.raises(CorruptionError):
            joined(codec, encoded, [10, 10])
    for name, bomb in bombs().items():
        if name.startswith("zstd"):
            with pytest.raises(CorruptionError):
                joined(codec, [right, bomb], [10, 10])
    # What declares no size, or has several frames, is decoded by itself.
    half, rest = (codec.encode(part) for part in (np.arange(4, dtype="i4"), np.arange(4, 10, dtype="i4")))
    assert joined(codec, [right, half + rest], [10, 10]).tolist() == 2 * list(range(10))
    for encoded in ([half, rest + right], [half + rest + half, right], [half + right, rest]):
        with pytest.raises(CorruptionError):
            joined(codec, encoded, [10, 10])
    zeros = b"\x28\xb5\x2f\xfd\x00\x58" + (40 << 3 | 0b011).to_bytes(3, "little") + b"\0"
    assert joined(codec, [zeros, right], [10, 10]).tolist() == 10 * [0] + list(range(10))
    with pytest.raises(CorruptionError):
        joined(codec, [zeros, right], [9, 11])
