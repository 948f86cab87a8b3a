"""Import: what others wrote as Zarr, in one commit, with nothing lost that is not reported."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore
import zarr
from histories import create, same
from zarr.codecs import BytesCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarrtrees import DTYPES, contents, opened, sample

from txstore.compaction.progress import Progress
from txstore.errors import AlreadyExistsError, CorruptionError, InvalidInputError, NotFoundError, TxStoreError
from txstore.segment import Place

formats = pytest.mark.parametrize("zarr_format", [2, 3])
DEM = np.random.default_rng(3).normal(size=(30, 50)).astype("f4")

#: Of v3, of v2 and of what has no specification; zarr-python says so of each.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Numcodecs codecs are not in the Zarr version 3", "ignore:.*does not have a Zarr V3 specification"
)


def tree(root: Path, zarr_format: Any) -> Path:
    """A hierarchy made by zarr-python."""
    group = zarr.create_group(root, zarr_format=zarr_format, attributes={"title": "survey"})
    land = group.create_group("land", attributes={"region": "alps"})
    names: Any = ("y", "x")
    dem = land.create_array(
        "dem",
        shape=DEM.shape,
        dtype="f4",
        chunks=(8, 16),
        shards=(16, 32) if zarr_format == 3 else None,
        fill_value=np.nan,
        dimension_names=names if zarr_format == 3 else None,
        attributes={"units": "m"} | ({"_ARRAY_DIMENSIONS": list(names)} if zarr_format == 2 else {}),
    )
    dem[...] = DEM
    land.create_array("count", shape=(40,), dtype="i8", chunks=(16,), fill_value=-1)[2:5] = 3
    group.create_group("empty")
    return root


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_bits_of_a_nan_as_fill_value_are_kept(store: Any, tmp_path: Path, dtype: str) -> None:
    bits = np.array([0x7FC00123 if dtype == "f4" else 0x7FF8000000000123], f"u{dtype[1]}")
    with store.transaction() as tx:
        tx.create_array("a", shape=(4,), dtype=dtype, chunks=2, fill_value=bits.view(dtype)[0])[0] = 1
    store.export(tmp_path / "out")
    store.import_zarr(tmp_path / "out", path="again")
    assert (store["again/a"][1:].view(bits.dtype) == bits).all()
    assert store["a"].metadata == store["again/a"].metadata


@formats
@pytest.mark.parametrize("packed", [False, True], ids=["directory", "zip"])
@pytest.mark.parametrize("consolidated", [False, True], ids=["apart", "consolidated"])
def test_a_hierarchy(store: Any, tmp_path: Path, zarr_format: int, packed: bool, consolidated: bool) -> None:
    src = tree(tmp_path / "src.zarr", zarr_format)
    if consolidated:
        zarr.consolidate_metadata(src)
    if packed:
        data, src = contents(src), tmp_path / "src.zip"
        with zipfile.ZipFile(src, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in data.items():
                archive.writestr(key, value)
    report = store.import_zarr(src, path="in", message="hello")
    assert (report.version, report.arrays, report.groups) == (1, 2, 3)
    assert (report.chunks_copied, report.chunks_encoded) == (17, 0)
    assert not report.notes
    snapshot = store.snapshot()
    assert next(store.log()).message == "hello"
    assert snapshot["in"].attrs.asdict() == {"title": "survey"}
    assert snapshot["in/land"].attrs.asdict() == {"region": "alps"}
    assert len(snapshot["in/empty"]) == 0
    dem = snapshot["in/land/dem"]
    same(dem[...], DEM)
    assert np.isnan(dem.fill_value)
    assert (dem.chunks, dem.shards) == ((8, 16), (16, 32) if zarr_format == 3 else None)
    assert dem.dimension_names == ("y", "x")
    assert dem.attrs.asdict() == {"units": "m"}
    assert snapshot["in/land/count"].fill_value == -1
    assert snapshot["in/land/count"][:6].tolist() == [-1, -1, 3, 3, 3, -1]
    # And out again.
    store.export(tmp_path / "out", path="in", zarr_format=zarr_format)
    with opened(tmp_path / "out") as root:
        same(root["land/dem"][...], DEM)
        assert root["land/dem"].attrs.get("_ARRAY_DIMENSIONS", ["y", "x"]) == ["y", "x"]


def test_into_the_root_and_into_what_is_there(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    report = store.import_zarr(src)
    assert (report.arrays, report.groups) == (2, 2)
    assert store.snapshot().attrs.asdict() == {"title": "survey"}
    same(store["land/dem"][...], DEM)
    for path in ("", "land", "land/dem", "land/dem/x"):
        with pytest.raises(AlreadyExistsError):
            store.import_zarr(src, path=path)
    store.import_zarr(src, path="/land/again/")
    same(store["land/again/land/dem"][...], DEM)
    with store.transaction() as tx:
        tx.attrs["title"] = "mine"
        for name in list(tx):
            del tx[name]
    with pytest.raises(AlreadyExistsError, match="'title'"):
        store.import_zarr(src)


@formats
def test_an_array_alone(store: Any, tmp_path: Path, zarr_format: int) -> None:
    src = tree(tmp_path / "src", zarr_format)
    store.import_zarr(src / "land" / "dem", path="there/it/is")
    same(store["there/it/is"][...], DEM)
    os.rename(src / "land" / "dem", tmp_path / "lonely.zarr")
    store.import_zarr(tmp_path / "lonely.zarr")
    same(store["lonely"][...], DEM)


def test_onto_a_branch(store: Any, tmp_path: Path) -> None:
    create(store, "x", DEM)
    store.create_branch("side")
    store.import_zarr(tree(tmp_path / "src", 3), path="in", branch="side")
    assert "in" not in store
    same(store.snapshot(branch="side")["in/land/dem"][...], DEM)


# -- values ---------------------------------------------------------------------------------------


@formats
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(store: Any, tmp_path: Path, name: str, zarr_format: Any) -> None:
    dtype, fill_value = DTYPES[name]
    values = sample(dtype, (5, 4))
    options = {} if fill_value is None else {"fill_value": fill_value}
    array = zarr.create_array(
        tmp_path / "src", shape=(9, 4), dtype=values.dtype, chunks=(2, 3), zarr_format=zarr_format, **options
    )
    array[:5] = values
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], array[...])
    same(np.asarray(store["a"].fill_value, values.dtype), np.asarray(array.fill_value, values.dtype))
    assert report.chunks_copied in (5, 6)  # one may happen to hold nothing but fill
    assert report.chunks_encoded == 0
    assert not report.notes


@formats
@pytest.mark.parametrize("dtype", [">i4", ">f8", ">u2", ">M8[s]", ">c16", ">U3"])
def test_big_endian_numbers(store: Any, tmp_path: Path, dtype: str, zarr_format: Any) -> None:
    values = sample(np.dtype(dtype).newbyteorder("="), (7, 3))
    options: Any = {}
    if zarr_format == 3:
        options["serializer"] = BytesCodec(endian="big")
        dtype = dtype.replace(">", "<")
    array = zarr.create_array(
        tmp_path / "src", shape=(7, 3), dtype=dtype, chunks=(2, 3), zarr_format=zarr_format, **options
    )
    array[...] = values
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], values)
    assert report.chunks_copied == 0
    assert report.chunks_encoded == 4


def test_columns_first(store: Any, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "src", shape=DEM.shape, dtype="f4", chunks=(8, 8), order="F", zarr_format=2)
    array[...] = DEM
    store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], DEM)


@pytest.mark.parametrize("dtype", ["f4", "i4", "M8[s]", "?", "S3"])
def test_a_null_fill_value_is_what_zarr_reads(store: Any, tmp_path: Path, dtype: str) -> None:
    array = zarr.create_array(
        tmp_path / "src",
        shape=(6,),
        dtype=np.dtype(dtype),
        chunks=(2,),
        zarr_format=2,
        fill_value=0 if dtype == "f4" else None,
    )
    document = json.loads((tmp_path / "src" / ".zarray").read_text())
    document["fill_value"] = None
    (tmp_path / "src" / ".zarray").write_text(json.dumps(document))
    array = zarr.open_array(tmp_path / "src", mode="r+")
    array[:2] = sample(dtype, (2,))
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], array[...])
    assert any("null" in note for note in report.notes)


@formats
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (3, 4, 5), (2, 1, 2, 1, 2, 1, 2, 3)], ids=str)
def test_shapes(store: Any, tmp_path: Path, shape: tuple[int, ...], zarr_format: Any) -> None:
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape) + 1
    array = zarr.create_array(
        tmp_path / "src", shape=shape, dtype="i4", chunks=(2,) * len(shape), zarr_format=zarr_format
    )
    if values.size:
        array[...] = values
    store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], values)


@pytest.mark.parametrize("encoding", [{"name": "default", "separator": "."}, {"name": "v2", "separator": "/"}])
def test_other_keys_of_chunks(store: Any, tmp_path: Path, encoding: Any) -> None:
    array = zarr.create_array(
        tmp_path / "src", shape=DEM.shape, dtype="f4", chunks=(8, 16), chunk_key_encoding=encoding
    )
    array[...] = DEM
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], DEM)
    assert report.chunks_encoded == 0


def test_nested_keys_of_v2(store: Any, tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "src", shape=DEM.shape, dtype="f4", chunks=(8, 16), zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    array[...] = DEM
    store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], DEM)


def test_tensorstore_wrote_it(store: Any, tmp_path: Path) -> None:
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "src")}},
        create=True,
        dtype="float32",
        shape=DEM.shape,
        dimension_units=[None, None],
        chunk_layout=tensorstore.ChunkLayout(read_chunk_shape=(5, 10), write_chunk_shape=(10, 20)),
    ).result()
    array[...] = DEM
    store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], DEM)
    assert store["a"].shards == (10, 20)


def test_a_huge_sparse_array(store: Any, tmp_path: Path) -> None:
    every: list[dict[str, Any]] = [{}, {"shards": (2**12, 2**12)}, {"zarr_format": 2}]
    for number, options in enumerate(every):
        src = tmp_path / str(number)
        array = zarr.create_array(src, shape=(2**40, 2**30), dtype="u1", chunks=(256, 256), **options)
        array[2**39 : 2**39 + 3, 5:7] = 9
        report = store.import_zarr(src, path=str(number))
        assert report.chunks_copied == 1
        assert store[str(number)][2**39 : 2**39 + 4, 4:8].sum() == 9 * 6


@formats
def test_cells_beyond_the_shape_do_not_come_in(store: Any, tmp_path: Path, zarr_format: Any) -> None:
    """zarr-python, making an array smaller, leaves cells in boundary chunks, and shows them when it grows again."""
    array = zarr.create_array(
        tmp_path / "src", shape=(20, 20), dtype="i4", chunks=(8, 8), zarr_format=zarr_format, fill_value=-5
    )
    array[...] = 1
    array.resize((13, 9))
    (tmp_path / "src" / ("c/99" if zarr_format == 3 else "99.99")).mkdir(parents=True)
    store.import_zarr(tmp_path / "src", path="a")
    with store.transaction() as tx:
        tx["a"].resize((20, 20))
    expected = np.full((20, 20), -5, "i4")
    expected[:13, :9] = 1
    same(store["a"][...], expected)
    store.export(tmp_path / "out", version=1)
    out: Any = zarr.open_array(tmp_path / "out" / "a", mode="r+")
    out.resize((20, 20))
    same(out[...], expected)


# -- bytes ----------------------------------------------------------------------------------------


@formats
@pytest.mark.parametrize("shards", [None, (16, 32)])
def test_chunks_are_taken_as_they_are(store: Any, tmp_path: Path, zarr_format: Any, shards: Any) -> None:
    if zarr_format == 2 and shards is not None:
        pytest.skip("v2 knows no shards")
    array = zarr.create_array(
        tmp_path / "src", shape=DEM.shape, dtype="f4", chunks=(8, 16), shards=shards, zarr_format=zarr_format
    )
    array[...] = DEM
    report = store.import_zarr(tmp_path / "src", path="a")
    assert (report.chunks_copied, report.chunks_encoded) == (16, 0)
    found = contents(tmp_path / "src")
    snapshot = store.snapshot()
    view = snapshot._tree.view(snapshot["a"]._row, "a")
    chunks = list(view.stored_chunks())
    assert len(chunks) == 16
    for chunk in chunks:
        place = view.chunk(chunk)
        assert isinstance(place, Place)
        data = view.fetch(place)
        if shards is not None:
            assert any(data in shard for shard in found.values())
        else:
            assert data == found[".".join(map(str, chunk)) if zarr_format == 2 else "/".join(["c", *map(str, chunk)])]


CODECS_V2: list[tuple[Any, Any, bool]] = [
    # compressor, filters, whether bytes can be taken
    (None, None, True),
    (numcodecs.Blosc("zstd", 5, 2), None, True),
    (numcodecs.Blosc("lz4", 5, -1), None, True),
    (numcodecs.Zstd(3), None, True),
    (numcodecs.GZip(4), None, True),
    (numcodecs.Zlib(4), None, True),
    (numcodecs.LZ4(), None, True),
    (numcodecs.BZ2(2), None, True),
    (numcodecs.LZMA(preset=1), None, True),
    (numcodecs.Zstd(1), [numcodecs.Delta("<i4")], True),
    (numcodecs.Zlib(1), [numcodecs.Shuffle(4)], True),
    (numcodecs.Zlib(1), [numcodecs.Delta("<i4"), numcodecs.Shuffle(4)], True),
    (None, [numcodecs.CRC32()], True),
    (None, [numcodecs.FixedScaleOffset(0, 1, "<i4")], False),
    (numcodecs.Zstd(1), [numcodecs.Delta("<i4", "<i2")], False),
]


@pytest.mark.parametrize(("compressor", "filters", "taken"), CODECS_V2, ids=str)
def test_codecs_of_v2(store: Any, tmp_path: Path, compressor: Any, filters: Any, taken: bool) -> None:
    values = np.arange(600, dtype="i4").reshape(20, 30)
    array = zarr.create_array(
        tmp_path / "src", shape=(20, 30), dtype="i4", chunks=(7, 8), zarr_format=2,
        compressors=compressor, filters=filters,
    )  # fmt: skip
    array[...] = values
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], values)
    assert bool(report.chunks_copied) is taken
    assert bool(report.notes) is not taken
    if taken:
        # The same codecs come out.
        store.export(tmp_path / "out", zarr_format=2)
        ours = json.loads((tmp_path / "out" / "a" / ".zarray").read_text())
        theirs = json.loads((tmp_path / "src" / ".zarray").read_text())
        for key in ("compressor", "filters"):
            assert _plain(ours[key]) == _plain(theirs[key])


def _plain(codecs: Any) -> Any:
    """Descriptions of codecs without what is said by default."""
    found = []
    for codec in codecs if isinstance(codecs, list) else [codecs or {}]:
        if codec.get("shuffle") == -1:
            codec["shuffle"] = 1
        found.append({key: value for key, value in codec.items() if key not in ("checksum", "typesize")})
    return found


@pytest.mark.parametrize(
    ("filters", "compressors"),
    [
        ([TransposeCodec(order=(1, 0))], "auto"),
        ([], [GzipCodec(), ZstdCodec()]),
    ],
    ids=["transpose", "two compressors"],
)
def test_codecs_that_are_replaced(store: Any, tmp_path: Path, filters: Any, compressors: Any) -> None:
    array = zarr.create_array(
        tmp_path / "src", shape=DEM.shape, dtype="f4", chunks=(8, 8), filters=filters, compressors=compressors
    )
    array[...] = DEM
    report = store.import_zarr(tmp_path / "src", path="a")
    same(store["a"][...], DEM)
    (note,) = report.notes
    assert "codecs replaced by blosc" in note
    assert report.chunks_copied == 0


# -- attributes -----------------------------------------------------------------------------------


@formats
def test_bare_nan_in_attributes(store: Any, tmp_path: Path, zarr_format: Any) -> None:
    src = tree(tmp_path / "src", zarr_format)
    array: Any = zarr.open_array(src / "land" / "dem", mode="r+")
    array.attrs["valid"] = [0.0, float("nan"), {"top": float("inf"), "low": float("-inf")}]
    assert "NaN" in (src / "land" / "dem" / ("zarr.json" if zarr_format == 3 else ".zattrs")).read_text()
    report = store.import_zarr(src)
    assert store["land/dem"].attrs["valid"] == [0.0, "NaN", {"top": "Infinity", "low": "-Infinity"}]
    assert len(report.notes) == 3
    assert all("'land/dem'" in note for note in report.notes)
    assert any("valid[1]" in note for note in report.notes)
    assert report.to_dict()["notes"] == list(report.notes)


# -- what can't be --------------------------------------------------------------------------------


def test_nothing_there(store: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    for src in ("nowhere", "empty", "text.zip", "nowhere/deeper.zarr"):
        with pytest.raises(NotFoundError):
            store.import_zarr(tmp_path / src)
    for wrong in ("", "a\0b"):
        with pytest.raises(InvalidInputError):
            store.import_zarr(wrong)
    assert store.snapshot().version == 0


@formats
def test_a_dtype_that_can_not_be_held_is_named(store: Any, tmp_path: Path, zarr_format: Any) -> None:
    src = tree(tmp_path / "src", zarr_format)
    group: Any = zarr.open_group(src, mode="r+")
    group.create_array("land/names", shape=(3,), dtype=str)
    with pytest.raises(InvalidInputError, match="'land/names'"):
        store.import_zarr(src)
    assert store.snapshot().version == 0
    assert not list(store.snapshot().members())


def test_what_zarr_can_not_open_is_named(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    path = src / "land" / "count" / "zarr.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"data_type": "float128"}))
    with pytest.raises(InvalidInputError, match="'land/count'"):
        store.import_zarr(src)


def test_a_name_that_can_not_be_is_named(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    os.rename(src / "land" / "dem", src / "land" / "__private")
    with pytest.raises(InvalidInputError, match="'land/__private' can't be imported"):
        store.import_zarr(src)


@formats
def test_what_zarr_does_not_recognize_is_reported(store: Any, tmp_path: Path, zarr_format: int) -> None:
    src = tree(tmp_path / "src", zarr_format)
    os.rename(src / "land" / "dem", src / "land" / "a\\b")  # zarr-python takes it for a directory a
    (src / "README").write_text("years of work")
    report = store.import_zarr(src)
    assert len(report.notes) == 2
    assert any("README" in note for note in report.notes)


@formats
@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_damaged_chunks(store: Any, tmp_path: Path, zarr_format: int, damage: str) -> None:
    src = tree(tmp_path / "src", zarr_format)
    chunk = src / "land" / "count" / ("c/0" if zarr_format == 3 else "0")
    data = chunk.read_bytes()
    chunk.write_bytes({"cut": data[:-3], "other": b"x" * 100, "empty": b""}[damage])
    with pytest.raises(CorruptionError, match="'land/count'") as caught:
        store.import_zarr(src)
    assert "\n" not in str(caught.value)
    assert store.snapshot().version == 0
    assert not [path for path in Path(store.root, "segments").rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", [0, -1, -5, -20])
def test_damaged_shards(store: Any, tmp_path: Path, place: int) -> None:
    src = tree(tmp_path / "src", 3)
    shard = src / "land" / "dem" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[place] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(CorruptionError):
        store.import_zarr(src)
    shard.write_bytes(data[-10:])
    with pytest.raises(CorruptionError, match="less than the index"):
        store.import_zarr(src)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_zip_files(store: Any, tmp_path: Path, method: int) -> None:
    """Whatever a way of compressing says of bytes that are none of its own, it is the file that is to blame."""
    src = tmp_path / "src.zip"
    with zipfile.ZipFile(src, "w", method) as archive:
        for key, value in contents(tree(tmp_path / "src", 3)).items():
            archive.writestr(key, value)
        entry = archive.getinfo("land/count/c/0")
        start = entry.header_offset + 30 + len(entry.filename)
    data = src.read_bytes()
    for place in (start, start + entry.compress_size // 2, start + entry.compress_size - 5):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        src.write_bytes(damaged)
        try:
            with zipfile.ZipFile(src) as archive:
                archive.read(entry.filename)
        except Exception:
            with pytest.raises(CorruptionError, match="land/count/c/0"):
                store.import_zarr(src)
        else:
            assert method == zipfile.ZIP_LZMA  # of whose first bytes Python makes nothing
    assert store.snapshot().version == 0


def test_what_is_no_file_is_no_chunk(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    os.remove(src / "land" / "count" / "c" / "0")
    os.mkfifo(src / "land" / "count" / "c" / "0")  # from which nothing would ever come
    os.remove(src / "land" / "dem" / "c" / "0" / "0")
    os.mkdir(src / "land" / "dem" / "c" / "0" / "0")
    store.import_zarr(src)
    assert (store["land/count"][...] == -1).all()
    dem = DEM.copy()
    dem[:16, :32] = np.nan
    same(store["land/dem"][...], dem)


@pytest.mark.parametrize("what", ["land", "land/count"])
def test_attributes_that_are_none_are_named(store: Any, tmp_path: Path, what: str) -> None:
    src = tree(tmp_path / "src", 3)
    path = src / what / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attributes": [1]}))
    with pytest.raises(InvalidInputError, match=f"'{what}' can't be"):
        store.import_zarr(src)


def test_a_file_that_is_far_too_large(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    with open(src / "land" / "count" / "c" / "0", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptionError, match="would be many"):
        store.import_zarr(src)


def test_a_chunk_that_is_said_to_be_larger_than_any_memory(store: Any, tmp_path: Path) -> None:
    src = tree(tmp_path / "src", 3)
    path = src / "land" / "count" / "zarr.json"
    document = json.loads(path.read_text())
    document["shape"] = document["chunk_grid"]["configuration"]["chunk_shape"] = [2**50]
    path.write_text(json.dumps(document))
    with pytest.raises(TxStoreError, match="'land/count'"):
        store.import_zarr(src)


# -- progress -------------------------------------------------------------------------------------


@formats
def test_progress_and_cancelling(store: Any, tmp_path: Path, zarr_format: int) -> None:
    src = tree(tmp_path / "src", zarr_format)
    seen: list[Progress] = []

    def note(step: Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(step)

    store.import_zarr(src, path="in", progress=note)
    assert [step.done for step in seen] == list(range(1, len(seen) + 1))
    assert {step.total for step in seen} == {len(seen)}
    assert {step.label for step in seen} == {"in/land/dem", "in/land/count"}

    def stop(step: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.import_zarr(src, path="again", progress=stop)
    assert "again" not in store
    assert store.snapshot().version == 1


def test_read_only_stores_import_nothing(open_store: Any, tmp_path: Path) -> None:
    open_store()
    with pytest.raises(TxStoreError, match="read-only"):
        open_store(mode="r").import_zarr(tree(tmp_path / "src", 3))


# -- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [{}, {"layout": "shards"}, {"zarr_format": 2}], ids=str)
def test_there_and_back(store: Any, open_store: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    for name, (dtype, fill_value) in DTYPES.items():
        with store.transaction() as tx:
            made = tx.create_array(
                f"g/{name}", shape=(9, 4), dtype=dtype, chunks=(2, 3), shards=(4, 6), fill_value=fill_value,
                dimension_names=("y", "x"), attributes={"k": [1, None, {"a": "b"}]},
            )  # fmt: skip
            made[:5] = sample(dtype, (5, 4))
    store.export(tmp_path / "out", **layout)
    other = open_store("other")
    report = other.import_zarr(tmp_path / "out")
    assert report.chunks_encoded == 0
    assert not report.notes
    for name in DTYPES:
        there, here = store[f"g/{name}"], other[f"g/{name}"]
        same(here[...], there[...])
        same(np.asarray(here.fill_value), np.asarray(there.fill_value))
        assert here.attrs.asdict() == there.attrs.asdict()
        assert here.dimension_names == there.dimension_names
        assert (here.chunks, here.codecs) == (there.chunks, there.codecs)
    store.export(tmp_path / "one", **layout)
    other.export(tmp_path / "two", **layout)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
