"""Selections, broadcasting, results and casting, all against NumPy."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from histories import create, same
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import txstore
from txstore.errors import DTypeError, InvalidIndexError, InvalidInputError

SHAPE = (7, 5, 6)
BASE = np.arange(7 * 5 * 6).reshape(SHAPE)
MASK = BASE % 4 == 1

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One store for the whole file: "a" is read only, "w" is written and put back."""
    with txstore.open(tmp_path_factory.mktemp("indexing") / "store") as store:
        create(store, "a", BASE, chunks=(3, 2, 4))
        create(store, "w", BASE, chunks=(3, 2, 4))
        # Its threads are as old as it is, lest they be taken for those of the first test that needs them.
        workers = store._core.workers
        barrier = threading.Barrier(workers)
        list(store._core.pool.map(lambda _: barrier.wait(), range(workers)))
        yield store
        assert store.verify().ok


# -- selections -----------------------------------------------------------------------------------

BASIC: list[Any] = [
    np.s_[...],
    np.s_[:],
    (),
    0,
    6,
    -1,
    -7,
    np.int64(3),
    np.uint8(2),
    np.s_[2:5],
    np.s_[2:2],
    np.s_[6:2],
    np.s_[5:99],
    np.s_[-99:99],
    np.s_[99:],
    np.s_[-3:],
    np.s_[:-3],
    np.s_[::2],
    np.s_[1::3],
    np.s_[::99],
    np.s_[::-1],
    np.s_[5:1:-2],
    np.s_[-1:-6:-3],
    np.s_[99::-2],
    np.s_[1:5:-1],
    np.s_[np.int32(1) : np.int64(4)],
    np.s_[:, 1],
    np.s_[..., -1],
    np.s_[..., 1:3],
    np.s_[1, ..., 2],
    np.s_[1, 2, 3],
    np.s_[1, 2, 3, ...],
    np.s_[-1, -1, -1],
    np.s_[2:5, ::-2, 1:5:3],
    np.s_[::-1, 0, ::-1],
    np.s_[3, 1:1, :],
    np.s_[:, :, :],
    np.s_[1:4, 2],
    np.s_[6:0:-1, 4:0:-2, 5::-5],
    (slice(1, 4), Ellipsis, slice(None, None, 2)),
]

ONE_LIST: list[Any] = [
    [0],
    [6, 0, 3],
    [-1, 2, -7],
    [2, 2, 2],
    [0, 1, 2, 3],
    [],
    np.array([5, 1]),
    np.array([], dtype="i8"),
    np.array([1, 4], dtype="u2"),
    np.s_[[1, 4], 2:4],
    np.s_[:, [4, 0, 2]],
    np.s_[:, [1, 2], 3:5],
    np.s_[..., [5, 0]],
    np.s_[1:6:2, [3, 3], ::-1],
    np.s_[[3, 1], ...],
    np.s_[0, [1, 2]],
    np.s_[:, [1, 2], 0],
    np.s_[0, :, [1, 2, 5]],
    np.s_[[1, 2], :, 0],
    np.s_[[1, 2], 3, 0],
    np.array([True, False, True, True, False, False, True]),
    [True, False, True, True, False, False, True],
    np.s_[:, np.array([False, True, True, False, True]), 1:3],
    np.s_[2, np.array([False] * 5)],
]

MASKS: list[Any] = [
    MASK,
    ~MASK,
    np.zeros(SHAPE, dtype=bool),
    np.ones(SHAPE, dtype=bool),
    BASE == 117,
    BASE > 200,
]

CROSSED: list[Any] = [
    np.s_[[0, 6], [1, 2], [5, 0]],
    np.s_[[0, 6, 0], :, [5, 5]],
    np.s_[[3], [3], [3]],
    np.s_[1:6:2, [4, 1], ::-1],
    np.s_[2, [4, 1], [0, 1, 2]],
    np.s_[-1, [-1, -5], -2],
    np.s_[[], [1, 2], [0]],
    np.s_[[5, 2, 2, 0], ...],
    np.s_[..., [0, 3]],
    [4, 1],
    np.s_[np.arange(7) % 2 == 0, [1, 3], np.arange(6) > 3],
    np.s_[np.zeros(7, dtype=bool), :, 1],
    np.s_[:, :, :],
    3,
]

POINTS: list[Any] = [
    np.s_[[0, 6, 3], [1, 2, 4], [5, 0, 1]],
    np.s_[[0, 0, 0], [1, 1, 1], [5, 5, 2]],
    np.s_[[-1, -7], [-1, -5], [-1, -6]],
    np.s_[[0, 6, 3], 2, [5, 0, 1]],
    np.s_[1, 2, [5, 0, 1]],
    np.s_[[[0], [3], [6]], [[0, 4]], 1],
    (np.arange(5), np.arange(5), np.arange(5)),
    (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]), np.array([0, 5])),
    np.s_[[], [], []],
    np.s_[1, 2, 3],
    MASK,
]


def label(sel: Any) -> str:
    return re.sub(r"\s+", " ", repr(sel)).replace("slice(None, None, None)", ":")[:60]


def crossed(sel: Any) -> tuple[Any, ...]:
    """What oindex means, for NumPy: each axis by itself, then integer axes dropped."""
    sel = sel if isinstance(sel, tuple) else (sel,)
    if any(item is Ellipsis for item in sel):
        at = next(number for number, item in enumerate(sel) if item is Ellipsis)
        sel = sel[:at] + (slice(None),) * (len(SHAPE) - len(sel) + 1) + sel[at + 1 :]
    sel = sel + (slice(None),) * (len(SHAPE) - len(sel))
    return tuple(sel)


def take(array: Array, sel: Any) -> Array:
    """Read as oindex does."""
    sel = crossed(sel)
    for axis, item in enumerate(sel):
        item = [item] if isinstance(item, int) else item
        item = np.asarray(item, dtype="i8") if isinstance(item, list) else item
        array = array[(slice(None),) * axis + (item,)]
    return array[tuple(0 if isinstance(item, int) else slice(None) for item in sel)]


def give(array: Array, sel: Any, values: Any) -> None:
    """Write as oindex does."""
    numbers = take(np.arange(array.size).reshape(array.shape), sel)
    array.reshape(-1)[numbers] = values


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sel", BASIC + ONE_LIST + MASKS, ids=label)
def test_reading_is_numpys(shared: Any, sel: Any) -> None:
    found, expected = shared["a"][sel], BASE[sel]
    assert type(found) is type(expected)
    same(found, expected)
    same(shared["a"].read(sel), expected)


@pytest.mark.parametrize("sel", CROSSED, ids=label)
def test_oindex_reads_each_axis_by_itself(shared: Any, sel: Any) -> None:
    same(shared["a"].oindex[sel], take(BASE, sel))


@pytest.mark.parametrize("sel", POINTS, ids=label)
def test_vindex_reads_points(shared: Any, sel: Any) -> None:
    same(shared["a"].vindex[sel], BASE[sel])


def test_results_are_eager_and_writable(shared: Any) -> None:
    for found in (shared["a"][...], shared["a"][1:3], shared["a"].oindex[[1], :], shared["a"][MASK]):
        assert type(found) is np.ndarray
        assert found.flags.writeable
        found[...] = -1
    same(shared["a"][...], BASE)


def test_arrays_without_axes(shared: Any, store: Any) -> None:
    create(store, "zero", np.array(7))
    array = store["zero"]
    assert type(array[()]) is np.int64 and array[()] == 7
    assert type(array[...]) is np.ndarray and array[...].shape == ()
    assert array.oindex[()] == 7
    assert int(np.asarray(array)) == 7
    with pytest.raises(IndexError):
        array[0]
    with pytest.raises(TypeError):
        len(array)
    with store.transaction() as tx:
        tx["zero"][...] = 8
        tx["zero"][()] = tx["zero"][()] + 1
    assert store["zero"][()] == 9


@pytest.mark.parametrize("mask", [np.array(True), np.array(False)], ids=str)
def test_a_mask_without_axes_is_refused(store: Any, mask: Array) -> None:
    # NumPy makes an axis of it; whoever means the only cell writes [()].
    create(store, "zero", np.array(7))
    with pytest.raises(IndexError):
        store["zero"][mask]


def test_an_array_is_a_sequence_of_its_first_axis(shared: Any) -> None:
    array = shared["a"]
    assert len(array) == 7
    for found, expected in zip(array, BASE, strict=True):
        same(found, expected)
    same(np.asarray(array), BASE)
    same(np.asarray(array, dtype="f4"), BASE.astype("f4"))
    assert (array.shape, array.ndim, array.size, array.nbytes) == (SHAPE, 3, 210, 1680)
    assert (array.dtype, array.chunks, array.path) == (np.dtype("i8"), (3, 2, 4), "a")


# -- writing --------------------------------------------------------------------------------------


def written(shared: Any, write: Any, expected: Array) -> None:
    """Write into "w" in one transaction; it reads as expected, staged and committed."""
    with shared.transaction() as tx:
        tx["w"][...] = BASE
    with shared.transaction() as tx:
        write(tx["w"])
        same(tx["w"][...], expected)
    same(shared["w"][...], expected)


@pytest.mark.parametrize("sel", BASIC + ONE_LIST + MASKS, ids=label)
def test_writing_is_numpys(shared: Any, sel: Any) -> None:
    expected = BASE.copy()
    values = 1000 + np.arange(expected[sel].size).reshape(np.shape(expected[sel]))
    expected[sel] = values
    written(shared, lambda array: array.__setitem__(sel, values), expected)
    expected = BASE.copy()
    expected[sel] = -5
    written(shared, lambda array: array.write(sel, -5), expected)


@pytest.mark.parametrize("sel", CROSSED, ids=label)
def test_oindex_writes_each_axis_by_itself(shared: Any, sel: Any) -> None:
    expected = BASE.copy()
    shape = np.shape(take(BASE, sel))
    values = 1000 + np.arange(int(np.prod(shape))).reshape(shape)
    give(expected, sel, values)
    written(shared, lambda array: array.oindex.__setitem__(sel, values), expected)
    expected = BASE.copy()
    give(expected, sel, -5)
    written(shared, lambda array: array.oindex.__setitem__(sel, -5), expected)


@pytest.mark.parametrize("sel", POINTS, ids=label)
def test_vindex_writes_points(shared: Any, sel: Any) -> None:
    expected = BASE.copy()
    values = 1000 + np.arange(expected[sel].size).reshape(np.shape(expected[sel]))
    expected[sel] = values
    written(shared, lambda array: array.vindex.__setitem__(sel, values), expected)


def test_of_duplicates_the_last_in_c_order_is_kept(shared: Any) -> None:
    expected = BASE.copy()
    expected[2] = np.arange(30).reshape(5, 6) + 2000
    values = np.stack([np.zeros((5, 6), dtype="i8"), expected[2]])
    written(shared, lambda array: array.__setitem__([2, 2], values), expected)
    expected = BASE.copy()
    expected[1, 1, 1] = 3
    expected[0, 0, 0] = 4
    points = ([1, 1, 0, 1, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 0])
    written(shared, lambda array: array.vindex.__setitem__(points, [1, 2, 9, 3, 4]), expected)
    expected = BASE.copy()
    give(expected, np.s_[[0, 0], [1, 1], 2], 4)
    written(shared, lambda array: array.oindex.__setitem__(np.s_[[0, 0], [1, 1], 2], [[1, 2], [3, 4]]), expected)


@pytest.mark.parametrize(
    ("sel", "shape"),
    [
        (np.s_[...], (6,)),
        (np.s_[...], (5, 1)),
        (np.s_[...], (7, 1, 1)),
        (np.s_[...], (1, 1, 1, 6)),
        (np.s_[1:4, 2], (3, 1)),
        (np.s_[1:4, 2], (6,)),
        (np.s_[2:5, ::-2, 1:5:3], (3, 1)),
        (np.s_[2:2], (5, 6)),
        (np.s_[[1, 4], 2:4], (2, 1, 6)),
        (np.s_[[1, 4], 2:4], (2, 6)),
        (MASK, (1,)),
    ],
    ids=label,
)
def test_values_are_broadcast_as_numpy_does(shared: Any, sel: Any, shape: tuple[int, ...]) -> None:
    expected = BASE.copy()
    values = 1000 + np.arange(int(np.prod(shape))).reshape(shape)
    expected[sel] = values
    written(shared, lambda array: array.__setitem__(sel, values), expected)


@pytest.mark.parametrize(
    ("sel", "shape"),
    [
        (np.s_[...], (7,)),
        (np.s_[...], (7, 5)),
        (np.s_[...], (2, 7, 5, 6)),
        (np.s_[1:4], (2, 5, 6)),
        (np.s_[1, 2, 3], (2,)),
        (np.s_[2:2], (3, 5, 6)),
        (np.s_[[1, 4]], (3, 5, 6)),
        (MASK, (3,)),
        (MASK, SHAPE),
    ],
    ids=label,
)
def test_shapes_that_do_not_fit_are_refused_by_name(shared: Any, sel: Any, shape: tuple[int, ...]) -> None:
    expected = BASE.copy()
    values = np.zeros(shape, dtype="i8")
    with pytest.raises((ValueError, TypeError)):
        expected[sel] = values
    with shared.transaction() as tx, pytest.raises(InvalidInputError) as caught:
        tx["w"][sel] = values
    assert str(shape) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tx.commit_info is None


def test_values_of_any_layout_are_taken(shared: Any) -> None:
    expected = BASE[::-1, :, ::-1].copy()
    for values in (BASE[::-1, :, ::-1], np.asfortranarray(expected), expected.astype(">i8"), expected.tolist()):
        written(shared, lambda array, values=values: array.__setitem__(..., values), expected)
    expected = BASE.copy()
    expected[0:2] = np.arange(12, dtype="i8").reshape(2, 1, 6)
    view = np.broadcast_to(np.arange(12, dtype="i8").reshape(2, 1, 6), (2, 5, 6))
    written(shared, lambda array: array.__setitem__(np.s_[0:2], view), expected)
    expected[4] = BASE[1]
    written(shared, lambda array: (array.__setitem__(np.s_[0:2], view), array.__setitem__(4, shared["a"][1])), expected)


# -- against NumPy, at random ---------------------------------------------------------------------

RANDOMLY = settings(deadline=None, max_examples=80)


@RANDOMLY
@given(sel=hnp.basic_indices(SHAPE, allow_newaxis=False, allow_ellipsis=True))
def test_random_basic_selections_read_as_numpy(shared: Any, sel: Any) -> None:
    same(shared["a"][sel], BASE[sel])


@RANDOMLY
@given(sel=hnp.integer_array_indices(SHAPE, result_shape=hnp.array_shapes(max_dims=2, max_side=6)))
def test_random_points_read_as_numpy(shared: Any, sel: Any) -> None:
    same(shared["a"].vindex[sel], BASE[sel])


@RANDOMLY
@given(mask=hnp.arrays(bool, SHAPE, elements=st.booleans()))
def test_random_masks_read_as_numpy(shared: Any, mask: Array) -> None:
    same(shared["a"][mask], BASE[mask])


@RANDOMLY
@given(sel=st.tuples(*(st.lists(st.integers(-extent, extent - 1), max_size=8) for extent in SHAPE)))
def test_random_crossed_lists_read_as_numpy(shared: Any, sel: tuple[list[int], ...]) -> None:
    same(shared["a"].oindex[sel], BASE[np.ix_(*(np.asarray(axis, dtype="i8") for axis in sel))])


@settings(deadline=None, max_examples=25)
@given(
    edits=st.lists(
        st.one_of(
            hnp.basic_indices(SHAPE, allow_newaxis=False, allow_ellipsis=True),
            hnp.arrays(bool, SHAPE, elements=st.booleans()),
            st.lists(st.integers(-7, 6), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_random_edits_write_as_numpy(shared: Any, edits: list[Any]) -> None:
    expected = BASE.copy()

    def write(array: Any) -> None:
        for number, sel in enumerate(edits):
            values = 1000 * number + np.arange(np.size(BASE[sel])).reshape(np.shape(BASE[sel]))
            array[sel] = values
            expected[sel] = values

    with shared.transaction() as tx:
        tx["w"][...] = BASE
    with shared.transaction() as tx:
        write(tx["w"])
        same(tx["w"][...], expected)
    same(shared["w"][...], expected)


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sel", "words"),
    [
        (7, "7"),
        (-8, "-8"),
        (np.s_[0, 5], "5"),
        (np.s_[..., 6], "6"),
        ([0, 7], "7"),
        ([-8], "-8"),
        (np.s_[:, [1, 99]], "99"),
        (10**30, ""),
        (np.s_[0, 0, 0, 0], ""),
        (np.s_[..., ...], ""),
        (np.s_[::0], ""),
        (1.0, ""),
        (np.float64(1), ""),
        (np.s_[1.5:2], ""),
        ([1.5], ""),
        (np.array([1.0, 2.0]), ""),
        (None, "None"),
        (np.s_[None, 1], "None"),
        (np.s_[..., np.newaxis], "None"),
        (True, ""),
        (np.s_[True, 1], ""),
        (np.ones(6, dtype=bool), ""),
        (np.ones((7, 5, 5), dtype=bool), ""),
        (np.s_[:, np.ones(7, dtype=bool)], ""),
        (np.s_[[0, 1], [0, 1]], "vindex"),
        (np.s_[[0, 1], [0, 1]], "oindex"),
        (np.s_[[0, 1], :, [0, 1]], "vindex"),
        ({}, ""),
        (int, ""),
        (np.s_["x":"y"], ""),
        ([["a"]], ""),
    ],
    ids=label,
)
def test_selections_that_do_not_fit_are_refused(shared: Any, sel: Any, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        shared["a"][sel]
    assert isinstance(caught.value, IndexError)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    with shared.transaction() as tx:
        with pytest.raises(InvalidIndexError):
            tx["w"][sel] = 1
        with pytest.raises(InvalidIndexError):
            tx["w"].accumulate(sel, 1)
        with pytest.raises(InvalidIndexError):
            tx["w"].clear(sel)
    assert tx.commit_info is None


@pytest.mark.parametrize(
    "sel", [np.s_[7, 0, 0], np.s_[[0, 9], 0, 0], np.s_[0, 0, 0, 0], np.s_[[1.5], 0, 0], None], ids=label
)
def test_crossed_selections_that_do_not_fit_are_refused(shared: Any, sel: Any) -> None:
    with pytest.raises(InvalidIndexError):
        shared["a"].oindex[sel]
    with shared.transaction() as tx, pytest.raises(InvalidIndexError):
        tx["w"].oindex[sel] = 1


@pytest.mark.parametrize(
    "sel",
    [
        np.s_[[7], [0], [0]],
        np.s_[[0, 1], [0, 1, 2], 0],
        np.s_[[0], [0], [0], [0]],
        np.s_[[1.5], [0], [0]],
        None,
        np.ones((7, 5), dtype="f4"),
    ],
    ids=label,
)
def test_points_that_do_not_fit_are_refused(shared: Any, sel: Any) -> None:
    with pytest.raises(InvalidIndexError):
        shared["a"].vindex[sel]
    with shared.transaction() as tx, pytest.raises(InvalidIndexError):
        tx["w"].vindex[sel] = 1


# -- out= and fields= -----------------------------------------------------------------------------


@pytest.mark.parametrize("sel", [*BASIC[8:14], np.s_[:, 1], np.s_[2:5, ::-2, 1:5:3], [6, 0, 3], MASK], ids=label)
def test_out_is_filled_and_returned(shared: Any, sel: Any) -> None:
    expected = BASE[sel]
    out = np.full_like(expected, -1)
    assert shared["a"].read(sel, out=out) is out
    same(out, expected)
    wide = np.full((*expected.shape[:-1], expected.shape[-1] * 2), -1)
    view = wide[..., ::2]
    assert shared["a"].read(sel, out=view) is view
    same(view, expected)
    assert (wide[..., 1::2] == -1).all()
    fortran = np.asfortranarray(np.full_like(expected, -1))
    shared["a"].read(sel, out=fortran)
    same(fortran, expected)


def test_out_that_does_not_fit_is_refused_and_untouched(shared: Any) -> None:
    frozen = np.zeros((2, 5, 6), dtype="i8")
    frozen.flags.writeable = False
    for out in (
        np.zeros((3, 5, 6), dtype="i8"),
        np.zeros((5, 6), dtype="i8"),
        np.zeros((2, 5, 6), dtype="f4"),
        np.zeros((2, 5, 6), dtype="i4"),
        frozen,
        [0] * 60,
    ):
        with pytest.raises((InvalidInputError, TypeError)) as caught:
            shared["a"].read(np.s_[1:3], out=out)
        assert "\n" not in str(caught.value)
        assert not np.any(out)


RECORD = np.dtype([("x", "i4"), ("y", "f8"), ("name", "S3")])


@pytest.fixture
def records(store: Any) -> tuple[Any, Array]:
    base = np.zeros(6, dtype=RECORD)
    base["x"], base["y"], base["name"] = np.arange(6), np.arange(6) / 2, [b"a", b"bc", b"def", b"", b"e", b"f"]
    create(store, "records", base, chunks=(4,))
    return store, base


def test_fields_are_read_by_name(records: tuple[Any, Array]) -> None:
    store, base = records
    array = store["records"]
    same(array[...], base)
    same(array.read(np.s_[1:5], fields="x"), base["x"][1:5])
    same(array.read([4, 1], fields="name"), base["name"][[4, 1]])
    found = array.read(np.s_[::2], fields=["y", "x"])
    assert found.dtype.names == ("y", "x")
    assert found["y"].tolist() == base["y"][::2].tolist()
    assert found["x"].tolist() == base["x"][::2].tolist()
    assert array.read(2, fields="y") == 1.0
    out = np.zeros(6, dtype="f8")
    assert array.read(..., fields="y", out=out) is out
    same(out, base["y"])


def test_records_are_written_whole(records: tuple[Any, Array]) -> None:
    store, base = records
    one = np.array([(9, 0.5, b"zz")], dtype=RECORD)
    with store.transaction() as tx:
        tx["records"][2] = one[0]
        tx["records"][4:6] = one
    base[2] = base[4] = base[5] = one[0]
    same(store["records"][...], base)


def test_unknown_fields_are_refused(records: tuple[Any, Array], shared: Any) -> None:
    store, _ = records
    for fields in ("z", ["x", "z"], [], 3):
        with pytest.raises((InvalidInputError, TypeError)):
            store["records"].read(..., fields=fields)
    with pytest.raises(InvalidInputError):
        shared["a"].read(..., fields="x")
    with pytest.raises(InvalidInputError):
        shared["a"]["x"]


# -- casting --------------------------------------------------------------------------------------

NAT = np.datetime64("NaT")
DAYS = np.array(["2026-01-01", "2026-01-02"], dtype="M8[D]")

TAKEN: list[tuple[str, Any]] = [  # the dtype of the array, and what may be written into it
    ("f4", np.array([0.5, 1 / 3])),  # floats: "same_kind", that is with loss
    ("f2", np.array([0.1, 7.7], dtype="f4")),
    ("f8", np.array([1, 2])),
    ("f4", np.array([2**40, 3])),
    ("f4", np.array([True, False])),
    ("c8", np.array([0.5, 1.5])),
    ("c8", np.array([1j, 2])),
    ("i2", np.array([-32768, 32767])),
    ("u1", np.array([0, 255])),
    ("u8", np.array([0, 2**63], dtype="u8")),
    ("i8", np.array([2**63 - 1], dtype="u8")),
    ("i4", np.array([True, False])),
    ("i1", [1, -2]),
    ("f4", [1.5, 2]),
    ("f4", 2),
    ("f4", 0.1),
    ("i1", -128),
    ("i1", True),
    ("c16", 1j),
    ("c16", 2),
    ("?", [True, False]),
    ("?", True),
    ("S3", np.array([b"ab", b"abc"])),
    ("S3", np.array([b"abc"], dtype="S9")),
    ("U3", np.array(["äöü"], dtype="U9")),
    ("U3", "ab"),
    ("U3", ["a", "bcd"]),
    ("S3", b"abc"),
    ("M8[s]", DAYS),
    ("M8[D]", DAYS.astype("M8[ns]")),
    ("M8[D]", np.datetime64("2026-01-01")),
    ("M8[ns]", NAT),
    ("m8[s]", np.array([1, 2], dtype="m8[m]")),
    ("m8[m]", np.array([60, 120], dtype="m8[s]")),
]

REFUSED: list[tuple[str, Any]] = [
    ("i4", np.array([1.0])),
    ("i4", 1.0),
    ("i4", [1, 2.5]),
    ("i4", np.float32(1)),
    ("f8", np.array([1j])),
    ("f8", 1j),
    ("i1", np.array([128])),
    ("i1", np.array([-129])),
    ("i1", [1, 200]),
    ("i1", 128),
    ("u1", -1),
    ("u1", np.array([-1])),
    ("u8", np.array([-1])),
    ("i8", np.array([2**63], dtype="u8")),
    ("i8", 2**63),
    ("i8", 10**30),
    ("?", np.array([1])),
    ("?", 1),
    ("?", 1.0),
    ("?", [0, 1]),
    ("S3", np.array([b"abcd"])),
    ("S3", b"abcd"),
    ("U3", "abcd"),
    ("U3", ["abcd", "a"]),
    ("i4", "1"),
    ("i4", np.array(["1"])),
    ("U3", 1),
    ("U3", np.array([1])),
    ("f4", b"1"),
    ("M8[D]", np.array(["2026-01-01T00:00:01"], dtype="M8[s]")),
    ("M8[ns]", np.array(["9999-01-01"], dtype="M8[D]")),  # not within 64 bits of nanoseconds
    ("m8[m]", np.array([61], dtype="m8[s]")),
    ("M8[s]", np.array([1], dtype="m8[s]")),
    ("m8[s]", DAYS),
    ("i8", DAYS),
    ("i4", None),
    ("f4", None),
    ("i4", np.array([1, None], dtype=object)),
    ("f4", {}),
    ("i4", np.zeros(2, dtype=[("x", "i4")])),
]


@pytest.mark.parametrize(("dtype", "values"), TAKEN, ids=[f"{dtype} - {label(values)}" for dtype, values in TAKEN])
def test_values_that_fit_are_cast(store: Any, dtype: str, values: Any) -> None:
    expected = np.zeros(np.shape(values) or (2,), dtype=dtype)
    expected[...] = values
    create(store, "a", shape=expected.shape, dtype=dtype)
    with store.transaction() as tx:
        tx["a"][...] = values
        same(tx["a"][...], expected)
    same(store["a"][...], expected)


@pytest.mark.parametrize(("dtype", "values"), REFUSED, ids=[f"{dtype} - {label(values)}" for dtype, values in REFUSED])
def test_values_that_do_not_fit_are_refused(store: Any, dtype: str, values: Any) -> None:
    create(store, "a", shape=(2,), dtype=dtype)
    with store.transaction() as tx:
        with pytest.raises(DTypeError) as caught:
            tx["a"][...] = values
        assert "\n" not in str(caught.value)
        with pytest.raises(DTypeError):
            tx["a"].append([values] if np.ndim(values) == 0 else values)
    assert tx.commit_info is None


@pytest.mark.parametrize(
    ("dtype", "values", "casting", "expected"),
    [
        ("i4", [1.9, -1.9], "unsafe", [1, -1]),
        ("u1", np.array([257, 3]), "unsafe", [1, 3]),
        ("?", [0, 7], "unsafe", [False, True]),
        ("S2", [b"abcd", b"x"], "unsafe", [b"ab", b"x"]),
        ("f8", np.array([1.5, 2], dtype="f4"), "safe", [1.5, 2]),
        ("i4", np.array([1, 2], dtype="i4"), "no", [1, 2]),
    ],
)
def test_casting_overrides_the_rules(store: Any, dtype: str, values: Any, casting: str, expected: list[Any]) -> None:
    create(store, "a", shape=(2,), dtype=dtype)
    with store.transaction() as tx:
        tx["a"].write(np.s_[...], values, casting=casting)
    assert store["a"][...].tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "values", "casting"),
    [
        ("f4", np.array([1.5, 2.5]), "safe"),
        ("i2", np.array([1, 2]), "safe"),
        ("i8", np.array([1, 2], dtype="i4"), "no"),
        ("i4", np.array([1.0, 2.0]), "same_kind"),
    ],
)
def test_casting_may_be_stricter(store: Any, dtype: str, values: Any, casting: str) -> None:
    create(store, "a", shape=(2,), dtype=dtype)
    with store.transaction() as tx:
        with pytest.raises(DTypeError):
            tx["a"].write(..., values, casting=casting)
        with pytest.raises(InvalidInputError):
            tx["a"].write(..., values, casting="somehow")
    assert tx.commit_info is None
