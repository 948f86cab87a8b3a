"""Metadata documents: those of zarr-python, letter by letter, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import zarr
from test_dtypes import DTYPES, NESTED, same_bits

from txstore.codecs import resolve_codecs
from txstore.dtypes import cast_fill, parse_dtype
from txstore.errors import CorruptionError, FormatError, InvalidInputError, ReadOnlyError
from txstore.metadata import ArrayMetadata, check_name, frozen, group_document, normalize_attribute


def metadata(
    dtype: Any = "f4",
    fill: Any = None,
    chunks: tuple[int, ...] = (2, 3),
    shards: tuple[int, ...] | None = None,
    codecs: Any = "auto",
    names: tuple[str | None, ...] | None = None,
) -> ArrayMetadata:
    dtype = parse_dtype(dtype)
    return ArrayMetadata(dtype, cast_fill(fill, dtype), chunks, shards, resolve_codecs(codecs, dtype), names)


def written_by_zarr(path: Path, meta: ArrayMetadata, shape: tuple[int, ...], attributes: dict[str, Any]) -> Any:
    zarr.create_array(
        path,
        shape=shape,
        dtype=meta.dtype,
        chunks=meta.chunks,
        shards=meta.shards,
        filters=[codec for codec in meta.codecs if codec["name"] == "numcodecs.delta"] or None,
        compressors=[codec for codec in meta.codecs if codec["name"] != "numcodecs.delta"] or None,
        fill_value=meta.fill_value[()],
        attributes=attributes,
        dimension_names=meta.dimension_names,
    )
    return json.loads((path / "zarr.json").read_text())


@pytest.mark.parametrize("code", DTYPES, ids=str)
def test_the_document_is_what_zarr_python_writes(code: Any, tmp_path: Path) -> None:
    meta = metadata(code)
    attributes = {"units": "K", "list": [1, 2.5, None, {"a": True}]}
    document = meta.to_document((5, 0), attributes)
    assert document == written_by_zarr(tmp_path, meta, (5, 0), attributes)
    assert ArrayMetadata.from_document(document) == meta


VARIANTS: list[dict[str, Any]] = [
    {"chunks": ()},
    {"chunks": (1,) * 8},
    {"shards": (4, 6)},
    {"shards": (4, 6), "codecs": ["zstd", "crc32c"], "dtype": "u1"},
    {"shards": (4, 6), "codecs": ["numcodecs.delta", "zstd"], "dtype": "i4"},
    {"codecs": ()},
    {"codecs": ["blosc"], "dtype": "U100"},
    {"names": ("y", None), "fill": np.nan},
    {"dtype": "c8", "fill": complex(np.nan, np.inf)},
]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variants_of_the_document(variant: dict[str, Any], tmp_path: Path) -> None:
    meta = metadata(**variant)
    shape = tuple(3 * chunk for chunk in meta.chunks)
    document = meta.to_document(shape)
    assert document == written_by_zarr(tmp_path, meta, shape, {})
    assert ArrayMetadata.from_document(json.loads(json.dumps(document))) == meta
    again = ArrayMetadata.from_stored(meta.stored())
    assert again == meta and same_bits(again.fill_value, meta.fill_value)
    assert again is ArrayMetadata.from_stored(meta.stored())


def test_documents_share_nothing() -> None:
    meta = metadata(shards=(4, 6))
    meta.to_document((1, 1))["codecs"][0]["configuration"]["index_codecs"][0]["configuration"]["endian"] = "big"
    meta.to_document((1, 1))["codecs"][0]["configuration"]["codecs"][1]["configuration"]["clevel"] = 9
    assert meta.to_document((1, 1)) == metadata(shards=(4, 6)).to_document((1, 1))


def test_equal_by_what_is_stored() -> None:
    nan = metadata(fill=np.nan)
    other = metadata(fill=np.array(0x7FC00001, "u4").view("f4")[()])
    assert nan == metadata(fill=np.nan) and hash(nan) == hash(metadata(fill=np.nan))
    assert nan != other and nan != metadata() and nan != "nan"
    assert pickle.loads(pickle.dumps(other)) == other
    assert "shape" not in json.loads(nan.stored()) and "attributes" not in json.loads(nan.stored())


def test_what_does_not_fit_together() -> None:
    wrong: list[dict[str, Any]] = [
        {"chunks": (0, 1)}, {"shards": (3, 3)}, {"shards": (2,)}, {"names": ("x",)}, {"names": "xy"},
        {"names": (1, 2)},
    ]  # fmt: skip
    for variant in wrong:
        with pytest.raises(InvalidInputError):
            metadata(**variant)


def test_documents_of_other_writers() -> None:
    document = metadata(dtype="i4").to_document((4, 4))
    document["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
    document["codecs"] = [{"name": "bytes", "configuration": {"endian": "big"}}, "crc32c"]
    document["extra"] = {"must_understand": False}
    assert [codec["name"] for codec in ArrayMetadata.from_document(document).codecs] == ["crc32c"]
    document["codecs"] = [{"name": "transpose", "configuration": {"order": [1, 0]}}, "bytes"]
    with pytest.raises(InvalidInputError, match="transpose"):
        ArrayMetadata.from_document(document)
    assert ArrayMetadata.from_document(document, codecs="auto").codecs == metadata(dtype="i4").codecs


def test_hostile_documents() -> None:
    def refused(error: type[Exception], **changes: Any) -> None:
        document = metadata().to_document((4, 4)) | changes
        with pytest.raises(error):
            ArrayMetadata.from_document({key: value for key, value in document.items() if value is not ...})

    for key in ("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "fill_value", "codecs"):
        refused(FormatError, **{key: ...})
    refused(FormatError, zarr_format=2)
    refused(FormatError, node_type="group")
    refused(FormatError, extra={"must_understand": True})
    refused(FormatError, extra=1)
    refused(FormatError, shape=4)
    refused(FormatError, chunk_grid={"name": "regular"})
    refused(InvalidInputError, storage_transformers=[{"name": "x"}])
    refused(InvalidInputError, chunk_grid={"name": "rectilinear", "configuration": {}})
    for chunks in ([4], [0, 4], [4.0, 4], [True, 4], "44", None, [2**63, 1]):
        refused(InvalidInputError, chunk_grid={"name": "regular", "configuration": {"chunk_shape": chunks}})
    refused(InvalidInputError, fill_value=None)
    refused(InvalidInputError, data_type="string")
    refused(InvalidInputError, dimension_names=["x"])
    sharded = metadata(shards=(4, 6)).to_document((4, 6))["codecs"]
    refused(
        InvalidInputError,
        codecs=[{"name": "sharding_indexed", "configuration": sharded[0]["configuration"] | {"codecs": sharded}}],
    )
    for text in ("", "[]", "{}", "null", metadata().stored().replace("float32", "float33"), "[" * 100_000):
        with pytest.raises(CorruptionError):
            ArrayMetadata.from_stored(text)


def test_groups(tmp_path: Path) -> None:
    zarr.create_group(tmp_path, attributes={"a": [1]})
    assert json.loads((tmp_path / "zarr.json").read_text()) == group_document({"a": [1]})
    assert group_document() == {"attributes": {}, "zarr_format": 3, "node_type": "group"}


# --- attributes ----------------------------------------------------------------------------------


def test_attributes_become_json() -> None:
    value = {
        "numpy": np.float32(0.5),
        "array": np.arange(4, dtype="u1").reshape(2, 2),
        "tuple": (1, (True, None)),
        "mapping": MappingProxyType({"deep": np.array(["a", "b"])}),
        "string": np.str_("s"),
        "truth": np.True_,
        "large": 2**70,
    }
    expected = {
        "numpy": 0.5, "array": [[0, 1], [2, 3]], "tuple": [1, [True, None]], "mapping": {"deep": ["a", "b"]},
        "string": "s", "truth": True, "large": 2**70,
    }  # fmt: skip
    normal = normalize_attribute("k", value)
    assert normal == expected and json.loads(json.dumps(normal, allow_nan=False)) == expected
    assert type(normal["string"]) is str and type(normal["truth"]) is bool and type(normal["numpy"]) is float
    assert normalize_attribute("k", frozen(normal)) == normal


def test_what_json_cannot_hold_is_refused_by_name() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    values: list[Any] = [
        np.nan, float("inf"), b"x", {1}, 1j, np.datetime64("2026-01-01"), np.array([np.nan]), np.array([b"x"]),
        {1: 2}, {None: 1}, Ellipsis, cycle, np.ma.masked_equal([1], 1), NESTED[0], np.zeros(1, NESTED), int,
    ]  # fmt: skip
    for value in values:
        if value is NESTED[0]:
            continue  # a tuple of strings is JSON
        with pytest.raises(InvalidInputError, match="units"):
            normalize_attribute("units", {"deep": [value]})
    with pytest.raises(InvalidInputError, match=r"units\.deep\[1\]"):
        normalize_attribute("units", {"deep": [1, np.nan]})
    with pytest.raises(InvalidInputError):
        normalize_attribute(1, 2)  # type: ignore[arg-type]


def test_values_that_are_read_do_not_change() -> None:
    plain: Any = {"a": [1, {"b": [2]}], "c": "d"}
    value = frozen(plain)
    assert value == plain and repr(value) == repr(plain) and json.dumps(value) == json.dumps(plain)
    assert isinstance(value, dict) and isinstance(value["a"], list) and value["a"] + [1] == [1, {"b": [2]}, 1]
    changes: list[Any] = [
        lambda: value.update(x=1), lambda: value.pop("a"), lambda: value["a"].append(1), lambda: value["a"].sort(),
        lambda: value.__setitem__("a", 1), lambda: value["a"].__delitem__(0), lambda: value["a"][1].clear(),
        lambda: value["a"].__iadd__([1]), lambda: value.__ior__({}), lambda: value.setdefault("z"),
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(ReadOnlyError, match="copy"):
            change()
    assert value == plain
    for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        copied["a"][1]["b"].append(3)
        assert type(copied) is dict and copied["a"][1] == {"b": [2, 3]}
    assert type(copy.copy(value)) is dict and type(value.copy()) is dict
    assert frozen(3) == 3 and frozen(None) is None


# --- names ---------------------------------------------------------------------------------------


def test_names() -> None:
    assert check_name("a/b c/dé.x") == ("a", "b c", "dé.x")
    assert check_name("c/0") == ("c", "0")
    refused: list[Any] = [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "...", "a\\b", "a\0", "a\n", "\x7f", "\x85", "__a", "a/__b",
        "zarr.json", "a/.zarray", ".zgroup", ".zattrs", ".zmetadata", "ZARR.JSON", "x" * 256, "é" * 128,
        "a/" * 500 + "a", "\ud800", None, 3, b"a",
    ]  # fmt: skip
    for name in refused:
        with pytest.raises(InvalidInputError):
            check_name(name)
