"""Promise 4: snapshot and serializable isolation, and on_conflict="overwrite"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, put, resize

from txstore.errors import ConflictError, InvalidInputError, NotFoundError


@pytest.fixture
def ward(store: Any) -> Any:
    """Two doctors on call, in one array and in two; and a place to write to that nobody else touches."""
    create(store, "on_call", np.array([1, 1]), chunks=(2,))
    create(store, "g/a", np.arange(10), attributes={"units": "K", "note": "x"})
    create(store, "g/b", np.arange(10))
    create(store, "notes", np.zeros(10))
    return store


def leave(tx: Any, mine: int) -> None:
    """Go off call, if anybody else is on."""
    if tx["on_call"][1 - mine] == 1:
        tx["on_call"][mine] = 0


# -- write skew -----------------------------------------------------------------------------------


def test_write_skew_happens_under_snapshot_isolation(ward: Any) -> None:
    with ward.transaction() as first, ward.transaction() as second:
        leave(first, 0)
        leave(second, 1)
        first.commit()
        second.commit()
    assert ward["on_call"][...].tolist() == [0, 0]


def test_write_skew_is_refused_under_serializable_isolation(ward: Any) -> None:
    options = {"isolation": "serializable"}
    with ward.transaction(**options) as first, ward.transaction(**options) as second:
        leave(first, 0)
        leave(second, 1)
        first.commit()
        with conflict("read", path="on_call"):
            second.commit()
    assert ward["on_call"][...].tolist() == [0, 1]


def test_a_serializable_reader_is_guarded_against_snapshot_writers(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as careful, ward.transaction() as careless:
        leave(careful, 0)
        leave(careless, 1)
        careless.commit()
        with conflict("read", path="on_call"):
            careful.commit()
    assert ward["on_call"][...].tolist() == [1, 0]


def test_the_read_conflict_names_the_cells_and_the_winner(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as tx:
        tx["notes"][0] = tx["g/a"][2:6].sum()
        winner = put(ward, "g/a", np.s_[4:9], 0)
        with conflict("read") as refusal:
            tx.commit()
    found = refusal.one
    assert found.box is not None
    assert (found.path, found.commit) == ("g/a", winner.version)
    assert (tuple(found.box.lo), tuple(found.box.hi)) == ((4,), (6,))


def test_three_transactions_in_a_ring_do_not_all_commit(ward: Any) -> None:
    create(ward, "ring", np.zeros(3), chunks=(3,))
    options = {"isolation": "serializable"}
    landed = 0
    with ward.transaction(**options) as one, ward.transaction(**options) as two, ward.transaction(**options) as three:
        ring = (one, two, three)
        for number, tx in enumerate(ring):
            tx["ring"][number] = tx["ring"][(number + 1) % 3] + 1
        for tx in ring:
            try:
                tx.commit()
                landed += 1
            except ConflictError:
                pass
    assert landed == 2  # 0 reads 1, 1 reads 2, and 2 reads the 0 that has changed


# -- what was read, and what others changed -------------------------------------------------------

Step = Callable[[Any], object]  # something read through a transaction, or changed by another one


def edit(change: Callable[[Any], object]) -> Step:
    """Turn a change through a transaction into a commit of its own."""

    def commit(store: Any) -> None:
        with store.transaction() as tx:
            change(tx)

    return commit


def absent(tx: Any) -> None:
    with pytest.raises(NotFoundError):
        tx["g/new"]


CHANGES: dict[str, Step] = {
    "cells 0 to 5": lambda store: put(store, "g/a", np.s_[0:5], 7),
    "even cells": lambda store: put(store, "g/a", np.s_[::2], 7),
    "an accumulation": edit(lambda tx: tx["g/a"].accumulate(np.s_[0:5], 1)),
    "a clear": edit(lambda tx: tx["g/a"].clear(np.s_[0:5])),
    "an append": lambda store: append(store, "g/a", [1, 2]),
    "a growth": lambda store: resize(store, "g/a", (20,)),
    "a shrink to 7": lambda store: resize(store, "g/a", (7,)),
    "units": edit(lambda tx: tx["g/a"].attrs.__setitem__("units", "C")),
    "units deleted": edit(lambda tx: tx["g/a"].attrs.__delitem__("units")),
    "another key": edit(lambda tx: tx["g/a"].attrs.__setitem__("other", 1)),
    "g/new": lambda store: create(store, "g/new", np.arange(3)),
    "g/sub/deep": lambda store: create(store, "g/sub/deep", np.arange(3)),
    "g/b deleted": edit(lambda tx: tx.__delitem__("g/b")),
    "g/b moved to the root": edit(lambda tx: tx.move("g/b", "b")),
    "elsewhere": lambda store: put(store, "on_call", 0, 0),
}

STALE: list[tuple[str, Step, str]] = [
    ("a cell", lambda tx: tx["g/a"][3], "cells 0 to 5"),
    ("a box", lambda tx: tx["g/a"][4:6], "cells 0 to 5"),
    ("a box", lambda tx: tx["g/a"][4:6], "even cells"),
    ("a box", lambda tx: tx["g/a"][4:6], "an accumulation"),
    ("a box", lambda tx: tx["g/a"][4:6], "a clear"),
    ("a box", lambda tx: tx["g/a"][6:8], "a shrink to 7"),
    ("a step", lambda tx: tx["g/a"][1:9:3], "even cells"),
    ("a list", lambda tx: tx["g/a"][[9, 0]], "cells 0 to 5"),
    ("points", lambda tx: tx["g/a"].vindex[[9, 0]], "cells 0 to 5"),
    ("crossed points", lambda tx: tx["g/a"].oindex[[9, 0]], "cells 0 to 5"),
    ("a mask", lambda tx: tx["g/a"][np.arange(10) < 2], "cells 0 to 5"),
    ("read()", lambda tx: tx["g/a"].read(np.s_[4:6]), "cells 0 to 5"),
    ("everything", lambda tx: tx["g/a"][...], "cells 0 to 5"),
    ("asarray", lambda tx: np.asarray(tx["g/a"]), "cells 0 to 5"),
    ("iteration", lambda tx: list(tx["g/a"]), "cells 0 to 5"),
    ("an open slice", lambda tx: tx["g/a"][8:], "an append"),
    ("an open slice", lambda tx: tx["g/a"][8:], "a growth"),
    ("a negative index", lambda tx: tx["g/a"][-1], "an append"),
    ("a slice past the end", lambda tx: tx["g/a"][8:15], "an append"),
    ("everything", lambda tx: tx["g/a"][...], "an append"),
    ("iteration", lambda tx: list(tx["g/a"]), "an append"),
    ("the shape", lambda tx: tx["g/a"].shape, "an append"),
    ("the shape", lambda tx: tx["g/a"].shape, "a growth"),
    ("the shape", lambda tx: tx["g/a"].shape, "a shrink to 7"),
    ("the length", lambda tx: len(tx["g/a"]), "an append"),
    ("the size", lambda tx: tx["g/a"].size, "an append"),
    ("an attribute", lambda tx: tx["g/a"].attrs["units"], "units"),
    ("an attribute", lambda tx: tx["g/a"].attrs["units"], "units deleted"),
    ("an absent attribute", lambda tx: tx["g/a"].attrs.get("other"), "another key"),
    ("an absent attribute", lambda tx: "other" in tx["g/a"].attrs, "another key"),
    ("the keys", lambda tx: list(tx["g/a"].attrs), "another key"),
    ("all attributes", lambda tx: dict(tx["g/a"].attrs), "units"),
    ("the number of attributes", lambda tx: len(tx["g/a"].attrs), "units deleted"),
    ("an absent name", absent, "g/new"),
    ("an absent name", lambda tx: tx.get("g/new"), "g/new"),
    ("an absent name", lambda tx: "g/new" in tx, "g/new"),
    ("an absent name in a group", lambda tx: "new" in tx["g"], "g/new"),
    ("an absent parent", lambda tx: "g/sub/deep" in tx, "g/sub/deep"),
    # The design names absent names; a name that was found is something read as well.
    ("a present name", lambda tx: "g/b" in tx, "g/b deleted"),
    ("a present name", lambda tx: tx["g/b"], "g/b moved to the root"),
    ("a listing", lambda tx: list(tx["g"]), "g/new"),
    ("a listing", lambda tx: list(tx["g"]), "g/b deleted"),
    ("a listing", lambda tx: list(tx["g"]), "g/b moved to the root"),
    ("a listing of the root", lambda tx: list(tx), "g/b moved to the root"),
    ("a count", lambda tx: len(tx["g"]), "g/new"),
    ("the arrays", lambda tx: [name for name, _ in tx["g"].arrays()], "g/new"),
    ("the groups", lambda tx: [name for name, _ in tx["g"].groups()], "g/sub/deep"),
    ("all members", lambda tx: [path for path, _ in tx.members(max_depth=None)], "g/sub/deep"),
]

FRESH: list[tuple[str, Step, str]] = [
    ("other cells", lambda tx: tx["g/a"][5:7], "cells 0 to 5"),
    ("odd cells", lambda tx: tx["g/a"][1:9:2], "even cells"),
    ("odd cells by mask", lambda tx: tx["g/a"][np.arange(10) % 2 == 1], "even cells"),
    ("odd cells by list", lambda tx: tx["g/a"][[9, 1]], "even cells"),
    ("a closed box", lambda tx: tx["g/a"][2:10], "an append"),
    ("a closed box", lambda tx: tx["g/a"][2:5], "a growth"),
    ("a closed box", lambda tx: tx["g/a"][2:5], "a shrink to 7"),
    ("the shape", lambda tx: tx["g/a"].shape, "cells 0 to 5"),
    ("the shape", lambda tx: tx["g/a"].shape, "units"),
    ("the dtype", lambda tx: (tx["g/a"].dtype, tx["g/a"].chunks), "an append"),
    ("an attribute", lambda tx: tx["g/a"].attrs["note"], "units"),
    ("an attribute", lambda tx: tx["g/a"].attrs["units"], "cells 0 to 5"),
    ("cells", lambda tx: tx["g/a"][...], "units"),
    ("another absent name", lambda tx: "g/other" in tx, "g/new"),
    ("a listing", lambda tx: list(tx["g"]), "cells 0 to 5"),
    ("a listing", lambda tx: list(tx["g"]), "units"),
    ("a listing of the root", lambda tx: list(tx), "g/new"),
    ("everything there is", lambda tx: [node for _, node in tx["g"].members()], "elsewhere"),
]


def ids(cases: list[tuple[str, Step, str]]) -> list[str]:
    return [f"{read} - {change}" for read, _, change in cases]


@pytest.mark.parametrize(("name", "read", "change"), STALE, ids=ids(STALE))
def test_serializable_refuses_what_has_changed_since_it_was_read(ward: Any, name: str, read: Step, change: str) -> None:
    with ward.transaction(isolation="serializable") as tx:
        read(tx)
        tx["notes"][0] = 1
        CHANGES[change](ward)
        with conflict("read"):
            tx.commit()
    assert ward["notes"][0] == 0


@pytest.mark.parametrize(("name", "read", "change"), FRESH, ids=ids(FRESH))
def test_serializable_lets_pass_what_has_not_changed(ward: Any, name: str, read: Step, change: str) -> None:
    with ward.transaction(isolation="serializable") as tx:
        read(tx)
        tx["notes"][0] = 1
        CHANGES[change](ward)
    assert ward["notes"][0] == 1


@pytest.mark.parametrize(("name", "read", "change"), STALE, ids=ids(STALE))
def test_snapshot_isolation_does_not_mind_what_was_read(ward: Any, name: str, read: Step, change: str) -> None:
    with ward.transaction() as tx:
        read(tx)
        tx["notes"][0] = 1
        CHANGES[change](ward)
    assert ward["notes"][0] == 1


def test_what_was_read_before_the_transaction_wrote_it_counts_too(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as tx:
        tx["g/b"][0:3] = tx["g/a"][0:3]
        tx["g/a"][0:3] = 0
        put(ward, "g/a", 2, 5)
        with conflict("read", "cells", path="g/a"):
            tx.commit()


def test_reading_ones_own_writes_is_no_reading_of_others(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as tx:
        mine = tx.create_array("mine", shape=(4,), dtype="i4", chunks=(4,))
        mine[0:2] = 5
        assert mine[...].tolist() == [5, 5, 0, 0]
        mine.attrs["k"] = 1
        assert mine.attrs["k"] == 1
        put(ward, "g/a", ..., 0)
    assert ward["mine"][...].tolist() == [5, 5, 0, 0]


def test_a_serializable_transaction_that_only_read_has_nothing_to_refuse(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as tx:
        before = tx["g/a"][...].tolist()
        put(ward, "g/a", ..., 0)
        assert tx["g/a"][...].tolist() == before
    assert tx.commit_info is None


def test_a_handle_keeps_the_reads_of_its_transaction(ward: Any) -> None:
    with ward.transaction(isolation="serializable") as tx:
        array, group = tx["g/a"], tx["g"]
        assert array[3] == 3
        assert "new" not in group
        tx["notes"][0] = 1
        put(ward, "g/a", 3, 33)
        create(ward, "g/new", np.arange(3))
        with conflict("read") as refusal:
            tx.commit()
    assert len(refusal.conflicts) >= 2


def test_a_transaction_reads_its_base_whatever_others_commit(ward: Any) -> None:
    with ward.transaction() as tx:
        assert tx["g/a"][0] == 0
        put(ward, "g/a", ..., 7)
        append(ward, "g/a", [8])
        create(ward, "g/new", np.arange(3))
        with ward.transaction() as other:
            del other["g/b"]
        assert tx["g/a"][...].tolist() == list(range(10))
        assert tx["g/a"].shape == (10,)
        assert sorted(tx["g"]) == ["a", "b"]
        assert tx["g/b"][3] == 3


# -- on_conflict="overwrite" ----------------------------------------------------------------------


def test_overwrite_lets_the_last_writer_win_cells(ward: Any) -> None:
    with ward.transaction(on_conflict="overwrite") as tx:
        tx["g/a"][0:6] = 100
        put(ward, "g/a", np.s_[4:8], 200)
    assert ward["g/a"][...].tolist() == [100] * 6 + [200, 200, 8, 9]


def test_overwrite_writes_only_its_own_cells(ward: Any) -> None:
    with ward.transaction(on_conflict="overwrite") as tx:
        tx["g/a"][::2] = 100
        tx["g/a"][[1, 9]] = 300
        put(ward, "g/a", ..., 200)
    assert ward["g/a"][...].tolist() == [100, 300, 100, 200, 100, 200, 100, 200, 100, 300]


def test_overwrite_clears_and_sets_over_accumulations(ward: Any) -> None:
    with ward.transaction(on_conflict="overwrite") as tx:
        tx["g/a"].clear(np.s_[0:2])
        tx["g/a"][2:4] = 100
        with ward.transaction() as other:
            other["g/a"].accumulate(np.s_[0:6], 1000)
    assert ward["g/a"][0:6].tolist() == [0, 0, 100, 100, 1004, 1005]


def test_overwrite_lets_the_last_writer_win_attributes(ward: Any) -> None:
    with ward.transaction(on_conflict="overwrite") as tx:
        tx["g/a"].attrs["units"] = "mine"
        del tx["g/a"].attrs["note"]
        with ward.transaction() as other:
            other["g/a"].attrs.update({"units": "theirs", "note": "theirs", "more": 1})
    assert dict(ward["g/a"].attrs) == {"units": "mine", "more": 1}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (lambda tx: tx["g/a"].__setitem__(0, 1), lambda tx: tx.__delitem__("g/a")),
        (lambda tx: tx["g/a"].__setitem__(0, 1), lambda tx: tx.__delitem__("g")),
        (lambda tx: tx.__delitem__("g"), lambda tx: tx["g/a"].__setitem__(0, 1)),
        (lambda tx: tx.create_group("new"), lambda tx: tx.create_group("new")),
        (lambda tx: tx.move("g/a", "x"), lambda tx: tx.move("g/a", "y")),
    ],
    ids=["write to deleted", "write below deleted", "delete written", "create twice", "move twice"],
)
def test_overwrite_does_not_cover_structure(ward: Any, mine: Step, theirs: Step) -> None:
    with ward.transaction(on_conflict="overwrite") as tx:
        mine(tx)
        edit(theirs)(ward)
        with conflict("structure"):
            tx.commit()


def test_overwrite_under_serializable_still_minds_what_it_read(ward: Any) -> None:
    # The design does not say; last writer wins is about what is written.
    with ward.transaction(on_conflict="overwrite", isolation="serializable") as tx:
        tx["notes"][0] = tx["g/a"][0] + 1
        put(ward, "g/a", 0, 50)
        with conflict("read", path="g/a"):
            tx.commit()


@pytest.mark.parametrize("options", [{"isolation": "chaos"}, {"on_conflict": "ignore"}, {"isolation": None}])
def test_unknown_options_are_refused(ward: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        ward.transaction(**options)
