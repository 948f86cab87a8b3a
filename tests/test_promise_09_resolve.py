"""Promise 9: a commit whose reply was lost is resolved, not guessed."""

from __future__ import annotations

import copy
import pickle
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import LostReply, append, create, files, noise, put, same

import txstore
from txstore.errors import CommitUnknownError, ConflictError, StorageError, TxStoreError


def head(store: Any) -> int:
    """The newest version there is."""
    return int(next(iter(store.log())).version)


# -- resolve --------------------------------------------------------------------------------------


def test_a_committed_transaction_resolves_to_its_commit(store: Any) -> None:
    create(store, "a", np.arange(4))
    commit = put(store, "a", 0, 1, message="found again")
    assert store.resolve(commit.txid) == commit
    store.compact()
    put(store, "a", 0, 2)
    assert store.resolve(commit.txid) == commit


def test_an_aborted_transaction_resolves_to_nothing(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"][0] = 1
        tx.abort()
    assert store.resolve(tx.txid) is None


def test_an_unknown_transaction_resolves_to_nothing_and_never_will_commit(store: Any) -> None:
    create(store, "a", np.arange(4))
    txid = uuid.uuid4()
    assert store.resolve(txid) is None
    assert store.resolve(txid) is None
    with pytest.raises(TxStoreError), store.transaction(txid=txid) as tx:
        tx["a"][0] = 1
    assert store["a"][0] == 0
    assert store.resolve(txid) is None


def test_an_open_transaction_that_was_resolved_cannot_commit_any_more(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"][0] = 1
        assert store.resolve(tx.txid) is None
        with pytest.raises(TxStoreError):
            tx.commit()
    assert store["a"][0] == 0
    assert store.resolve(tx.txid) is None


def test_resolve_is_the_same_for_every_opening_of_the_store(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "own") as store:
        commit = create(store, "a", np.arange(4))
        never = uuid.uuid4()
        assert store.resolve(never) is None
    with txstore.open(tmp_path / "own") as again:
        assert again.resolve(commit.txid) == commit
        with pytest.raises(TxStoreError), again.transaction(txid=never) as tx:
            tx["a"][0] = 1
        assert again["a"][0] == 0


def test_commits_of_branches_resolve_too(store: Any) -> None:
    create(store, "a", np.arange(4))
    store.create_branch("side")
    commit = put(store, "a", 0, 1, branch="side")
    store.delete_branch("side")
    found = store.resolve(commit.txid)
    assert (found.version, found.branch) == (commit.version, "side")


# -- ids that the caller gives --------------------------------------------------------------------


def test_an_id_is_used_once(store: Any) -> None:
    create(store, "a", np.arange(4))
    txid = uuid.uuid4()
    first = put(store, "a", 0, 1, txid=txid)
    assert first.txid == txid
    # The design says "unique", not how the second is told: an error, or the commit that is there already.
    try:
        second = put(store, "a", np.s_[0:2], 2, txid=txid)
    except TxStoreError as error:
        assert not isinstance(error, CommitUnknownError)
    else:
        assert second == first
    assert store["a"][...].tolist() == [1, 1, 2, 3]
    assert [commit.version for commit in store.log() if commit.txid == txid] == [first.version]
    assert store.resolve(txid) == first


def test_two_open_transactions_of_one_id_land_once(store: Any) -> None:
    create(store, "a", np.arange(4))
    txid = uuid.uuid4()
    landed = []
    for number in (1, 2):
        try:
            tx = store.transaction(txid=txid)
            tx["a"][number] = 10 * number
            landed.append(tx)
        except TxStoreError:
            assert number == 2
    commits = []
    for tx in landed:
        try:
            commits.append(tx.commit())
        except TxStoreError:
            tx.abort()
    assert len({commit.version for commit in commits}) == 1
    assert store["a"][...].tolist() == [0, 10, 2, 3]


def test_ids_are_uuids_of_their_own_where_none_is_given(store: Any) -> None:
    create(store, "a", np.arange(4))
    found = [put(store, "a", 0, number).txid for number in range(3)]
    assert all(isinstance(txid, uuid.UUID) for txid in found)
    assert len(set(found)) == 3


@pytest.mark.parametrize("txid", ["not-a-uuid", 7])
def test_ids_that_are_no_uuids_are_refused(store: Any, txid: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        store.transaction(txid=txid)


# -- lost replies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("landed", [True, False], ids=["it landed", "it did not land"])
def test_a_lost_reply_is_settled_by_the_commit_itself(store: Any, landed: bool) -> None:
    create(store, "a", np.arange(4))
    tx = store.transaction(message="lost")
    tx["a"][0] = 1
    tx["a"].append([5])
    with LostReply(landed=landed, dark=False).armed(head(store)):
        try:
            commit = tx.commit()
        except CommitUnknownError:
            pytest.fail("the index could be reached again: it could have been settled")
        except TxStoreError:
            commit = None
    known = store.resolve(tx.txid)
    assert (commit is None) == (known is None)
    if landed:
        assert commit == known
        assert tx.status == "committed"
    assert store["a"][...].tolist() == ([1, 1, 2, 3, 5] if known else [0, 1, 2, 3])
    assert [made.message for made in store.log()].count("lost") == (1 if known else 0)
    if known is None:
        with pytest.raises(TxStoreError):
            tx.commit()
        assert store["a"].shape == (4,)


@pytest.mark.parametrize("landed", [True, False], ids=["it landed", "it did not land"])
def test_where_the_index_cannot_be_reached_it_is_said_and_settled_later(tmp_path: Path, landed: bool) -> None:
    data = noise(1 << 19)
    expected = data if landed else np.zeros_like(data)
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", shape=data.shape, dtype="i4", chunks=(1 << 17,), codecs=())
        left = files(tmp_path)
        tx = store.transaction()
        tx["a"][...] = data
        with LostReply(landed=landed, dark=True).armed(head(store)), pytest.raises(CommitUnknownError) as caught:
            tx.commit()
        assert tx.status == "unknown"
        assert caught.value.txid == tx.txid
        assert "\n" not in str(caught.value)
        assert files(tmp_path) > left, "nothing may be deleted while it is unknown"
        known = store.resolve(tx.txid)
        assert (known is not None) == landed
        same(store["a"][...], expected)
        assert store.resolve(tx.txid) == known
        store.vacuum()
        same(store["a"][...], expected)
    with txstore.open(tmp_path / "own") as store:  # whoever wrote the file is gone: it is needed, or garbage
        left = files(tmp_path)
        store.vacuum()
        assert (files(tmp_path) == left) == landed
        same(store["a"][...], expected)
        put(store, "a", 0, 7)
        assert store["a"][0] == 7
        assert store.verify().ok


def test_an_unknown_commit_settled_as_never_cannot_land_under_its_id(store: Any) -> None:
    create(store, "a", np.arange(4))
    tx = store.transaction()
    tx["a"][0] = 1
    with LostReply(landed=False, dark=True).armed(head(store)), pytest.raises(CommitUnknownError):
        tx.commit()
    assert store.resolve(tx.txid) is None
    for again in (tx.commit, lambda: put(store, "a", 0, 1, txid=tx.txid)):
        with pytest.raises(TxStoreError):
            again()
    assert store["a"][0] == 0


def test_the_error_travels_with_its_id() -> None:
    error = CommitUnknownError(uuid.uuid4())
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert twin.txid == error.txid
        assert str(twin) == str(error)


@pytest.mark.parametrize("landed", [True, False], ids=["it landed", "it did not land"])
def test_run_settles_lost_replies_and_counts_once(store: Any, landed: bool) -> None:
    create(store, "n", np.array([0]))
    calls = []

    def increment(tx: Any) -> int:
        calls.append(tx.txid)
        tx["n"][0] = tx["n"][0] + 1
        return int(tx["n"][0])

    with LostReply(landed=landed, dark=False).armed(head(store)):
        try:
            assert store.run(increment) == 1
        except StorageError:
            assert not landed  # a failure that is known to be one may be told or tried again
            store.run(increment)
    assert store["n"][0] == 1
    assert len(calls) == (1 if landed else 2)
    assert len(set(calls)) == len(calls)  # a fresh id for each attempt


@pytest.mark.parametrize("landed", [True, False], ids=["it landed", "it did not land"])
def test_appends_with_lost_replies_land_once(store: Any, landed: bool) -> None:
    create(store, "a", np.arange(4), chunks=(3,))
    with LostReply(landed=landed, dark=False).armed(head(store)):
        try:
            store.run(lambda tx: tx["a"].append([7, 8]))
        except StorageError:
            assert not landed
            store.run(lambda tx: tx["a"].append([7, 8]))
    append(store, "a", [9])
    assert store["a"][...].tolist() == [0, 1, 2, 3, 7, 8, 9]


def test_a_conflict_is_never_unknown(store: Any) -> None:
    create(store, "a", np.arange(4))
    with store.transaction() as tx:
        tx["a"][0] = 1
        put(store, "a", 0, 2)
        with pytest.raises(ConflictError):
            tx.commit()
    assert store.resolve(tx.txid) is None
