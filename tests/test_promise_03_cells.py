"""Promise 3: conflicts are cells, not chunks: the first committer wins, and disjoint cells never conflict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from histories import conflict, create, put, same

import txstore
from txstore.errors import ConflictError

Write = Callable[[Any], None]


def mask(*cells: int, size: int = 10) -> np.ndarray[Any, Any]:
    """A mask of one dimension with these cells set."""
    found = np.zeros(size, dtype=bool)
    found[list(cells)] = True
    return found


def setting(sel: Any, values: Any) -> Write:
    return lambda array: array.__setitem__(sel, values)


def points(sel: Any, values: Any) -> Write:
    return lambda array: array.vindex.__setitem__(sel, values)


def cross(sel: Any, values: Any) -> Write:
    return lambda array: array.oindex.__setitem__(sel, values)


LINE = {  # every pair lies in one chunk of ten cells
    "boxes side by side": (setting(np.s_[0:5], 1), setting(np.s_[5:10], 2)),
    "a cell beside a cell": (setting(4, 1), setting(5, 2)),
    "even beside odd": (setting(np.s_[::2], 1), setting(np.s_[1::2], 2)),
    "even backwards beside odd": (setting(np.s_[8::-2], [1, 2, 3, 4, 5]), setting(np.s_[1::2], 2)),
    "steps of three": (setting(np.s_[0::3], 1), setting(np.s_[1::3], 2)),
    "step beside box between its cells": (setting(np.s_[0::5], 1), setting(np.s_[1:5], 2)),
    "mask beside mask": (setting(mask(0, 3, 9), [1, 2, 3]), setting(mask(1, 2, 8), 7)),
    "mask beside box inside its hull": (setting(mask(0, 9), 1), setting(np.s_[1:9], 2)),
    "list beside list": (setting([0, 2, 4], [1, 2, 3]), setting([5, 3, 1], [4, 5, 6])),
    "points beside points": (points([0, 9], 1), points([1, 8], 2)),
    "clear beside set": (lambda array: array.clear(np.s_[0:5]), setting(np.s_[5:], 2)),
    "accumulate beside set": (lambda array: array.accumulate(np.s_[0:5], 1), setting(np.s_[5:], 2)),
    "nothing beside everything": (setting(np.s_[3:3], 1), setting(np.s_[...], 2)),
    "empty mask beside everything": (setting(mask(), 1), setting(np.s_[...], 2)),
}

OVERLAPS = {
    "boxes": (setting(np.s_[0:6], 1), setting(np.s_[5:10], 2)),
    "equal boxes": (setting(np.s_[2:5], 1), setting(np.s_[2:5], 2)),
    "one inside the other": (setting(np.s_[0:10], 1), setting(5, 2)),
    "equal values": (setting(np.s_[0:5], 1), setting(np.s_[0:5], 1)),
    "even beside steps of three": (setting(np.s_[::2], 1), setting(np.s_[::3], 2)),
    "mask beside mask": (setting(mask(0, 3, 9), 1), setting(mask(1, 9), 7)),
    "mask beside box": (setting(mask(0, 5, 9), 1), setting(np.s_[5:6], 2)),
    "list beside step": (setting([7, 2], [1, 2]), setting(np.s_[1::3], 2)),
    "points beside points": (points([0, 9], 1), points([9, 8], 2)),
    "clear beside set": (lambda array: array.clear(np.s_[0:5]), setting(np.s_[4:], 2)),
    "set beside clear": (setting(np.s_[4:], 2), lambda array: array.clear(np.s_[0:5])),
    "set beside clear of everything": (setting(np.s_[4:5], 2), lambda array: array.clear(...)),
    "fill beside fill": (setting(..., 1), setting(..., 2)),
    "what the fill value is already": (setting(np.s_[0:5], 0), setting(np.s_[0:5], 0)),
}


@pytest.mark.parametrize(("one", "two"), LINE.values(), ids=LINE)
@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
def test_disjoint_cells_of_one_chunk_commit_side_by_side(store: Any, one: Write, two: Write, swapped: bool) -> None:
    if swapped:
        one, two = two, one
    create(store, "a", np.arange(10) + 50, chunks=(10,))
    with store.transaction() as first, store.transaction() as second:
        one(first["a"])
        two(second["a"])
        first.commit()
        second.commit()
    beside = store["a"][...]
    create(store, "b", np.arange(10) + 50, chunks=(10,))
    for write in (one, two):
        with store.transaction() as tx:
            write(tx["b"])
    same(beside, store["b"][...])


@pytest.mark.parametrize(("one", "two"), OVERLAPS.values(), ids=OVERLAPS)
def test_cells_in_common_conflict_and_the_first_committer_wins(store: Any, one: Write, two: Write) -> None:
    create(store, "a", np.arange(10) + 50, chunks=(4,))
    with store.transaction() as first, store.transaction() as second:
        two(second["a"])
        one(first["a"])
        first.commit()
        won = store["a"][...]
        with conflict("cells", path="a"):
            second.commit()
    same(store["a"][...], won)


@pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (8, 8)])
def test_planes_meet_in_cells_only(store: Any, chunks: tuple[int, int]) -> None:
    base = np.arange(64).reshape(8, 8)
    pairs: list[tuple[Write, Write, bool]] = [
        (setting(np.s_[0:3, :], 1), setting(np.s_[3:, :], 2), False),
        (setting(np.s_[0:3, 0:5], 1), setting(np.s_[2:, 5:], 2), False),
        (setting(np.s_[0:3, 0:5], 1), setting(np.s_[2:, 4:], 2), True),
        (setting(np.s_[2:4, :], 1), setting(np.s_[:, 2:4], 2), True),
        (setting(np.s_[::2, ::2], 1), setting(np.s_[1::2, :], 2), False),
        (setting(np.s_[::2, ::2], 1), setting(np.s_[:, 1::2], 2), False),
        (setting(np.s_[::2, ::2], 1), setting(np.s_[::3, ::3], 2), True),
        (points((range(8), range(8)), 1), points((range(8), range(7, -1, -1)), 2), False),
        (points((range(7), range(7)), 1), points((range(7), range(6, -1, -1)), 2), True),
        (cross(([0, 5], [1, 6]), 1), cross(([0, 5], [2, 7]), 2), False),
        (cross(([0, 5], [1, 6]), 1), cross(([5, 7], [6, 7]), 2), True),
        (setting(base % 3 == 0, 1), setting(base % 3 == 1, 2), False),
        (setting(base % 3 == 0, 1), setting(base % 7 == 5, 2), True),
    ]
    for number, (one, two, clash) in enumerate(pairs):
        path = f"a{number}"
        create(store, path, base, chunks=chunks)
        with store.transaction() as first, store.transaction() as second:
            one(first[path])
            two(second[path])
            first.commit()
            if clash:
                with conflict("cells", path=path):
                    second.commit()
            else:
                second.commit()
        expected = base.copy()
        create(store, "model", expected, chunks=chunks, overwrite=True)
        for write in (one, two)[: 1 if clash else 2]:
            with store.transaction() as tx:
                write(tx["model"])
        same(store[path][...], store["model"][...])


def test_arrays_without_axes_conflict_as_one_cell(store: Any) -> None:
    create(store, "a", np.array(5))
    with store.transaction() as first, store.transaction() as second:
        first["a"][...] = 1
        second["a"][()] = 2
        first.commit()
        with conflict("cells", path="a"):
            second.commit()
    assert store["a"][()] == 1


def test_cells_of_different_arrays_never_conflict(store: Any) -> None:
    create(store, "a", np.arange(10))
    create(store, "b", np.arange(10))
    with store.transaction() as first, store.transaction() as second:
        first["a"][...] = 1
        second["b"][...] = 2
        first.commit()
        second.commit()
    assert (store["a"][0], store["b"][0]) == (1, 2)


def test_cells_of_different_branches_never_conflict(store: Any) -> None:
    create(store, "a", np.arange(10))
    store.create_branch("side")
    with store.transaction() as first, store.transaction(branch="side") as second:
        first["a"][...] = 1
        second["a"][...] = 2
        first.commit()
        second.commit()
    assert store["a"][0] == 1
    assert store.snapshot(branch="side")["a"][0] == 2


def test_only_what_came_since_the_base_counts(store: Any) -> None:
    create(store, "a", np.arange(10))
    put(store, "a", np.s_[0:5], 1)
    put(store, "a", np.s_[2:8], 2)
    assert store["a"][...].tolist() == [1, 1, 2, 2, 2, 2, 2, 2, 8, 9]


def test_a_conflict_with_an_older_of_several_commits_is_found(store: Any) -> None:
    create(store, "a", np.arange(100), chunks=(7,))
    with store.transaction() as late:
        late["a"][0:3] = -1
        winner = put(store, "a", 2, 1)
        for start in range(10, 90, 10):
            put(store, "a", np.s_[start : start + 10], start)
        with conflict("cells", path="a") as refusal:
            late.commit()
    assert refusal.one.commit == winner.version


def test_a_transaction_on_an_older_base_conflicts_with_what_came_since(store: Any) -> None:
    base = create(store, "a", np.arange(10))
    put(store, "a", np.s_[0:5], 1)
    with store.transaction(base=base.version) as tx:
        assert tx["a"][0:5].tolist() == [0, 1, 2, 3, 4]
        tx["a"][4] = 9
        with conflict("cells", path="a"):
            tx.commit()
    with store.transaction(base=base.version) as tx:
        tx["a"][5] = 9
    assert store["a"][0:6].tolist() == [1, 1, 1, 1, 1, 9]


def test_the_conflict_says_where_and_with_whom(store: Any) -> None:
    create(store, "g/a", np.zeros((10, 10)))
    with store.transaction() as late:
        late["g/a"][2:6, 3:9] = 1
        winner = put(store, "g/a", np.s_[4:8, 0:5], 2)
        with conflict() as refusal:
            late.commit()
    found = refusal.one
    assert found.box is not None
    assert (found.kind, found.path, found.commit) == ("cells", "g/a", winner.version)
    assert (tuple(found.box.lo), tuple(found.box.hi)) == ((4, 3), (6, 5))
    assert "g/a" in str(found)


def test_several_conflicts_are_all_told(store: Any) -> None:
    create(store, "a", np.arange(10))
    create(store, "b", np.arange(10))
    with store.transaction() as late:
        late["a"][0] = late["b"][1] = 5
        put(store, "a", 0, 1)
        put(store, "b", 1, 1)
        with pytest.raises(ConflictError) as caught:
            late.commit()
    assert {found.path for found in caught.value.conflicts} == {"a", "b"}


def test_the_loser_can_run_again(store: Any) -> None:
    create(store, "a", np.arange(10))
    with store.transaction() as first, store.transaction() as second:
        first["a"][0] = 1
        second["a"][0] = 2
        first.commit()
        with conflict("cells"):
            second.commit()
    put(store, "a", 0, 2)
    assert store["a"][0] == 2


def test_ten_transactions_interleave_their_cells_in_one_chunk(store: Any) -> None:
    create(store, "a", shape=(100,), dtype="i4", chunks=(100,))
    open_at_once = [store.transaction() for _ in range(10)]
    for number, tx in enumerate(open_at_once):
        tx["a"][number::10] = np.arange(10) + 10 * number
    for tx in reversed(open_at_once):
        tx.commit()
    assert store["a"][...].reshape(10, 10).T.ravel().tolist() == list(range(100))


def test_a_write_over_ones_own_write_is_no_conflict(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(10,))
    with store.transaction() as tx:
        tx["a"][0:6] = 1
        tx["a"][4:8] = 2
        tx["a"][5::2] = 3
        tx["a"].clear(0)
    assert store["a"][...].tolist() == [0, 1, 1, 1, 2, 3, 2, 3, 8, 3]


def test_readers_never_conflict_under_snapshot_isolation(store: Any) -> None:
    create(store, "a", np.arange(10))
    create(store, "b", np.arange(10))
    with store.transaction() as tx:
        tx["b"][0] = tx["a"][...].sum()
        put(store, "a", ..., 0)
    assert store["b"][0] == 45


def test_threads_that_commit_disjoint_cells_of_one_chunk_all_land(store: Any) -> None:
    create(store, "a", shape=(64, 8), dtype="i4", chunks=(64, 8))
    failures: list[BaseException] = []

    def work(lane: int) -> None:
        try:
            for row in range(lane, 64, 8):
                put(store, "a", (row, slice(None, None, 2)), row + 1)
                put(store, "a", (row, slice(1, None, 2)), -row - 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    column = np.arange(1, 65, dtype="i4")
    same(store["a"][...], np.stack([column, -column] * 4, axis=1))


def test_threads_that_write_the_same_cell_lose_all_but_one(store: Any) -> None:
    create(store, "a", shape=(4,), dtype="i4")
    gate = threading.Barrier(8)
    outcomes: list[str] = []

    def work(number: int) -> None:
        with store.transaction() as tx:
            tx["a"][1] = number + 1
            gate.wait(60)
            try:
                tx.commit()
                outcomes.append(f"won {number + 1}")
            except ConflictError:
                outcomes.append("lost")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["lost"] * 7 + [f"won {store['a'][1]}"])


def test_a_store_of_its_own_sees_the_conflict_too(store: Any, tmp_path: Any) -> None:
    create(store, "a", np.arange(10))
    (index,) = tmp_path.rglob("index.sqlite")
    with txstore.open(index.parent) as other, other.transaction() as theirs, store.transaction() as ours:
        theirs["a"][0:3] = 1
        ours["a"][2:5] = 2
        theirs.commit()
        with conflict("cells", path="a"):
            ours.commit()
    assert store["a"][...].tolist() == [1, 1, 1, 3, 4, 5, 6, 7, 8, 9]
