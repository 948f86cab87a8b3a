"""The edges of the API that a first user meets: what is asked again, what a message says, what a handle is."""

from __future__ import annotations

import gc
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scripts import run

import txstore
from txstore.casting import cast
from txstore.dtypes import parse_dtype
from txstore.names import MAX_PATH_BYTES, shown


def message(error: type[Exception], call: Callable[[], Any]) -> str:
    """What a call that is refused says, on one line."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


# -- require_array --------------------------------------------------------------------------------

ASKED: dict[str, Any] = {
    "shape": (6, 4),
    "dtype": "f4",
    "chunks": (3, 2),
    "shards": (6, 4),
    "codecs": ("zstd",),
    "fill_value": np.nan,
    "dimension_names": ("y", "x"),
}
OTHERS: dict[str, Any] = {
    "shape": (6, 5),
    "dtype": "f8",
    "chunks": (2, 2),
    "shards": None,
    "codecs": (),
    "fill_value": 0,
    "dimension_names": ("y", None),
}


@pytest.fixture
def required(store: Any) -> Any:
    """A store with an array of everything that can be asked for."""
    with store.transaction() as tx:
        tx.require_array("a", **ASKED, attributes={"units": "m"}, data=np.ones((6, 4), "f4"))
    return store


def test_require_array_takes_what_is_there(required: Any) -> None:
    with required.transaction() as tx:
        assert tx.require_array("a", **ASKED).path == "a"
        assert tx.require_array("a").path == "a"
        for name, value in ASKED.items():
            assert tx.require_array("a", **{name: value}).shape == (6, 4)
        # Other ways of saying the same: one number for every axis, bytes the other way round, spelt out codecs.
        tx.require_array("a", [6, 4], ">f4", codecs=[{"name": "zstd"}], fill_value=np.float32("nan"))
        tx.require_array("g/cube", (4, 4), "i2", chunks=2)
        tx.require_array("g/cube", (4, 4), "i2", chunks=(2, 2))
    assert sorted(required.snapshot()) == ["a", "g"]


@pytest.mark.parametrize("name", ASKED)
def test_require_array_names_what_differs(required: Any, name: str) -> None:
    with required.transaction() as tx:
        text = message(txstore.AlreadyExistsError, lambda: tx.require_array("a", **{**ASKED, name: OTHERS[name]}))
        assert "array 'a'" in text and "overwrite=True" in text
        assert [other for other in ASKED if f"{other} " in text.partition(": leave")[0]] == [name]


def test_require_array_names_all_that_differs(required: Any) -> None:
    with required.transaction() as tx:
        text = message(txstore.AlreadyExistsError, lambda: tx.require_array("a", (6, 5), "f8", chunks=7))
        assert "shape (6, 4), not (6, 5)" in text and "dtype float32, not float64" in text
        text = message(txstore.AlreadyExistsError, lambda: tx.require_array("a", chunks=(3, 3), fill_value=-1))
        assert "chunks (3, 2), not (3, 3)" in text and "fill_value nan, not -1." in text


def test_require_array_refuses_what_no_array_could_have(required: Any) -> None:
    with required.transaction() as tx:
        assert "'a'" in message(txstore.InvalidInputError, lambda: tx.require_array("a", chunks=(1, 1, 1)))
        assert "'a'" in message(txstore.InvalidInputError, lambda: tx.require_array("a", codecs=("no such",)))
        assert "'a'" in message(txstore.DTypeError, lambda: tx.require_array("a", fill_value="x"))
        with pytest.raises(TypeError, match="overwrite"):
            tx.require_array("a", overwrite=True)
        with pytest.raises(TypeError, match="chunk"):
            tx.require_array("a", chunk=3)


def test_require_array_writes_data_only_where_it_makes_the_array(required: Any) -> None:
    with required.transaction() as tx:
        found = tx.require_array("a", data=np.zeros((6, 4), "f4"), attributes={"units": "cm"})
        assert (found[...] == 1).all() and found.attrs["units"] == "m"
        message(txstore.AlreadyExistsError, lambda: tx.require_array("a", data=np.zeros((6, 5), "f4")))
        message(txstore.AlreadyExistsError, lambda: tx.require_array("a", data=np.zeros((6, 4), "f8")))
        tx.require_array("a", dtype="f4", data=np.zeros((6, 4), "f8"))
        assert "'a'" in message(txstore.DTypeError, lambda: tx.require_array("a", data=[[1], [2, 3]]))
        assert tx.require_array("b", data=[1, 2])[...].tolist() == [1, 2]
    assert required.snapshot().version == 2


def test_require_array_of_another_kind(required: Any) -> None:
    with required.transaction() as tx:
        tx.create_group("g")
        assert "is a group" in message(txstore.AlreadyExistsError, lambda: tx.require_array("g", 3, "i4"))


def test_require_array_without_a_shape_lets_appends_float(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("rows", shape=(0,), dtype="i4", fill_value=-1)
    a, b = store.transaction(), store.transaction()
    for tx, value in ((a, 1), (b, 2)):
        tx.require_array("rows", dtype="i4", fill_value=-1).append([value])
    a.commit()
    b.commit()
    assert store["rows"][:].tolist() == [1, 2]
    a, b = store.transaction(), store.transaction()
    for tx, value in ((a, 3), (b, 4)):
        tx.require_array("rows", (2,)).append([value])
    a.commit()
    with pytest.raises(txstore.ConflictError):
        b.commit()


# -- what messages say ----------------------------------------------------------------------------


def test_a_refused_cast_names_a_way_of_writing_that_takes_casting(store: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(4,), dtype="i4")
        write = "write(sel, values, casting='unsafe')"

        def assign(target: Any) -> None:
            target[0] = 1.5

        for target in (a, a.oindex, a.vindex):
            assert message(txstore.DTypeError, partial(assign, target)).endswith(write)
            assert message(txstore.DTypeError, partial(target.write, 0, 1.5)).endswith(write)
        assert message(txstore.DTypeError, lambda: a.append([1.5])).endswith("append(values, casting='unsafe')")
        for call in (
            lambda: a.accumulate(0, 1.5),
            lambda: tx.create_array("b", data=[1.5], dtype="i4"),
            lambda: tx.create_array("b", shape=3, dtype="i4", fill_value=1.5),
            lambda: cast(1.5, np.dtype("i4")),
        ):
            text = message(txstore.DTypeError, call)
            assert text.endswith("convert first") and "casting" not in text
        # What the messages say works.
        a.write(0, 1.5, casting="unsafe")
        a.oindex.write([1], 2.5, casting="unsafe")
        a.vindex.write([2], 3.5, casting="unsafe")
        a.append([4.5], casting="unsafe")
        assert a[:].tolist() == [1, 2, 3, 0, 4]


@pytest.mark.parametrize("call", ["create_array", "chunks", "resize", "require_array"])
def test_an_extent_that_is_too_large_is_told_the_limit(store: Any, call: str) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(2**62 - 1,), dtype="i1", chunks=2**30)
        calls = {
            "create_array": lambda: tx.create_array("b", shape=(2**62,), dtype="i1"),
            "chunks": lambda: tx.create_array("b", shape=(4,), dtype="i1", chunks=2**62),
            "resize": lambda: a.resize(2**62),
            "require_array": lambda: tx.require_array("a", (2**62,)),
        }
        text = message(txstore.InvalidInputError, calls[call])
        assert "2**62 - 1" in text and "array '" in text
        a[-1] = 7
        assert a[2**62 - 2] == 7


def test_chunks_that_no_codec_can_take_are_refused(store: Any) -> None:
    with store.transaction() as tx:
        text = message(txstore.InvalidInputError, lambda: tx.create_array("a", shape=(4,), dtype="f8", chunks=2**28))
        assert "array 'a': chunks (268435456,) take 2147483648 bytes each" in text


def test_an_append_past_the_largest_extent_is_refused(store: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(2**62 - 2, 2), dtype="i1", chunks=(2**20, 2))
        assert "array 'a' can't grow beyond" in message(
            txstore.InvalidInputError, lambda: a.append(np.ones((2, 2), "i1"))
        )
        a.append(np.ones((1, 2), "i1"))
        assert a.shape == (2**62 - 1, 2)
    assert store["a"][-1].tolist() == [1, 1]


def test_two_appends_do_not_grow_an_array_past_the_largest_extent(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(2**62 - 2,), dtype="i1", chunks=2**20)
    one, two = store.transaction(), store.transaction()
    for tx in (one, two):
        tx["a"].append(np.ones(1, "i1"))
    one.commit()
    assert "array 'a' can't grow beyond" in message(txstore.InvalidInputError, two.commit)
    assert two.status == "aborted" and store["a"].shape == (2**62 - 1,)


def test_a_sparse_array_is_listed_by_its_rows(store: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(2**62 - 1, 2**62 - 1), dtype="f8")
        a[5:7, -3:] = np.ones((2, 3))
    with store.transaction() as tx:
        tx["a"][0] = 7
    a = store["a"]
    assert len(a.fragments()) == len(a.history()) == 2
    assert [len(a.fragments(at)) for at in (np.s_[0], np.s_[5, -1], np.s_[9])] == [1, 1, 0]
    assert [len(a.history(at)) for at in (np.s_[0], np.s_[5, -1], np.s_[9])] == [1, 1, 0]


def test_errors_of_indices_name_the_array(store: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("g/a", data=np.zeros((3, 4)))
        point = tx.create_array("point", shape=(), dtype="i4")
        calls: tuple[Callable[[], Any], ...] = (
            lambda: a[3],
            lambda: a[0, 0, 0],
            lambda: a.oindex[[7]],
            lambda: a.vindex[[0], [9]],
            lambda: a.write(np.s_[0], np.zeros(5)),
            lambda: a.accumulate(np.s_[0], np.zeros(5)),
        )
        for call in calls:
            with pytest.raises(txstore.TxStoreError, match=r"^array 'g/a': "):
                call()
        assert "the boolean True is no index" in message(txstore.InvalidIndexError, lambda: point[True])


@pytest.mark.parametrize("shape", [-1, (1, 2), (1.5,), "x", True, None])
def test_a_shape_that_is_none_is_refused_by_name(store: Any, shape: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(3,), dtype="i1")
        assert "array 'a'" in message(txstore.InvalidInputError, lambda: a.resize(shape))
        assert a.shape == (3,)


@pytest.mark.parametrize("name", ["x" * 300, "__" + "y" * 300, "ä" * 300, "a/" * 500, "g/" + "z" * 300])
def test_a_long_name_is_shortened_in_messages(store: Any, name: str) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(3,), dtype="i1")
        snapshot = store.snapshot()
        calls: list[tuple[type[Exception], Callable[[], Any]]] = [
            (txstore.InvalidInputError, lambda: tx.create_array(name, shape=3, dtype="i1")),
            (txstore.InvalidInputError, lambda: tx.create_array(name, shape=-3, dtype="i1")),
            (txstore.InvalidInputError, lambda: tx.create_group(name)),
            (txstore.InvalidInputError, lambda: tx.move("a", name)),
            (txstore.InvalidInputError, lambda: tx[name]),
            (txstore.InvalidInputError, lambda: snapshot[name]),
            (txstore.ReadOnlyError, lambda: snapshot.create_group(name)),
            (txstore.NotFoundError, lambda: a.attrs[name]),
        ]
        for error, call in calls:
            text = message(error, call)
            assert f"({len(name)} characters)" in text and name not in text
            assert len(text) < 250
        path = "/".join(["n" * 40] * 10)
        assert len(path) < MAX_PATH_BYTES
        for call in (lambda: tx[path], lambda: tx.move(path, "b"), lambda: tx.__delitem__(path)):
            assert len(message(txstore.NotFoundError, call)) < 250


def test_a_name_that_is_short_is_shown_whole() -> None:
    assert shown("era5/t2m") == "'era5/t2m'"
    assert shown(3) == "3"
    assert shown("a" * 60) == repr("a" * 60)
    assert shown("a" * 61).endswith("(61 characters)")


@pytest.mark.parametrize("dtype", ["T", np.dtypes.StringDType(), str, "str", "string", bytes, "U", "S", "S0", object])
def test_dtypes_without_a_size_name_those_that_have_one(dtype: Any) -> None:
    text = message(txstore.DTypeError, lambda: parse_dtype(dtype))
    assert "'U20'" in text and "'S20'" in text and "NumPy knows" not in text


@pytest.mark.parametrize("dtype", ["V", np.void, np.dtype([])])
def test_void_without_a_size_names_one_that_has_it(dtype: Any) -> None:
    text = message(txstore.DTypeError, lambda: parse_dtype(dtype))
    assert "'V20'" in text and "'S20'" in text


@pytest.mark.parametrize("code", ["U20", "S20"])
@pytest.mark.parametrize("data", [np.array(["a", "bb"], object), np.array(["a", "bb"], np.dtypes.StringDType())])
def test_strings_of_no_fixed_size_are_stored_as_the_message_says(store: Any, data: Any, code: str) -> None:
    with store.transaction() as tx:
        assert f"{code!r}" in message(txstore.DTypeError, lambda: tx.create_array("a", data=data))
        a = tx.create_array("a", data=data.astype(code))
        assert a[...].astype("U").tolist() == ["a", "bb"]
        if data.dtype == object:
            text = message(txstore.DTypeError, lambda: a.write(..., data))
            assert "'U20'" in text


# -- byte order -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">i2", ">f8", ">c8", ">M8[ns]", ">U3", [("a", ">i4"), ("b", ">f4")]])
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_byte_order_is_native_here_and_in_an_export(store: Any, tmp_path: Path, dtype: Any) -> None:
    """The order of bytes is no part of a Zarr v3 type: what one writes big-endian reads native, there as here."""
    kind = np.dtype(dtype)
    native = kind.newbyteorder("=")
    values = np.arange(6).astype("i8").astype(kind) if kind.names is None else np.array([(1, 2.5), (-3, 4)], kind)
    with store.transaction() as tx:
        a = tx.create_array("a", data=values)
        tx.create_array("b", shape=values.shape, dtype=kind)[...] = values
        a[0] = values[1]
        expected = values.copy()
        expected[0] = values[1]
        for array in (a, tx["b"]):
            assert array.dtype == native == array[...].dtype
            assert array.dtype.isnative
        assert (a[...] == expected).all()
        out = np.empty(values.shape, kind)
        message(txstore.InvalidInputError, lambda: a.read(out=out))
    store.export(tmp_path / "out.zarr")
    exported: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert (exported["a"][...] == expected).all() and (exported["b"][...] == values).all()
    # What zarr-python itself makes of the big-endian dtype opens as the same.
    zarr.create_array(tmp_path / "made.zarr", shape=values.shape, dtype=kind)
    assert exported["a"].dtype == zarr.open_array(tmp_path / "made.zarr", mode="r").dtype == native


# -- accumulating ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "i4", "i8", "u8"])
@pytest.mark.parametrize("compacted", [False, True])
def test_sums_of_integers_wrap_as_in_add_at(store: Any, dtype: str, compacted: bool) -> None:
    top = np.iinfo(dtype).max
    with store.transaction() as tx:
        tx.create_array("a", data=np.array([top, top, 0, 1], dtype))
    with store.transaction() as tx:
        tx["a"].accumulate([0, 1, 1, 2], np.array([1, top, top, top], dtype))
    expected = np.array([top, top, 0, 1], dtype)
    np.add.at(expected, [0, 1, 1, 2], np.array([1, top, top, top], dtype))
    if compacted:
        store.compact()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store["a"][:].tolist() == expected.tolist()


def test_what_is_accumulated_must_fit_itself(store: Any) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(2,), dtype="u1")
        message(txstore.DTypeError, lambda: a.accumulate(0, 256))
        message(txstore.DTypeError, lambda: a.accumulate(0, -1))


# -- handles --------------------------------------------------------------------------------------


def test_handles_are_equal_when_they_are_one(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("a", data=[1, 2, 3])
        tx.create_array("b", data=[1, 2, 3])
    snapshot = store.snapshot()
    a = snapshot["a"]
    assert (a == a) is True and (a != a) is False
    assert (a == snapshot["a"]) is False  # another handle of the same array
    assert (a == snapshot["b"]) is False
    assert (a == 1) is False and (a == [1, 2, 3]) is False
    assert len({a, snapshot["a"], a}) == 2
    assert (a[...] == snapshot["b"][...]).all()
    # Beside an ndarray NumPy decides, and reads it.
    assert (a == np.array([1, 0, 3])).tolist() == [True, False, True]
    assert (np.array([1, 0, 3]) == a).tolist() == [True, False, True]
    assert np.array_equal(a, snapshot["b"])


def test_a_handle_has_no_arithmetic(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("a", data=[1, 2, 3])
    a = store["a"]
    with pytest.raises(TypeError):
        a + 1
    assert (a[...] + 1).tolist() == [2, 3, 4] and np.add(a, 1).tolist() == [2, 3, 4]


GROUP = {
    "arrays",
    "attrs",
    "create_array",
    "create_group",
    "get",
    "groups",
    "members",
    "metadata",
    "move",
    "path",
    "require_array",
    "require_group",
    "tree",
    "version",
}
ARRAY = {
    "accumulate",
    "append",
    "attrs",
    "chunks",
    "clear",
    "codecs",
    "dimension_names",
    "dtype",
    "fill_value",
    "fragments",
    "history",
    "metadata",
    "nbytes",
    "ndim",
    "oindex",
    "path",
    "read",
    "resize",
    "shape",
    "shards",
    "size",
    "version",
    "vindex",
    "write",
}


def test_completion_shows_what_is_for_users(store: Any) -> None:
    """What stands here is the API: a name that is added to it is added here, and to the guide."""

    def public(handle: object) -> set[str]:
        return {name for name in dir(handle) if not name.startswith("_")}

    with store.transaction() as tx:
        a, g = tx.create_array("a", shape=(3,), dtype="i4"), tx.create_group("g")
        assert public(tx) == GROUP | {"abort", "branch", "commit", "commit_info", "status", "txid"}
        assert public(a) == ARRAY
        assert public(g) == GROUP
        assert public(a.oindex) == public(a.vindex) == {"accumulate", "clear", "write"}
    snapshot = store.snapshot()
    assert public(snapshot) == GROUP | {"branch", "committed_at", "settled"}
    assert public(snapshot["a"]) == ARRAY


def test_a_handle_does_not_keep_its_transaction_open(store: Any) -> None:
    """Nobody could commit it: it is aborted at once, and not when its handles go."""
    with store.transaction() as tx:
        tx.create_array("a", shape=(3,), dtype="i4")
    with pytest.warns(ResourceWarning, match="dropped"):
        a = store.transaction()["a"]
        gc.collect()  # for interpreters that do not count references
    message(txstore.TransactionClosedError, lambda: a[0])
    message(txstore.TransactionClosedError, lambda: a.write(0, 1))


def test_handles_travel_with_their_version(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("g/a", data=[1, 2, 3], attributes={"units": "m"})
        for handle in (tx, tx["g"], tx["g/a"]):
            with pytest.raises(TypeError, match="can't be pickled"):
                pickle.dumps(handle)
    snapshot = store.snapshot()
    with store.transaction() as tx:
        tx["g/a"][:] = 0
    again, group, array = pickle.loads(pickle.dumps((snapshot, snapshot["g"], snapshot["g/a"])))
    assert type(again) is txstore.Snapshot and again.version == snapshot.version and again.branch == "main"
    assert type(group) is txstore.Group and group.path == "g" and list(group) == ["a"]
    assert type(array) is txstore.Array and array.path == "g/a" and array.attrs["units"] == "m"
    for read in (again["g/a"], group["a"], array):
        assert read[:].tolist() == [1, 2, 3] and read.version == snapshot.version


# -- attributes -----------------------------------------------------------------------------------


def test_attributes_keep_their_order_in_a_transaction(store: Any) -> None:
    """As a dict does: what is set again keeps its place, what was deleted in between comes last."""
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(), dtype="i4", attributes={"z": 1, "m": 2, "a": 3})
        assert list(a.attrs) == ["z", "m", "a"]
        a.attrs["b"] = 4
        a.attrs["m"] = 5
        assert list(a.attrs.asdict().items()) == [("z", 1), ("m", 5), ("a", 3), ("b", 4)]
        del a.attrs["z"]
        a.attrs["z"] = 6
        assert list(a.attrs) == ["m", "a", "b", "z"] == list(a.metadata["attributes"])


def test_attributes_of_later_commits_come_later(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(), dtype="i4", attributes={"b": 1})
    for key in ("c", "a", "b"):
        with store.transaction() as tx:
            tx["a"].attrs[key] = 2
            staged = list(tx["a"].attrs)
        assert list(store["a"].attrs) == staged
    assert list(store["a"].attrs) == ["b", "c", "a"]


# -- boxes of a diff ------------------------------------------------------------------------------


def test_boxes_of_a_diff_may_overlap(store: Any) -> None:
    """They say what was written, write by write: their union is what counts."""
    with store.transaction() as tx:
        tx.create_array("a", shape=(10,), dtype="i4")
    for sel in (np.s_[0:4], np.s_[2:6], np.s_[::3]):
        with store.transaction() as tx:
            tx["a"][sel] = 1
    boxes = [str(box) for box in store.diff(1, 4).boxes["a"]]
    assert boxes == ["[0:4]", "[2:6]", "[0:10]"]
    touched = np.zeros(10, bool)
    for box in store.diff(1, 3).boxes["a"]:
        touched[box.slices()] = True
    assert touched.sum() == 6


def test_attributes_keep_the_order_in_which_they_were_set(store: Any, tmp_path: Path) -> None:
    """Also those of one commit, and in an export."""
    with store.transaction() as tx:
        a = tx.create_array("a", shape=(), dtype="i4", attributes={"z": 1, "m": 2, "a": 3})
        a.attrs["b"] = 4
        a.attrs["m"] = 5
        del a.attrs["a"]
        a.attrs["a"] = 6
        tx.attrs["y"], tx.attrs["x"] = 1, 2
        staged = list(a.attrs)
    assert list(store["a"].attrs) == staged == ["z", "m", "b", "a"]
    assert list(store.snapshot().attrs) == ["y", "x"]
    with store.transaction() as tx:
        a = tx["a"]
        a.attrs["k"], a.attrs["c"] = 1, 2
        del a.attrs["m"]
        a.attrs["m"] = 7  # a key is set or deleted once in a commit: this sets it again
        a.attrs["z"] = 8
        del a.attrs["b"]
        staged = list(a.attrs)
    assert list(store["a"].attrs) == staged == ["z", "m", "a", "k", "c"]
    store.export(tmp_path / "out.zarr")
    exported: Any = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert list(exported["a"].attrs) == staged


# -- text that is no UTF-8 ------------------------------------------------------------------------

HALF = "t\ud800"
TEXTS: dict[str, Callable[[Any], Any]] = {
    "message": lambda store: store.transaction(message=HALF),
    "author": lambda store: store.transaction(author=HALF),
    "branch": lambda store: store.transaction(branch=HALF),
    "run": lambda store: store.run(lambda tx: tx.create_group("g"), message=HALF),
    "create_tag": lambda store: store.create_tag(HALF),
    "create_branch": lambda store: store.create_branch(HALF),
    "delete_tag": lambda store: store.delete_tag(HALF),
    "delete_branch": lambda store: store.delete_branch(HALF),
    "snapshot of a tag": lambda store: store.snapshot(tag=HALF),
    "snapshot of a branch": lambda store: store.snapshot(branch=HALF),
    "log of a branch": lambda store: store.log(branch=HALF),
    "log": lambda store: store.log(path=HALF),
    "diff": lambda store: store.diff(0, 1, path=HALF),
    "verify": lambda store: store.verify(HALF),
    "compact": lambda store: store.compact(HALF),
    "compact a branch": lambda store: store.compact(branch=HALF),
    "export": lambda store: store.export("nowhere", path=HALF),
    "export a branch": lambda store: store.export("nowhere", branch=HALF),
    "export to": lambda store: store.export(HALF),
    "import": lambda store: store.import_zarr(HALF),
    "import as": lambda store: store.import_zarr("nowhere", message=HALF),
    "open": lambda store: txstore.open(HALF),
}


@pytest.mark.parametrize("call", TEXTS.values(), ids=TEXTS)
def test_halves_of_surrogate_pairs_are_refused_at_the_call(store: Any, call: Callable[[Any], Any]) -> None:
    with store.transaction() as tx:
        tx.create_group("there")
    text = message(txstore.InvalidInputError, lambda: call(store))
    assert "UTF-8" in text and r"t\ud800" in text
    assert store.snapshot().version == 1 and store.tags() == {} and list(store.branches()) == ["main"]


@pytest.mark.parametrize(
    "asked",
    [{"dtype": "i4", "dimension_names": (HALF,)}, {"dtype": [(HALF, "i4")]}, {"dtype": [("a", [(HALF, "i4")])]}],
    ids=["dimension", "field", "nested field"],
)
def test_halves_of_surrogate_pairs_name_neither_dimension_nor_field(store: Any, asked: dict[str, Any]) -> None:
    with store.transaction() as tx:
        text = message(txstore.InvalidInputError, lambda: tx.create_array("a", shape=3, **asked))
        assert "array 'a'" in text and r"t\ud800" in text
        tx.create_array("a", shape=3, dtype=[("é", "i4")], dimension_names=("ü",))
    assert store["a"].dimension_names == ("ü",)


# -- arguments that can't be used -----------------------------------------------------------------


def test_versions_are_integers_of_any_library(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", data=np.arange(3))
    one = np.int64(1)
    assert store.snapshot(version=one).version == 1
    assert store.diff(np.uint8(0), one).added == ("a",)
    store.create_tag("t", one)
    store.create_branch("b", one)
    assert store.export(tmp_path / "out.zarr", version=one).version == 1
    with store.transaction(base=one) as tx:
        assert tx.version == 1 and type(tx.version) is int
        tx["a"][0] = 7
    assert len(list(store.log(limit=np.int8(1)))) == 1


@pytest.mark.parametrize(
    "wrong", [1.0, "1", True, -1, 10**400, 10**6000], ids=["float", "str", "bool", "below", "large", "larger"]
)
def test_what_is_no_version_is_refused(store: Any, tmp_path: Path, wrong: Any) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.snapshot(version=wrong),
        lambda: store.transaction(base=wrong),
        lambda: store.create_tag("t", wrong),
        lambda: store.create_branch("b", wrong),
        lambda: store.diff(0, wrong),
        lambda: store.export(tmp_path / "out.zarr", version=wrong),
        lambda: store.log(limit=wrong),
    ]
    for call in calls:
        assert len(message(txstore.InvalidInputError, call)) < 150


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workers", 0),
        ("workers", 1.5),
        ("workers", "2"),
        ("workers", True),
        ("lock_timeout_s", -1),
        ("lock_timeout_s", float("nan")),
        ("lock_timeout_s", float("inf")),
        ("lock_timeout_s", None),
        ("cache_bytes", -1),
        ("cache_bytes", 1.5),
        ("inline_bytes", None),
        ("durability", ["full"]),
    ],
)
def test_configuration_is_checked_when_a_store_is_opened(tmp_path: Path, key: str, value: Any) -> None:
    text = message(txstore.InvalidInputError, lambda: txstore.open(tmp_path / "new", **{key: value}))
    assert text.startswith(f"{key}={value!r} must be")
    assert not (tmp_path / "new").exists()


def test_configuration_takes_the_numbers_of_any_library(tmp_path: Path) -> None:
    config: dict[str, Any] = {"workers": np.int32(1), "cache_bytes": np.int64(0), "lock_timeout_s": np.float32(0.5)}
    with txstore.open(tmp_path / "new", **config) as store, store.transaction() as tx:
        tx.create_array("a", data=np.arange(3))


@pytest.mark.parametrize("root", [None, 5, "x" * 300, "x\0y", b"bytes"], ids=["None", "5", "long", "null", "bytes"])
@pytest.mark.parametrize("mode", ["r", "a"])
def test_what_is_no_place_for_a_store_is_refused_in_one_line(tmp_path: Path, root: Any, mode: str) -> None:
    place = tmp_path / root if isinstance(root, str) else root
    kinds: Any = (txstore.StorageError, txstore.InvalidInputError, TypeError)
    assert message(kinds, lambda: txstore.open(place, mode=mode))


#: Opens a store as somebody who may not look into its directory, which the user of most tests in a container may.
BARRED = """
import os, sys
import txstore
txstore.open(sys.argv[2]).close()
os.chmod(os.path.dirname(sys.argv[1]), 0)
if os.geteuid() == 0:
    os.setuid(65534)
for mode in ("r", "r+", "a", "x"):
    try:
        txstore.open(sys.argv[1], mode=mode)
    except txstore.StorageError as error:
        print(error)
"""


def test_a_directory_that_one_may_not_look_into(tmp_path: Path) -> None:
    shut = tmp_path / "shut" / "store"
    shut.mkdir(parents=True)
    try:
        lines = run(BARRED, shut, tmp_path / "open").splitlines()
    finally:
        shut.parent.chmod(0o700)
    assert lines == [f"the store {shut} can't be opened: Permission denied"] * 4


def test_executors_and_callbacks_are_checked_at_the_call(store: Any, tmp_path: Path) -> None:
    dest = tmp_path / "out.zarr"
    for call in (store.compact, store.verify, partial(store.export, dest)):
        assert "submit()" in message(txstore.InvalidInputError, partial(call, executor=5))
        assert "progress=5" in message(txstore.InvalidInputError, partial(call, progress=5))
    assert "progress=5" in message(txstore.InvalidInputError, lambda: store.import_zarr(dest, progress=5))
    assert not dest.exists()


def test_a_diff_is_of_one_store(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_group("g")
    with txstore.open(tmp_path / "other") as other:
        with other.transaction() as tx:
            tx.create_group("g")
        text = message(txstore.InvalidInputError, lambda: store.diff(0, other.snapshot()))
        assert other.root in text and store.root in text
    with txstore.open(store.root, mode="r") as again:  # the same one, opened twice
        assert store.diff(again.snapshot(version=0), again.snapshot()).added == ("g",)


def test_a_path_that_neither_version_has_is_not_found(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_group("g/h")
    with store.transaction() as tx:
        del tx["g/h"]
    assert "'typo'" in message(txstore.NotFoundError, lambda: store.diff(1, 2, path="typo"))
    assert store.diff(1, 2, path="/g/h/").removed == ("g/h",)
    assert not store.diff(1, 1, path="g")
    assert list(store.log(path="typo")) == []


# -- messages -------------------------------------------------------------------------------------


def test_a_store_is_no_collection(store: Any) -> None:
    for call in (list, len, iter):
        assert "store.snapshot()" in message(TypeError, partial(call, store))
    assert store and "a" not in store


def test_fields_and_out_are_refused_by_what_is_wrong(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("a", data=np.arange(3))
    assert "has no fields" in message(txstore.InvalidInputError, lambda: store["a"]["x"])
    out = np.empty(3, "i8")
    out.flags.writeable = False
    text = message(txstore.InvalidInputError, lambda: store["a"].read(out=out))
    assert "read-only" in text and "shape" not in text
    assert "shape (2,)" in message(txstore.InvalidInputError, lambda: store["a"].read(out=np.empty(2, "i8")))


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**6000], ids=["large", "small", "larger"])
def test_a_large_integer_is_not_written_out(store: Any, number: int) -> None:
    with store.transaction() as tx:
        a = tx.create_array("a", shape=3, dtype="i4")
        text = message(txstore.DTypeError, lambda: a.write(0, number))
        assert f"an integer of {number.bit_length()} bits" in text and len(text) < 200
        assert "1000000000000" in message(txstore.DTypeError, lambda: a.write(0, 10**12))


def test_a_portable_export_says_what_was_left_out(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_array("a", data=np.arange(3), codecs=["crc32c"])
        tx.create_array("b", data=np.arange(3), codecs=[{"name": "numcodecs.adler32"}])
    notes = store.export(tmp_path / "out.zarr", profile="portable").notes
    assert [note.rpartition(": ")[2] for note in notes] == ["codecs crc32c left out", "codecs adler32 left out"]


def test_the_package_shows_what_is_for_users() -> None:
    assert dir(txstore) == sorted(txstore.__all__)
    assert all(hasattr(txstore, name) for name in dir(txstore))
