"""Bad input: each a typed error of one line; nothing is lost, and no large allocation is made."""

from __future__ import annotations

import math
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, files, noise, plain, put, same, sql

import txstore
from txstore.errors import (
    AlreadyExistsError,
    DTypeError,
    FormatError,
    InvalidIndexError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StoreNotFoundError,
    TxStoreError,
)


@contextmanager
def refused(*kinds: type[BaseException]) -> Iterator[Any]:
    """The block raises one of `kinds`, in one line, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(kinds) as caught:
            yield caught
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text and "\n" not in text, repr(text)
    assert peak < 64 << 20, f"{peak >> 20} MiB were taken"


@pytest.fixture
def filled(store: Any) -> Iterator[Any]:
    """A store whose array is the same afterwards: nothing is lost."""
    create(store, "g/a", np.arange(60).reshape(10, 6), chunks=(4, 4), attributes={"k": 1})
    log = [commit.version for commit in store.log()]
    yield store
    same(store["g/a"][...], np.arange(60).reshape(10, 6))
    assert dict(store["g/a"].attrs) == {"k": 1}
    assert sorted(path for path, _ in store.snapshot().members(max_depth=None)) == ["g", "g/a"]
    assert [commit.version for commit in store.log()] == log


# -- names ----------------------------------------------------------------------------------------

BAD_NAMES = [
    "..",
    ".",
    "g/..",
    "g/../x",
    "../x",
    "g/./x",
    "g/.",
    "x\0y",
    "\0",
    "g\\x",
    "x\ny",
    "x\x7f",
    "\x1b[31m",
    "zarr.json",
    "g/zarr.json",
    ".zarray",
    ".zgroup",
    ".zattrs",
    ".zmetadata",
    "g/.zattrs/x",
    "__reserved",
    "g/__x",
    "x" * 5000,
    "/".join("x" * 100 for _ in range(1000)),
    "\udc80",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:30])
def test_bad_names_are_refused(filled: Any, name: str) -> None:
    with filled.transaction() as tx:
        with refused(InvalidInputError):
            tx.create_array(name, shape=(3,), dtype="i4", chunks=(3,))
        with refused(InvalidInputError):
            tx.require_array(name, shape=(3,), dtype="i4", chunks=(3,))
        with refused(InvalidInputError):
            tx.create_group(name)
        with refused(InvalidInputError):
            tx.require_group(name)
        with refused(InvalidInputError):
            tx.move("g/a", name)
        with refused(NotFoundError, InvalidInputError):
            tx.move(name, "x")
        with refused(NotFoundError, InvalidInputError):
            tx[name]
        with refused(NotFoundError, InvalidInputError):
            del tx[name]
    assert tx.commit_info is None
    with refused(NotFoundError, InvalidInputError):
        filled[name]


@pytest.mark.parametrize("name", ["", 7, None, b"x", ["x"]], ids=repr)
def test_names_that_are_no_names_are_refused(filled: Any, name: Any) -> None:
    with filled.transaction() as tx:
        with refused(InvalidInputError, TypeError, AlreadyExistsError):
            tx.create_array(name, shape=(3,), dtype="i4", chunks=(3,))
        with refused(InvalidInputError, TypeError, AlreadyExistsError):
            tx.move("g/a", name)


@pytest.mark.parametrize("name", ["ünïcødé", "with blank", "a-b_c.d", "中文", "🜁", "x" * 100, "%2e%2e", "c", "c0", "0"])
def test_unusual_names_are_names(store: Any, name: str) -> None:
    create(store, f"g/{name}", np.arange(3))
    assert list(store.snapshot()["g"]) == [name]
    assert store[f"g/{name}"][...].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["", "x\0y", "x\ny", "-x", 7, None], ids=repr)
def test_bad_names_of_tags_and_branches_are_refused(filled: Any, name: Any) -> None:
    tags, branches = filled.tags(), filled.branches()
    with refused(InvalidInputError, TypeError):
        filled.create_tag(name)
    with refused(InvalidInputError, TypeError):
        filled.create_branch(name)
    assert (filled.tags(), filled.branches()) == (tags, branches)


def test_hostile_names_are_only_names_to_sql(store: Any) -> None:
    for number, name in enumerate(["'; DROP TABLE commits; --", '"x"', "%", "_", "a' OR '1'='1", "?", ":name"]):
        create(store, name, np.array([number]), attributes={name: number})
        assert store[name][0] == number
        assert store[name].attrs[name] == number
        assert name in store.snapshot()
        assert len(list(store.log(path=name))) == 1


# -- shapes, chunks, dtypes, codecs ---------------------------------------------------------------

BAD_ARRAYS: dict[str, dict[str, Any]] = {
    "negative shape": {"shape": (-1,)},
    "fractional shape": {"shape": (1.5,)},
    "shape of text": {"shape": ("3",)},
    "no shape": {"shape": None},
    "shape beyond 64 bits": {"shape": (2**63,)},
    "shape whose cells are beyond counting": {"shape": (2**62, 2**62), "chunks": (1, 0)},
    "chunks of zero": {"chunks": (0,)},
    "negative chunks": {"chunks": (-2,)},
    "too many chunks": {"chunks": (2, 2)},
    "too few chunks": {"shape": (3, 3), "chunks": (2,)},
    "chunks by a word": {"chunks": "large"},
    "huge chunks": {"chunks": (2**63,)},
    "shards that are no multiple": {"chunks": (2,), "shards": (3,)},
    "shards smaller than chunks": {"chunks": (4,), "shards": (2,)},
    "shards of another rank": {"chunks": (2,), "shards": (4, 4)},
    "object dtype": {"dtype": "O"},
    "unknown dtype": {"dtype": "i5"},
    "unknown codec": {"codecs": ["lzma2"]},
    "codec of another stage": {"codecs": ["transpose"]},
    "codec with an unknown option": {"codecs": [{"name": "zstd", "configuration": {"speed": 3}}]},
    "codec with a wrong option": {"codecs": [{"name": "zstd", "configuration": {"level": "high"}}]},
    "codec without a name": {"codecs": [{"configuration": {}}]},
    "codec that is no codec": {"codecs": [7]},
    "codecs by a word": {"codecs": "best"},
    "too many dimension names": {"dimension_names": ("x", "y")},
    "dimension names of numbers": {"dimension_names": (1,)},
    "fill that does not fit": {"dtype": "u1", "fill_value": 256},
    "attributes that are no mapping": {"attributes": 7},
    "attributes that JSON cannot hold": {"attributes": {"key": {1, 2}}},
    "data of another shape": {"data": np.zeros((2, 2))},
    "data that does not fit": {"dtype": "i4", "data": np.full(3, 0.5)},
}


@pytest.mark.parametrize("options", BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_arrays_that_cannot_be_are_refused(filled: Any, options: dict[str, Any]) -> None:
    with filled.transaction() as tx:
        with refused(InvalidInputError):
            tx.create_array("bad", **{"shape": (3,), "dtype": "f4", "chunks": (2,), **options})
        assert "bad" not in tx
    assert tx.commit_info is None


def test_an_unknown_codec_is_named_with_those_that_are_known(filled: Any) -> None:
    with filled.transaction() as tx, refused(InvalidInputError) as caught:
        tx.create_array("bad", shape=(3,), dtype="f4", chunks=(2,), codecs=["lzma2"])
    assert "lzma2" in str(caught.value)
    assert "zstd" in str(caught.value)


def test_unknown_options_are_type_errors(filled: Any) -> None:
    with filled.transaction() as tx, pytest.raises(TypeError):
        tx.create_array("bad", shape=(3,), dtype="f4", chunk=(2,))


def test_require_array_refuses_what_is_different(filled: Any) -> None:
    with filled.transaction() as tx:
        assert tx.require_array("g/a", shape=(10, 6), dtype="i8").path == "g/a"
        for options in ({"shape": (10, 7), "dtype": "i8"}, {"shape": (10, 6), "dtype": "f4"}):
            with refused(AlreadyExistsError, InvalidInputError):
                tx.require_array("g/a", **options)
        with refused(AlreadyExistsError, InvalidInputError):
            tx.require_array("g", shape=(3,), dtype="i4")
        with refused(AlreadyExistsError, InvalidInputError):
            tx.require_group("g/a")
    assert tx.commit_info is None


# -- values and selections ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sel", "values", "kind"),
    [
        (np.s_[0:2], np.zeros((3, 6), dtype="i8"), InvalidInputError),
        (np.s_[...], np.zeros(10, dtype="i8"), InvalidInputError),
        (0, np.zeros((2, 6), dtype="i8"), InvalidInputError),
        (np.s_[0, 0], [1, 2], InvalidInputError),
        (0, 1.5, DTypeError),
        (0, "x", DTypeError),
        (0, 2**70, DTypeError),
        (0, [[1, 2], [3]], InvalidInputError),
        (0, None, DTypeError),
        (10, 1, InvalidIndexError),
        (np.s_[0, -7], 1, InvalidIndexError),
        (np.s_[0, 0, 0], 1, InvalidIndexError),
        (2**63, 1, InvalidIndexError),
        (-(2**70), 1, InvalidIndexError),
        ([0, 10], 1, InvalidIndexError),
        (np.ones((6, 10), dtype=bool), 1, InvalidIndexError),
        (np.s_[::0], 1, InvalidIndexError),
        (1.5, 1, InvalidIndexError),
        (None, 1, InvalidIndexError),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_writes_stage_nothing(filled: Any, sel: Any, values: Any, kind: type[BaseException]) -> None:
    with filled.transaction() as tx:
        with refused(kind):
            tx["g/a"][sel] = values
        with refused(kind):
            tx["g/a"].write(sel, values)
        with refused(kind):
            tx["g/a"].accumulate(sel, values)
    assert tx.commit_info is None


def test_errors_name_the_array(filled: Any) -> None:
    with filled.transaction() as tx:
        with refused(InvalidInputError) as caught:
            tx["g/a"][0:2] = np.zeros((3, 6), dtype="i8")
        assert "(3, 6)" in str(caught.value) and "(2, 6)" in str(caught.value)
        with refused(InvalidIndexError) as caught:
            tx["g/a"][0, 77]
        assert "77" in str(caught.value) and "6" in str(caught.value) and "1" in str(caught.value)


def test_empty_selections_are_no_errors(filled: Any) -> None:
    empty: list[Any] = [np.s_[3:3], np.s_[9:2], np.s_[:, 6:], np.zeros((10, 6), dtype=bool), []]
    with filled.transaction() as tx:
        for sel in empty:
            tx["g/a"][sel] = 5
            tx["g/a"].accumulate(sel, 5)
            tx["g/a"].clear(sel)
            assert tx["g/a"][sel].size == 0
        tx["g/a"].oindex[[], [1, 2]] = 5
        tx["g/a"].vindex[[], []] = 5
    assert tx.commit_info is None


def test_a_selection_beyond_all_memory_is_refused_before_it_is_tried(store: Any) -> None:
    create(store, "huge", shape=(2**45,), dtype="f8", chunks=(2**20,))
    for read in (lambda: store["huge"][...], lambda: np.asarray(store["huge"]), lambda: store["huge"][::2]):
        with pytest.raises((InvalidInputError, MemoryError)):
            read()
    assert store["huge"][2**44] == 0
    assert store["huge"][2**45 - 1 :].tolist() == [0]
    put(store, "huge", ..., 5.0)  # a scalar stores no bytes, however many cells it covers
    assert store["huge"][2**44 : 2**44 + 2].tolist() == [5, 5]
    with store.transaction() as tx:
        tx["huge"].clear(np.s_[2**44 :])
        tx["huge"].resize((2**45 + 1,))
    assert store["huge"][2**44 - 1 : 2**44 + 1].tolist() == [5, 0]


# -- attributes -----------------------------------------------------------------------------------


def cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


BAD_VALUES: dict[str, Any] = {
    "NaN": math.nan,
    "infinity": math.inf,
    "NaN inside": {"deep": [1, {"deeper": -math.inf}]},
    "NaN of NumPy": np.float32("nan"),
    "NaN in an array": np.array([1.0, np.nan]),
    "bytes": b"x",
    "bytearray": bytearray(b"x"),
    "set": {1, 2},
    "complex": 1j,
    "object": Ellipsis,
    "class": int,
    "function": len,
    "datetime64": np.datetime64("2026-01-01"),
    "keys of numbers": {1: 2},
    "keys of None": {None: 2},
    "cycle": cyclic(),
    "surrogate": "\udc80",
}


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES)
def test_attributes_that_json_cannot_hold_are_refused_by_key(filled: Any, value: Any) -> None:
    with filled.transaction() as tx:
        for node in (tx["g/a"], tx["g"], tx):
            with refused(InvalidInputError) as caught:
                node.attrs["the key"] = value
            assert "the key" in str(caught.value)
            with refused(InvalidInputError):
                node.attrs.update({"the key": value})
            assert "the key" not in node.attrs
        with refused(InvalidInputError) as caught:
            tx.create_array("bad", shape=(3,), dtype="i4", chunks=(3,), attributes={"the key": value})
        assert "the key" in str(caught.value)
    assert tx.commit_info is None


@pytest.mark.parametrize("key", [7, None, b"x", ("x",), 1.5], ids=repr)
def test_attribute_keys_are_strings(filled: Any, key: Any) -> None:
    with filled.transaction() as tx, refused(InvalidInputError, TypeError):
        tx["g/a"].attrs[key] = 1
    assert tx.commit_info is None


def test_attributes_that_json_can_hold_are_kept(store: Any) -> None:
    values: dict[str, Any] = {
        "null": None,
        "truth": True,
        "number": 2**60,
        "negative": -0.5,
        "small": 5e-324,
        "text": "é\n\0🜁",
        "": "an empty key",
        "list": [1, [2, [3, {"x": None}]]],
        "mapping": {"": {}, "x": []},
        "long": "x" * 100_000,
    }
    create(store, "a", np.arange(3), attributes=values)
    assert plain(store["a"].attrs) == values


# -- stores ---------------------------------------------------------------------------------------


def test_modes_open_what_they_say(tmp_path: Path) -> None:
    for mode in ("r", "r+"):
        with refused(StoreNotFoundError) as caught:
            txstore.open(tmp_path / "absent", mode=mode)
        assert isinstance(caught.value, FileNotFoundError) and isinstance(caught.value, KeyError)
        assert not (tmp_path / "absent").exists()
    for number, mode in enumerate(("a", "x", "w-")):
        txstore.open(tmp_path / f"new{number}", mode=mode).close()
        for again in ("x", "w-"):
            with refused(AlreadyExistsError):
                txstore.open(tmp_path / f"new{number}", mode=again)
        for again in ("r", "r+", "a"):
            txstore.open(tmp_path / f"new{number}", mode=again).close()
    (tmp_path / "empty").mkdir()
    txstore.open(tmp_path / "empty").close()
    txstore.open(str(tmp_path / "empty"), mode="r").close()


@pytest.mark.parametrize("mode", ["w", "q", "", None, 7])
def test_unknown_modes_are_refused(tmp_path: Path, mode: Any) -> None:
    with refused(InvalidInputError, TypeError):
        txstore.open(tmp_path / "new", mode=mode)
    assert not (tmp_path / "new").exists()


def test_unknown_configuration_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        txstore.open(tmp_path / "new", colour="red")
    assert not (tmp_path / "new").exists()


def test_a_directory_of_others_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "letter.txt").write_text("dear")
    for mode in ("a", "r", "r+", "x"):
        with refused(TxStoreError):
            txstore.open(place, mode=mode)
    assert [path.name for path in place.iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("x")
    for mode in ("a", "r", "x"):
        with refused(TxStoreError):
            txstore.open(tmp_path / "file", mode=mode)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup", ".zmetadata"])
@pytest.mark.parametrize("mode", ["a", "r+", "r"])
def test_a_zarr_directory_is_refused_naming_import(tmp_path: Path, name: str, mode: str) -> None:
    place = tmp_path / "theirs.zarr"
    place.mkdir()
    (place / name).write_text("{}")
    with refused(TxStoreError) as caught:
        txstore.open(place, mode=mode)
    assert "import" in str(caught.value)
    assert [path.name for path in place.iterdir()] == [name]


def test_a_store_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", np.arange(3))
    ((number,),) = sql(tmp_path, "SELECT format FROM store")
    sql(tmp_path, "UPDATE store SET format = ?", number + 1)
    for mode in ("r", "r+", "a"):
        with refused(FormatError) as caught:
            txstore.open(tmp_path / "own", mode=mode)
        assert str(number + 1) in str(caught.value)
    sql(tmp_path, "UPDATE store SET format = ?", number)
    with txstore.open(tmp_path / "own") as store:
        assert store["a"][...].tolist() == [0, 1, 2]


def test_a_format_that_rises_under_an_open_store_stops_its_commits(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", np.arange(3))
        with store.transaction() as tx:
            tx["a"][0] = 5
            sql(tmp_path, "UPDATE store SET format = format + 1")
            with refused(FormatError):
                tx.commit()
        with refused(FormatError):
            store.snapshot()["a"][...]
        sql(tmp_path, "UPDATE store SET format = format - 1")
        assert store["a"][...].tolist() == [0, 1, 2]


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"", b"not a database, but long enough to look like one" * 100, noise(4000).tobytes())
    ):
        place = tmp_path / f"own{number}"
        place.mkdir()
        (place / "index.sqlite").write_bytes(content)
        for mode in ("r", "r+"):
            with refused(FormatError, StorageError, StoreNotFoundError):
                txstore.open(place, mode=mode)


def two_stores(tmp_path: Path) -> tuple[Path, Path]:
    """Two closed stores, each with an array too large for its index."""
    roots = (tmp_path / "one", tmp_path / "two")
    for seed, root in enumerate(roots):
        with txstore.open(root) as store:
            create(store, "a", noise(1 << 19, seed=seed), chunks=(1 << 17,), codecs=())
    return roots


def test_an_index_of_another_store_is_refused(tmp_path: Path) -> None:
    one, two = two_stores(tmp_path)
    before = files(tmp_path)
    with refused(FormatError, InvalidInputError, StorageError):
        txstore.open(one, index=f"sqlite:///{two / 'index.sqlite'}")
    assert files(tmp_path) == before
    for seed, root in enumerate((one, two)):
        with txstore.open(root) as store:
            same(store["a"][...], noise(1 << 19, seed=seed))


def test_an_index_copied_from_another_store_reads_nothing_wrong(tmp_path: Path) -> None:
    one, two = two_stores(tmp_path)
    shutil.copy(two / "index.sqlite", one / "index.sqlite")
    with pytest.raises(TxStoreError) as caught, txstore.open(one) as store:
        store["a"][...]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", ["no such thing", "sqlite:////no/such/directory/index.sqlite", "mysql://x", 7])
def test_indexes_that_cannot_be_opened_are_refused(tmp_path: Path, index: Any) -> None:
    with refused(TxStoreError, TypeError):
        txstore.open(tmp_path / "own", index=index)


def test_secrets_of_an_index_url_are_not_shown(tmp_path: Path) -> None:
    url = "postgresql+nodriver://user:s3cret@localhost/x?sslpassword=s3cret2"
    with pytest.raises(Exception) as caught:
        txstore.open(tmp_path / "own", index=url)
    error: BaseException | None = caught.value
    assert isinstance(error, TxStoreError)
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__


@pytest.mark.parametrize("root", ["", "x\0y", None, 7, b"bytes"], ids=repr)
def test_roots_that_are_no_places_are_refused(root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(TxStoreError, TypeError, ValueError):
        txstore.open(root)


# -- maintenance ----------------------------------------------------------------------------------


BAD_USES: dict[str, Any] = {
    "version of text": lambda store: store.snapshot(version="x"),
    "tag of no version": lambda store: store.create_tag("t", 10**6),
    "branch of no version": lambda store: store.create_branch("b", -5),
    "log of no branch": lambda store: list(store.log(branch="missing")),
    "log below zero": lambda store: list(store.log(limit=-1)),
    "keep below zero": lambda store: store.expire(keep_last=-1),
    "keep text": lambda store: store.expire(keep_last="x"),
    "compact no path": lambda store: store.compact("missing"),
    "verify no path": lambda store: store.verify("missing"),
    "diff of no versions": lambda store: store.diff(10**6, 10**7),
    "export of no path": lambda store: store.export("/nowhere/x", path="missing"),
    "export of no format": lambda store: store.export("/nowhere/x", zarr_format=1),
    "export of no layout": lambda store: store.export("/nowhere/x", layout="heap"),
    "export of no profile": lambda store: store.export("/nowhere/x", profile="best"),
    "import of nothing": lambda store: store.import_zarr("/no/such/tree"),
    "run nothing": lambda store: store.run(None),
}


@pytest.mark.parametrize("use", BAD_USES.values(), ids=BAD_USES)
def test_bad_arguments_of_the_store_are_refused(filled: Any, use: Any) -> None:
    with refused(TxStoreError, TypeError):
        use(filled)
    assert filled.tags() == {}
    assert set(filled.branches()) == {"main"}
