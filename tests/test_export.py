"""Export: what comes out is Zarr as others read it, bytes are copied, and a place holds old or new, never a mixture."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from histories import create, put, resize, same
from zarrtrees import DTYPES, contents, document, opened, sample

import txstore
from txstore.codecs import TileCodec
from txstore.compaction.exportdir import DirectoryDestination
from txstore.compaction.marker import MARKER
from txstore.compaction.progress import Progress
from txstore.errors import (
    AlreadyExistsError,
    CorruptionError,
    InvalidInputError,
    NotFoundError,
    SnapshotExpiredError,
    StorageError,
)
from txstore.segment import Place

LAYOUTS: list[dict[str, Any]] = [{}, {"layout": "shards"}, {"zarr_format": 2}]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(map(str, layout.values())) or "v3")

DEM = np.random.default_rng(1).normal(size=(50, 70)).astype("f4")


def fill(store: Any) -> None:
    """Groups, attributes, dimension names, shards, a hole and an edge."""
    with store.transaction() as tx:
        tx.attrs["title"] = "survey"
        dem = tx.create_array(
            "land/dem",
            shape=DEM.shape,
            dtype="f4",
            chunks=(8, 16),
            shards=(16, 32),
            fill_value=np.nan,
            dimension_names=("y", "x"),
            attributes={"units": "m", "levels": [1, {"a": None}]},
        )
        dem[...] = DEM
        tx["land"].attrs["region"] = "alps"
        tx.create_array("land/count", shape=(40,), dtype="i8", chunks=(16,), dimension_names=("n",), fill_value=-1)
        tx["land/count"][2:5] = 3
        tx.create_array("when", data=np.array(["2020-01-01", "NaT"], "M8[s]"))
        tx.create_group("empty/inside")


def check_filled(root: Any) -> None:
    assert dict(root.attrs) == {"title": "survey"}
    assert dict(root["land"].attrs) == {"region": "alps"}
    assert list(root["empty/inside"].members()) == []
    dem = root["land/dem"]
    same(dem[...], DEM)
    assert np.isnan(dem.fill_value)
    assert dem.chunks == (8, 16)
    attributes = dict(dem.attrs)
    names = (
        attributes.pop("_ARRAY_DIMENSIONS", None) if root.metadata.zarr_format == 2 else dem.metadata.dimension_names
    )
    assert list(names) == ["y", "x"]
    assert attributes == {"units": "m", "levels": [1, {"a": None}]}
    count = np.full(40, -1)
    count[2:5] = 3
    same(root["land/count"][...], count)
    assert root["land/count"].fill_value == -1
    same(root["when"][...], np.array(["2020-01-01", "NaT"], "M8[s]"))


# -- what others read -----------------------------------------------------------------------------


@layouts
@pytest.mark.parametrize("suffix", ["", ".zip"], ids=["directory", "zip"])
@pytest.mark.parametrize("consolidated", [True, False], ids=["consolidated", "apart"])
def test_zarr_reads_a_hierarchy(
    store: Any, tmp_path: Path, layout: dict[str, Any], suffix: str, consolidated: bool
) -> None:
    fill(store)
    out = tmp_path / f"out{suffix}"
    report = store.export(out, consolidated=consolidated, **layout)
    assert (report.version, report.arrays, report.groups) == (1, 3, 4)
    assert report.chunks_unchanged == report.chunks_deleted == 0
    for use in (consolidated, False):
        with opened(out, use_consolidated=use) as root:
            check_filled(root)
            assert sorted(path for path, _ in root.members(max_depth=None)) == [
                "empty", "empty/inside", "land", "land/count", "land/dem", "when",
            ]  # fmt: skip
    if not consolidated:
        with pytest.raises((ValueError, FileNotFoundError)), opened(out, use_consolidated=True):
            pass


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_are_those_that_zarr_writes(store: Any, tmp_path: Path, zarr_format: Any) -> None:
    fill(store)
    out = tmp_path / "out"
    store.export(out, zarr_format=zarr_format)
    key = ".zmetadata" if zarr_format == 2 else "zarr.json"
    ours = document(out, key)
    zarr.consolidate_metadata(out, zarr_format=zarr_format)
    theirs = document(out, key)
    if zarr_format == 2:
        for value in theirs["metadata"].values():
            value.pop("consolidated_metadata", None)  # which v2 does not have, and which no file of theirs holds
    assert theirs == ours


def test_shards_are_one_object_each(store: Any, tmp_path: Path) -> None:
    fill(store)
    store.export(tmp_path / "out", layout="shards")
    with opened(tmp_path / "out") as root:
        assert root["land/dem"].shards == (16, 32)
        assert root["land/count"].shards is None
    keys = {key for key in contents(tmp_path / "out") if key.startswith("land/dem/c/")}
    assert keys == {f"land/dem/c/{i}/{j}" for i in range(4) for j in range(3)}
    store.export(tmp_path / "plain")
    with opened(tmp_path / "plain") as root:
        assert root["land/dem"].shards is None


@layouts
def test_tensorstore_reads_it(store: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    fill(store)
    store.export(tmp_path / "out", **layout)
    driver = "zarr" if layout.get("zarr_format") == 2 else "zarr3"
    path = str(tmp_path / "out" / "land" / "dem")
    array = tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": path}}).result()
    same(array.read().result(), DEM)
    assert np.isnan(np.asarray(array.fill_value))
    if driver == "zarr3":
        assert array.domain.labels == ("y", "x")


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=["chunks", "shards"])
@pytest.mark.parametrize("codecs", [(), ("zstd",), ("gzip", "crc32c"), ("blosc",)], ids=str)
def test_zarrs_reads_it(store: Any, tmp_path: Path, layout: dict[str, Any], codecs: tuple[str, ...]) -> None:
    pytest.importorskip("zarrs")
    create(store, "a", DEM, codecs=codecs, chunks=(8, 16), shards=(16, 32))
    store.export(tmp_path / "out", **layout)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}), opened(tmp_path / "out") as root:
        same(root["a"][...], DEM)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_goes_out_as_it_is(store: Any, tmp_path: Path, name: str, zarr_format: int) -> None:
    dtype, fill_value = DTYPES[name]
    values = sample(dtype, (5, 4))
    with store.transaction() as tx:
        made = tx.create_array("a", shape=(9, 4), dtype=dtype, chunks=(2, 3), fill_value=fill_value)
        made[:5] = values
    expected = store["a"][...]
    same(expected[:5], values)
    out = tmp_path / "out"
    report = store.export(out, zarr_format=zarr_format)
    assert not report.notes
    with opened(out) as root:
        same(root["a"][...], expected)
        same(np.asarray(root["a"].fill_value, values.dtype), np.asarray(store["a"].fill_value, values.dtype))
    if np.dtype(dtype).kind in "biufc":
        driver = "zarr" if zarr_format == 2 else "zarr3"
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(out / "a")}}
        same(np.asarray(tensorstore.open(spec).result().read().result()), expected)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_goes_out_in_shards(store: Any, tmp_path: Path, name: str) -> None:
    dtype, fill_value = DTYPES[name]
    with store.transaction() as tx:
        made = tx.create_array("a", shape=(9, 4), dtype=dtype, chunks=(2, 3), shards=(4, 6), fill_value=fill_value)
        made[:5] = sample(dtype, (5, 4))
    report = store.export(tmp_path / "out", layout="shards")
    with opened(tmp_path / "out") as root:
        same(root["a"][...], store["a"][...])
        # zarr-python can't open shards of these, not even its own.
        apart = np.dtype(dtype).kind == "V"
        assert (root["a"].shards is None) is bool(report.notes) is apart


def test_a_short_bytes_fill_is_written_at_its_full_width(store: Any, tmp_path: Path) -> None:
    # TensorStore refuses the short form, which zarr-python writes.
    with store.transaction() as tx:
        tx.create_array("a", shape=(3,), dtype="S5", fill_value=b"ab")
    store.export(tmp_path / "out", zarr_format=2)
    assert document(tmp_path / "out", "a/.zarray")["fill_value"] == "YWIAAAA="
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(tmp_path / "out" / "a")}}
    assert tensorstore.open(spec).result().shape == (3, 5)  # of characters


def test_a_nan_that_is_not_the_usual_one_keeps_its_bits(store: Any, tmp_path: Path) -> None:
    # v2 can say "NaN" and no more, so that chunks without data are written all the same.
    odd = np.array(0x7FC00123, "u4").view("f4")
    with store.transaction() as tx:
        tx.create_array("a", shape=(4,), dtype="f4", chunks=(2,), fill_value=odd)[0] = 1
    store.export(tmp_path / "out", zarr_format=2)
    with opened(tmp_path / "out") as root:
        same(root["a"][...], store["a"][...])


# -- bytes ----------------------------------------------------------------------------------------


def stored_bytes(store: Any, path: str) -> dict[tuple[int, ...], bytes]:
    """The stored bytes of each chunk that is one tile."""
    snapshot = store.snapshot()
    view = snapshot._tree.view(snapshot[path]._row, path)
    found = {}
    for chunk in view.stored_chunks():
        place = view.chunk(chunk)
        assert isinstance(place, Place)
        found[chunk] = view.fetch(place)
    return found


def test_edges_that_are_mostly_padding_are_whole_chunks_after_compaction(store: Any, tmp_path: Path) -> None:
    values = np.arange(1, 145, dtype="f4").reshape(6, 24)
    create(store, "a", values, chunks=(4, 16), codecs=())
    snapshot = store.snapshot()
    view = snapshot._tree.view(snapshot["a"]._row, "a")
    assert isinstance(view.chunk((0, 0)), Place) and not isinstance(view.chunk((1, 1)), Place)
    (fragment,) = snapshot["a"].fragments()
    assert fragment.directory((4, 16)).nbytes == values.nbytes
    store.export(tmp_path / "before")
    store.compact()
    assert {len(data) for data in stored_bytes(store, "a").values()} == {4 * 16 * 4}
    store.export(tmp_path / "after")
    assert contents(tmp_path / "before") == contents(tmp_path / "after")
    with opened(tmp_path / "after") as root:
        same(root["a"][...], values)


@layouts
@pytest.mark.parametrize("compacted", [False, True])
def test_whole_chunks_are_copied_undecoded(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any], compacted: bool
) -> None:
    create(store, "a", DEM, chunks=(8, 16), shards=(16, 32), codecs=("zstd",))
    if compacted:
        put(store, "a", np.s_[3:9, 5:20], 1)
        store.compact()
    chunks = stored_bytes(store, "a")
    assert len(chunks) == 7 * 5

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a chunk was decoded or encoded")

    monkeypatch.setattr(TileCodec, "decode", refuse)
    monkeypatch.setattr(TileCodec, "encode", refuse)
    report = store.export(tmp_path / "out", **layout)
    assert report.bytes_encoded == 0
    found = contents(tmp_path / "out")
    if layout.get("layout") == "shards":
        assert all(any(data in shard for shard in found.values()) for data in chunks.values())
        return
    assert report.bytes_copied == sum(map(len, chunks.values()))
    for chunk, data in chunks.items():
        key = ".".join(map(str, chunk)) if "zarr_format" in layout else "/".join(["c", *map(str, chunk)])
        assert found[f"a/{key}"] == data


def test_what_was_written_across_chunks_is_merged(store: Any, tmp_path: Path) -> None:
    model = DEM.copy()
    create(store, "a", DEM, chunks=(8, 16))
    put(store, "a", np.s_[3:20, 5:20], 1)
    model[3:20, 5:20] = 1
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[10:30, 10:12], 2.5)
        tx["a"].oindex[[1, 9], [33, 49]] = -1
    model[10:30, 10:12] += np.float32(2.5)
    model[np.ix_([1, 9], [33, 49])] = -1
    report = store.export(tmp_path / "out")
    assert report.bytes_encoded and report.bytes_copied
    with opened(tmp_path / "out") as root:
        same(root["a"][...], model)


def test_chunks_of_fill_are_left_out(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(64, 64), dtype="f8", chunks=(8, 8), fill_value=0)
        tx["a"][8:24, :8] = 1
        tx["a"][40:42, 40:42] = -0.0  # which is not the fill value
    with store.transaction() as tx:
        tx["a"][8:16, :8] = 0
    store.export(tmp_path / "out")
    keys = {key for key in contents(tmp_path / "out") if "/c/" in key}
    assert keys == {"a/c/2/0", "a/c/5/5"}


def test_a_huge_sparse_array_costs_what_is_in_it(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(2**40, 2**20), dtype="u1", chunks=(256, 256))
        tx["a"][2**39 : 2**39 + 3, 5:7] = 9
    store.export(tmp_path / "out")
    with opened(tmp_path / "out") as root:
        assert root["a"].shape == (2**40, 2**20)
        assert root["a"][2**39 : 2**39 + 4, 4:8].sum() == 9 * 6
    assert len([key for key in contents(tmp_path / "out") if "/c/" in key]) == 1


def test_a_huge_array_that_was_cleared_costs_nothing(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(2**40, 2**20), dtype="u1", chunks=(256, 256))
        tx["a"][5:7, 5:7] = 9
    with store.transaction() as tx:
        tx["a"].clear()
        tx["a"][2**39, 2**19] = 1
    report = store.export(tmp_path / "out")
    assert report.chunks_written == 1
    with opened(tmp_path / "out") as root:
        assert root["a"][2**39, 2**19] == 1
        assert root["a"][5, 5] == 0


def test_one_value_over_all_partitions(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(2**17,), dtype="u1", chunks=(4,), codecs=())
        tx["a"][...] = 7
    with store.transaction() as tx:
        tx["a"][2**16 :] = 0
        tx["a"][3:6] = 1
    report = store.export(tmp_path / "out.zip")
    assert report.chunks_written == 2**14
    with opened(tmp_path / "out.zip") as root:
        same(root["a"][...], store["a"][...])


# -- shapes ---------------------------------------------------------------------------------------


@layouts
@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (1,), (17,), (3, 4, 5), (2, 1, 2, 1, 2, 1, 2, 3)], ids=str)
def test_shapes(store: Any, tmp_path: Path, shape: tuple[int, ...], layout: dict[str, Any]) -> None:
    values = np.arange(np.prod(shape, dtype=int), dtype="i4").reshape(shape) + 1
    create(store, "a", values, chunks=(2,) * len(shape), shards=(4,) * len(shape))
    store.export(tmp_path / "out", **layout)
    with opened(tmp_path / "out") as root:
        same(np.asarray(root["a"][...]), values)


@layouts
@pytest.mark.parametrize("compacted", [False, True])
def test_cells_that_were_cut_off_do_not_come_back(
    store: Any, tmp_path: Path, layout: dict[str, Any], compacted: bool
) -> None:
    """A shrink leaves bytes in boundary chunks; zarr-python, growing the array, would show them."""
    create(store, "a", np.ones((20, 20), "i4"), chunks=(8, 8), shards=(16, 16), fill_value=-5)
    resize(store, "a", (13, 9))
    if compacted:
        store.compact()
    store.export(tmp_path / "out", **layout)
    array: Any = zarr.open(tmp_path / "out" / "a", mode="r+")
    assert array.shape == (13, 9)
    array.resize((20, 20))
    expected = np.full((20, 20), -5, "i4")
    expected[:13, :9] = 1
    same(array[...], expected)


# -- what is exported -----------------------------------------------------------------------------


def test_an_array_lands_under_its_name_and_a_group_becomes_the_root(store: Any, tmp_path: Path) -> None:
    fill(store)
    report = store.export(tmp_path / "array", path="land/dem")
    assert (report.arrays, report.groups) == (1, 1)
    with opened(tmp_path / "array") as root:
        assert dict(root.attrs) == {}
        same(root["dem"][...], DEM)
        assert [name for name, _ in root.members()] == ["dem"]
    store.export(tmp_path / "group", path="/land/")
    with opened(tmp_path / "group") as root:
        assert dict(root.attrs) == {"region": "alps"}
        same(root["dem"][...], DEM)
    with pytest.raises(NotFoundError, match="land/nothing"):
        store.export(tmp_path / "none", path="land/nothing")
    with pytest.raises(NotFoundError):
        store.export(tmp_path / "none", path="land/dem/deeper")
    assert not (tmp_path / "none").exists()


def test_old_versions_and_branches(store: Any, tmp_path: Path) -> None:
    first = create(store, "a", np.arange(10)).version
    put(store, "a", np.s_[:], 0)
    store.create_branch("side", first)
    put(store, "a", np.s_[5:], 7, branch="side")
    with store.transaction() as tx:
        del tx["a"]
    expected = {
        "old": ({"version": first}, np.arange(10)),
        "side": ({"branch": "side"}, [0, 1, 2, 3, 4, 7, 7, 7, 7, 7]),
        "then": ({"branch": "main", "version": 2}, [0] * 10),
    }
    for name, (options, values) in expected.items():
        report = store.export(tmp_path / name, **options)
        assert report.version == store.snapshot(**options).version
        with opened(tmp_path / name) as root:
            np.testing.assert_array_equal(root["a"][...], values)
    store.export(tmp_path / "now")
    with opened(tmp_path / "now") as root:
        assert not list(root.members())
    with pytest.raises(NotFoundError):
        store.export(tmp_path / "future", version=99)


def test_an_empty_store(store: Any, tmp_path: Path) -> None:
    for layout in LAYOUTS:
        report = store.export(tmp_path / "out", overwrite=True, **layout)
        assert (report.version, report.arrays, report.groups) == (0, 0, 1)
        with opened(tmp_path / "out") as root:
            assert not list(root.members())


def test_a_store_that_is_read_only(open_store: Any, tmp_path: Path) -> None:
    create(open_store(), "a", DEM)
    open_store(mode="r").export(tmp_path / "out")
    with opened(tmp_path / "out") as root:
        same(root["a"][...], DEM)


def test_a_store_in_a_place_that_can_not_be_written(
    open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(open_store(), "a", DEM)

    def refuse(*arguments: Any) -> Any:
        raise StorageError("can't make a lock file")

    monkeypatch.setattr("txstore.core.Holder", refuse)
    open_store(mode="r").export(tmp_path / "new" / "place" / "out")
    with opened(tmp_path / "new" / "place" / "out") as root:
        same(root["a"][...], DEM)


# -- zip files ------------------------------------------------------------------------------------


def test_a_zip_file_is_written_once_and_always_the_same(store: Any, tmp_path: Path) -> None:
    fill(store)
    for name in ("one.zip", "two.zip"):
        store.export(tmp_path / name, layout="shards")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    store.export(tmp_path / "directory", layout="shards")
    assert contents(tmp_path / "directory") == contents(tmp_path / "one.zip")


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layout": "references"}, "references"),
        ({"layout": "tiles"}, "'chunks', 'shards'"),
        ({"chunks": (4, 4)}, "chunks="),
        ({"zarr_format": 4}, "zarr_format=4"),
        ({"zarr_format": True}, "zarr_format=True"),
        ({"profile": "best"}, "'native', 'portable'"),
        ({"zarr_format": 2, "layout": "shards"}, "Zarr v2 knows no shards"),
    ],
)
def test_what_can_not_be_done_is_refused(store: Any, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        store.export(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_processes_are_refused(store: Any, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(InvalidInputError, match="threads"):
        store.export(tmp_path / "out", executor=pool)


def test_an_executor_of_ones_own(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM, chunks=(8, 8))
    with ThreadPoolExecutor(1) as pool:
        store.export(tmp_path / "out", executor=pool)
        store.export(tmp_path / "out.zip", executor=pool)
    assert contents(tmp_path / "out") == contents(tmp_path / "out.zip")


@pytest.mark.parametrize("where", ["", "out.zarr", "segments/x", ".."])
def test_a_place_in_the_store_or_around_it_is_refused(store: Any, where: str) -> None:
    with pytest.raises(InvalidInputError, match="lies in the store"):
        store.export(Path(store.root) / where, overwrite=True)


@pytest.mark.parametrize("where", ["s3://bucket/x", "", "a\0b"])
def test_other_places_that_can_not_be(store: Any, where: str) -> None:
    with pytest.raises(InvalidInputError):
        store.export(where)


@pytest.mark.parametrize("where", ["/proc/out", "/proc/out.zip", "/dev/null/out"])
def test_places_that_can_not_be_written(store: Any, where: str) -> None:
    create(store, "a", DEM)
    with pytest.raises(StorageError, match=where):
        store.export(where)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory in another file system than that of the store."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=["chunks", "shards"])
def test_another_file_system(open_store: Any, elsewhere: Path, layout: dict[str, Any]) -> None:
    store = open_store(inline_bytes=0)
    create(store, "a", DEM, chunks=(8, 8), shards=(16, 16))
    store.compact()
    out = elsewhere / "out"
    store.export(out, **layout)
    put(store, "a", np.s_[0, 0], 1)
    assert store.export(out, incremental=True, **layout).chunks_written == 1
    store.export(out.with_suffix(".zip"), **layout)
    assert contents(out) == contents(out.with_suffix(".zip"))
    assert sorted(os.listdir(elsewhere)) == ["out", "out.zip"]


def test_what_is_there_is_not_replaced_unasked(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM)
    out, archive = tmp_path / "out", tmp_path / "out.zip"
    out.mkdir()  # an empty directory is nothing
    store.export(out)
    store.export(archive)
    before = contents(out), archive.read_bytes()
    put(store, "a", np.s_[0], 0)
    for place in (out, archive):
        with pytest.raises(AlreadyExistsError, match="overwrite=True"):
            store.export(place)
    assert (contents(out), archive.read_bytes()) == before
    for place in (out, archive):
        store.export(place, overwrite=True)
        with opened(place) as root:
            same(root["a"][...], store["a"][...])


def test_only_zarr_is_replaced(store: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    (tmp_path / "text").write_text("no directory")
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "directory.zip").mkdir()
    for place in ("home", "text", "text.zip", "directory.zip"):
        with pytest.raises(AlreadyExistsError):
            store.export(tmp_path / place, overwrite=True)
    assert (home / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "text.zip").read_text() == "no zip"


# -- progress -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".zip"])
@layouts
def test_progress(store: Any, tmp_path: Path, suffix: str, layout: dict[str, Any]) -> None:
    fill(store)
    seen: list[Progress] = []

    def note(step: Progress) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append(step)

    store.export(tmp_path / f"out{suffix}", progress=note, **layout)
    assert [step.done for step in seen] == list(range(1, len(seen) + 1))
    assert {step.total for step in seen} == {len(seen)}
    assert {step.label for step in seen} == {"land/dem", "land/count", "when"}
    assert {step.unit for step in seen} == {"chunks"}


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=["chunks", "shards"])
def test_raising_in_the_callback_cancels(store: Any, tmp_path: Path, suffix: str, layout: dict[str, Any]) -> None:
    create(store, "a", DEM, chunks=(8, 8), shards=(16, 16))
    out = tmp_path / f"out{suffix}"
    store.export(out, **layout)
    before = contents(out)
    put(store, "a", np.s_[:], 0)

    def stop(step: Progress) -> None:
        if step.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.export(out, overwrite=True, progress=stop, **layout)
    assert contents(out) == before
    assert sorted(os.listdir(tmp_path)) == sorted(["store", out.name])


@contextmanager
def small_disk(file_bytes: int) -> Iterator[None]:
    """No file can become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", ["", ".zip"])
@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=["chunks", "shards"])
def test_a_full_disk_leaves_what_was_there(store: Any, tmp_path: Path, suffix: str, layout: dict[str, Any]) -> None:
    out = tmp_path / f"out{suffix}"
    create(store, "a", np.arange(4), chunks=(2,))
    store.export(out)
    before = contents(out)
    create(store, "b", np.random.default_rng(0).normal(size=2**20), chunks=(2**19,), shards=(2**20,), codecs=())
    with small_disk(2**21), pytest.raises(StorageError, match=r"can't write b/c/\d"):
        store.export(out, overwrite=True, **layout)
    assert contents(out) == before
    assert sorted(os.listdir(tmp_path)) == sorted([out.name, "store"])


@pytest.mark.parametrize("name", ["\u6f22" * 80, "x" * 251])
def test_long_names(store: Any, tmp_path: Path, name: str) -> None:
    create(store, "a", DEM)
    for suffix in ("", ".zip"):
        out = tmp_path / (name + suffix)
        store.export(out)
        store.export(out, overwrite=True)
        with opened(out) as root:
            same(root["a"][...], DEM)
    assert len(os.listdir(tmp_path)) == 3
    steps: list[Progress] = []
    with pytest.raises(StorageError, match="too long"):
        store.export(tmp_path / (name + "x" * 20), progress=steps.append)
    assert not steps  # not after hours of work


# -- old or new, never a mixture ------------------------------------------------------------------


@pytest.mark.damaged
def test_damaged_bytes_do_not_go_out(open_store: Any, tmp_path: Path) -> None:
    store = open_store(inline_bytes=0)
    create(store, "a", DEM, chunks=(8, 8), codecs=())
    out = tmp_path / "out"
    store.export(out)
    before = contents(out)
    (segment,) = (path for path in Path(store.root, "segments").rglob("*") if path.is_file())
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(CorruptionError):
        store.export(out, overwrite=True)
    assert contents(out) == before
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


#: Exports, says so after some chunks, and waits to be killed.
EXPORTS = """
import sys, txstore

def note(step):
    if step.done == int(sys.argv[3]):
        print("writing", flush=True)
        sys.stdin.read()

txstore.open(sys.argv[1]).export(sys.argv[2], overwrite=True, incremental=sys.argv[4] == "incremental", progress=note)
"""


@pytest.mark.parametrize(("suffix", "how"), [("", "whole"), (".zip", "whole"), ("", "incremental")])
@pytest.mark.parametrize("chunks", [1, 150])
def test_killed_it_leaves_what_was_there(store: Any, tmp_path: Path, suffix: str, how: str, chunks: int) -> None:
    create(store, "a", np.arange(200), chunks=(1,))
    out = tmp_path / f"out{suffix}"
    store.export(out)
    before = contents(out)
    put(store, "a", np.s_[:] if how == "whole" else np.s_[::3], 7)
    arguments = [store.root, str(out), str(chunks), how]
    package = str(Path(txstore.__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": package}
    with subprocess.Popen(
        [sys.executable, "-c", EXPORTS, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=environment
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"writing\n"
        victim.send_signal(signal.SIGKILL)
    assert contents(out) == before
    left = [name for name in os.listdir(tmp_path) if name.endswith(".exporting")]
    assert len(left) == 1
    # The next one cleans up behind the dead.
    store.export(out, overwrite=True, incremental=how == "incremental")
    assert sorted(os.listdir(tmp_path)) == sorted(["store", out.name])
    with opened(out) as root:
        same(root["a"][...], store["a"][...])


def test_two_exports_to_one_place_do_not_meet(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM, chunks=(8, 8))
    out = tmp_path / "out"
    store.export(out)
    refused = []

    def again(step: Progress) -> None:
        if step.done == 1:
            with pytest.raises(StorageError, match="under way") as caught:
                store.export(out, overwrite=True)
            refused.append(caught.value)

    store.export(out, overwrite=True, progress=again)
    assert refused

    def first(step: Progress) -> None:
        if step.done == 1:
            store.export(tmp_path / "other")

    with pytest.raises(AlreadyExistsError):
        store.export(tmp_path / "other", progress=first)
    with opened(tmp_path / "other") as root:
        same(root["a"][...], DEM)
    assert sorted(os.listdir(tmp_path)) == ["other", "out", "store"]


def test_without_exchanging_names_it_is_moved_aside_and_back(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On file systems that can't exchange two names there is a moment without any; the next export repairs it."""
    monkeypatch.setattr("txstore.compaction.exportdir.exchange", lambda *paths: False)
    create(store, "a", DEM)
    out = tmp_path / "out"
    store.export(out)
    store.export(out, overwrite=True, zarr_format=2)
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]
    before = contents(out)
    rename, calls = os.rename, []

    def dying(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise SystemExit("killed between the two")
        rename(source, target)

    monkeypatch.setattr(os, "rename", dying)
    monkeypatch.setattr(DirectoryDestination, "abort", lambda self: self._release())
    with pytest.raises(SystemExit):
        store.export(out, overwrite=True)
    assert not out.exists()
    monkeypatch.undo()
    with pytest.raises(AlreadyExistsError):
        store.export(out)
    assert contents(out) == before
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]


# -- beside maintenance ---------------------------------------------------------------------------


@layouts
def test_a_version_does_not_expire_while_it_is_exported(
    open_store: Any, tmp_path: Path, layout: dict[str, Any]
) -> None:
    store = open_store(inline_bytes=0)
    old = create(store, "a", DEM, chunks=(8, 8), shards=(16, 16)).version
    for k in range(5):
        put(store, "a", np.s_[k : 3 * k + 4, k:40], k)

    def maintain(step: Progress) -> None:
        if step.done in (2, 9):
            store.compact()
            store.expire(keep_last=1)
            store.vacuum()

    store.export(tmp_path / "out", version=old, progress=maintain, **layout)
    with opened(tmp_path / "out") as root:
        same(root["a"][...], DEM)
    store.expire(keep_last=1)
    store.vacuum()
    with pytest.raises(SnapshotExpiredError):
        store.export(tmp_path / "late", version=old)


@pytest.mark.parametrize("suffix", ["", ".zip"])
@layouts
def test_compaction_and_vacuum_under_way(open_store: Any, tmp_path: Path, layout: dict[str, Any], suffix: str) -> None:
    """Rows that an export has read point to files that are gone; it reads them again."""
    store = open_store(inline_bytes=0)
    model = DEM.copy()
    create(store, "a", DEM, chunks=(8, 8), shards=(16, 16))
    for k in range(12):
        put(store, "a", np.s_[2 * k : 3 * k + 9, k:60], k)
        model[2 * k : 3 * k + 9, k:60] = k

    def maintain(step: Progress) -> None:
        if step.done == 1:
            store.compact()
            store.expire(keep_last=1)
            store.vacuum()

    with ThreadPoolExecutor(1) as pool:
        store.export(tmp_path / f"out{suffix}", progress=maintain, executor=pool, **layout)
    with opened(tmp_path / f"out{suffix}") as root:
        same(root["a"][...], model)


def test_a_segment_that_is_the_shard_is_shared(
    open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system can share blocks, the file of a compacted shard goes out as it is."""
    store = open_store(inline_bytes=0)
    model = DEM.copy()
    create(store, "a", DEM, chunks=(8, 8), shards=(16, 32), fill_value=0)
    put(store, "a", np.s_[:8, :8], 0)
    model[:8, :8] = 0
    store.compact()
    put(store, "a", np.s_[40:41, 60:61], 1)
    model[40, 60] = 1
    cloned: list[str] = []

    def clone(self: DirectoryDestination, path: str, key: str) -> bool:
        with open(path, "rb") as file:
            self.put(key, file.read())
        cloned.append(key)
        return True

    monkeypatch.setattr(DirectoryDestination, "clone", clone)
    store.export(tmp_path / "out", layout="shards")
    monkeypatch.undo()
    assert sorted(cloned) == sorted(f"a/c/{i}/{j}" for i in range(4) for j in range(3) if (i, j) != (2, 1))
    with opened(tmp_path / "out") as root:
        same(root["a"][...], model)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "out" / "a")}}
    same(tensorstore.open(spec).result().read().result(), model)


def test_the_report_is_json(store: Any, tmp_path: Path) -> None:
    fill(store)
    report = store.export(tmp_path / "out")
    assert report.to_dict()["version"] == 1
    assert report.to_dict()["notes"] == []
    with pytest.raises(AttributeError):
        report.version = 2


def test_the_marker_lies_where_nobody_lists(store: Any, tmp_path: Path) -> None:
    fill(store)
    store.export(tmp_path / "out", consolidated=False)
    assert [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob(MARKER)] == [
        f"land/count/{MARKER}"
    ]
    with opened(tmp_path / "out") as root:
        list(root.members(max_depth=None))  # warnings are errors


def test_names_that_could_be_mistaken(store: Any, tmp_path: Path) -> None:
    names = ["c", "0", "a b", "ü", "zarr", "x.y", "-", "C0"]
    with store.transaction() as tx:
        for name in names:
            tx.create_array(f"{name}/{name}", data=np.arange(3))
    for layout in LAYOUTS:
        store.export(tmp_path / "out", overwrite=True, **layout)
        with opened(tmp_path / "out") as root:
            assert sorted(name for name, _ in root.members()) == sorted(names)
            for name in names:
                same(root[f"{name}/{name}"][...], np.arange(3))


def test_closed_stores_export_nothing(store: Any, tmp_path: Path) -> None:
    store.close()
    with pytest.raises(txstore.errors.StoreClosedError):
        store.export(tmp_path / "out")
