"""Dtypes and fill values as Zarr writes them, and what may be written into an array."""

from __future__ import annotations

import datetime
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from txstore.dtypes import (
    cast,
    cast_fill,
    default_fill,
    dtype_from_zarr,
    dtype_to_zarr,
    fill_from_zarr,
    fill_to_zarr,
    parse_dtype,
)
from txstore.errors import DTypeError

CORE = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
NESTED: Any = [("a", "i4"), ("when", "M8[ns]"), ("code", "S3"), ("in", [("x", "f8"), ("name", "U2")])]
DTYPES: list[Any] = [*CORE, "M8[ns]", "M8[10s]", "m8[us]", "m8", "S5", "U7", "V3", NESTED]


def same_bits(left: Any, right: Any) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())


def zarr_dtype(dtype: np.dtype[Any]) -> Any:
    from zarr.dtype import parse_dtype as parse

    return parse(dtype, zarr_format=3)


@pytest.mark.parametrize("code", DTYPES, ids=str)
def test_named_as_zarr_python_names_it(code: Any) -> None:
    dtype = parse_dtype(code)
    json = dtype_to_zarr(dtype)
    assert json == zarr_dtype(dtype).to_json(zarr_format=3)
    assert dtype_from_zarr(json) == dtype == parse_dtype(dtype.newbyteorder(">"))
    assert dtype_from_zarr(json).isnative


def test_native_packed_and_plain() -> None:
    assert parse_dtype(">f4").isnative
    assert parse_dtype(np.dtype("f4", metadata={"x": 1})).metadata is None
    assert parse_dtype(np.longlong) is parse_dtype("i8")
    aligned = np.dtype([("a", "i1"), ("b", ">f8")], align=True)
    assert parse_dtype(aligned) == np.dtype([("a", "i1"), ("b", "f8")])
    assert parse_dtype(np.dtype((np.record, [("a", "i4")]))).type is np.void
    assert parse_dtype({"name": "raw_bytes", "configuration": {"length_bytes": 3}}) == np.dtype("V3")


def test_what_other_writers_call_it() -> None:
    fields = [{"name": "a", "data_type": "int32"}, {"name": "b", "data_type": "r16"}]
    assert dtype_from_zarr({"name": "struct", "configuration": {"fields": fields}}) == np.dtype(
        [("a", "i4"), ("b", "V2")]
    )
    assert dtype_from_zarr({"name": "float32"}) == np.dtype("f4")


REFUSED: list[Any] = [
    None, "O", str, bytes, "str", "string", "S", "U0", "V0", np.dtypes.StringDType(), np.longdouble, np.clongdouble,
    ml_dtypes.bfloat16, ml_dtypes.int4, ("f4", (2,)), [("a", "f4", (2,))], [("a", "O")], [], "no such", 3, "M8",
    {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]},
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_what_zarr_has_no_fixed_type_for_is_refused(value: Any) -> None:
    if isinstance(value, dict):
        value = np.dtype(value)  # type: ignore[call-overload]
    with pytest.raises(DTypeError):
        parse_dtype(value)


HOSTILE: list[Any] = [
    "int7", "string", "bytes", "r7", "r0", "r" + "9" * 30, None, 7, {}, [], {"name": "raw_bytes"},
    {"name": "raw_bytes", "configuration": {"length_bytes": 0}},
    {"name": "raw_bytes", "configuration": {"length_bytes": True}},
    {"name": "raw_bytes", "configuration": {"length_bytes": 2**40}},
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 6}},
    {"name": "numpy.datetime64", "configuration": {"unit": "fortnight", "scale_factor": 1}},
    {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": -1}},
    {"name": "numpy.datetime64", "configuration": {"unit": "generic", "scale_factor": 1}},
    {"name": "structured", "configuration": {"fields": []}},
    {"name": "structured", "configuration": {"fields": [["a", "int32"], ["a", "int32"]]}},
    {"name": "structured", "configuration": {"fields": [["", "int32"]]}},
    {"name": "structured", "configuration": {"fields": [["a"]]}},
]  # fmt: skip


@pytest.mark.parametrize("json", HOSTILE, ids=repr)
def test_malformed_types_are_refused(json: Any) -> None:
    with pytest.raises(DTypeError):
        dtype_from_zarr(json)


def test_records_nested_without_end_are_refused() -> None:
    json: Any = "int8"
    for _ in range(5000):
        json = {"name": "structured", "configuration": {"fields": [["a", json]]}}
    with pytest.raises(DTypeError, match="nested"):
        dtype_from_zarr(json)


# --- fill values ---------------------------------------------------------------------------------

QUIET = {"f2": "7e00", "f4": "7fc00000", "f8": "7ff8000000000000"}


@pytest.mark.parametrize("code", DTYPES, ids=str)
def test_default_fill(code: Any) -> None:
    dtype = parse_dtype(code)
    fill = default_fill(dtype)
    assert fill.shape == () and fill.dtype == dtype and not fill.flags.writeable
    assert np.isnat(fill) if dtype.kind in "mM" else fill.tobytes() == bytes(dtype.itemsize)
    assert same_bits(fill_from_zarr(dtype, fill_to_zarr(dtype, fill)), fill)
    assert same_bits(cast_fill(None, dtype), fill)


FILLS: list[tuple[Any, Any]] = [
    ("?", True), ("i1", -128), ("u8", 2**64 - 1), ("f2", 0.1), ("f4", -0.0), ("f4", np.inf), ("f8", -np.inf),
    ("f8", 1e300), ("f4", np.nan), ("c8", complex(np.nan, -np.inf)), ("c16", 1 + 2j), ("M8[ns]", "NaT"),
    ("M8[D]", "2026-11-21"), ("m8[us]", 7), ("S5", b"ab"), ("U7", "aé\U0001f600"), ("V3", b"\0\1\2"),
    (NESTED, (1, np.datetime64("2026-01-01", "ns"), b"x", (0.5, "é"))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "value"), FILLS, ids=repr)
def test_fills_as_zarr_python_writes_them(code: Any, value: Any) -> None:
    dtype = parse_dtype(code)
    fill = cast_fill(value, dtype)
    json = fill_to_zarr(dtype, fill)
    theirs = zarr_dtype(dtype)
    # Repeated, for NaN in a list is not equal to itself, and (1.0,) is not [1.0].
    assert repr(json) == repr(theirs.to_json_scalar(fill[()], zarr_format=3)).replace("(", "[").replace(")", "]")
    assert same_bits(fill_from_zarr(dtype, json), fill)
    assert same_bits(np.array(theirs.from_json_scalar(json, zarr_format=3), dtype), fill)


@given(st.sampled_from(["f2", "f4", "f8"]), st.data())
def test_every_bit_of_every_float_comes_back(code: str, data: st.DataObject) -> None:
    dtype = np.dtype(code)
    bits = data.draw(st.integers(0, 2 ** (8 * dtype.itemsize) - 1))
    fill = np.array(bits, f"u{dtype.itemsize}").view(dtype)
    json = fill_to_zarr(dtype, fill)
    assert same_bits(fill_from_zarr(dtype, json), fill)
    if np.isnan(fill):
        assert json == ("NaN" if bits == int(QUIET[code], 16) else f"0x{bits:0{2 * dtype.itemsize}x}")
    pair = np.array([fill, fill], dtype).view(f"c{2 * dtype.itemsize}")[0] if code != "f2" else None
    if pair is not None:
        assert same_bits(fill_from_zarr(pair.dtype, fill_to_zarr(pair.dtype, np.asarray(pair))), pair)


def test_fills_of_other_writers() -> None:
    record = np.dtype([("a", "i2"), ("b", "f4")])
    assert fill_from_zarr(record, {"a": 3, "b": "NaN"})["a"] == 3
    assert np.isnat(fill_from_zarr(np.dtype("M8[s]"), "NaT"))
    assert fill_from_zarr(np.dtype("i4"), 3.0) == 3


WRONG: list[tuple[Any, Any]] = [
    ("?", 1), ("i1", 128), ("i1", 0.5), ("i1", True), ("u1", "3"), ("f4", None), ("f4", "0x7fc0"), ("f4", True),
    ("f4", 1e300), ("f8", "zero"), ("c8", 1.0), ("c8", [1.0]), ("c8", "NN"), ("M8[s]", 2**63), ("M8[s]", 0.5),
    ("S2", "not base64"), ("S2", "YWJj"), ("V3", "YWI="), ("U2", "abc"), ("U2", 0), ([("a", "i2")], {"b": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "json"), WRONG, ids=repr)
def test_wrong_fills_are_refused(code: Any, json: Any) -> None:
    with pytest.raises(DTypeError):
        fill_from_zarr(np.dtype(code), json)


# --- casting -------------------------------------------------------------------------------------


def test_the_same_dtype_is_not_touched() -> None:
    values = np.zeros((3, 4))[:, ::2]
    assert cast(values, np.dtype("f8")) is values


D = datetime
UTC_2 = D.timezone(D.timedelta(hours=2))
TAKEN: list[tuple[Any, Any, Any]] = [
    # floats: same_kind, also from numbers of other kinds
    (np.array([0.1, np.nan], "f8"), "f4", np.array([0.1, np.nan], "f4")),
    (np.arange(3), "f4", np.array([0, 1, 2], "f4")),
    (np.array([True]), "f2", np.array([1], "f2")),
    (np.array([1.5], "f4"), "c8", np.array([1.5], "c8")),
    # integers: by value
    (np.array([0, 255]), "u1", np.array([0, 255], "u1")),
    (np.array([7], "u8"), "i8", np.array([7], "i8")),
    (np.array([True, False]), "i4", np.array([1, 0], "i4")),
    (np.array([1, 2], ">i8"), "i8", np.array([1, 2])),
    # Python scalars have no width
    (1, "u1", np.uint8(1)),
    (1, "f2", np.float16(1)),
    (True, "f4", np.float32(1)),
    (0.1, "f4", np.float32(0.1)),
    (float("inf"), "f2", np.float16(np.inf)),
    (1.5, "c8", np.complex64(1.5)),
    # lists
    ([1, 2], "u1", np.array([1, 2], "u1")),
    ([[1.5]], "f4", np.array([[1.5]], "f4")),
    ([], "i4", np.array([], "i4")),
    (np.empty((0, 2)), "i4", np.empty((0, 2), "i4")),
    # strings: by length
    (["ab", "c"], "U2", np.array(["ab", "c"], "U2")),
    (np.array(["ab"], "U9"), "U2", np.array(["ab"])),
    (np.array([b"ab\0\0"], "S4"), "S2", np.array([b"ab"])),
    ("ab", "S2", np.array(b"ab")),
    (b"ab", "U3", np.array("ab", "U3")),
    (np.array(["ab"], np.dtypes.StringDType()), "U2", np.array(["ab"])),
    (b"ab", "V2", np.void(b"ab")),
    # times: where exact
    (np.array(["2026-01-01"], "M8[D]"), "M8[ns]", np.array(["2026-01-01"], "M8[ns]")),
    (np.array([10**9, "NaT"], "M8[ns]"), "M8[s]", np.array([1, "NaT"], "M8[s]")),
    (np.datetime64("NaT"), "M8[s]", np.datetime64("NaT", "s")),
    ("2026-01-01T12", "M8[s]", np.datetime64("2026-01-01T12", "s")),
    (["NaT"], "m8[s]", np.array(["NaT"], "m8[s]")),
    (np.timedelta64(90, "m"), "m8[s]", np.timedelta64(5400, "s")),
    (5, "m8[s]", np.timedelta64(5, "s")),
    (D.datetime(2026, 1, 1, 12), "M8[s]", np.datetime64("2026-01-01T12", "s")),
    (D.datetime(2026, 1, 1, 12, tzinfo=UTC_2), "M8[s]", np.datetime64("2026-01-01T10", "s")),
    ([D.date(2026, 1, 1)], "M8[D]", np.array(["2026-01-01"], "M8[D]")),
    ([[D.timedelta(seconds=3)]], "m8[ms]", np.array([[3000]], "m8[ms]")),
    # records: field by field
    ((1, 2.5), [("a", "u1"), ("b", "f4")], np.array((1, 2.5), [("a", "u1"), ("b", "f4")])),
    ([(1, (2,))], [("a", "u1"), ("b", [("c", "i2")])], np.array([(1, (2,))], [("a", "u1"), ("b", [("c", "i2")])])),
    (np.array([(1,)], np.dtype([("a", "i8")], align=True)), [("a", "u1")], np.array([(1,)], [("a", "u1")])),
]


@pytest.mark.parametrize(("values", "code", "expected"), TAKEN, ids=repr)
def test_taken(values: Any, code: Any, expected: Any) -> None:
    assert same_bits(cast(values, np.dtype(code)), expected)


NOT_TAKEN: list[tuple[Any, Any]] = [
    (1.0, "i4"), (np.array([1], "f8"), "i4"), (1j, "f4"), (np.array([1], "c8"), "f8"),
    (256, "u1"), (-1, "u8"), (np.array([-1]), "u8"), (np.array([2**63], "u8"), "i8"), ([300], "u1"),
    (1, "?"), (np.array([0]), "?"), (1e10, "f2"), (10**400, "f8"),
    ("abc", "U2"), (np.array(["abc"]), "U2"), (b"abc", "S2"), ("é", "S4"), (b"\xff", "U4"), (5, "U4"), (b"abc", "V2"),
    (5, "M8[s]"), (np.array([1]), "M8[s]"), (np.array([1], "M8[ns]"), "M8[s]"), ("yesterday", "M8[s]"),
    (np.array([2**60], "M8[s]"), "M8[ns]"), (np.array([1], "m8[Y]"), "m8[D]"), (np.array([1], "m8[s]"), "M8[s]"),
    (np.array([1], "m8[s]"), "i8"), (np.array([1], "m8[s]"), "m8"), ("3", "m8[s]"), (True, "m8[s]"),
    (Ellipsis, "f8"), ([1, None], "f8"), (np.array([1], object), "i4"), ([[1], [2, 3]], "i4"),
    ((1, 2.5), [("a", "i4"), ("b", "i4")]), (3, [("a", "i4")]), ((1,), [("a", "i4"), ("b", "i4")]),
    (np.array([(1,)], [("b", "i4")]), [("a", "i4")]), (np.zeros(2), [("a", "i4")]),
    (np.ma.masked_equal([1, 2], 2), "i8"), (np.array([1], ml_dtypes.bfloat16), "f4"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "code"), NOT_TAKEN, ids=repr)
def test_refused(values: Any, code: Any) -> None:
    with pytest.raises(DTypeError):
        cast(values, np.dtype(code))


def test_casting_overrides() -> None:
    assert cast(1.9, np.dtype("i4"), "unsafe") == 1
    assert same_bits(cast([(1.5,)], np.dtype([("a", "i4")]), "unsafe"), np.array([(1,)], [("a", "i4")]))
    with pytest.raises(DTypeError):
        cast(np.array([1], "f8"), np.dtype("f4"), "safe")
    with pytest.raises(DTypeError):
        cast("x", np.dtype("f4"), "unsafe")


@given(hnp.arrays(hnp.integer_dtypes(endianness="?"), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)), st.data())
def test_integers_are_never_changed(values: np.ndarray[Any, Any], data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(["i1", "i4", "i8", "u1", "u2", "u8"])))
    try:
        cells = cast(values, dtype)
    except DTypeError:
        bounds: Any = np.iinfo(dtype)
        assert any(not bounds.min <= int(value) <= bounds.max for value in values.flat)
    else:
        assert cells.dtype == dtype and cells.tolist() == values.tolist()


def test_a_fill_is_one_value() -> None:
    with pytest.raises(DTypeError, match="one value"):
        cast_fill([1], np.dtype("i4"))
    fill = cast_fill(3, np.dtype("i4"))
    assert fill.shape == () and not fill.flags.writeable
