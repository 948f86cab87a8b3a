"""Every dtype, fill value and number of axes comes back bit for bit, staged, committed, compacted and reopened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from histories import append, create, put, resize, same

import txstore
from txstore.errors import DTypeError, InvalidInputError

Array = npt.NDArray[Any]

RECORD = np.dtype([("flag", "?"), ("x", "<i4"), ("y", "<f8"), ("name", "S3")])
NESTED = np.dtype([("when", "<M8[s]"), ("point", [("lat", "<f4"), ("lon", "<f4")]), ("label", "<U2")])

NUMBERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
TIMES = [f"{kind}[{unit}]" for kind in ("M8", "m8") for unit in ("Y", "D", "s", "ms", "ns", "25us")]
OTHERS: list[Any] = ["?", "S1", "S7", "U1", "U5", "V5", RECORD, NESTED]
DTYPES: list[Any] = [*NUMBERS, *TIMES, *OTHERS]

random = np.random.default_rng(17)


def name_of(dtype: Any) -> str:
    return {RECORD: "record", NESTED: "nested"}.get(dtype, str(dtype)) if isinstance(dtype, np.dtype) else str(dtype)


def some(dtype: Any, shape: tuple[int, ...]) -> Array:
    """Random bits, as far as every bit pattern is a value: NaN payloads, infinities and NaT among them."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype="i8"))
    if dtype.names:
        found = np.zeros(count, dtype=dtype)
        for name in dtype.names:
            found[name] = some(dtype[name], (count,))
    elif dtype.kind == "b":
        found = random.integers(0, 2, size=count).astype(bool)
    elif dtype.kind in "SU":
        alphabet = np.array(list("aZ0 ~") + (["é", "中", "🜁"] if dtype.kind == "U" else []))
        width = dtype.itemsize // (4 if dtype.kind == "U" else 1)
        words = ["".join(random.choice(alphabet, size=random.integers(0, width + 1))) for _ in range(count)]
        found = np.array(words, dtype=f"U{width}").astype(dtype) if count else np.zeros(0, dtype=dtype)
    else:
        found = np.frombuffer(random.bytes(count * dtype.itemsize), dtype=dtype)
    return found.reshape(shape).copy()


NAN_WITH_PAYLOAD = np.uint32(0x7FC00123).view("f4")

FILLS: list[tuple[Any, Any]] = [
    *((dtype, None) for dtype in DTYPES),
    *((dtype, 1) for dtype in NUMBERS),
    *((dtype, np.iinfo(dtype).min) for dtype in NUMBERS[:8]),
    *((dtype, np.iinfo(dtype).max) for dtype in NUMBERS[:8]),
    *((dtype, value) for dtype in ("f2", "f4", "f8") for value in (np.nan, np.inf, -np.inf, -0.0, 0.1)),
    *((dtype, complex(a, b)) for dtype in ("c8", "c16") for a, b in ((np.nan, 0), (1, np.nan), (np.inf, -np.inf))),
    ("c16", complex(-0.0, -0.0)),
    ("c8", 2.5),
    ("f4", NAN_WITH_PAYLOAD),
    ("f8", np.finfo("f8").smallest_subnormal),
    ("f8", np.finfo("f8").max),
    ("f2", np.float16(65504)),
    *((dtype, np.datetime64("NaT")) for dtype in TIMES[:6]),
    *((dtype, np.timedelta64("NaT")) for dtype in TIMES[6:]),
    ("M8[D]", np.datetime64("1969-07-20")),
    ("M8[s]", np.datetime64("2026-01-01")),
    ("m8[ns]", np.timedelta64(-5, "us")),
    ("?", True),
    ("S7", b"ab"),
    ("S7", b"a\0b"),
    ("S1", b""),
    ("U5", "é🜁"),
    ("V5", np.void(b"\0\1\2\3\4")),
    (RECORD, np.array((True, -7, np.nan, b"no"), dtype=RECORD)),
    (NESTED, np.array(("NaT", (np.inf, -0.0), "é"), dtype=NESTED)),
]

ids = [f"{name_of(dtype)} {fill!r}"[:50] for dtype, fill in FILLS]


def default_fill(dtype: Any) -> Array:
    """Zero, and NaT for times. A record is all zero: the design speaks of times, not of their fields."""
    return np.array("NaT", dtype=dtype) if np.dtype(dtype).kind in "mM" else np.zeros((), dtype=dtype)


def filled(shape: tuple[int, ...], dtype: Any, fill: Any) -> Array:
    """np.full, but for the bits of a NaN."""
    found = np.zeros(shape, dtype=dtype)
    found[...] = default_fill(dtype) if fill is None else np.asarray(fill).astype(dtype)
    return found


def check(store: Any, expected: dict[str, Array]) -> None:
    """Every array reads as expected, bit for bit."""
    for path, cells in expected.items():
        same(store[path][...], cells)


@pytest.fixture
def root(tmp_path: Any) -> Iterator[Any]:
    """Where a store of the test's own goes; verified at the end."""
    yield tmp_path / "own"
    with txstore.open(tmp_path / "own") as store:
        assert store.verify().ok


# -- dtype x fill value x number of axes ----------------------------------------------------------


@pytest.mark.parametrize(("dtype", "fill"), FILLS, ids=ids)
def test_cells_and_fill_come_back_from_arrays_of_all_dimensions(root: Any, dtype: Any, fill: Any) -> None:
    expected: dict[str, Array] = {}
    with txstore.open(root) as store:
        with store.transaction() as tx:
            for ndim in range(9):
                shape, chunks = (3, 2, 2, 2, 1, 2, 1, 2)[:ndim], (2, 1, 2, 1, 1, 2, 1, 1)[:ndim]
                path = f"d{ndim}"
                array = tx.create_array(path, shape=shape, dtype=dtype, chunks=chunks, fill_value=fill)
                cells = filled(shape, dtype, fill)
                assert array.dtype == np.dtype(dtype)
                same(np.asarray(array.fill_value).astype(dtype), filled((), dtype, fill))
                same(array[...], cells)
                if ndim:
                    part = (slice(1, 3), *[slice(0, 1)] * (ndim - 1))
                    cells[part] = some(dtype, cells[part].shape)
                    array[part] = cells[part]
                expected[path] = cells
            for path, cells in expected.items():
                same(tx[path][...], cells)
        check(store, expected)
        with store.transaction() as tx:
            expected["d0"] = some(dtype, ())
            tx["d0"][...] = expected["d0"]
            steps = (slice(None, None, 2), Ellipsis)
            expected["d3"][steps] = some(dtype, expected["d3"][steps].shape)
            tx["d3"][steps] = expected["d3"][steps]
        check(store, expected)
        store.compact()
        check(store, expected)
    with txstore.open(root, mode="r") as store:
        check(store, expected)
        for path in expected:
            same(np.asarray(store[path].fill_value).astype(dtype), filled((), dtype, fill))
            assert store[path].dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
def test_masks_appends_and_resizes_keep_every_bit(store: Any, dtype: Any) -> None:
    base = some(dtype, (7, 3))
    create(store, "a", base, chunks=(4, 2))
    mask = random.integers(0, 2, size=(7, 3)).astype(bool)
    base[mask] = some(dtype, (int(mask.sum()),))
    put(store, "a", mask, base[mask])
    same(store["a"][...], base)
    block, theirs = some(dtype, (5, 3)), some(dtype, (2, 3))
    with store.transaction() as tx:
        tx["a"].append(block)
        append(store, "a", theirs)
    base = np.concatenate([base, theirs, block])
    same(store["a"][...], base)
    resize(store, "a", (6, 3))
    resize(store, "a", (8, 4))
    expected = filled((8, 4), dtype, None)
    expected[:6, :3] = base[:6]
    for _ in range(2):
        same(store["a"][...], expected)
        same(store["a"][mask_of(expected.shape)], expected[mask_of(expected.shape)])
        store.compact()


def mask_of(shape: tuple[int, ...]) -> Array:
    return np.asarray(np.arange(int(np.prod(shape))).reshape(shape) % 3 == 0)


@pytest.mark.parametrize("codecs", ["auto", (), ("zstd",), ("blosc",), ("gzip",), ("zstd", "crc32c")], ids=str)
@pytest.mark.parametrize("dtype", ["?", "i2", "f8", "c8", "M8[ns]", "U5", RECORD], ids=name_of)
def test_every_codec_keeps_every_bit(store: Any, dtype: Any, codecs: Any) -> None:
    base = some(dtype, (9, 5))
    create(store, "a", base, chunks=(4, 3), codecs=codecs)
    same(store["a"][...], base)
    put(store, "a", np.s_[2:6, 1:4], base[2:6, 1:4])
    store.compact()
    same(store["a"][...], base)


# -- zero-length axes -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (2, 0, 4), (0,) * 8], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "M8[s]", "U5", RECORD], ids=name_of)
def test_zero_length_axes(store: Any, shape: tuple[int, ...], dtype: Any) -> None:
    chunks = tuple(max(1, extent) for extent in shape)
    with store.transaction() as tx:
        array = tx.create_array("a", shape=shape, dtype=dtype, chunks=chunks)
        assert (array.shape, array.size, array.nbytes) == (shape, 0, 0)
        same(array[...], np.zeros(shape, dtype=dtype))
        array[...] = np.zeros(shape, dtype=dtype)
    same(store["a"][...], np.zeros(shape, dtype=dtype))
    full = tuple(max(2, extent) for extent in shape)
    resize(store, "a", full)
    same(store["a"][...], filled(full, dtype, None))
    values = some(dtype, full)
    put(store, "a", ..., values)
    store.compact()
    same(store["a"][...], values)
    resize(store, "a", shape)
    same(store["a"][...], np.zeros(shape, dtype=dtype))


def test_automatic_chunks_fit_every_shape(store: Any) -> None:
    for number, shape in enumerate([(), (0,), (1,), (5, 0, 3), (3,) * 8, (0, 721, 1440), (10**12,), (2**40, 2**20)]):
        with store.transaction() as tx:
            array = tx.create_array(f"a{number}", shape=shape, dtype="f4")
            assert len(array.chunks) == len(shape)
            assert all(extent >= 1 for extent in array.chunks)
            assert array.shape == shape
            if array.size:
                corner = tuple(extent - 1 for extent in shape)
                array[corner] = 5
                assert array[corner] == 5
                assert array[tuple(slice(extent - 1, extent) for extent in shape)].size == 1


# -- fill values by their bits --------------------------------------------------------------------


def test_cells_that_only_compare_equal_to_the_fill_are_stored(store: Any) -> None:
    create(store, "plus", shape=(6,), dtype="f8", chunks=(3,), fill_value=0.0)
    create(store, "minus", shape=(6,), dtype="f4", chunks=(3,), fill_value=-0.0)
    put(store, "plus", np.s_[0:3], -0.0)
    put(store, "minus", np.s_[0:3], np.zeros(3, dtype="f4"))
    for _ in range(2):
        assert np.signbit(store["plus"][...]).tolist() == [True] * 3 + [False] * 3
        assert np.signbit(store["minus"][...]).tolist() == [False] * 3 + [True] * 3
        store.compact()


def test_a_write_of_fill_covers_what_was_there(store: Any) -> None:
    for dtype, fill, other in (("f4", np.nan, 1), ("M8[s]", np.datetime64("NaT"), np.datetime64(1, "s")), ("i4", 7, 0)):
        path = dtype[:2]
        create(store, path, shape=(8,), dtype=dtype, chunks=(3,), fill_value=fill)
        put(store, path, ..., other)
        put(store, path, np.s_[2:5], fill)
        expected = filled((8,), dtype, other)
        expected[2:5] = fill
        for _ in range(2):
            same(store[path][...], expected)
            store.compact()


# -- spellings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">i4", ">f8", ">u2", ">c16", ">M8[s]", ">U3"])
def test_byte_order_is_that_of_the_machine(store: Any, dtype: str) -> None:
    native = np.dtype(dtype).newbyteorder("=")
    values = some(native, (5,))
    with store.transaction() as tx:
        array = tx.create_array("a", shape=(5,), dtype=dtype, chunks=(2,))
        array[...] = values.astype(dtype)
        assert array.dtype == native
    same(store["a"][...], values)


@pytest.mark.parametrize("spelling", ["float32", "f4", np.float32, np.dtype("f4"), "single"], ids=str)
def test_dtypes_are_spelled_as_in_numpy(store: Any, spelling: Any) -> None:
    with store.transaction() as tx:
        assert tx.create_array("a", shape=(5,), dtype=spelling, chunks=(2,)).dtype == np.dtype("f4")


def test_metadata_comes_back(root: Any) -> None:
    with txstore.open(root) as store, store.transaction() as tx:
        tx.create_array(
            "g/a",
            shape=(10, 20),
            dtype="i2",
            chunks=(2, 5),
            shards=(4, 10),
            codecs=("zstd",),
            fill_value=-1,
            dimension_names=("y", None),
            attributes={"k": [1, 2]},
        )
        tx.create_array("g/b", shape=(3,), dtype="i2", chunks=(2,))
    with txstore.open(root, mode="r") as store:
        array = store["g/a"]
        assert (array.shape, array.chunks, array.shards) == ((10, 20), (2, 5), (4, 10))
        assert (array.dtype, array.fill_value, array.path) == (np.dtype("i2"), -1, "g/a")
        assert tuple(array.dimension_names) == ("y", None)
        assert list(array.attrs["k"]) == [1, 2]
        assert store["g/b"].shards is None or len(store["g/b"].shards) == 1  # "auto" decides
        assert store["g/b"].dimension_names is None


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    ["O", "f16" if np.dtype("longdouble").itemsize == 16 else "O", ("i4", (2,)), [("x", "O")], [("x", "i4", (2,))]],
    ids=str,
)
def test_dtypes_that_zarr_cannot_hold_are_refused(store: Any, dtype: Any) -> None:
    # Fields that are arrays are refused as sub-arrays are: zarr-python writes no document for them.
    with store.transaction() as tx, pytest.raises(DTypeError) as caught:
        tx.create_array("a", shape=(3,), dtype=dtype, chunks=(3,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["i5", "no such dtype", 7, Ellipsis, None], ids=str)
def test_what_is_no_dtype_is_refused(store: Any, dtype: Any) -> None:
    with store.transaction() as tx, pytest.raises((DTypeError, InvalidInputError)):
        tx.create_array("a", shape=(3,), dtype=dtype, chunks=(3,))


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("u1", 256),
        ("u1", -1),
        ("i4", 1.5),
        ("i4", np.nan),
        ("i4", "x"),
        ("?", 2),
        ("f4", 1j),
        ("f4", "NaN"),
        ("S2", b"abc"),
        ("U2", "abc"),
        ("M8[D]", np.datetime64("2026-01-01T01")),
        ("M8[D]", np.timedelta64(1, "D")),
        ("i4", [1, 2]),
        ("i4", Ellipsis),
        (RECORD, (1, 2)),
    ],
    ids=str,
)
def test_fill_values_that_do_not_fit_are_refused(store: Any, dtype: Any, fill: Any) -> None:
    with store.transaction() as tx, pytest.raises(InvalidInputError) as caught:
        tx.create_array("a", shape=(3,), dtype=dtype, chunks=(3,), fill_value=fill)
    assert "\n" not in str(caught.value)
    assert "a" not in store.snapshot()
