"""Promise 6: accumulations commute with their own kind, and fold from the base, left to right."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, put, resize, same

from txstore.errors import ConflictError, DTypeError, InvalidInputError, ReadOnlyError

UFUNCS = {"add": np.add, "min": np.minimum, "max": np.maximum}
PAIRS = list(itertools.permutations(UFUNCS, 2))


def accumulate(store: Any, path: str, sel: Any, values: Any, op: str = "add", **options: Any) -> Any:
    """Accumulate in a commit of its own; return the commit."""
    with store.transaction(**options) as tx:
        tx[path].accumulate(sel, values, op=op)
    return tx.commit_info


# -- what it does ---------------------------------------------------------------------------------

SELECTIONS = {
    "everything": (..., 3),
    "a cell": (4, 3),
    "a box": (np.s_[2:7], np.array([5, -3, 2, 9, -9])),
    "a step": (np.s_[1:9:3], np.array([5, -3, 2])),
    "a step backwards": (np.s_[8:1:-3], np.array([5, -3, 2])),
    "a list": ([7, 0, 4], np.array([5, -3, 2])),
    "a list with duplicates": ([7, 0, 7, 7, 0], np.array([5, -3, 2, 8, 1])),
    "a mask": (np.arange(10) % 4 == 1, np.array([5, -3, 2])),
    "nothing": (np.s_[3:3], 7),
}


@pytest.mark.parametrize("op", UFUNCS)
@pytest.mark.parametrize(("sel", "values"), SELECTIONS.values(), ids=SELECTIONS)
def test_accumulating_is_ufunc_at(store: Any, op: str, sel: Any, values: Any) -> None:
    base = np.array([3, 1, 4, 1, 5, -9, 2, 6, 5, 3])
    create(store, "a", base, chunks=(4,))
    with store.transaction() as tx:
        tx["a"].accumulate(sel, values, op=op)
        UFUNCS[op].at(base, sel, values)
        same(tx["a"][...], base)
    same(store["a"][...], base)
    store.compact()
    same(store["a"][...], base)


def test_add_is_the_default(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[0:2], 10)
    assert store["a"][...].tolist() == [10, 11, 2, 3]


@pytest.mark.parametrize("op", UFUNCS)
def test_duplicate_points_of_a_plane_all_count(store: Any, op: str) -> None:
    base = np.arange(20).reshape(4, 5)
    create(store, "a", base, chunks=(2, 2))
    points = (np.array([3, 0, 3, 1, 3]), np.array([4, 0, 4, 2, 4]))
    values = np.array([7, -1, -20, 100, 9])
    with store.transaction() as tx:
        # Several index arrays are points, as in np.add.at; vindex is how the array spells it.
        tx["a"].vindex.accumulate(points, values, op=op)
    UFUNCS[op].at(base, points, values)
    same(store["a"][...], base)


@pytest.mark.parametrize(
    ("op", "fill", "expected"), [("add", 7, [12, 7]), ("min", 7, [5, 7]), ("max", 7, [7, 7]), ("max", -3, [5, -3])]
)
def test_cells_that_were_never_written_start_from_the_fill_value(
    store: Any, op: str, fill: int, expected: list[int]
) -> None:
    create(store, "a", shape=(6,), dtype="i4", chunks=(4,), fill_value=fill)
    accumulate(store, "a", np.s_[0:1], 5, op)
    for _ in range(2):
        assert store["a"][0:2].tolist() == expected
        store.compact()


def test_nan_is_accumulated_as_numpy_does(store: Any) -> None:
    base = np.array([np.nan, 1.0, 2.0, np.inf])
    for op, ufunc in UFUNCS.items():
        create(store, op, base, chunks=(3,))
        values = np.array([1.0, np.nan, -0.0, -np.inf])
        accumulate(store, op, ..., values, op)
        with np.errstate(invalid="ignore"):
            expected = ufunc(base, values)
        np.testing.assert_array_equal(store[op][...], expected)


def test_integers_wrap_as_numpy_does(store: Any) -> None:
    base = np.array([250, 5], dtype="u1")
    create(store, "a", base)
    accumulate(store, "a", ..., np.array([10, 10], dtype="u1"))
    same(store["a"][...], base + np.array([10, 10], dtype="u1"))


def test_several_accumulations_in_one_transaction_fold_in_order(store: Any) -> None:
    create(store, "a", np.arange(6), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[0:4], 10)
        tx["a"].accumulate(np.s_[2:6], 100)
        tx["a"].accumulate(np.s_[0:6], 50, op="min")
        tx["a"].accumulate([5, 5], 1)
        assert tx["a"][...].tolist() == [10, 11, 50, 50, 50, 52]
    assert store["a"][...].tolist() == [10, 11, 50, 50, 50, 52]


# -- beside others --------------------------------------------------------------------------------


@pytest.mark.parametrize("op", UFUNCS)
def test_the_same_op_never_conflicts(store: Any, op: str) -> None:
    base = np.arange(10)
    create(store, "a", base, chunks=(4,))
    pieces = [(np.s_[0:6], 4), (np.s_[3:10], 7), (np.s_[::2], -5), ([1, 1, 9], 3), (..., 2)]
    transactions = [store.transaction() for _ in pieces]
    for tx, (sel, value) in zip(transactions, pieces, strict=True):
        tx["a"].accumulate(sel, value, op=op)
    for tx, (sel, value) in reversed(list(zip(transactions, pieces, strict=True))):
        tx.commit()
        UFUNCS[op].at(base, sel, value)
    same(store["a"][...], base)


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_different_ops_on_the_same_cells_conflict(store: Any, one: str, two: str) -> None:
    create(store, "a", np.arange(10), chunks=(10,))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[0:5], 3, op=two)
        accumulate(store, "a", np.s_[4:8], 2, one)
        with conflict("cells", path="a"):
            tx.commit()


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_different_ops_on_other_cells_of_the_chunk_commit(store: Any, one: str, two: str) -> None:
    base = np.arange(10)
    create(store, "a", base, chunks=(10,))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[::2], 3, op=two)
        accumulate(store, "a", np.s_[1::2], 4, one)
    base[1::2] = UFUNCS[one](base[1::2], 4)
    base[::2] = UFUNCS[two](base[::2], 3)
    same(store["a"][...], base)


@pytest.mark.parametrize(
    "write",
    [
        lambda array: array.__setitem__(np.s_[3:8], 5),
        lambda array: array.__setitem__(4, 5),
        lambda array: array.__setitem__([9, 4], 5),
        lambda array: array.clear(np.s_[0:10]),
    ],
    ids=["box", "cell", "list", "clear"],
)
def test_a_set_based_on_a_version_before_an_accumulation_conflicts(store: Any, write: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        write(tx["a"])
        accumulate(store, "a", np.s_[4:5], 100)
        with conflict("cells", path="a"):
            tx.commit()
    assert store["a"][...].tolist() == [0, 1, 2, 3, 104, 5, 6, 7, 8, 9]


def test_an_accumulation_after_a_concurrent_set_is_on_top_of_it_or_refused(store: Any) -> None:
    # The design names the other order only. Both outcomes lose nothing.
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[2:6], 100)
        put(store, "a", np.s_[0:4], -1)
        try:
            tx.commit()
        except ConflictError:
            pass
    expected = [-1, -1, 99, 99, 104, 105] if tx.commit_info else [-1, -1, -1, -1, 4, 5]
    assert store["a"][0:6].tolist() == expected


def test_a_set_beside_an_accumulation_of_other_cells_commits(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(10,))
    with store.transaction() as tx:
        tx["a"][0:4] = 50
        accumulate(store, "a", np.s_[4:8], 100)
    assert store["a"][...].tolist() == [50, 50, 50, 50, 104, 105, 106, 107, 8, 9]


def test_a_read_of_accumulated_cells_is_guarded_under_serializable(store: Any) -> None:
    create(store, "a", np.arange(10))
    create(store, "sum", np.array([0]))
    with store.transaction(isolation="serializable") as tx:
        tx["sum"][0] = tx["a"][0:5].sum()
        accumulate(store, "a", 2, 1)
        with conflict("read", path="a"):
            tx.commit()


def test_accumulating_is_no_reading(store: Any) -> None:
    create(store, "a", np.arange(10))
    with store.transaction(isolation="serializable") as one, store.transaction(isolation="serializable") as two:
        one["a"].accumulate(np.s_[0:5], 1)
        two["a"].accumulate(np.s_[0:5], 10)
        one.commit()
        two.commit()
    assert store["a"][0:5].tolist() == [11, 12, 13, 14, 15]


# -- with sets in one history ---------------------------------------------------------------------


def test_write_after_accumulate_and_accumulate_after_write(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[0:6], 100)
        tx["a"][4:8] = 7
        tx["a"].accumulate(np.s_[2:5], 1000)
        assert tx["a"][...].tolist() == [100, 101, 1102, 1103, 1007, 7, 7, 7, 8, 9]
    assert store["a"][...].tolist() == [100, 101, 1102, 1103, 1007, 7, 7, 7, 8, 9]


def test_sets_and_accumulations_alternate_over_commits_and_compactions(store: Any) -> None:
    model = np.arange(12)
    states = {create(store, "a", model, chunks=(5,)).version: model.copy()}
    steps: list[tuple[str, Any, Any]] = [
        ("add", np.s_[2:9], 10),
        ("set", np.s_[4:6], 0),
        ("add", np.s_[0:12:2], 100),
        ("max", np.s_[3:7], 50),
        ("set", [0, 11], -1),
        ("add", ..., 1),
        ("min", np.s_[6:12], 60),
    ]
    for op, sel, value in steps:
        if op == "set":
            version = put(store, "a", sel, value).version
            model[sel] = value
        else:
            version = accumulate(store, "a", sel, value, op).version
            UFUNCS[op].at(model, sel, value)
        states[version] = model.copy()
        same(store["a"][...], model)
        if op == "set":
            store.compact()
    for version, expected in states.items():
        same(store.snapshot(version=version)["a"][...], expected)


def test_a_set_by_mask_over_an_accumulation_leaves_the_rest_of_it(store: Any) -> None:
    create(store, "a", np.zeros(8), chunks=(8,))
    accumulate(store, "a", ..., np.arange(8))
    put(store, "a", np.arange(8) % 3 == 0, -1)
    accumulate(store, "a", np.arange(8) % 2 == 0, 0.5)
    for _ in range(2):
        assert store["a"][...].tolist() == [-0.5, 1, 2.5, -1, 4.5, 5, -0.5, 7]
        store.compact()


def test_accumulating_into_appended_cells(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(3,))
    with store.transaction() as tx:
        tx["a"].append([10, 20, 30])
        tx["a"].accumulate(np.s_[3:6], 5)
        append(store, "a", [-1, -2])
    for _ in range(2):
        assert store["a"][...].tolist() == [0, 1, 2, 8, -1, -2, 15, 25, 30]
        store.compact()


def test_cut_cells_forget_what_was_accumulated(store: Any) -> None:
    create(store, "a", shape=(8,), dtype="i8", chunks=(3,), fill_value=5)
    accumulate(store, "a", np.s_[2:8], 100)
    resize(store, "a", (4,))
    resize(store, "a", (8,))
    accumulate(store, "a", np.s_[3:6], 1)
    for _ in range(2):
        assert store["a"][...].tolist() == [5, 5, 105, 106, 6, 6, 5, 5]
        store.compact()


# -- floats, bit for bit --------------------------------------------------------------------------


def folded(base: np.ndarray[Any, Any], values: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Base plus the values, from the left."""
    total = base.copy()
    for value in values:
        total = total + value
    return total


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("compact_after", [(), (2,), (0, 3, 5), tuple(range(8))], ids=str)
def test_floats_fold_from_the_base_bit_for_bit(store: Any, dtype: str, compact_after: tuple[int, ...]) -> None:
    random = np.random.default_rng(7)

    def some() -> np.ndarray[Any, Any]:
        found = random.normal(size=50) * 10.0 ** random.integers(-3, 4, size=50)
        return (found * (1 + 1j if dtype[0] == "c" else 1)).astype(dtype)

    base, values = some(), [some() for _ in range(8)]
    right_to_left = base + sum(reversed(values[1:]), values[0])
    expected = folded(base, values)
    assert right_to_left.tobytes() != expected.tobytes()  # or the test would show nothing
    states = {create(store, "a", base, chunks=(16,)).version: base}
    for number, value in enumerate(values):
        states[accumulate(store, "a", ..., value).version] = folded(base, values[: number + 1])
        if number in compact_after:
            store.compact()
    same(store["a"][...], expected)
    store.compact()
    for version, state in states.items():
        same(store.snapshot(version=version)["a"][...], state)


def test_floats_fold_from_the_fill_value(store: Any) -> None:
    fill, values = np.float32(0.1), [np.float32(value) for value in (1e8, -1e8, 0.3, 1e-9)]
    create(store, "a", shape=(3,), dtype="f4", chunks=(2,), fill_value=fill)
    for value in values:
        accumulate(store, "a", np.s_[0:2], value)
    total = fill
    for value in values:
        total = total + value
    for _ in range(2):
        same(store["a"][...], np.array([total, total, fill], dtype="f4"))
        store.compact()


def test_floats_fold_in_commit_order_and_not_in_the_order_of_staging(store: Any) -> None:
    create(store, "a", np.array([0.1], dtype="f4"))
    values = np.array([1e8, -1e8, 3.3, 7e-4, 1e4], dtype="f4")
    transactions = [store.transaction() for _ in values]
    for tx, value in zip(transactions, values, strict=True):
        tx["a"].accumulate(..., value)
    order = [2, 0, 4, 3, 1]
    total = np.float32(0.1)
    for number in order:
        transactions[number].commit()
        total = total + values[number]
    for _ in range(2):
        same(store["a"][...], np.array([total]))
        store.compact()


def test_duplicates_fold_in_the_order_given(store: Any) -> None:
    base, values = np.array([0.1, 0.2], dtype="f4"), np.array([1e8, 3.3, -1e8, 7e-4, 1e4], dtype="f4")
    create(store, "a", base)
    accumulate(store, "a", [0, 1, 0, 0, 1], values)
    np.add.at(base, [0, 1, 0, 0, 1], values)
    for _ in range(2):
        same(store["a"][...], base)
        store.compact()


def test_floats_fold_the_same_on_a_branch_that_compacts_on_its_own(store: Any) -> None:
    values = np.array([1e8, 3.3, -1e8, 7e-4, 1e4, -17.3], dtype="f4")
    create(store, "a", np.array([0.1], dtype="f4"))
    for value in values[:3]:
        accumulate(store, "a", 0, value)
    store.create_branch("side")
    store.compact()
    for value in values[3:]:
        accumulate(store, "a", 0, value, branch="side")
    total = np.float32(0.1)
    for value in values:
        total = total + value
    for _ in range(2):
        same(store.snapshot(branch="side")["a"][...], np.array([total]))
        store.compact()


def test_negative_zero_is_kept_by_folding(store: Any) -> None:
    create(store, "a", np.array([-0.0, -0.0, 0.0]), chunks=(3,), fill_value=-0.0)
    accumulate(store, "a", ..., np.array([-0.0, 0.0, -0.0]))
    for _ in range(2):
        assert np.signbit(store["a"][...]).tolist() == [True, False, False]
        store.compact()


def test_threads_count_exactly(store: Any) -> None:
    create(store, "a", shape=(10,), dtype="i8")
    failures: list[BaseException] = []

    def work(lane: int) -> None:
        try:
            for _ in range(10):
                accumulate(store, "a", np.s_[lane : lane + 5], 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store["a"][...].tolist() == [10, 20, 30, 40, 50, 50, 40, 30, 20, 10]


# -- refused --------------------------------------------------------------------------------------


def test_what_cannot_be_accumulated_is_refused(store: Any) -> None:
    create(store, "a", np.arange(4))
    create(store, "text", np.array([b"ab", b"cd"]))
    create(store, "times", np.array(["2026-01-01", "2026-01-02"], dtype="M8[D]"))
    with store.transaction() as tx:
        for op in ("mul", "ADD", None):
            with pytest.raises(InvalidInputError):
                tx["a"].accumulate(0, 1, op=op)
        with pytest.raises(DTypeError):
            tx["a"].accumulate(0, 1.5)
        with pytest.raises(InvalidInputError):
            tx["text"].accumulate(0, b"x")
        with pytest.raises(InvalidInputError):
            tx["times"].accumulate(0, np.datetime64("2026-01-03"), op="add")  # moments have no sum
        with pytest.raises(InvalidInputError):
            tx["a"].accumulate(np.s_[0:3], [1, 2])
        with pytest.raises(IndexError):
            tx["a"].accumulate(9, 1)
        assert tx["a"][...].tolist() == [0, 1, 2, 3]
    assert tx.commit_info is None
    with pytest.raises(ReadOnlyError):
        store["a"].accumulate(0, 1)
