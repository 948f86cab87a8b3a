"""Promise 11: nothing that is stored is executed, and no length is believed before it is checked."""

from __future__ import annotations

import ast
import gzip
import json
import os
import pickle
import re
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from histories import create, noise, put, same, sql

import txstore
from txstore.errors import DTypeError, InvalidInputError, TxStoreError

SOURCES = Path(__file__).parent.parent
MIB = 1 << 20


class Payload:
    """Says so when it is unpickled."""

    triggered = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _trigger, ()


def _trigger() -> str:
    Payload.triggered = True
    return "executed"


@pytest.fixture(autouse=True)
def nothing_ran() -> Any:
    Payload.triggered = False
    yield
    assert not Payload.triggered


# -- the source -----------------------------------------------------------------------------------


def test_the_package_does_not_unpickle_or_evaluate() -> None:
    banned_modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "runpy"}
    banned_calls = {"eval", "exec", "compile", "__import__"}
    seen = 0
    for room in ("txstore", "index", "compaction"):
        for path in sorted((SOURCES / room).rglob("*.py")):
            seen += 1
            for node in ast.walk(ast.parse(path.read_text())):
                where = f"{path.relative_to(SOURCES)}:{getattr(node, 'lineno', '?')}"
                if isinstance(node, ast.Import):
                    found = {alias.name.split(".")[0] for alias in node.names}
                    assert not found & banned_modules, where
                elif isinstance(node, ast.ImportFrom):
                    assert (node.module or "").split(".")[0] not in banned_modules, where
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in banned_calls, where
                elif isinstance(node, ast.keyword):
                    pickles = node.arg == "allow_pickle" and getattr(node.value, "value", None) is not False
                    assert not pickles, where
    assert seen > 20


# -- what is given --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["O", object, np.dtype("O"), [("a", "i4"), ("b", "O")]], ids=str)
def test_object_dtypes_are_refused(store: Any, dtype: Any) -> None:
    with store.transaction() as tx, pytest.raises(DTypeError):
        tx.create_array("a", shape=(3,), dtype=dtype, chunks=(3,))
    assert list(store.snapshot()) == []


def test_object_values_are_refused(store: Any) -> None:
    create(store, "a", np.arange(3))
    create(store, "bytes", np.zeros(3, dtype="S20"))
    given: list[Any] = [np.array([Payload()] * 3, dtype=object), [Payload(), None, {}], Payload()]
    with store.transaction() as tx:
        for path in ("a", "bytes"):
            for values in given:
                with pytest.raises(InvalidInputError):
                    tx[path].write(..., values)
    assert store["a"][...].tolist() == [0, 1, 2]


def test_pickled_bytes_are_bytes(store: Any) -> None:
    data = pickle.dumps(Payload())
    create(store, "a", np.frombuffer(data, dtype="u1"))
    create(store, "text", np.array([data], dtype=f"S{len(data)}"))
    assert store["a"][...].tobytes() == data
    assert store["text"][0] == data.rstrip(b"\0")


@pytest.mark.parametrize(
    "value",
    [Payload(), pickle.dumps(Payload()), {"k": Payload()}, [1, Payload()]],
    ids=["object", "pickle", "dict", "list"],
)
def test_attributes_hold_no_objects(store: Any, value: Any) -> None:
    create(store, "a", np.arange(3))
    with store.transaction() as tx, pytest.raises(InvalidInputError, match="hidden"):
        tx["a"].attrs["hidden"] = value
    assert dict(store["a"].attrs) == {}


def test_properties_and_messages_are_plain(store: Any) -> None:
    create(store, "a", np.arange(3))
    with pytest.raises((InvalidInputError, TypeError)):
        put(store, "a", 0, 1, properties={"k": Payload()})
    with pytest.raises((InvalidInputError, TypeError)):
        put(store, "a", 0, 1, properties={"k": float("nan")})
    assert store["a"][0] == 0


def test_a_transaction_is_not_pickled_and_the_rest_goes_by_address(store: Any) -> None:
    create(store, "g/a", np.arange(3))
    with store.transaction() as tx:
        for mine in (tx, tx["g/a"], tx["g"]):
            with pytest.raises((TypeError, TxStoreError, pickle.PicklingError)):
                pickle.dumps(mine)
    snap = store.snapshot()
    data = [pickle.dumps(thing) for thing in (store, snap, snap["g/a"])]
    assert max(map(len, data)) < 2000  # addresses, no cells
    put(store, "g/a", 0, 9)
    with pickle.loads(data[0]) as twin:
        assert twin["g/a"][...].tolist() == [9, 1, 2]
    assert pickle.loads(data[1])["g/a"][...].tolist() == [0, 1, 2]
    assert pickle.loads(data[2])[...].tolist() == [0, 1, 2]


# -- what is stored -------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A closed store that tests may damage: an array of eight cells, in the index."""
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", noise(8), chunks=(4,), codecs=(), attributes={"k": 1})
        put(store, "a", np.s_[1:7:2], 5)
    return tmp_path / "own"


def rows(root: Path, table: str, column: str) -> list[tuple[Any, ...]]:
    return sql(root, f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")


def read_it(root: Path) -> np.ndarray[Any, Any] | TxStoreError:
    """The cells, or the typed error; the memory taken stays small."""
    tracemalloc.start()
    try:
        with txstore.open(root) as store:
            found: np.ndarray[Any, Any] = store["a"][0:8]
            _ = dict(store["a"].attrs), list(store.log())
            return found
    except TxStoreError as error:
        assert "\n" not in str(error)
        return error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * MIB, f"{peak >> 20} MiB were taken"


HOSTILE_METADATA: dict[str, Callable[[dict[str, Any]], Any]] = {
    "object": lambda document: document | {"data_type": "object"},
    "numpy object": lambda document: document | {"data_type": "|O"},
    "unknown dtype": lambda document: document | {"data_type": {"name": "os.system", "configuration": {"x": "ls"}}},
    "dtype of 2**60 bytes": lambda document: (
        document | {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**60}}}
    ),
    "pickle codec": lambda document: document | {"codecs": [{"name": "pickle"}]},
    "unknown codec": lambda document: document | {"codecs": [{"name": "bytes"}, {"name": "exec"}]},
    "no codecs": lambda document: {key: value for key, value in document.items() if key != "codecs"},
    "fill of another kind": lambda document: document | {"fill_value": {"__reduce__": ["os.system", "ls"]}},
    "a list": lambda document: [document],
    "null": lambda document: None,
    "deep": lambda document: document | {"codecs": json.loads("[" * 200 + "]" * 200)},
}


@pytest.mark.parametrize("change", HOSTILE_METADATA.values(), ids=HOSTILE_METADATA)
def test_hostile_metadata_is_a_typed_error(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    ((text,),) = rows(root, "node_versions", "metadata")
    sql(root, "UPDATE node_versions SET metadata = ? WHERE metadata IS NOT NULL", json.dumps(change(json.loads(text))))
    assert isinstance(read_it(root), TxStoreError)


@pytest.mark.parametrize("text", ["", "{", "\0", "nul", "[" * 100_000, "9" * 10_000], ids=range(6))
def test_metadata_and_attributes_that_are_no_json_are_a_typed_error(root: Path, text: str) -> None:
    sql(root, "UPDATE attributes SET value = ?", text)
    assert isinstance(read_it(root), TxStoreError)
    sql(root, "UPDATE attributes SET value = '1'")
    sql(root, "UPDATE node_versions SET metadata = ? WHERE metadata IS NOT NULL", text)
    assert isinstance(read_it(root), TxStoreError)


@pytest.mark.parametrize(
    "shape",
    [
        b"",
        b"\1",
        np.array([-8], dtype="<i8").tobytes(),
        np.array([8, 8], dtype="<i8").tobytes(),
        np.array([-(2**63)], dtype="<i8").tobytes(),
    ],
    ids=["empty", "short", "negative", "two axes", "most negative"],
)
def test_hostile_shapes_are_a_typed_error(root: Path, shape: bytes) -> None:
    sql(root, "UPDATE shapes SET shape = ?", shape)
    assert isinstance(read_it(root), TxStoreError)


def test_a_huge_shape_takes_no_memory_until_it_is_read(root: Path) -> None:
    sql(root, "UPDATE shapes SET shape = ?", np.array([2**60], dtype="<i8").tobytes())
    found = read_it(root)
    assert isinstance(found, TxStoreError) or found.shape == (8,)


@pytest.mark.parametrize("column", ["clip", "frame"])
def test_hostile_boxes_are_a_typed_error_or_harmless(root: Path, column: str) -> None:
    boxes = [data for (data,) in rows(root, "fragments", column)]
    expected = read_it(root)
    for data in boxes or [b""]:
        numbers = np.frombuffer(data, dtype="<i8")
        hostile = [b"", b"\0", data[:-1], data + data, b"\xff" * len(data)]
        for position in range(len(numbers)):
            for value in (-1, 2**62, -(2**62), 2**40):
                changed = numbers.copy()
                changed[position] = value
                hostile.append(changed.tobytes())
        for wrong in hostile:
            sql(root, f"UPDATE fragments SET {column} = ? WHERE {column} = ?", wrong, data)
            found = read_it(root)
            if not isinstance(found, TxStoreError):
                assert found.shape == (8,) and found.dtype == np.dtype("i4")
            sql(root, f"UPDATE fragments SET {column} = ? WHERE {column} = ?", data, wrong)
    same(read_it(root), expected)


def mutations(value: Any) -> list[Any]:
    """The msgpack value with one thing in it replaced by something hostile, in every place."""
    hostile: list[Any] = [-1, 2**31, 2**40, 2**63, None, "x", b"", [], {}, 1.5, b"\0" * 7]
    found: list[Any] = [item for item in hostile if type(item) is not type(value) or item != value]
    if isinstance(value, list):
        for position, item in enumerate(value):
            found += [[*value[:position], changed, *value[position + 1 :]] for changed in mutations(item)]
        found += [value[:-1], value + value[-1:]]
    elif isinstance(value, dict):
        for key, item in value.items():
            found += [value | {key: changed} for changed in mutations(item)]
            found.append({name: kept for name, kept in value.items() if name != key})
    return found


def test_hostile_directories_are_a_typed_error_or_harmless(root: Path) -> None:
    directories = sorted({data for (data,) in rows(root, "fragments", "directory")})
    assert directories
    expected = read_it(root)
    for data in directories:
        wrongs = [b"", b"\xc1", data[:-1], data + b"\0", b"\x91" * 5000]
        wrongs += [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]  # an array, bytes: of 4 Gi items
        try:
            wrongs += [msgpack.packb(changed) for changed in mutations(msgpack.unpackb(data, strict_map_key=False))]
        except (ValueError, msgpack.UnpackException):
            pytest.fail("a directory is one msgpack value, as docs/segment-format.md says")
        refused = 0
        for wrong in wrongs[:: max(1, len(wrongs) // 50)]:
            sql(root, "UPDATE fragments SET directory = ? WHERE directory = ?", wrong, data)
            found = read_it(root)
            refused += isinstance(found, TxStoreError)
            sql(root, "UPDATE fragments SET directory = ? WHERE directory = ?", data, wrong)
        assert refused
    same(read_it(root), expected)


def test_cycles_among_the_nodes_are_a_typed_error(root: Path) -> None:
    with txstore.open(root) as store, store.transaction() as tx:
        tx.create_group("g/h")
        tx.move("a", "g/h/a")
    nodes = dict(sql(root, "SELECT name, node FROM node_versions WHERE name IN ('g', 'h')"))
    sql(root, "UPDATE node_versions SET parent = ? WHERE name = 'g'", nodes["h"])
    with txstore.open(root) as store:
        with pytest.raises(TxStoreError):
            store["g/h/a"]
        assert not store.verify().ok


# -- bombs ----------------------------------------------------------------------------------------


def zarr_array(root: Path, codec: dict[str, Any], chunk: bytes) -> Path:
    """A Zarr v3 array of eight bytes in one chunk."""
    (root / "c").mkdir(parents=True)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, codec],
        "attributes": {},
    }
    (root / "zarr.json").write_text(json.dumps(document))
    (root / "c" / "0").write_bytes(chunk)
    return root


def bomb(megabytes: int) -> bytes:
    """Zeros, far more than eight of them, as a gzip stream made piece by piece."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(megabytes)) + packer.flush()


def read_arrays(store: Any) -> list[Any]:
    """The cells of every array, wherever the import has put it."""
    members = store.snapshot().members(max_depth=None)
    return [node[...].tolist() for _, node in members if hasattr(node, "shape")]


def test_an_honest_chunk_is_imported(store: Any, tmp_path: Path) -> None:
    # The control for the next test: the same tree with an honest chunk.
    codec = {"name": "gzip", "configuration": {"level": 1}}
    store.import_zarr(zarr_array(tmp_path / "honest", codec, gzip.compress(bytes(range(8)))), path="z")
    assert read_arrays(store) == [list(range(8))]


def peak_rss(reset: bool = False) -> int:
    """The most memory that this process has had since it was last reset, in bytes; Linux only."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) << 10


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs /proc to measure memory")
def test_a_decompression_bomb_takes_no_memory(store: Any, tmp_path: Path) -> None:
    codec = {"name": "gzip", "configuration": {"level": 1}}
    honest = zarr_array(tmp_path / "honest", codec, gzip.compress(bytes(range(8))))
    store.import_zarr(honest, path="honest")  # what is imported and cached for any import is in memory now
    src = zarr_array(tmp_path / "bomb", codec, bomb(512))
    before = peak_rss(reset=True)
    with pytest.raises(TxStoreError) as caught:
        store.import_zarr(src, path="bomb")
        read_arrays(store)  # at the latest, where the import has taken the chunk over as it is
    assert "\n" not in str(caught.value)
    taken = peak_rss() - before
    assert taken < 128 * MIB, f"{taken >> 20} MiB were taken for eight bytes"
