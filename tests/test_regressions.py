"""Histories that once came out wrong; each test names what was lost."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, noise, put, resize

import txstore
from txstore.boxes import Box
from txstore.core import Core
from txstore.errors import StorageError
from txstore.fragment import Fragment
from txstore.grid import WHOLE, Grid
from txstore.index import schema
from txstore.index.timeline import Timeline
from txstore.segment import Kind
from txstore.tables import PartitionTable


def test_an_old_version_read_first_does_not_stand_for_the_newest(store: Any, open_store: Any) -> None:
    """What a fresh store had read of an old version passed for unchanged: cells, shape, attributes and names."""
    create(store, "a", np.ones(4, "i4"), attributes={"k": 1})
    old = store.snapshot().version
    with store.transaction() as tx:
        tx["a"][...] = 2
        tx["a"].resize((6,))
        tx["a"].attrs["k"] = 2
        tx.create_group("new")
    fresh = open_store()
    before = fresh.snapshot(version=old)
    assert before["a"][...].tolist() == [1] * 4
    assert before["a"].attrs["k"] == 1
    assert "new" not in before
    now = fresh.snapshot()
    assert now["a"][...].tolist() == [2] * 4 + [0] * 2
    assert now["a"].attrs["k"] == 2
    assert "new" in now


def test_an_interrupt_after_the_commit_leaves_its_file(open_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just after COMMIT aborted the transaction, which deleted the bytes of a commit that had landed."""
    store = open_store(inline_bytes=0)
    create(store, "a", shape=(100,))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Core, "landed", interrupted)
    with pytest.raises(KeyboardInterrupt), store.transaction() as tx:
        tx["a"][...] = np.arange(100)
    monkeypatch.undo()
    assert tx.status == "committed"
    assert store.resolve(tx.txid).version == 2
    assert store["a"][...].tolist() == list(range(100))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_the_files_of_its_parents_transaction(open_store: Any) -> None:
    """The child's abort withdrew the announcement of the parent's file, and the parent could not commit."""
    store = open_store(inline_bytes=0)
    create(store, "a", shape=(100,))
    with store.transaction() as tx:
        tx["a"][...] = np.arange(100)
        child = os.fork()
        if child == 0:
            try:
                tx.abort()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert store["a"][...].tolist() == list(range(100))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_lets_go_no_pin_of_its_own_for_its_parents(store: Any) -> None:
    """The tokens of the child's pins are counted anew: the parent's transactions named them, too."""
    create(store, "a", shape=(4,))
    with store.transaction() as tx:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                mine = [store.transaction() for _ in range(4)]
                tx.abort()
                code = 0 if {one._pin for one in mine} == set(store._core.holder._pinned) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert tx._pin in store._core.holder._pinned


def test_a_reader_never_sees_what_is_being_added(store: Any) -> None:
    """While a newer version was added to a partition's table, readers of the version before saw a part of it."""
    grid = Grid((4,), None, (16,))
    table = PartitionTable(grid)

    def fragment(version: int) -> Fragment:
        return Fragment(version, 1, Kind.FILL, False, Box((0,), (4,)), None, None, 4)

    class Watched(list[Fragment]):
        def __iter__(self) -> Any:
            for one in super().__iter__():
                yield one
                seen.append(table.upto_version(5))

    seen: list[int] = []
    table.extend([fragment(5)], 5)
    table.extend(Watched([fragment(6), fragment(6)]), 6)
    assert seen == [1, 1]
    assert table.upto_version(6) == 3


def test_fills_of_the_whole_are_looked_up_before_the_base(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vacuum between the two took the fill, but not what was remembered below it."""
    create(store, "a", shape=(4,))
    order: list[bytes] = []
    table = Timeline.table

    def watched(self: Timeline, node: int, partition: bytes, *rest: Any) -> Any:
        order.append(partition)
        return table(self, node, partition, *rest)

    monkeypatch.setattr(Timeline, "table", watched)
    assert store["a"][0] == 0
    assert order[0] == WHOLE != order[1]


def test_a_branch_from_a_version_that_expires_meanwhile(store: Any, open_store: Any) -> None:
    """Between looking at the version and naming it, vacuum took its bytes; the branch then read fill."""
    create(store, "a", np.arange(4))
    version = store.snapshot().version
    for step in range(3):
        put(store, "a", np.s_[...], np.arange(4) + 10 * step)
    other = open_store()
    refer = store._refer

    def late(edit: Any) -> None:
        other.compact()
        other.expire(keep_last=1)
        other.vacuum()
        refer(edit)

    store._refer = late
    store.create_branch("b", version)
    store.create_tag("t", version)
    store._refer = refer
    assert store.snapshot(branch="b")["a"][...].tolist() == [0, 1, 2, 3]
    assert other.snapshot(tag="t")["a"][...].tolist() == [0, 1, 2, 3]


# -- missing parents that somebody else is first to make ------------------------------------------


@pytest.mark.parametrize("move", [False, True])
def test_a_missing_parent_taken_away_again_is_not_somebody_elses(store: Any, move: bool) -> None:
    """The other's group, made meanwhile under that name, was deleted (or moved) instead."""
    mine, theirs = store.transaction(), store.transaction()
    mine.create_array("g/a", shape=(4,), dtype="i4")
    if move:
        mine.move("g", "h")
    else:
        del mine["g"]
    mine.create_group("other")
    theirs.create_array("g/x", shape=(4,), dtype="i4")
    theirs.commit()
    with conflict("structure"):
        mine.commit()
    assert "g/x" in store.snapshot()


def test_attributes_of_a_missing_parent_conflict_by_key(store: Any) -> None:
    """The later one replaced the other's value unseen."""
    for key, refused in (("n", False), ("k", True)):
        mine, theirs = store.transaction(), store.transaction()
        mine.require_group(f"g{key}").attrs["k"] = 1
        theirs.require_group(f"g{key}").attrs[key] = 2
        theirs.commit()
        if refused:
            with conflict("attribute", path=f"g{key}"):
                mine.commit()
        else:
            mine.commit()
            assert dict(store[f"g{key}"].attrs) == {"n": 2, "k": 1}


@pytest.mark.parametrize("what", ["name", "listing", "attribute", "attributes", "nothing"])
def test_reads_of_a_missing_parent_are_reads_of_the_one_that_there_is(store: Any, what: str) -> None:
    """What was found absent in a staged group stood in the group that it became."""
    mine, theirs = store.transaction(isolation="serializable"), store.transaction()
    mine.create_array("g/a", shape=(4,), dtype="i4")
    if what == "name":
        assert "x" not in mine["g"]
    elif what == "listing":
        assert list(mine["g"]) == ["a"]
    elif what == "attribute":
        assert mine["g"].attrs.get("k") is None
    elif what == "attributes":
        assert dict(mine["g"].attrs) == {}
    theirs.create_array("g/x", shape=(4,), dtype="i4")
    theirs["g"].attrs["k"] = 1
    theirs.commit()
    if what == "nothing":
        mine.commit()
    else:
        with conflict("read"):
            mine.commit()


def test_moves_that_meet_in_a_circle(store: Any) -> None:
    """Two moves of one transaction, or one below a new group, and one of another: all were gone from the tree."""
    with store.transaction() as tx:
        for name in "abcde":
            tx.create_group(name)
    mine, theirs = store.transaction(), store.transaction()
    mine.move("a", "b/a")
    mine.move("c", "b/a/c")
    theirs.move("b", "c/b")
    theirs.commit()
    with conflict("structure"):
        mine.commit()
    mine, theirs = store.transaction(), store.transaction()
    mine.move("e", "d/new/e")
    theirs.move("d", "e/d")
    theirs.commit()
    with conflict("structure"):
        mine.commit()
    assert {name for name, _ in store.snapshot().members()} == {"a", "c", "c/b", "e", "e/d"}


# -- serializable reads ---------------------------------------------------------------------------


def test_cells_read_past_an_end_that_was_only_resized(store: Any) -> None:
    """Others write there, too: only what was appended is the transaction's own."""
    create(store, "a", shape=(10,))
    create(store, "sum", shape=(1,))
    for theirs, refused in ((7, True), (None, False)):
        with store.transaction(isolation="serializable") as tx:
            size = store["a"].shape[0]
            tx["a"].resize((size + 10,))
            tx["sum"][0] = tx["a"][size + 2 : size + 5].sum()
            resize(store, "a", (size + 10,))
            if theirs is not None:
                put(store, "a", np.s_[size + 2 : size + 5], theirs)
            if refused:
                with conflict("read", path="a"):
                    tx.commit()
            else:
                tx.commit()


def test_cells_read_in_an_appended_block_are_its_own(store: Any) -> None:
    create(store, "a", shape=(10,))
    with store.transaction(isolation="serializable") as tx:
        tx["a"].append([1, 2, 3])
        assert tx["a"][10:13].tolist() == [1, 2, 3]
        append(store, "a", [9])
    assert store["a"][10:].tolist() == [9, 1, 2, 3]


def test_a_refused_change_of_structure_has_read_the_names(store: Any) -> None:
    """Nothing was noted of what a refused move, deletion or creation had found."""
    create(store, "out", shape=(1,))
    for number, refusal in enumerate(("move", "delete", "create")):
        with store.transaction(isolation="serializable") as tx:
            if refusal == "create":
                create(store, "there", shape=(1,))
                tx.abort()
                tx = store.transaction(isolation="serializable")
            with pytest.raises(KeyError if refusal != "create" else Exception):
                if refusal == "move":
                    tx.move("x0", "y0")
                elif refusal == "delete":
                    del tx["x1"]
                else:
                    tx.create_array("there", shape=(1,), dtype="i4")
            tx["out"][0] = number
            with store.transaction() as other:
                if refusal == "create":
                    del other["there"]
                else:
                    other.create_group(f"x{number}")
            with conflict("read"):
                tx.commit()


def test_an_empty_block_still_makes_the_axis_longer(store: Any) -> None:
    """An array without cells along another axis did not grow."""
    with store.transaction() as tx:
        array = tx.create_array("a", shape=(0, 0), dtype="i4")
        array.append(np.zeros((3, 0), "i4"))
        assert array.append(np.zeros((2, 0), "i4")).box == Box((3, 0), (5, 0))
    assert store["a"].shape == (5, 0)
    assert store.verify().ok


def test_a_group_made_and_deleted_in_one_commit_is_no_damage(store: Any) -> None:
    """Verify took what had been made below it for lost."""
    with store.transaction() as tx:
        tx.create_array("g/h/a", shape=(4,), dtype="i4", data=np.arange(4))
        del tx["g"]
    assert store.verify().ok


# -- what a first user ran into -----------------------------------------------------------------------


def test_data_with_a_mask_are_refused(store: Any) -> None:
    with store.transaction() as tx, pytest.raises(txstore.DTypeError):
        tx.create_array("m", data=np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]))


def test_an_array_is_unpickled_where_no_store_was_opened_before(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("x", data=np.arange(5))
    data = pickle.dumps(store["x"]).hex()
    code = f"import pickle; print(pickle.loads(bytes.fromhex('{data}'))[...].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[0, 1, 2, 3, 4]"


def test_a_handle_is_true_and_shows_itself_also_when_its_transaction_is_over(store: Any) -> None:
    with store.transaction() as tx:
        array = tx.create_array("x", shape=(0,), dtype="i4")
        assert array and tx and tx.create_group("g")
    assert "x" in repr(array)
    assert array


def test_a_scalar_fills_and_a_read_that_fits_no_memory_is_told(store: Any) -> None:
    with store.transaction() as tx:
        tx.create_array("x", shape=(2**31, 2**31), dtype="f8", chunks=(512, 512))[...] = 3
    with pytest.raises(txstore.InvalidIndexError, match="memory"):
        store["x"][...]
    assert store["x"][2**30, 5] == 3


def test_what_is_made_and_deleted_in_one_transaction_is_not_counted(open_store: Any) -> None:
    """Its cells went into the index under a node that nobody can find, and verify called the store damaged."""
    for inline_bytes in (0, 1 << 20):
        store = open_store(f"store{inline_bytes}", inline_bytes=inline_bytes)
        with store.transaction() as tx:
            tx.create_array("a", data=np.arange(4))
            tx.create_array("a", data=np.arange(5), overwrite=True)
            tx.create_array("b", data=np.arange(4))
            del tx["b"]
        assert store["a"][...].tolist() == [0, 1, 2, 3, 4] and "b" not in store.snapshot()
        assert store.verify().ok


def test_a_store_that_was_removed_or_replaced_takes_no_commit(tmp_path: Path) -> None:
    """SQLite went on writing into the file that was gone, and commits vanished without a word."""
    root = tmp_path / "store"
    with txstore.open(root) as old:
        create(old, "a", shape=(4,))
        shutil.rmtree(root)
        with pytest.raises(StorageError, match="removed or replaced"), old.transaction() as tx:
            tx["a"][:] = 1
        with txstore.open(root) as new:
            create(new, "a", shape=(4,))
            with pytest.raises(StorageError, match="removed or replaced"):
                old.transaction()
            with pytest.raises(StorageError, match="removed or replaced"):
                old.create_tag("t")
            assert [commit.version for commit in new.log()] == [1] and not list(new.tags())


@pytest.mark.parametrize("inline_bytes", [0, 1 << 19])
@pytest.mark.parametrize("when", ["begin", "write", "commit"])
def test_a_store_that_was_moved_away_does_not_come_back_in_parts(tmp_path: Path, inline_bytes: int, when: str) -> None:
    """Whoever still had it open made the folders of its locks and segments anew, at the old place."""
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    with txstore.open(root, inline_bytes=inline_bytes) as old:
        create(old, "a", shape=(64, 64))

    def move(step: str) -> None:
        if step == when:
            root.rename(elsewhere)

    old = txstore.open(root, inline_bytes=inline_bytes)
    with pytest.raises(StorageError):
        move("begin")
        tx = old.transaction()
        move("write")
        tx["a"][:] = noise((64, 64))
        move("commit")
        tx.commit()
    assert not root.exists()
    with txstore.open(elsewhere) as new:
        assert new.verify().ok and not new["a"][...].any()
    with contextlib.suppress(StorageError):
        old.close()
    assert not root.exists()


def test_a_lone_writer_pins_what_it_reads(store: Any, tmp_path: Path) -> None:
    """It pinned the version at which it had opened the store, so that nothing expired while it had a transaction."""
    create(store, "a", shape=(4,))
    for number in range(5):
        put(store, "a", 0, number)
    with store.transaction() as tx:
        with txstore.open(tmp_path / "store") as other:
            assert other.expire(keep_last=1).horizon == store.snapshot().version
        tx["a"][1] = 1


def test_what_vacuum_has_folded_into_bases_is_listed_again(store: Any, tmp_path: Path) -> None:
    """The partitions of a version were remembered from when it was one fill of the whole array."""
    create(store, "a", shape=(600, 60), chunks=(1, 60), dtype="u1")
    put(store, "a", ..., 7)
    view = store._core.state()[1]
    array = store["a"]
    before = sorted(array._tree.view(array._row, "a").stored_chunks())
    with txstore.open(tmp_path / "store") as other:
        other.compact()
        other.expire(keep_last=1)
        other.vacuum()
    view.forget()
    assert sorted(array._tree.view(array._row, "a").stored_chunks()) == before
    assert len(before) == 600


def test_a_connection_that_was_interrupted_sees_what_is_new(store: Any, tmp_path: Path) -> None:
    """A result that an exception kept alive kept the SQL snapshot alive, on a connection that was used again."""
    create(store, "a", shape=(4,))
    index = store._core.index
    kept: list[Any] = []
    with pytest.raises(KeyboardInterrupt), index.read() as connection:
        kept.append(connection.execute(schema.commits.select()))
        raise KeyboardInterrupt
    with txstore.open(tmp_path / "store") as other:
        put(other, "a", 0, 1)
    assert store.snapshot().version == 2
    put(store, "a", 1, 1)
