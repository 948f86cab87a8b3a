"""Promise 7: attributes by key, the shape as a log of its own, and a hierarchy of identities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, plain, put, resize, same

from txstore.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError, ReadOnlyError

Step = Callable[[Any], object]


def commit(store: Any, step: Step, **options: Any) -> Any:
    """One step in a transaction of its own; return the commit."""
    with store.transaction(**options) as tx:
        step(tx)
    return tx.commit_info


def beside(store: Any, first: Step, second: Step, *kinds: str) -> None:
    """Two open transactions; the first commits, the second is refused for one of `kinds`, or commits without."""
    with store.transaction() as one, store.transaction() as two:
        first(one)
        second(two)
        one.commit()
        if kinds:
            with conflict(*kinds):
                two.commit()
        else:
            two.commit()


def names(store: Any, path: str = "") -> list[str]:
    """The names in a group, sorted."""
    snap = store.snapshot()
    return sorted(snap[path] if path else snap)


# -- attributes -----------------------------------------------------------------------------------


def setting(key: str, value: Any, path: str = "a") -> Step:
    return lambda tx: tx[path].attrs.__setitem__(key, value)


def deleting(key: str, path: str = "a") -> Step:
    return lambda tx: tx[path].attrs.__delitem__(key)


@pytest.fixture
def labelled(store: Any) -> Any:
    create(store, "a", np.arange(10), attributes={"units": "K", "note": "x"})
    return store


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (setting("units", "C"), setting("note", "y"), {"units": "C", "note": "y"}),
        (setting("one", 1), setting("two", 2), {"units": "K", "note": "x", "one": 1, "two": 2}),
        (deleting("units"), setting("note", "y"), {"note": "y"}),
        (deleting("units"), deleting("note"), {}),
        (setting("units", "C"), lambda tx: tx["a"].__setitem__(0, 9), {"units": "C", "note": "x"}),
        (lambda tx: tx["a"].__setitem__(0, 9), deleting("note"), {"units": "K"}),
    ],
    ids=[
        "set beside set",
        "new beside new",
        "delete beside set",
        "delete beside delete",
        "before cells",
        "after cells",
    ],
)
def test_different_keys_never_conflict(labelled: Any, first: Step, second: Step, expected: dict[str, Any]) -> None:
    beside(labelled, first, second)
    assert dict(labelled["a"].attrs) == expected


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (setting("units", "C"), setting("units", "F"), "C"),
        (setting("new", 1), setting("new", 2), 1),
        (setting("units", "C"), deleting("units"), "C"),
        (deleting("units"), setting("units", "C"), None),
    ],
    ids=["set and set", "new and new", "set and delete", "delete and set"],
)
def test_one_key_conflicts(labelled: Any, first: Step, second: Step, value: Any) -> None:
    key = "new" if value == 1 else "units"
    with labelled.transaction() as one, labelled.transaction() as two:
        first(one)
        second(two)
        won = one.commit()
        with conflict("attribute", path="a") as refusal:
            two.commit()
    assert (refusal.one.key, refusal.one.commit) == (key, won.version)
    assert labelled["a"].attrs.get(key) == value


def test_the_same_key_of_different_nodes_never_conflicts(labelled: Any) -> None:
    create(labelled, "g/b", np.arange(3))
    beside(labelled, setting("units", 1), setting("units", 2, "g/b"))
    beside(labelled, setting("units", 3, "g"), lambda tx: tx.attrs.__setitem__("units", 4))
    snap = labelled.snapshot()
    assert [snap[path].attrs["units"] for path in ("a", "g/b", "g")] == [1, 2, 3]
    assert snap.attrs["units"] == 4


def test_attributes_behave_as_a_mapping(labelled: Any) -> None:
    with labelled.transaction() as tx:
        attrs = tx["a"].attrs
        attrs.update({"n": 1, "list": [1, {"deep": (2, 3)}]})
        attrs["array"] = np.array([[1, 2], [3, 4]])
        attrs["scalar"] = np.float32(0.5)
        del attrs["note"]
        with pytest.raises(KeyError):
            del attrs["missing"]
        with pytest.raises(KeyError):
            attrs["missing"]
        assert (len(attrs), sorted(attrs)) == (5, ["array", "list", "n", "scalar", "units"])
        assert "note" not in attrs and attrs.get("note", 7) == 7
    expected = {"units": "K", "n": 1, "list": [1, {"deep": [2, 3]}], "array": [[1, 2], [3, 4]], "scalar": 0.5}
    assert plain(labelled["a"].attrs) == expected


def test_attribute_values_are_deeply_immutable(labelled: Any) -> None:
    commit(labelled, setting("deep", {"list": [1, [2]], "more": {"k": 1}}))
    value = labelled["a"].attrs["deep"]
    refused = (TypeError, AttributeError, ReadOnlyError)
    with pytest.raises(refused):
        value["more"] = 2
    with pytest.raises(refused):
        value["list"][0] = 2
    with pytest.raises(refused):
        value["list"][1].append(3)
    with pytest.raises(refused):
        value["more"]["k"] = 2
    assert plain(labelled["a"].attrs["deep"]) == {"list": [1, [2]], "more": {"k": 1}}


def test_a_value_does_not_change_with_what_was_given(labelled: Any) -> None:
    given = {"list": [1, 2]}
    with labelled.transaction() as tx:
        tx["a"].attrs["deep"] = given
        given["list"].append(3)
        assert plain(tx["a"].attrs["deep"]) == {"list": [1, 2]}
    assert plain(labelled["a"].attrs["deep"]) == {"list": [1, 2]}


# -- shapes ---------------------------------------------------------------------------------------


def to(*shape: int) -> Step:
    return lambda tx: tx["a"].resize(shape)


def writing(sel: Any, value: int) -> Step:
    return lambda tx: tx["a"].__setitem__(sel, value)


@pytest.mark.parametrize("order", ["smaller first", "larger first"])
def test_grow_with_grow_takes_the_larger(store: Any, order: str) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    steps = (to(12), to(15)) if order == "smaller first" else (to(15), to(12))
    beside(store, *steps)
    assert store["a"][...].tolist() == [*range(10), 0, 0, 0, 0, 0]


def test_growths_along_different_axes_add_up(store: Any) -> None:
    base = np.arange(6).reshape(2, 3)
    create(store, "a", base, chunks=(2, 2))
    beside(store, to(4, 3), to(2, 5))
    expected = np.zeros((4, 5), dtype="i8")
    expected[:2, :3] = base
    same(store["a"][...], expected)


def test_growths_that_wrote_disjoint_new_cells_both_land(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(4,))

    def grow(size: int, sel: Any, value: int) -> Step:
        def step(tx: Any) -> None:
            tx["a"].resize((size,))
            tx["a"][sel] = value

        return step

    beside(store, grow(6, np.s_[4:5], 1), grow(8, np.s_[5:8], 2))
    assert store["a"][4:].tolist() == [1, 2, 2, 2]
    beside(store, grow(10, np.s_[8:10], 1), grow(10, np.s_[9:10], 2), "cells")
    assert store["a"][8:].tolist() == [1, 1]


@pytest.mark.parametrize(
    "write",
    [
        writing(np.s_[3:6], 7),
        writing(9, 7),
        writing([0, 8], 7),
        lambda tx: tx["a"].accumulate(np.s_[4:6], 1),
        lambda tx: tx["a"].clear(np.s_[8:]),
    ],
    ids=["box across the cut", "last cell", "list", "accumulation", "clear"],
)
@pytest.mark.parametrize("order", ["write first", "shrink first"])
def test_a_shrink_conflicts_with_writes_behind_the_cut(store: Any, write: Step, order: str) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    steps = (write, to(5)) if order == "write first" else (to(5), write)
    beside(store, *steps, "shape", "cells")
    assert store["a"].shape == ((10,) if order == "write first" else (5,))


@pytest.mark.parametrize("order", ["write first", "shrink first"])
def test_a_shrink_leaves_writes_before_the_cut_alone(store: Any, order: str) -> None:
    create(store, "a", np.arange(10), chunks=(10,))
    write = writing(np.s_[0:5], 7)
    beside(store, *((write, to(5)) if order == "write first" else (to(5), write)))
    assert store["a"][...].tolist() == [7] * 5


@pytest.mark.parametrize(
    ("shape", "sel", "clash"),
    [
        ((4, 2), np.s_[0:4, 0:2], False),
        ((4, 2), np.s_[0, 2], True),
        ((2, 4), np.s_[2:, :], True),
        ((2, 4), np.s_[:2, :], False),
        ((2, 2), np.s_[3, 0], True),
        ((2, 2), np.s_[0, 3], True),
        ((2, 2), np.s_[1, 1], False),
    ],
)
@pytest.mark.parametrize("order", ["write first", "shrink first"])
def test_a_shrink_cuts_planes_along_each_axis(
    store: Any, shape: tuple[int, int], sel: Any, clash: bool, order: str
) -> None:
    create(store, "a", np.arange(16).reshape(4, 4), chunks=(3, 3))
    steps = (writing(sel, 7), to(*shape)) if order == "write first" else (to(*shape), writing(sel, 7))
    beside(store, *steps, *(("shape", "cells") if clash else ()))


@pytest.mark.parametrize("order", ["grow first", "shrink first"])
def test_a_shrink_beside_a_growth_conflicts(store: Any, order: str) -> None:
    # Not in the design's words: but neither "the larger" nor "the cut" can hold for both.
    create(store, "a", np.arange(10))
    steps = (to(12), to(5)) if order == "grow first" else (to(5), to(12))
    beside(store, *steps, "shape")
    assert store["a"].shape == ((12,) if order == "grow first" else (5,))


def test_a_write_conflicts_with_a_shrink_even_after_the_array_has_grown_again(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as late:
        late["a"][8:10] = 7
        resize(store, "a", (5,))
        resize(store, "a", (10,))
        with conflict("shape", "cells", path="a"):
            late.commit()
    with store.transaction() as late:
        late["a"][0:3] = 7
        resize(store, "a", (5,))
        resize(store, "a", (10,))
    assert store["a"][...].tolist() == [7, 7, 7, 3, 4, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("order", ["write first", "resize first"])
def test_shrinking_and_growing_back_in_one_transaction_is_a_cut(store: Any, order: str) -> None:
    create(store, "a", np.arange(10), chunks=(4,))

    def cut(tx: Any) -> None:
        tx["a"].resize((5,))
        tx["a"].resize((10,))

    steps = (writing(7, 70), cut) if order == "write first" else (cut, writing(7, 70))
    beside(store, *steps, "shape", "cells")
    expected = [*range(7), 70, 8, 9] if order == "write first" else [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]
    assert store["a"][...].tolist() == expected


@pytest.mark.parametrize("chunks", [(1,), (4,), (100,)])
def test_shrink_then_grow_reads_fill(store: Any, chunks: tuple[int]) -> None:
    versions = {create(store, "a", np.arange(10), chunks=chunks, fill_value=-1).version: [*range(10)]}
    versions[resize(store, "a", (6,)).version] = [*range(6)]
    versions[resize(store, "a", (9,)).version] = [*range(6), -1, -1, -1]
    versions[put(store, "a", np.s_[5:8], 50).version] = [*range(5), 50, 50, 50, -1]
    versions[resize(store, "a", (7,)).version] = [*range(5), 50, 50]
    versions[resize(store, "a", (10,)).version] = [*range(5), 50, 50, -1, -1, -1]
    for _ in range(2):
        for version, expected in versions.items():
            assert store.snapshot(version=version)["a"][...].tolist() == expected
        store.compact()


def test_shrink_then_grow_inside_one_transaction(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    with store.transaction() as tx:
        tx["a"][8:10] = 80
        tx["a"].resize((6,))
        assert tx["a"][...].tolist() == [*range(6)]
        tx["a"].resize((9,))
        assert tx["a"][...].tolist() == [*range(6), 0, 0, 0]
        tx["a"][7] = 70
        tx["a"].resize((10,))
        assert tx["a"][...].tolist() == [*range(6), 0, 70, 0, 0]
    for _ in range(2):
        assert store["a"][...].tolist() == [*range(6), 0, 70, 0, 0]
        store.compact()


def test_growing_writing_shrinking_and_growing_inside_one_transaction(store: Any) -> None:
    create(store, "a", np.arange(4), chunks=(4,))
    with store.transaction() as tx:
        tx["a"].resize((8,))
        tx["a"][2:8] = 5
        tx["a"].resize((3,))
        tx["a"].resize((8,))
        tx["a"][6] = 6
    for _ in range(2):
        assert store["a"][...].tolist() == [0, 1, 5, 0, 0, 0, 6, 0]
        store.compact()


def test_a_reader_between_shrink_and_grow_keeps_its_shape(store: Any) -> None:
    create(store, "a", np.arange(10), chunks=(4,))
    before = store.snapshot()
    resize(store, "a", (4,))
    between = store.snapshot()
    assert between["a"][...].tolist() == [0, 1, 2, 3]
    resize(store, "a", (10,))
    store.compact()
    put(store, "a", 9, 90)
    assert before["a"][...].tolist() == [*range(10)]
    assert between["a"][...].tolist() == [0, 1, 2, 3]
    assert store["a"][...].tolist() == [0, 1, 2, 3, 0, 0, 0, 0, 0, 90]


@pytest.mark.parametrize("compact_after", [0, 1, 2, 3])
def test_planes_shrink_along_one_axis_and_grow_along_the_other(store: Any, compact_after: int) -> None:
    model = np.arange(42).reshape(6, 7)
    create(store, "a", model, chunks=(4, 3))
    for number, shape in enumerate([(3, 9), (6, 5), (2, 8), (7, 7)]):
        resize(store, "a", shape)
        grown = np.zeros(shape, dtype="i8")
        kept = tuple(slice(0, min(old, new)) for old, new in zip(model.shape, shape, strict=True))
        grown[kept] = model[kept]
        model = grown
        same(store["a"][...], model)
        if number == compact_after:
            store.compact()
            same(store["a"][...], model)


def test_shrinking_to_nothing_and_back(store: Any) -> None:
    create(store, "a", np.arange(6).reshape(2, 3), chunks=(2, 2))
    resize(store, "a", (2, 0))
    assert store["a"][...].shape == (2, 0)
    resize(store, "a", (2, 3))
    assert not store["a"][...].any()
    append(store, "a", np.ones((1, 3), dtype="i8"))
    assert store["a"][...].sum() == 3


def test_the_shape_is_not_an_attribute_conflict(labelled: Any) -> None:
    beside(labelled, to(12), setting("units", "C"))
    assert (labelled["a"].shape, labelled["a"].attrs["units"]) == ((12,), "C")


@pytest.mark.parametrize("shape", [(10, 1), (), (-1,), (2**63,), (1.5,), "ten", None])
def test_shapes_that_are_none_are_refused(labelled: Any, shape: Any) -> None:
    with labelled.transaction() as tx, pytest.raises((InvalidInputError, TypeError)):
        tx["a"].resize(shape)
    assert labelled["a"].shape == (10,)


# -- names ----------------------------------------------------------------------------------------


def making(path: str, size: int = 3) -> Step:
    return lambda tx: tx.create_array(path, shape=(size,), dtype="i4", chunks=(2,))


def group(path: str) -> Step:
    return lambda tx: tx.create_group(path)


def removing(path: str) -> Step:
    return lambda tx: tx.__delitem__(path)


def moving(source: str, target: str) -> Step:
    return lambda tx: tx.move(source, target)


@pytest.fixture
def tree(store: Any) -> Any:
    """g/a, g/sub/deep, h/b and x."""
    for path in ("g/a", "g/sub/deep", "h/b", "x"):
        create(store, path, np.arange(10), attributes={"path": path})
    return store


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (making("new"), making("new", 5)),
        (making("new"), group("new")),
        (group("new"), making("new")),
        (group("new"), group("new")),
        (making("g/new"), making("g/new")),
        (making("new"), moving("x", "new")),
        (moving("x", "new"), making("new")),
        (moving("x", "new"), moving("h", "new")),
        (making("new"), making("new/below")),
        (making("new/below"), making("new")),
    ],
    ids=[
        "array array",
        "array group",
        "group array",
        "group group",
        "below",
        "create move",
        "move create",
        "move move",
        "array parent",
        "parent array",
    ],
)
def test_one_name_for_two_nodes_conflicts(tree: Any, first: Step, second: Step) -> None:
    beside(tree, first, second, "structure")


def test_the_structure_conflict_says_which_name(tree: Any) -> None:
    with tree.transaction() as late:
        making("g/new")(late)
        winner = commit(tree, making("g/new"))
        with conflict("structure") as refusal:
            late.commit()
    found = refusal.one
    assert found.commit == winner.version
    assert "new" in (found.path.split("/")[-1], found.key)


def test_different_names_in_one_group_never_conflict(tree: Any) -> None:
    beside(tree, making("g/one"), making("g/two"))
    beside(tree, making("g/three"), removing("g/one"))
    beside(tree, moving("g/two", "g/four"), group("g/five"))
    assert names(tree, "g") == ["a", "five", "four", "sub", "three"]


def test_missing_parents_come_into_being_once(store: Any) -> None:
    beside(store, making("p/q/one"), making("p/q/two"))
    assert names(store) == ["p"]
    assert names(store, "p") == ["q"]
    assert names(store, "p/q") == ["one", "two"]
    beside(store, making("r/s/one"), making("r/t/two"))
    assert names(store, "r") == ["s", "t"]


def test_missing_parents_keep_what_was_written_into_both(store: Any) -> None:
    def fill(path: str, value: int) -> Step:
        def step(tx: Any) -> None:
            array = tx.create_array(path, shape=(3,), dtype="i4", chunks=(2,))
            array[...] = value
            array.append([value + 1])
            array.attrs["k"] = value

        return step

    beside(store, fill("p/q/one", 10), fill("p/q/two", 20))
    assert store["p/q/one"][...].tolist() == [10, 10, 10, 11]
    assert store["p/q/two"][...].tolist() == [20, 20, 20, 21]
    assert store["p/q/two"].attrs["k"] == 20


def test_require_group_never_conflicts(store: Any) -> None:
    beside(store, lambda tx: tx.require_group("p/q"), lambda tx: tx.require_group("p/q"))
    beside(store, lambda tx: tx.require_group("r"), making("r/new"))
    beside(store, making("s/new"), lambda tx: tx.require_group("s"))
    beside(store, group("t"), making("t/new"))
    assert names(store) == ["p", "r", "s", "t"]
    assert names(store, "t") == ["new"]


def test_three_transactions_share_parents_that_nobody_had(store: Any) -> None:
    with store.transaction() as one, store.transaction() as two, store.transaction() as three:
        making("p/q/r/one")(one)
        making("p/q/two")(two)
        making("p/three")(three)
        three.commit()
        one.commit()
        two.commit()
    assert sorted(path for path, _ in store.snapshot().members(max_depth=None)) == [
        "p",
        "p/q",
        "p/q/r",
        "p/q/r/one",
        "p/q/two",
        "p/three",
    ]


def test_a_missing_parent_that_became_an_array_conflicts(store: Any) -> None:
    beside(store, making("p"), making("p/q/one"), "structure")
    assert names(store) == ["p"]


def test_what_exists_is_not_created_again(tree: Any) -> None:
    with tree.transaction() as tx:
        for step in (making("g/a"), group("g/a"), making("g"), group("g"), moving("x", "g")):
            with pytest.raises(AlreadyExistsError):
                step(tx)
        with pytest.raises((InvalidInputError, AlreadyExistsError)):
            making("x/below")(tx)  # x is an array
        for step in (removing("missing"), moving("missing", "y"), removing("g/a/missing")):
            with pytest.raises(NotFoundError):
                step(tx)
        assert tx.require_group("g").path == "g"
        assert tx.require_array("g/a", shape=(10,), dtype="i8").path == "g/a"
    assert tx.commit_info is None


def test_overwrite_makes_a_new_array_in_the_old_place(tree: Any) -> None:
    old = tree.snapshot()
    with tree.transaction() as tx:
        tx.create_array("g/a", shape=(2, 2), dtype="f4", chunks=(2, 2), overwrite=True)
        assert tx["g/a"].shape == (2, 2)
        assert dict(tx["g/a"].attrs) == {}
    assert (tree["g/a"].shape, tree["g/a"].dtype) == ((2, 2), np.dtype("f4"))
    assert not tree["g/a"][...].any()
    assert old["g/a"][...].tolist() == [*range(10)]


# -- deleting -------------------------------------------------------------------------------------

BELOW: dict[str, Step] = {
    "cells": lambda tx: tx["g/a"].__setitem__(0, 5),
    "cells far below": lambda tx: tx["g/sub/deep"].__setitem__(0, 5),
    "an append": lambda tx: tx["g/a"].append([5]),
    "an accumulation": lambda tx: tx["g/a"].accumulate(0, 5),
    "a resize": lambda tx: tx["g/a"].resize((12,)),
    "an attribute": lambda tx: tx["g/a"].attrs.__setitem__("k", 5),
    "an attribute of the group": lambda tx: tx["g"].attrs.__setitem__("k", 5),
    "a new array": making("g/new"),
    "a new array far below": making("g/sub/new"),
    "a new group": group("g/sub/new"),
    "a deletion": removing("g/sub/deep"),
    "a move into it": moving("x", "g/x"),
    "a move out of it": moving("g/a", "a"),
    "a move inside it": moving("g/a", "g/sub/a"),
}


@pytest.mark.parametrize("order", ["delete first", "delete second"])
@pytest.mark.parametrize("change", BELOW.values(), ids=BELOW)
def test_deleting_a_group_conflicts_with_everything_below_it(tree: Any, change: Step, order: str) -> None:
    steps = (removing("g"), change) if order == "delete first" else (change, removing("g"))
    beside(tree, *steps, "structure")
    assert ("g" in tree.snapshot()) == (order == "delete second")


@pytest.mark.parametrize("order", ["delete first", "delete second"])
@pytest.mark.parametrize(
    "change", [BELOW[name] for name in ("cells", "an append", "a resize", "an attribute", "a move out of it")]
)
def test_deleting_an_array_conflicts_with_changes_to_it(tree: Any, change: Step, order: str) -> None:
    steps = (removing("g/a"), change) if order == "delete first" else (change, removing("g/a"))
    beside(tree, *steps, "structure")


def test_deleting_conflicts_with_parents_that_somebody_counts_on(tree: Any) -> None:
    # The group is there for both; the one who creates below it does not create it.
    beside(tree, removing("g"), making("g/sub/more/new"), "structure")
    assert names(tree) == ["h", "x"]


@pytest.mark.parametrize("order", ["recreate first", "recreate second"])
def test_deleting_and_recreating_conflicts_with_writes_to_the_old_node(tree: Any, order: str) -> None:
    def recreate(tx: Any) -> None:
        del tx["g/a"]
        tx.create_array("g/a", shape=(4,), dtype="i8", chunks=(4,), data=np.full(4, 7))

    write = BELOW["cells"]
    beside(tree, *((recreate, write) if order == "recreate first" else (write, recreate)), "structure")
    expected = [7, 7, 7, 7] if order == "recreate first" else [5, *range(1, 10)]
    assert tree["g/a"][...].tolist() == expected


def test_deleting_and_recreating_by_two_conflicts(tree: Any) -> None:
    def recreate(tx: Any) -> None:
        del tx["g/a"]
        making("g/a")(tx)

    beside(tree, removing("g/a"), recreate, "structure")
    assert "g/a" not in tree.snapshot()
    commit(tree, making("g/a"))
    beside(tree, recreate, removing("g/a"), "structure")
    assert tree["g/a"].shape == (3,)


def test_a_recreated_array_starts_from_fill_and_history_keeps_the_old_one(tree: Any) -> None:
    old = tree.snapshot()
    with tree.transaction() as tx:
        del tx["g/a"]
        assert "g/a" not in tx
        assert sorted(tx["g"]) == ["sub"]
        recreated = tx.create_array("g/a", shape=(12,), dtype="i8", chunks=(4,), fill_value=3)
        recreated[0] = 1
        assert recreated[0:3].tolist() == [1, 3, 3]
    for _ in range(2):
        assert tree["g/a"][...].tolist() == [1] + [3] * 11
        assert old["g/a"][...].tolist() == [*range(10)]
        assert tree.snapshot(version=old.version)["g/a"].attrs["path"] == "g/a"
        assert dict(tree["g/a"].attrs) == {}
        tree.compact()


def test_a_group_deleted_and_recreated_is_empty(tree: Any) -> None:
    with tree.transaction() as tx:
        del tx["g"]
        tx.create_group("g")
        assert list(tx["g"]) == []
    assert names(tree, "g") == []
    with tree.transaction() as tx:
        del tx["h"]
        making("h/other")(tx)
    assert names(tree, "h") == ["other"]


def test_created_and_deleted_in_one_transaction_leaves_nothing(store: Any) -> None:
    create(store, "keep", np.arange(3))
    with store.transaction() as tx:
        making("gone")(tx)
        tx["gone"][...] = 1
        del tx["gone"]
    assert names(store) == ["keep"]


OLD_HANDLES: dict[str, Callable[[Any, Any], object]] = {
    "cells": lambda array, group: array[0],
    "all cells": lambda array, group: array[...],
    "write": lambda array, group: array.__setitem__(0, 1),
    "append": lambda array, group: array.append([1]),
    "accumulate": lambda array, group: array.accumulate(0, 1),
    "resize": lambda array, group: array.resize((3,)),
    "clear": lambda array, group: array.clear(...),
    "shape": lambda array, group: array.shape,
    "an attribute": lambda array, group: array.attrs["path"],
    "set an attribute": lambda array, group: array.attrs.__setitem__("k", 1),
    "delete an attribute": lambda array, group: array.attrs.__delitem__("path"),
    "list": lambda array, group: list(group),
    "member": lambda array, group: group["deep"],
    "create": lambda array, group: group.create_group("new"),
    "set an attribute of the group": lambda array, group: group.attrs.__setitem__("k", 1),
}


@pytest.mark.parametrize("use", OLD_HANDLES.values(), ids=OLD_HANDLES)
@pytest.mark.parametrize("again", ["", "made again"])
def test_old_handles_of_a_deleted_node_are_told_so(tree: Any, use: Callable[[Any, Any], object], again: str) -> None:
    with tree.transaction() as tx:
        array, group = tx["g/a"], tx["g/sub"]
        array[0] = 5
        del tx["g"]
        if again:  # the handles are of the old identities, not of the names
            tx.create_group("g")
            tx.create_group("g/sub")
            tx.create_array("g/a", shape=(10,), dtype="i8", chunks=(4,), attributes={"path": "new"})
        with pytest.raises(NotFoundError):
            use(array, group)
        assert ("g/a" in tx) == bool(again)
    if again:
        assert tree["g/a"][0] == 0
        assert dict(tree["g/a"].attrs) == {"path": "new"}
        assert names(tree, "g/sub") == []


def test_handles_of_older_snapshots_keep_reading_what_was_deleted(tree: Any) -> None:
    array = tree["g/a"]
    commit(tree, removing("g"))
    assert array[...].tolist() == [*range(10)]
    with pytest.raises(NotFoundError):
        tree["g/a"]


def test_the_root_stays(tree: Any) -> None:
    with tree.transaction() as tx:
        for path in ("", "/"):
            with pytest.raises((InvalidInputError, NotFoundError)):
                del tx[path]
            with pytest.raises((InvalidInputError, NotFoundError)):
                tx.move(path, "below")
    assert names(tree) == ["g", "h", "x"]


# -- moving ---------------------------------------------------------------------------------------


def test_a_move_takes_everything_along(tree: Any) -> None:
    commit(tree, moving("g", "h/new"))
    assert names(tree) == ["h", "x"]
    assert names(tree, "h/new") == ["a", "sub"]
    assert tree["h/new/sub/deep"][...].tolist() == [*range(10)]
    assert tree["h/new/a"].attrs["path"] == "g/a"
    with pytest.raises(NotFoundError):
        tree["g/a"]


@pytest.mark.parametrize(
    "change",
    [name for name in BELOW if name not in ("a deletion", "a move out of it", "a move inside it", "a move into it")],
)
@pytest.mark.parametrize("order", ["move first", "move second"])
def test_writes_to_what_was_moved_follow_it(tree: Any, change: str, order: str) -> None:
    step, move = BELOW[change], moving("g", "h/new")
    beside(tree, *((move, step) if order == "move first" else (step, move)))
    assert names(tree) == ["h", "x"]
    moved = tree.snapshot()["h/new"]
    after: dict[str, Callable[[], bool]] = {
        "cells": lambda: moved["a"][0] == 5,
        "cells far below": lambda: moved["sub/deep"][0] == 5,
        "an append": lambda: moved["a"][10] == 5,
        "an accumulation": lambda: moved["a"][0] == 5,
        "a resize": lambda: moved["a"].shape == (12,),
        "an attribute": lambda: moved["a"].attrs["k"] == 5,
        "an attribute of the group": lambda: moved.attrs["k"] == 5,
        "a new array": lambda: "new" in moved,
        "a new array far below": lambda: "new" in moved["sub"],
        "a new group": lambda: "new" in moved["sub"],
    }
    assert after[change]()


def test_writes_to_a_moved_array_conflict_by_identity(tree: Any) -> None:
    with tree.transaction() as late:
        late["x"][0:3] = 1
        with tree.transaction() as tx:
            tx.move("x", "y")
            tx["y"][2:5] = 2
        with conflict("cells") as refusal:
            late.commit()
    assert refusal.one.path in ("x", "y")
    assert tree["y"][0:5].tolist() == [0, 1, 2, 2, 2]


def test_a_new_node_under_the_old_name_does_not_get_the_writes(tree: Any) -> None:
    with tree.transaction() as late:
        late["x"][0] = 50
        with tree.transaction() as tx:
            tx.move("x", "y")
            tx.create_array("x", shape=(3,), dtype="i8", chunks=(3,))
    assert tree["y"][0] == 50
    assert tree["x"][...].tolist() == [0, 0, 0]


def test_two_groups_moved_into_each_other_conflict(tree: Any) -> None:
    beside(tree, moving("g", "h/g"), moving("h", "g/h"), "structure")
    assert names(tree) == ["h", "x"]
    assert names(tree, "h") == ["b", "g"]
    beside(tree, moving("x", "h/x"), moving("h/g", "g"))  # no cycle in these
    assert names(tree) == ["g", "h"]


def test_a_ring_of_three_moves_conflicts(tree: Any) -> None:
    commit(tree, group("k"))
    with tree.transaction() as one, tree.transaction() as two, tree.transaction() as three:
        one.move("g", "h/g")
        two.move("h", "k/h")
        three.move("k", "g/k")
        one.commit()
        two.commit()
        with conflict("structure"):
            three.commit()
    assert names(tree) == ["k", "x"]
    assert tree["k/h/g/a"][0] == 0


def test_a_cycle_in_one_transaction_is_refused_at_once(tree: Any) -> None:
    with tree.transaction() as tx:
        for target in ("g/g", "g/sub/g", "g/sub/deeper/g"):
            with pytest.raises(InvalidInputError):
                tx.move("g", target)
        tx.move("h", "g/sub/h")
        with pytest.raises(InvalidInputError):
            tx.move("g", "g/sub/h/g")
        assert sorted(tx) == ["g", "x"]
    assert names(tree, "g/sub") == ["deep", "h"]


def test_moving_one_node_to_two_places_conflicts(tree: Any) -> None:
    beside(tree, moving("x", "y"), moving("x", "z"), "structure")
    assert names(tree) == ["g", "h", "y"]


@pytest.mark.parametrize("order", ["move first", "delete first"])
def test_moving_beside_deleting_conflicts(tree: Any, order: str) -> None:
    steps = (moving("x", "y"), removing("x")) if order == "move first" else (removing("x"), moving("x", "y"))
    beside(tree, *steps, "structure")


@pytest.mark.parametrize("order", ["move first", "delete first"])
def test_moving_into_a_group_that_is_deleted_conflicts(tree: Any, order: str) -> None:
    steps = (moving("x", "h/x"), removing("h")) if order == "move first" else (removing("h"), moving("x", "h/x"))
    beside(tree, *steps, "structure")


def test_names_may_be_swapped_in_one_transaction(tree: Any) -> None:
    with tree.transaction() as tx:
        tx.move("g", "swap")
        tx.move("h", "g")
        tx.move("swap", "h")
        assert (sorted(tx["g"]), sorted(tx["h"])) == (["b"], ["a", "sub"])
    assert (names(tree, "g"), names(tree, "h")) == (["b"], ["a", "sub"])
    assert names(tree) == ["g", "h", "x"]


def test_moving_there_and_back_changes_nothing_that_reads(tree: Any) -> None:
    commit(tree, moving("x", "y"))
    put(tree, "y", 0, 9)
    commit(tree, moving("y", "x"))
    assert tree["x"][0:3].tolist() == [9, 1, 2]
    assert tree["x"].history(0)[0].paths == ("y",)


def test_moving_makes_missing_parents(tree: Any) -> None:
    commit(tree, moving("x", "p/q/x"))
    assert tree["p/q/x"][3] == 3


def test_a_reader_by_path_finds_the_node_of_its_version(tree: Any) -> None:
    before = tree.snapshot()
    commit(tree, moving("g", "k"))
    commit(tree, moving("h", "g"))
    assert sorted(before["g"]) == ["a", "sub"]
    assert sorted(tree.snapshot()["g"]) == ["b"]
    tree.compact()
    assert before["g/a"][...].tolist() == [*range(10)]


def test_refused_structure_changes_leave_no_trace(tree: Any) -> None:
    before = sorted(path for path, _ in tree.snapshot().members(max_depth=None))
    with tree.transaction() as late:
        late.move("g", "k")
        late.create_array("k/new", shape=(3,), dtype="i4", chunks=(3,))
        del late["h"]
        put(tree, "h/b", 0, 1)
        with pytest.raises(ConflictError):
            late.commit()
    assert sorted(path for path, _ in tree.snapshot().members(max_depth=None)) == before


def test_the_log_calls_what_was_moved_meanwhile_by_its_new_name(store: Any) -> None:
    create(store, "g/b", np.zeros(4, "f4"), chunks=(4,))
    writer, cells, keys = store.transaction(), store.transaction(), store.transaction()
    appended = writer["g/b"].append([1, 2])
    cells["g/b"][0] = 7
    keys["g/b"].attrs["k"] = 1
    made = keys.create_group("g/new")
    made.attrs["k"] = 2
    with store.transaction() as tx:
        tx.move("g", "h")
        tx.create_array("g/b", shape=(2,), dtype="f4")
    assert writer.commit().paths == ("h/b",)
    assert writer.commit_info.appended == (("h/b", appended.box),)
    assert cells.commit().paths == ("h/b",)
    assert set(keys.commit().paths) == {"h/b", "h/new"}
    assert store["h/b"][...].tolist() == [7, 0, 0, 0, 1, 2]
    assert [len(list(store.log(path=path))) for path in ("h/b", "g/b", "h/new")] == [3, 2, 1]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_the_log_calls_what_a_commit_moves_itself_by_its_new_name(store: Any, meanwhile: bool) -> None:
    create(store, "g/b", np.zeros(4, "f4"), chunks=(4,))
    tx = store.transaction()
    appended = tx["g/b"].append([1, 2])
    tx["g/b"].attrs["k"] = 1
    tx.move("g", "h")
    if meanwhile:
        with store.transaction() as other:
            other.create_group("unrelated")
    assert tx.commit().paths == ("h/b", "h")
    assert tx.commit_info.appended == (("h/b", appended.box),)
    assert len(list(store.log(path="h/b"))) == 1
