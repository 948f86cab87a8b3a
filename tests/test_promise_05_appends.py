"""Promise 5: appends float. They get their place at commit, whole and in commit order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, put, resize, same

from txstore.errors import DTypeError, InvalidInputError

CHUNKS = [(1,), (3,), (4,), (8,), (100,)]


def bounds(appended: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(appended.box.lo), tuple(appended.box.hi)


# -- landing elsewhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("shift", [1, 2, 3, 4, 8, 13])
def test_an_append_that_lands_elsewhere_keeps_every_cell(store: Any, chunks: tuple[int], shift: int) -> None:
    create(store, "a", np.arange(10), chunks=chunks)
    with store.transaction() as tx:
        appended = tx["a"].append(np.arange(100, 110))
        append(store, "a", -np.arange(shift))
    assert bounds(appended) == ((10 + shift,), (20 + shift,))
    expected = np.concatenate([np.arange(10), -np.arange(shift), np.arange(100, 110)])
    for _ in range(2):
        same(store["a"][...], expected)
        for cell in range(9, len(expected)):
            assert store["a"][cell] == expected[cell]
            same(store["a"][cell : cell + 3], expected[cell : cell + 3])
        store.compact()


@pytest.mark.parametrize("chunks", [(2, 3), (4, 4), (1, 100)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_planes_land_elsewhere_along_either_axis(store: Any, chunks: tuple[int, int], axis: int) -> None:
    base = np.arange(35).reshape(5, 7)
    create(store, "a", base, chunks=chunks)
    shape = list(base.shape)
    shape[axis] = 5
    mine = np.arange(np.prod(shape)).reshape(shape) + 100
    shape[axis] = 3
    theirs = np.full(shape, -1)
    with store.transaction() as tx:
        tx["a"].append(mine, axis=axis)
        append(store, "a", theirs, axis=axis)
    expected = np.concatenate([base, theirs, mine], axis=axis)
    same(store["a"][...], expected)
    store.compact()
    same(store["a"][...], expected)


def test_blocks_cross_chunks_and_partitions_wherever_they_land(store: Any) -> None:
    # A partition holds at most 4 Ki chunks, so that 13,000 cells in chunks of three cross its edges.
    create(store, "a", np.zeros(0, dtype="i4"), chunks=(3,))
    expected = np.zeros(0, dtype="i4")
    for turn in range(18):
        mine = np.arange(720, dtype="i4") + 1000 * turn
        theirs = np.full(turn % 5 + 1, -turn, dtype="i4")
        with store.transaction() as tx:
            tx["a"].append(mine)
            tx["a"][len(expected) + 5 : len(expected) + 700 : 7] = turn  # moves with the block
            mine[5:700:7] = turn
            append(store, "a", theirs)
        expected = np.concatenate([expected, theirs, mine])
    for _ in range(2):
        same(store["a"][...], expected)
        same(store["a"][4000:9000:11], expected[4000:9000:11])
        for start in range(0, len(expected), 1021):
            same(store["a"][start : start + 9], expected[start : start + 9])
        store.compact()


def test_a_floated_append_reads_the_same_from_every_version(store: Any) -> None:
    versions = {create(store, "a", np.arange(10), chunks=(4,)).version: np.arange(10)}
    with store.transaction() as tx:
        tx["a"].append([100, 101, 102, 103, 104])
        between = append(store, "a", [7, 8, 9])
    versions[between.version] = np.array([*range(10), 7, 8, 9])
    versions[tx.commit_info.version] = np.array([*range(10), 7, 8, 9, 100, 101, 102, 103, 104])
    last = put(store, "a", np.s_[11:15], 0)
    versions[last.version] = np.array([*range(10), 7, 0, 0, 0, 0, 102, 103, 104])
    for _ in range(2):
        for version, expected in versions.items():
            same(store.snapshot(version=version)["a"][...], expected)
        store.compact()


def test_a_block_that_landed_is_ordinary_cells(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].append(np.arange(6) + 100)
        append(store, "a", [1, 2, 3])
    with store.transaction() as first, store.transaction() as second:
        first["a"][13:16] = 0
        second["a"][16:19:2] = 9
        first.commit()
        second.commit()
    assert store["a"][10:].tolist() == [1, 2, 3, 0, 0, 0, 9, 104, 9]
    with store.transaction() as first, store.transaction() as second:
        first["a"][12:14] = 5
        second["a"][13] = 6
        first.commit()
        with conflict("cells", path="a"):
            second.commit()


def test_appending_to_nothing(store: Any) -> None:
    create(store, "a", shape=(0, 3), dtype="i4", chunks=(2, 2))
    with store.transaction() as first, store.transaction() as second:
        mine = first["a"].append(np.ones((2, 3), dtype="i4"))
        theirs = second["a"].append(np.full((3, 3), 2, dtype="i4"))
        second.commit()
        first.commit()
    assert bounds(theirs) == ((0, 0), (3, 3))
    assert bounds(mine) == ((3, 0), (5, 3))
    assert store["a"][:, 1].tolist() == [2, 2, 2, 1, 1]


def test_a_block_without_the_axis_is_one_slab(store: Any) -> None:
    create(store, "a", shape=(0, 2, 3), dtype="i4", chunks=(2, 2, 2))
    create(store, "b", shape=(0,), dtype="i4", chunks=(2,))
    with store.transaction() as tx:
        hour = tx["a"].append(np.arange(6, dtype="i4").reshape(2, 3))
        tx["b"].append(np.int32(7))
        append(store, "a", np.full((2, 3), -1, dtype="i4"))
    assert bounds(hour) == ((1, 0, 0), (2, 2, 3))
    assert store["a"][1].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert store["b"][...].tolist() == [7]


def test_cells_that_hold_the_fill_value_take_their_place_too(store: Any) -> None:
    create(store, "a", np.arange(3), chunks=(2,), fill_value=7)
    with store.transaction() as tx:
        tx["a"].append([7, 7, 7])  # all fill: stores no bytes, but takes its place
        append(store, "a", [1])
    assert store["a"][...].tolist() == [0, 1, 2, 1, 7, 7, 7]


def test_appended_fill_covers_nothing_but_its_place(store: Any) -> None:
    create(store, "a", np.arange(3), chunks=(2,))
    with store.transaction() as tx:
        tx["a"].append(np.zeros(4, dtype="i8"))
        append(store, "a", [5, 6])
        append(store, "a", [7])
    append(store, "a", [8])
    assert store["a"][...].tolist() == [0, 1, 2, 5, 6, 7, 0, 0, 0, 0, 8]


# -- several appends in one transaction -----------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS)
def test_several_appends_stay_together(store: Any, chunks: tuple[int]) -> None:
    create(store, "a", np.arange(10), chunks=chunks)
    with store.transaction() as tx:
        blocks = [tx["a"].append(np.arange(size) + 100 * size) for size in (1, 5, 3, 4)]
        assert tx["a"][10:23].tolist() == [100, *range(500, 505), *range(300, 303), *range(400, 404)]
        append(store, "a", [-1, -2, -3])
    assert [bounds(block) for block in blocks] == [((13,), (14,)), ((14,), (19,)), ((19,), (22,)), ((22,), (26,))]
    assert store["a"][10:].tolist() == [-1, -2, -3, 100, *range(500, 505), *range(300, 303), *range(400, 404)]


def test_appends_along_two_axes_of_one_array(store: Any) -> None:
    base = np.arange(6).reshape(2, 3)
    create(store, "a", base, chunks=(2, 2))
    with store.transaction() as tx:
        tx["a"].append(np.full((1, 3), 7), axis=0)
        column = tx["a"].append(np.full((3, 2), 8), axis=1)
        assert tx["a"].shape == (3, 5)
    expected = np.concatenate([np.concatenate([base, np.full((1, 3), 7)]), np.full((3, 2), 8)], axis=1)
    same(store["a"][...], expected)
    assert bounds(column) == ((0, 3), (3, 5))


def test_appends_to_several_arrays_land_in_one_commit(store: Any) -> None:
    create(store, "a", np.arange(3))
    create(store, "b", np.arange(5))
    with store.transaction() as tx:
        first, second = tx["a"].append([10]), tx["b"].append([20, 21])
        append(store, "b", [9, 9, 9])
    assert bounds(first) == ((3,), (4,))
    assert bounds(second) == ((8,), (10,))
    assert store.snapshot(version=tx.commit_info.version)["b"][5:].tolist() == [9, 9, 9, 20, 21]


def test_an_array_may_be_created_and_appended_to_at_once(store: Any) -> None:
    with store.transaction() as tx:
        array = tx.create_array("a", shape=(0,), dtype="i4", chunks=(2,))
        array.append([1, 2, 3])
        tx["a"].append([4])
        assert array[...].tolist() == [1, 2, 3, 4]
    assert store["a"][...].tolist() == [1, 2, 3, 4]


# -- writes into one's own appended cells ---------------------------------------------------------

Edit = Callable[[Any], None]


def by(kind: str, sel: Any, values: Any) -> Edit:
    return lambda array: getattr(array, kind).__setitem__(sel, values)


LATER: dict[str, tuple[Edit, list[int]]] = {  # on cells 10 to 16, which hold 100 to 105; and what they hold then
    "a cell": (lambda array: array.__setitem__(12, 7), [100, 101, 7, 103, 104, 105]),
    "a box": (lambda array: array.__setitem__(np.s_[11:14], [7, 8, 9]), [100, 7, 8, 9, 104, 105]),
    "all of them": (lambda array: array.__setitem__(np.s_[10:16], 7), [7] * 6),
    "a step": (lambda array: array.__setitem__(np.s_[10:16:2], [7, 8, 9]), [7, 101, 8, 103, 9, 105]),
    "a step backwards": (lambda array: array.__setitem__(np.s_[15:10:-2], [7, 8, 9]), [100, 9, 102, 8, 104, 7]),
    "a list": (lambda array: array.__setitem__([15, 11], [7, 8]), [100, 8, 102, 103, 104, 7]),
    "points": (by("vindex", [15, 11], [7, 8]), [100, 8, 102, 103, 104, 7]),
    "crossed points": (by("oindex", [15, 11], [7, 8]), [100, 8, 102, 103, 104, 7]),
    "points twice": (by("vindex", [12, 12], [7, 8]), [100, 101, 8, 103, 104, 105]),
    "a clear": (lambda array: array.clear(np.s_[12:14]), [100, 101, 0, 0, 104, 105]),
    "an accumulation": (lambda array: array.accumulate(np.s_[12:14], 1), [100, 101, 103, 104, 104, 105]),
    "a stepped accumulation": (
        lambda array: array.accumulate(np.s_[10:16:3], 1000),
        [1100, 101, 102, 1103, 104, 105],
    ),
    "write()": (lambda array: array.write(np.s_[14:16], [1.5, 2.5], casting="unsafe"), [100, 101, 102, 103, 1, 2]),
}


@pytest.mark.parametrize(("edit", "expected"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("chunks", [(3,), (8,)])
def test_later_writes_move_with_the_appended_cells(
    store: Any, edit: Edit, expected: list[int], chunks: tuple[int]
) -> None:
    create(store, "a", np.arange(10), chunks=chunks)
    with store.transaction() as tx:
        tx["a"].append(np.arange(6) + 100)
        edit(tx["a"])
        assert tx["a"][10:16].tolist() == expected
        append(store, "a", [-1, -2, -3])
    for _ in range(2):
        assert store["a"][...].tolist() == [*range(10), -1, -2, -3, *expected]
        store.compact()


SPANNING: dict[str, tuple[Edit, list[int], list[int]]] = {  # cells 6 to 10 of the base, then the appended ones
    "a box": (
        lambda array: array.__setitem__(np.s_[8:12], [50, 51, 52, 53]),
        [6, 7, 50, 51],
        [52, 53, 102, 103, 104, 105],
    ),
    "a step": (
        lambda array: array.__setitem__(np.s_[7:15:3], [50, 51, 52]),
        [6, 50, 8, 9],
        [51, 101, 102, 52, 104, 105],
    ),
    "a step backwards": (
        lambda array: array.__setitem__(np.s_[13:5:-2], [50, 51, 52, 53]),
        [6, 53, 8, 52],
        [100, 51, 102, 50, 104, 105],
    ),
    "a list": (
        lambda array: array.__setitem__([12, 6, 9], [50, 51, 52]),
        [51, 7, 8, 52],
        [100, 101, 50, 103, 104, 105],
    ),
    "points": (by("vindex", [15, 8], [50, 51]), [6, 7, 51, 9], [100, 101, 102, 103, 104, 50]),
    "a clear": (lambda array: array.clear(np.s_[9:11]), [6, 7, 8, 0], [0, 101, 102, 103, 104, 105]),
    "an accumulation": (
        lambda array: array.accumulate(np.s_[8:12], 1000),
        [6, 7, 1008, 1009],
        [1100, 1101, 102, 103, 104, 105],
    ),
}


@pytest.mark.parametrize(("edit", "base", "appended"), SPANNING.values(), ids=SPANNING)
def test_writes_that_span_the_end_are_cut_there(store: Any, edit: Edit, base: list[int], appended: list[int]) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].append(np.arange(6) + 100)
        edit(tx["a"])
        assert tx["a"][6:16].tolist() == base + appended
        append(store, "a", [-1, -2, -3])
    for _ in range(2):
        assert store["a"][...].tolist() == [*range(6), *base, -1, -2, -3, *appended]
        store.compact()


def test_the_part_in_the_base_still_conflicts_by_cells(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].append(np.arange(6) + 100)
        tx["a"][8:12] = 50
        append(store, "a", [-1, -2, -3])
        put(store, "a", 9, 0)
        with conflict("cells", path="a"):
            tx.commit()
    assert store["a"][...].tolist() == [*range(9), 0, -1, -2, -3]


def test_the_appended_part_never_conflicts_with_what_took_its_place(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].append(np.arange(4) + 100)
        tx["a"][10:12] = 50
        append(store, "a", [-1, -2, -3])
        put(store, "a", np.s_[10:13], -9)
    assert store["a"][10:].tolist() == [-9, -9, -9, 50, 50, 102, 103]


def test_rows_of_a_plane_move_though_the_other_axis_is_open(store: Any) -> None:
    base = np.arange(12).reshape(4, 3)
    create(store, "a", base, chunks=(3, 2))
    with store.transaction() as tx:
        tx["a"].append(np.arange(9).reshape(3, 3) + 100)
        tx["a"][4, :] = 7
        tx["a"][5, ..., 1:] = 8
        tx["a"][3:7, -1] = 9  # negative on the other axis: no observation of this one
        tx["a"].oindex[[6, 0], [0, 1]] = 5
        append(store, "a", np.full((2, 3), -1))
    expected = np.concatenate([base, np.full((2, 3), -1), np.array([[7, 7, 9], [103, 8, 9], [5, 5, 9]])])
    expected[3, 2] = 9
    expected[0, :2] = 5
    same(store["a"][...], expected)


def test_reads_of_appended_cells_do_not_pin(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].append([5, 6])
        tx["a"].append([int(tx["a"][10]) + int(tx["a"][11])])
        tx["a"][10:12] = tx["a"][10:12] * 2
        append(store, "a", [0])
    assert store["a"][10:].tolist() == [0, 10, 12, 11]


# -- pinned appends -------------------------------------------------------------------------------

OBSERVATIONS: dict[str, Callable[[Any], object]] = {
    "shape": lambda array: array.shape,
    "len": len,
    "size": lambda array: array.size,
    "open slice": lambda array: array[8:],
    "ellipsis": lambda array: array[...],
    "negative index": lambda array: array[-1],
    "negative stop": lambda array: array[2:-1],
    "slice past the end": lambda array: array[8:99],
    "open step": lambda array: array[::3],
    "mask": lambda array: array[np.ones(len(array), dtype=bool)],
    "asarray": np.asarray,
    "iteration": list,
    "write through an open slice": lambda array: array.__setitem__(np.s_[9:], 4),
    "write through a negative index": lambda array: array.__setitem__(-1, 4),
}


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
@pytest.mark.parametrize("order", ["before the append", "after the append"])
@pytest.mark.parametrize("observe", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_transaction_that_saw_the_end_is_pinned_to_it(
    store: Any, observe: Callable[[Any], object], order: str, isolation: str
) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction(isolation=isolation) as tx:
        if order == "before the append":
            observe(tx["a"])
        tx["a"].append([100, 101])
        if order == "after the append":
            observe(tx["a"])
        append(store, "a", [7])
        with conflict("append", "read", "shape", path="a"):
            tx.commit()
    assert store["a"][...].tolist() == [*range(10), 7]


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
@pytest.mark.parametrize("observe", OBSERVATIONS.values(), ids=OBSERVATIONS)
def test_a_pinned_append_commits_where_the_end_has_not_moved(
    store: Any, observe: Callable[[Any], object], isolation: str
) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    create(store, "b", np.arange(10), chunks=(4,))
    with store.transaction(isolation=isolation) as tx:
        observe(tx["a"])
        appended = tx["a"].append([100, 101])
        append(store, "b", [7])
    assert bounds(appended) == ((10,), (12,))
    assert store["a"][10:12].tolist() == [100, 101]


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_closed_selections_do_not_pin(store: Any, isolation: str) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction(isolation=isolation) as tx:
        array = tx["a"]
        array.append([100, 101])
        assert array[3] == 3
        assert array[2:5].tolist() == [2, 3, 4]
        assert array[9:1:-3].tolist() == [9, 6, 3]
        assert array[[1, 7]].tolist() == [1, 7]
        assert (array.dtype, array.ndim, array.chunks) == (np.dtype("i8"), 1, (4,))
        assert "k" not in array.attrs
        append(store, "a", [7])
    assert store["a"][10:].tolist() == [7, 100, 101]


def test_the_shape_of_another_array_does_not_pin(store: Any) -> None:
    create(store, "a", np.arange(10))
    create(store, "b", np.arange(5))
    with store.transaction() as tx:
        assert tx["b"].shape == (5,)
        tx["a"].append([100])
        append(store, "a", [7])
    assert store["a"][10:].tolist() == [7, 100]


def test_the_extent_of_another_axis_does_not_pin(store: Any) -> None:
    create(store, "a", np.arange(12).reshape(4, 3), chunks=(2, 2))
    with store.transaction() as tx:
        tx["a"].append(np.zeros((1, 3), dtype="i8"))
        assert tx["a"][1, :].tolist() == [3, 4, 5]
        assert tx["a"][2, -1] == 8
        append(store, "a", np.ones((1, 3), dtype="i8"))
    assert store["a"][4:, 0].tolist() == [1, 0]


def test_an_end_that_came_back_has_not_moved_or_is_refused(store: Any) -> None:
    create(store, "a", np.arange(10))
    with store.transaction() as tx:
        assert tx["a"].shape == (10,)
        tx["a"].append([100])
        append(store, "a", [7])
        resize(store, "a", (10,))
        try:
            tx.commit()
        except Exception as error:
            assert type(error).__name__ == "ConflictError"
    # Either way: nobody sees a block in the wrong place.
    assert store["a"][...].tolist() == [*range(10)] + ([100] if tx.commit_info else [])


# -- append beside resize -------------------------------------------------------------------------


def test_an_append_lands_behind_a_growth_that_came_first(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        appended = tx["a"].append([100, 101])
        resize(store, "a", (15,))
    assert bounds(appended) == ((15,), (17,))
    assert store["a"][9:].tolist() == [9, 0, 0, 0, 0, 0, 100, 101]


def test_a_growth_that_comes_second_keeps_the_appended_block(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].resize((15,))
        append(store, "a", [100, 101])
    assert store["a"][9:].tolist() == [9, 100, 101, 0, 0, 0]  # grow with grow takes the larger


def test_a_growth_smaller_than_the_append_that_came_first(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].resize((11,))
        append(store, "a", [100, 101, 102])
    assert store["a"][9:].tolist() == [9, 100, 101, 102]


def test_a_growth_that_wrote_its_new_cells_conflicts_with_a_block_in_them(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].resize((15,))
        tx["a"][10:15] = 5
        append(store, "a", [100, 101])
        with conflict("cells", "shape", "append", path="a"):
            tx.commit()
    assert store["a"][9:].tolist() == [9, 100, 101]


def test_an_append_lands_at_the_end_of_a_shrink_that_came_first(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        appended = tx["a"].append([100, 101])
        resize(store, "a", (6,))
    assert bounds(appended) == ((6,), (8,))
    for _ in range(2):
        assert store["a"][...].tolist() == [0, 1, 2, 3, 4, 5, 100, 101]
        store.compact()


def test_a_shrink_that_comes_second_conflicts_with_the_block_that_it_would_cut(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].resize((6,))
        append(store, "a", [100, 101])
        with conflict("shape", "cells", "append", path="a"):
            tx.commit()
    assert store["a"][...].tolist() == [*range(10), 100, 101]


@pytest.mark.parametrize("theirs", [(10, 5), (10, 3)], ids=["grown", "shrunk"])
def test_an_append_conflicts_where_another_extent_has_changed(store: Any, theirs: tuple[int, int]) -> None:
    base = np.arange(40).reshape(10, 4)
    create(store, "a", base, chunks=(4, 4))
    with store.transaction() as tx:
        tx["a"].append(np.zeros((2, 4), dtype="i8"))
        resize(store, "a", theirs)
        with conflict("append", "shape", path="a"):
            tx.commit()
    assert store["a"].shape == theirs


def test_another_extent_that_changes_second_loses_no_cell_of_the_block(store: Any) -> None:
    # The design names the other order only: a conflict and the larger of both are both right.
    base, block = np.arange(40).reshape(10, 4), np.full((2, 4), 7)
    create(store, "a", base, chunks=(4, 4))
    with store.transaction() as tx:
        tx["a"].resize((10, 5))
        append(store, "a", block)
        try:
            tx.commit()
        except Exception as error:
            assert type(error).__name__ == "ConflictError"
    assert store["a"].shape == ((12, 5) if tx.commit_info else (12, 4))
    same(store["a"][:, :4], np.concatenate([base, block]))
    assert not store["a"][:, 4:].any()


def test_appends_along_different_axes_conflict(store: Any) -> None:
    base = np.arange(12).reshape(3, 4)
    create(store, "a", base, chunks=(2, 2))
    with store.transaction() as tx:
        tx["a"].append(np.zeros((1, 4), dtype="i8"), axis=0)
        append(store, "a", np.ones((3, 1), dtype="i8"), axis=1)
        with conflict("append", "shape", path="a"):
            tx.commit()
    same(store["a"][...], np.concatenate([base, np.ones((3, 1), dtype="i8")], axis=1))


def test_resizing_ones_own_appended_cells(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(3,))
    with store.transaction() as tx:
        tx["a"].append([100, 101, 102])
        tx["a"].resize((5,))
        assert tx["a"][...].tolist() == [0, 1, 2, 3, 100]
        tx["a"].resize((7,))
        tx["a"].append([9])
        assert tx["a"][...].tolist() == [0, 1, 2, 3, 100, 0, 0, 9]
    for _ in range(2):
        assert store["a"][...].tolist() == [0, 1, 2, 3, 100, 0, 0, 9]
        store.compact()


def test_growing_and_appending_behind_it(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(3,))
    with store.transaction() as tx:
        tx["a"].resize((6,))
        tx["a"][5] = 5
        tx["a"].append([9])
    assert store["a"][...].tolist() == [0, 1, 2, 3, 0, 5, 9]


def test_shrinking_and_appending_in_the_same_place(store: Any) -> None:
    create(store, "a", np.arange(8), chunks=(3,))
    with store.transaction() as tx:
        tx["a"].resize((4,))
        tx["a"].append([100, 101])
        assert tx["a"][...].tolist() == [0, 1, 2, 3, 100, 101]
        tx["a"].resize((8,))
    for _ in range(2):
        assert store["a"][...].tolist() == [0, 1, 2, 3, 100, 101, 0, 0]
        store.compact()


# -- beside deletes, moves, other branches --------------------------------------------------------


def test_appending_to_what_was_deleted_conflicts(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"].append([1])
        with store.transaction() as other:
            del other["a"]
        with conflict("structure"):
            tx.commit()
    assert "a" not in store.snapshot()


def test_appending_to_what_was_moved_follows_it(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"].append([100])
        with store.transaction() as other:
            other.move("a", "b")
            other["b"].append([7])
    assert store["b"][4:].tolist() == [7, 100]


def test_appends_on_two_branches_do_not_see_each_other(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(3,))
    store.create_branch("side")
    append(store, "a", [1, 1])
    append(store, "a", [2, 2, 2], branch="side")
    append(store, "a", [3])
    assert store["a"][4:].tolist() == [1, 1, 3]
    assert store.snapshot(branch="side")["a"][4:].tolist() == [2, 2, 2]


# -- many appenders -------------------------------------------------------------------------------


def test_all_appenders_succeed_whole_and_in_commit_order(store: Any) -> None:
    create(store, "a", np.full(5, -1), chunks=(4,))
    sizes = [1, 7, 2, 5, 3, 8, 4, 6]
    transactions = [store.transaction() for _ in sizes]
    blocks = [tx["a"].append(np.full(size, size)) for tx, size in zip(transactions, sizes, strict=True)]
    order = [3, 0, 7, 5, 1, 6, 2, 4]
    for number in order:
        transactions[number].commit()
    expected = [-1] * 5
    for number in order:
        assert bounds(blocks[number]) == ((len(expected),), (len(expected) + sizes[number],))
        expected += [sizes[number]] * sizes[number]
    assert store["a"][...].tolist() == expected


def test_appenders_in_threads_lose_nothing(store: Any) -> None:
    create(store, "a", np.zeros((0, 3), dtype="i8"), chunks=(4, 2))
    landed: dict[tuple[int, ...], int] = {}
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                with store.transaction() as tx:
                    appended = tx["a"].append(np.full((number + 1, 3), 10 * number + turn))
                landed[bounds(appended)[0]] = 10 * number + turn
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    final = store["a"][...]
    assert len(landed) == 30
    assert final.shape == (sum((number + 1) * 5 for number in range(6)), 3)
    for (start, _), value in landed.items():
        assert (final[start : start + value // 10 + 1] == value).all()
    assert (final == final[:, :1]).all()


# -- refused --------------------------------------------------------------------------------------


def test_blocks_that_do_not_fit_are_refused(store: Any) -> None:
    create(store, "a", np.arange(12).reshape(4, 3))
    create(store, "point", np.array(1))
    with store.transaction() as tx:
        for block in (np.zeros((2, 4)), np.zeros(4), np.zeros((1, 1, 1, 3)), 5):
            with pytest.raises(InvalidInputError):
                tx["a"].append(np.asarray(block, dtype="i8"))
        for axis in (2, -3, 1.5, None):
            with pytest.raises((InvalidInputError, TypeError)):
                tx["a"].append(np.zeros((1, 3), dtype="i8"), axis=axis)
        with pytest.raises(DTypeError):
            tx["a"].append(np.full((1, 3), 0.5))
        with pytest.raises(InvalidInputError):
            tx["point"].append([1])
        assert tx["a"].shape == (4, 3)
    assert tx.commit_info is None
