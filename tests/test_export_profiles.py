"""The profiles of an export: what ``portable`` makes of an array, and what readers then see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
from histories import append, create, same
from zarrtrees import contents, document, opened

from txstore.errors import InvalidInputError

NAT = -(2**63)

formats = pytest.mark.parametrize("zarr_format", [2, 3])


def dataset(root: Path, **options: Any) -> Any:
    return xr.open_zarr(root, **options).load()


# -- dtypes ---------------------------------------------------------------------------------------


@formats
@pytest.mark.parametrize(
    "dtype", ["S5", "U4", "V3", [("a", "i4")], "M8[ps]", "m8[as]", "m8[Y]", "m8[M]", "m8"], ids=str
)
def test_what_portable_can_not_hold_is_refused_by_name(
    store: Any, tmp_path: Path, dtype: Any, zarr_format: int
) -> None:
    with store.transaction() as tx:
        tx.create_array("land/a", shape=(3,), dtype=dtype)
    with pytest.raises(InvalidInputError, match=r"'land/a'.*profile='native'"):
        store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    assert not (tmp_path / "out").exists()
    store.export(tmp_path / "out", zarr_format=zarr_format)


def test_records_in_records_are_refused_in_v2(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(3,), dtype=[("x", [("y", "i4")])])
    with pytest.raises(InvalidInputError, match=r"'a'.*zarr_format=3"):
        store.export(tmp_path / "out", zarr_format=2)
    store.export(tmp_path / "out")


@formats
@pytest.mark.parametrize("dtype", ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"])
def test_numbers_stay_what_they_are(store: Any, tmp_path: Path, dtype: str, zarr_format: int) -> None:
    values = np.arange(30).reshape(5, 6).astype(dtype)
    create(store, "a", values, chunks=(2, 4))
    report = store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    assert not report.notes
    with opened(tmp_path / "out") as root:
        same(root["a"][...], values)
    spec = {
        "driver": "zarr" if zarr_format == 2 else "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "out" / "a")},
    }
    same(np.asarray(tensorstore.open(spec).result().read().result()), values)


# -- times ----------------------------------------------------------------------------------------


@formats
@pytest.mark.parametrize(
    ("unit", "words", "copied"),
    [
        ("ns", "nanoseconds", True),
        ("us", "microseconds", True),
        ("ms", "milliseconds", True),
        ("s", "seconds", True),
        ("h", "hours", True),
        ("D", "days", True),
        ("W", "days", False),
        ("M", "days", False),
        ("Y", "days", False),
        ("25s", "seconds", False),
    ],
)
def test_times_are_numbers_with_units(
    store: Any, tmp_path: Path, unit: str, words: str, copied: bool, zarr_format: int
) -> None:
    values = np.array([0, 1, 7, -3, NAT], "i8").view(f"M8[{unit}]")
    create(store, "t", values, chunks=(2,), dimension_names=("t",))
    report = store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    assert bool(report.bytes_copied) is copied
    with opened(tmp_path / "out") as root:
        array = root["t"]
        assert array.dtype == np.int64
        assert array.fill_value == NAT
        assert array.attrs["units"] == f"{words} since 1970-01-01 00:00:00"
        assert array.attrs["calendar"] == "proleptic_gregorian"
        assert array.attrs.get("_FillValue", NAT) == NAT
        code = {"nanoseconds": "ns", "microseconds": "us", "milliseconds": "ms", "seconds": "s", "hours": "h"}
        same(array[...], values.astype(f"M8[{code.get(words, 'D')}]").view("i8"))
    found = dataset(tmp_path / "out")["t"].values
    np.testing.assert_array_equal(found, values.astype(found.dtype))


@formats
@pytest.mark.parametrize("unit", ["ns", "ms", "s", "h", "D", "W"])
def test_durations_are_numbers_with_units(store: Any, tmp_path: Path, unit: str, zarr_format: int) -> None:
    values = np.array([0, 1, 7, -3, NAT], "i8").view(f"m8[{unit}]")
    create(store, "d", values, chunks=(2,), dimension_names=("t",))
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    found = dataset(tmp_path / "out")["d"].values
    assert found.dtype.kind == "m"
    np.testing.assert_array_equal(found, values.astype(found.dtype))


@formats
def test_a_time_that_is_no_nat_may_be_the_fill_value(store: Any, tmp_path: Path, zarr_format: int) -> None:
    # In v2 the fill value is what marks missing cells, so that it has to be NaT, and gaps have to be written.
    with store.transaction() as tx:
        made = tx.create_array(
            "t", shape=(7,), dtype="M8[s]", chunks=(2,), fill_value=np.datetime64("1999-12-31"), dimension_names=("t",)
        )
        made[2] = "NaT"
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    found = dataset(tmp_path / "out")["t"].values
    np.testing.assert_array_equal(found, store["t"][...].astype(found.dtype))
    with opened(tmp_path / "out") as root:
        same(root["t"][...], store["t"][...].view("i8"))


@formats
def test_times_that_are_too_large_are_refused_by_name(store: Any, tmp_path: Path, zarr_format: int) -> None:
    create(store, "t", np.array([2**61], "i8").view("M8[W]"))
    with pytest.raises(InvalidInputError, match=r"'t'.*too large for days.*native"):
        store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    assert not (tmp_path / "out").exists()


@formats
def test_an_attribute_in_the_way_of_the_units_is_reported(store: Any, tmp_path: Path, zarr_format: int) -> None:
    create(store, "t", np.array([1], "M8[s]"), attributes={"units": "fortnights", "long_name": "when"})
    report = store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    (note,) = report.notes
    assert "'t'" in note and "fortnights" in note
    with opened(tmp_path / "out") as root:
        assert root["t"].attrs["units"].startswith("seconds since")
        assert root["t"].attrs["long_name"] == "when"


# -- missing values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "fill_value"),
    [
        ("i4", 0),
        ("i4", 2),
        ("u1", 255),
        ("f4", 0),
        ("f8", np.inf),
        ("f4", np.nan),
        ("?", False),
        ("c8", 1j),
        ("f8", -0.0),
    ],
)
def test_xarray_masks_no_real_value(store: Any, tmp_path: Path, dtype: str, fill_value: Any) -> None:
    values = np.arange(12).reshape(3, 4).astype(dtype)
    values[0, 0] = fill_value
    with store.transaction() as tx:
        made = tx.create_array(
            "a", shape=(9, 4), dtype=dtype, chunks=(2, 2), fill_value=fill_value, dimension_names=("y", "x")
        )
        made[:3] = values
    store.export(tmp_path / "out", profile="portable", zarr_format=2)
    same(dataset(tmp_path / "out")["a"].values, store["a"][...])
    with opened(tmp_path / "out") as root:
        same(root["a"][...], store["a"][...])
        nan = bool(np.isnan(fill_value))
        assert (document(tmp_path / "out", "a/.zarray")["fill_value"] == "NaN") is nan
    chunks = [key for key in contents(tmp_path / "out") if not Path(key).name.startswith(".")]
    # Where the fill value is null, nobody can know what a missing chunk holds.
    assert len(chunks) == (4 if nan else 10)
    # The trap that this is about:
    if dtype == "i4":
        store.export(tmp_path / "native", zarr_format=2)
        assert np.isnan(dataset(tmp_path / "native")["a"].values[0, 0])


@formats
@pytest.mark.parametrize(
    "fill_value",
    [np.array(0x7FC00123, "u4").view("f4"), np.complex64(complex(np.nan, 1)), np.complex64(np.nan)],
    ids=str,
)
def test_a_nan_that_can_not_be_said_is_written(store: Any, tmp_path: Path, fill_value: Any, zarr_format: int) -> None:
    with store.transaction() as tx:
        made = tx.create_array("a", shape=(9,), dtype=fill_value.dtype, chunks=(2,), fill_value=fill_value)
        made[3] = 1
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    with opened(tmp_path / "out") as root:
        same(root["a"][...], store["a"][...])
    spec = {
        "driver": "zarr" if zarr_format == 2 else "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "out" / "a")},
    }
    same(np.asarray(tensorstore.open(spec).result().read().result()), store["a"][...])


@formats
@pytest.mark.parametrize("fill_value", [0, -9999, np.nan])
@pytest.mark.parametrize("declared", [-9999, "NaN", "AAAAAICHw8A="], ids=str)
def test_what_the_attributes_say_is_missing_is_masked(
    store: Any, tmp_path: Path, fill_value: float, declared: Any, zarr_format: int
) -> None:
    """CF's ``_FillValue``, as a number or as xarray writes it into v3, is what v2 calls the fill value."""
    values = np.array([0, 1, -9999, np.nan, 4], "f8")
    with store.transaction() as tx:
        made = tx.create_array(
            "a",
            shape=(8,),
            dtype="f8",
            chunks=(3,),
            fill_value=fill_value,
            dimension_names=("x",),
            attributes={"_FillValue": declared},
        )
        made[:5] = values
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    expected = store["a"][...]
    with opened(tmp_path / "out") as root:
        same(root["a"][...], expected)
        coded = "AAAAAAAA+H8=" if declared == "NaN" else "AAAAAICHw8A="  # as xarray does it
        assert root["a"].attrs.get("_FillValue") == (None if zarr_format == 2 else coded)
    if declared != "NaN":
        expected[expected == -9999] = np.nan
    same(dataset(tmp_path / "out")["a"].values, expected)


@formats
@pytest.mark.parametrize(
    ("dtype", "declared"),
    [("c8", 1), ("c16", [1, 0]), ("c8", ["AAAAAAAA8D8=", "AAAAAAAAAAA="]), ("f4", 1), ("i2", 1), ("u1", 1)],
    ids=str,
)
def test_the_missing_of_other_dtypes_are_masked(
    store: Any, tmp_path: Path, dtype: str, declared: Any, zarr_format: int
) -> None:
    create(store, "a", np.array([0, 1, 2], dtype), dimension_names=("x",), attributes={"_FillValue": declared})
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    found = dataset(tmp_path / "out")["a"].values
    assert np.isnan(found).tolist() == [False, True, False]


def test_an_array_that_would_have_to_be_written_without_gaps_may_be_too_large(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(2**40,), dtype="i4", chunks=(256,))
    with pytest.raises(InvalidInputError, match=r"'a'.*zarr_format=3"):
        store.export(tmp_path / "out", profile="portable", zarr_format=2)
    store.export(tmp_path / "out", profile="portable")


# -- names of dimensions --------------------------------------------------------------------------


def unnamed(store: Any) -> None:
    """Groups in which no extent has a name, or only some have."""
    with store.transaction() as tx:
        for path, shape, names in (
            ("a", (3, 4), None),
            ("half", (5, 6), (None, "x")),
            ("other", (7, 6), ("", "x")),
            ("square", (5, 5, 5), None),
            ("g/a", (8, 3), None),
            ("g/deep/a", (4,), None),
            ("g/deep/empty", (0, 4), None),
        ):
            size = int(np.prod(shape))
            values = np.arange(size, dtype="f4").reshape(shape)
            tx.create_array(path, data=values, dimension_names=names)
        tx.create_array("point", data=np.float32(3))


NAMED = {
    "a": ("phony_dim_3", "phony_dim_4"),
    "half": ("phony_dim_5", "x"),
    "other": ("phony_dim_7", "x"),
    "square": ("phony_dim_5", "phony_dim_5_1", "phony_dim_5_2"),
    "point": (),
    "g/a": ("phony_dim_8", "phony_dim_3"),
    "g/deep/a": ("phony_dim_4",),
    "g/deep/empty": ("phony_dim_0", "phony_dim_4"),
}


def check_named(store: Any, root: Path) -> None:
    """xarray opens every group by itself, and all of them as a tree, in which equal names have to be equal extents."""
    tree = xr.open_datatree(root, engine="zarr").load()
    for path, names in NAMED.items():
        parent, _, name = path.rpartition("/")
        for found in (dataset(root, group=parent or None)[name], tree[path]):
            assert found.dims == names
            same(found.values, store[path][...])
    tree.close()


@formats
def test_xarray_opens_arrays_whose_dimensions_nobody_named(store: Any, tmp_path: Path, zarr_format: int) -> None:
    unnamed(store)
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    check_named(store, tmp_path / "out")
    store.export(tmp_path / "native", zarr_format=zarr_format)
    with opened(tmp_path / "native") as root:
        if zarr_format == 3:
            assert root["a"].metadata.dimension_names is None
            assert root["half"].metadata.dimension_names == (None, "x")
        else:
            assert dict(root["a"].attrs) == {}
            assert dict(root["half"].attrs) == {"_ARRAY_DIMENSIONS": [None, "x"]}


@formats
def test_names_that_were_made_are_made_again(store: Any, open_store: Any, tmp_path: Path, zarr_format: int) -> None:
    """What comes back from a portable export may grow, and then the same names would mean other extents."""
    unnamed(store)
    store.export(tmp_path / "out", profile="portable", zarr_format=zarr_format)
    other = open_store("other")
    other.import_zarr(tmp_path / "out")
    assert other["a"].dimension_names == NAMED["a"]
    with other.transaction() as tx:
        tx["g/a"].append(np.zeros((2, 3), "f4"))
        tx["half"].append(np.zeros((2, 6), "f4"))
    other.export(tmp_path / "again", profile="portable", zarr_format=zarr_format)
    found = xr.open_datatree(tmp_path / "again", engine="zarr").load()
    assert found["g/a"].dims == ("phony_dim_10", "phony_dim_3")
    assert found["half"].dims == ("phony_dim_7", "x")
    same(found["g/a"].values, other["g/a"][...])
    found.close()


@formats
def test_a_name_that_follows_the_extent_changes_no_chunk(store: Any, tmp_path: Path, zarr_format: int) -> None:
    create(store, "a", np.ones((8, 5), "f4"), chunks=(4, 5), fill_value=np.nan)
    out = tmp_path / "out"
    store.export(out, profile="portable", zarr_format=zarr_format)
    append(store, "a", np.ones((4, 5), "f4"))
    report = store.export(out, profile="portable", zarr_format=zarr_format, incremental=True)
    assert (report.chunks_written, report.chunks_unchanged) == (1, 2)
    assert dataset(out)["a"].dims == ("phony_dim_12", "phony_dim_5")


def test_xarray_opens_v3(store: Any, tmp_path: Path) -> None:
    create(store, "a", np.arange(12, dtype="f4").reshape(3, 4), dimension_names=("y", "x"), fill_value=0)
    create(store, "y", np.array(["2020-01-01", "2020-01-02", "NaT"], "M8[ns]"), dimension_names=("y",))
    store.export(tmp_path / "out", profile="portable", layout="shards")
    found = dataset(tmp_path / "out")
    same(found["a"].values, store["a"][...])
    same(found["y"].values, store["y"][...])


# -- codecs ---------------------------------------------------------------------------------------


CHAINS: list[tuple[list[Any], str | None, str | None]] = [
    # stored, portable in v3, portable in v2 (None: none)
    ([], None, None),
    (["zstd"], "zstd", "zstd"),
    (["gzip"], "gzip", "gzip"),
    (["blosc"], "blosc", "blosc"),
    (["numcodecs.zlib"], "gzip", "zlib"),
    (["numcodecs.zstd"], "zstd", "zstd"),
    (["numcodecs.blosc"], "blosc", "blosc"),
    (["numcodecs.lz4"], "blosc", "blosc"),
    (["numcodecs.bz2"], "blosc", "blosc"),
    (["numcodecs.lzma"], "blosc", "blosc"),
    (["crc32c"], None, None),
    (["zstd", "crc32c"], "zstd", "zstd"),
    (["numcodecs.shuffle", "zstd"], "blosc", "blosc"),
    (["numcodecs.delta", "gzip"], "blosc", "blosc"),
]
chains = pytest.mark.parametrize(("codecs", "v3", "v2"), CHAINS, ids=lambda value: "+".join(value or ["raw"]))
quiet = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")


@chains
def test_portable_codecs(store: Any, tmp_path: Path, codecs: list[Any], v3: str | None, v2: str | None) -> None:
    values = np.arange(600, dtype="i4").reshape(20, 30)
    create(store, "a", values, chunks=(7, 8), codecs=codecs)
    report = store.export(tmp_path / "three", profile="portable")
    chain = [codec["name"] for codec in document(tmp_path / "three", "a/zarr.json")["codecs"]]
    assert chain == ["bytes", *([] if v3 is None else [v3])]
    copied = [name.removeprefix("numcodecs.") for name in codecs] == ([] if v3 is None else [v3])
    assert bool(report.bytes_copied) is copied
    assert bool(report.notes) is not copied
    report = store.export(tmp_path / "two", profile="portable", zarr_format=2)
    compressor = document(tmp_path / "two", "a/.zarray")["compressor"]
    assert (None if compressor is None else compressor["id"]) == v2
    assert document(tmp_path / "two", "a/.zarray")["filters"] is None
    for place, driver in (("three", "zarr3"), ("two", "zarr")):
        with opened(tmp_path / place) as root:
            same(root["a"][...], values)
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(tmp_path / place / "a")}}
        same(tensorstore.open(spec).result().read().result(), values)


@quiet
@chains
@formats
def test_native_codecs(
    store: Any, tmp_path: Path, codecs: list[Any], v3: str | None, v2: str | None, zarr_format: int
) -> None:
    values = np.arange(600, dtype="i4").reshape(20, 30)
    create(store, "a", values, chunks=(7, 8), codecs=codecs)
    report = store.export(tmp_path / "out", zarr_format=zarr_format)
    # v2 has no place for what follows the compressor.
    lost = zarr_format == 2 and codecs == ["zstd", "crc32c"]
    assert bool(report.bytes_encoded) is lost
    assert bool(report.notes) is lost
    with opened(tmp_path / "out") as root:
        same(root["a"][...], values)


@pytest.mark.parametrize(
    ("codec", "v2"),
    [
        ({"name": "zstd", "configuration": {"level": 3}}, {"id": "zstd", "level": 3}),
        (
            {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
            {"id": "zstd", "level": 3, "checksum": True},
        ),
        ({"name": "gzip", "configuration": {"level": 2}}, {"id": "gzip", "level": 2}),
        (
            {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 4, "shuffle": "bitshuffle"}},
            {"id": "blosc", "cname": "lz4", "clevel": 4, "shuffle": 2, "blocksize": 0},
        ),
    ],
    ids=str,
)
def test_codecs_in_the_words_of_v2(store: Any, tmp_path: Path, codec: Any, v2: Any) -> None:
    create(store, "a", np.arange(10), codecs=[codec])
    store.export(tmp_path / "out", zarr_format=2)
    found = document(tmp_path / "out", "a/.zarray")
    assert found["compressor"] == v2
    assert found["dimension_separator"] == "."
    assert found["order"] == "C"
