"""Running transactions: store.run, threads inside one transaction, the ways in and out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from histories import create, noise, put, same

import txstore
from txstore.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    StoreClosedError,
    TransactionClosedError,
)

# -- store.run ------------------------------------------------------------------------------------


def spoiled(store: Any, times: int, calls: list[Any]) -> Callable[[Any], int]:
    """An increment which somebody else overtakes the first `times` times."""

    def increment(tx: Any) -> int:
        value = int(tx["n"][0])
        calls.append(tx.txid)
        if len(calls) <= times:
            put(store, "n", 0, value + 100)
        tx["n"][0] = value + 1
        return value + 1

    return increment


@pytest.mark.parametrize("times", [0, 1, 3])
def test_run_tries_again_on_conflict(store: Any, times: int) -> None:
    create(store, "n", np.array([0]))
    calls: list[Any] = []
    assert store.run(spoiled(store, times, calls)) == 100 * times + 1
    assert len(calls) == times + 1
    assert len(set(calls)) == len(calls)
    assert store["n"][0] == 100 * times + 1


def test_run_gives_up_after_the_attempts_it_was_given(store: Any) -> None:
    create(store, "n", np.array([0]))
    calls: list[Any] = []
    with pytest.raises(ConflictError):
        store.run(spoiled(store, 10, calls), attempts=3)
    assert len(calls) == 3
    assert store["n"][0] == 300
    with pytest.raises(ConflictError):
        store.run(spoiled(store, 10, calls := []), attempts=1)
    assert len(calls) == 1


def test_run_gives_up_when_its_time_is_over(store: Any) -> None:
    create(store, "n", np.array([0]))
    calls: list[Any] = []
    with pytest.raises(ConflictError):
        store.run(spoiled(store, 10**9, calls), timeout=0.05)
    assert calls


def test_run_passes_other_exceptions_on_at_once(store: Any) -> None:
    create(store, "n", np.array([0]))
    calls = []

    def fail(tx: Any) -> None:
        calls.append(tx)
        tx["n"][0] = 5
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.run(fail)
    assert len(calls) == 1
    assert calls[0].status == "aborted"
    assert store["n"][0] == 0


def test_run_hands_its_options_on(store: Any) -> None:
    create(store, "n", np.array([0]))
    store.create_branch("side")

    def increment(tx: Any) -> Any:
        tx["n"][0] = tx["n"][0] + 1
        return tx

    tx = store.run(increment, branch="side", message="by run", author="me", properties={"k": 1})
    info = tx.commit_info
    assert (info.branch, info.message, info.author, info.properties["k"]) == ("side", "by run", "me", 1)
    assert (store["n"][0], store.snapshot(branch="side")["n"][0]) == (0, 1)
    with pytest.raises(TypeError):
        store.run(increment, colour="red")


def test_run_reads_the_newest_version_each_time(store: Any) -> None:
    create(store, "n", np.array([0]))
    create(store, "log", shape=(0,), dtype="i8", chunks=(4,))
    seen: list[int] = []

    def follow(tx: Any) -> None:
        seen.append(int(tx["n"][0]))
        if len(seen) == 1:
            put(store, "n", 0, 7)
        tx["n"][0] = seen[-1] + 1
        tx["log"].append([seen[-1]])

    store.run(follow)
    assert seen == [0, 7]
    assert store["log"][...].tolist() == [7]


def test_run_returns_what_a_reader_found_without_a_commit(store: Any) -> None:
    create(store, "n", np.array([3]))
    before = len(list(store.log()))
    assert store.run(lambda tx: int(tx["n"][0])) == 3
    assert len(list(store.log())) == before


def test_run_counts_exactly_from_many_threads(store: Any) -> None:
    create(store, "n", np.array([0]))

    def increment(tx: Any) -> None:
        tx["n"][0] = tx["n"][0] + 1

    def work(_: int) -> None:
        for _ in range(5):
            store.run(increment)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert store["n"][0] == 30


# -- threads inside one transaction ---------------------------------------------------------------


def test_threads_write_into_one_transaction(store: Any) -> None:
    model = noise((64, 64), "i4")
    create(store, "a", shape=(64, 64), dtype="i4", chunks=(10, 10))
    create(store, "sum", shape=(64,), dtype="i8", chunks=(64,))
    with store.transaction() as tx:

        def work(row: int) -> None:
            tx["a"][row, ::2] = model[row, ::2]
            tx["a"][row, 1::2] = model[row, 1::2]
            tx["sum"].accumulate(np.s_[0:row], 1)
            tx["a"].attrs[f"row{row}"] = row
            tx.create_array(f"rows/r{row}", shape=(2,), dtype="i4", chunks=(2,))[...] = row
            same(tx["a"][row], model[row])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(64)))
        same(tx["a"][...], model)
    same(store["a"][...], model)
    assert store["sum"][...].tolist() == list(range(63, -1, -1))
    assert dict(store["a"].attrs) == {f"row{row}": row for row in range(64)}
    assert {name: int(array[1]) for name, array in store["rows"].arrays()} == {f"r{row}": row for row in range(64)}


def test_threads_append_into_one_transaction(store: Any) -> None:
    create(store, "a", shape=(0,), dtype="i4", chunks=(3,))
    with store.transaction() as tx:

        def work(number: int) -> tuple[int, Any]:
            return number, tx["a"].append(np.full(number % 4 + 1, number, dtype="i4"))

        with ThreadPoolExecutor(8) as pool:
            blocks = list(pool.map(work, range(40)))
        with store.transaction() as other:
            other["a"].append(np.full(5, -1, dtype="i4"))
    final = store["a"][...]
    assert len(final) == 5 + sum(number % 4 + 1 for number in range(40))
    for number, block in blocks:
        cells = final[block.box.lo[0] : block.box.hi[0]]
        assert cells.tolist() == [number] * (number % 4 + 1)


def test_overlapping_writes_of_threads_are_whole(store: Any) -> None:
    create(store, "a", shape=(50, 50), dtype="i4", chunks=(8, 8))
    gate = threading.Barrier(4)
    with store.transaction() as tx:

        def work(number: int) -> None:
            gate.wait(60)
            for _ in range(5):
                tx["a"][3:47, 5:45] = np.full((44, 40), number, dtype="i4")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(1, 5)))
        staged = tx["a"][...]
    final = store["a"][...]
    same(final, staged)
    assert len(np.unique(final[3:47, 5:45])) == 1  # the last call to return, whole
    assert final[4, 6] in (1, 2, 3, 4)


def test_a_later_call_wins_over_an_earlier_one(store: Any) -> None:
    create(store, "a", shape=(20,), dtype="i4", chunks=(6,))
    with store.transaction() as tx, ThreadPoolExecutor(4) as pool:
        for turn in range(10):
            pool.submit(tx["a"].__setitem__, np.s_[turn : turn + 10], turn).result()
    assert store["a"][...].tolist() == [*range(9), *[9] * 10, 0]


def test_one_thread_wins_the_commit(store: Any) -> None:
    create(store, "a", np.arange(4))
    for _ in range(5):
        tx = store.transaction()
        tx["a"][0] = 9
        gate = threading.Barrier(4)

        def work(_: int, tx: Any = tx, gate: threading.Barrier = gate) -> Any:
            gate.wait(60)
            try:
                return tx.commit()
            except TransactionClosedError:
                return None

        before = len(list(store.log()))
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(work, range(4)))
        assert len([commit for commit in outcomes if commit is not None]) == 1
        assert len(list(store.log())) == before + 1


# -- the ways in ----------------------------------------------------------------------------------


def test_options_are_by_name_and_known(store: Any) -> None:
    with pytest.raises(TypeError):
        store.transaction("main")
    with pytest.raises(TypeError):
        store.transaction(colour="red")
    with pytest.raises(NotFoundError):
        store.transaction(branch="missing")
    for properties in ("text", {"k": object()}, {1: 2}):
        with pytest.raises((InvalidInputError, TypeError)):
            store.transaction(properties=properties, allow_empty=True).commit()


def test_a_store_opened_for_reading_has_no_transactions(tmp_path: Any) -> None:
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", np.arange(4))
        with txstore.open(tmp_path / "own", mode="r") as reader:
            for write in (
                reader.transaction,
                lambda: reader.run(lambda tx: None),
                lambda: reader.create_tag("t"),
                lambda: reader.create_branch("b"),
                reader.compact,
                lambda: reader.expire(keep_last=1),
                reader.vacuum,
            ):
                with pytest.raises(ReadOnlyError):
                    write()
            assert reader["a"][...].tolist() == [0, 1, 2, 3]


def test_a_closed_store_says_so(tmp_path: Any) -> None:
    store = txstore.open(tmp_path / "own")
    create(store, "a", np.arange(4))
    store.close()
    for use in (store.transaction, store.snapshot, lambda: store["a"], lambda: list(store.log()), store.tags):
        with pytest.raises(StoreClosedError):
            use()


def test_a_transaction_says_what_it_stands_on(store: Any) -> None:
    first = create(store, "a", np.arange(4))
    put(store, "a", 0, 1)
    with store.transaction(base=first.version) as tx:
        assert tx["a"][0] == 0
        assert tx["a"].version == first.version
        tx["a"][1] = 5
    assert store["a"][...].tolist() == [1, 5, 2, 3]
    assert tx.commit_info.parents  # the commit follows the head, wherever it was read


def test_a_base_on_another_branch_is_refused_or_read_there(store: Any) -> None:
    create(store, "a", np.arange(4))
    store.create_branch("side")
    elsewhere = put(store, "a", 0, 9, branch="side")
    # main as of that version holds 0: what is on the other branch must never be read as main's.
    try:
        tx = store.transaction(branch="main", base=elsewhere.version)
    except (InvalidInputError, NotFoundError):
        return
    assert tx["a"][0] == 0
    tx.abort()


def test_nested_transactions_are_independent(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as outer:
        outer["a"][0] = 1
        with store.transaction() as inner:
            inner["a"][1] = 2
        assert inner.status == "committed"
        assert outer["a"][...].tolist() == [1, 1, 2, 3]
    assert store["a"][...].tolist() == [1, 2, 2, 3]


def test_the_second_way_out_is_a_no_op(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"][0] = 1
        commit = tx.commit()
    assert tx.commit_info == commit
    with pytest.raises(RuntimeError, match="mine"), store.transaction() as tx:
        tx["a"][0] = 2
        tx.commit()
        raise RuntimeError("mine")
    assert tx.status == "committed"  # what has been committed stays
    assert store["a"][0] == 2
