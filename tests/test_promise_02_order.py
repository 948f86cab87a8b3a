"""Promise 2: order is the version, never a clock; and time travel by version, tag, branch and time."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from histories import EPOCH, MICROSECOND, Clock, append, create, put, resize

from txstore.errors import InvalidInputError, NotFoundError, SnapshotExpiredError, TxStoreError

HOUR = timedelta(hours=1)


@pytest.fixture
def clock(store: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the database, an hour ahead and standing still."""
    clock = Clock(EPOCH + timedelta(microseconds=time.time_ns() // 1000) + HOUR)
    monkeypatch.setattr("txstore.index.engine.now_us", clock)
    return clock


def counter(store: Any, clock: Clock, commits: int = 4) -> list[Any]:
    """An array of one cell that holds the number of the commit, one commit an hour."""
    made = [create(store, "n", np.array([0]))]
    for number in range(1, commits):
        clock.now += HOUR
        made.append(put(store, "n", 0, number))
    return made


# -- the clock ------------------------------------------------------------------------------------


def test_committed_at_is_the_databases_clock(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    times = [commit.committed_at for commit in commits]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [HOUR] * 3
    assert commits[-1].committed_at == clock.now
    assert commits[-1].committed_at.utcoffset() == timedelta(0)


def test_a_standing_clock_still_gives_every_commit_a_time_of_its_own(store: Any, clock: Clock) -> None:
    first = create(store, "n", np.array([0]))
    times = [put(store, "n", 0, number).committed_at for number in range(1, 4)]
    assert times == [first.committed_at + MICROSECOND * number for number in range(1, 4)]
    for number, when in enumerate(times, start=1):
        assert store.snapshot(as_of=when)["n"][0] == number


def test_a_clock_that_runs_backwards_does_not_matter(store: Any, clock: Clock) -> None:
    first = create(store, "n", np.array([0]))
    commits = [first]
    for number in range(1, 4):
        clock.now -= HOUR
        commits.append(put(store, "n", 0, number))
    assert [commit.committed_at for commit in commits] == [
        first.committed_at + MICROSECOND * number for number in range(4)
    ]
    assert [commit.version for commit in store.log()][:4] == [commit.version for commit in reversed(commits)]
    for number, commit in enumerate(commits):
        snap = store.snapshot(as_of=commit.committed_at)  # after the clock's now: but the head's time is known
        assert snap["n"][0] == number
        assert snap.version == commit.version
        assert snap.settled is True
    clock.now += 24 * HOUR
    assert put(store, "n", 0, 9).committed_at == clock.now


def test_versions_rise_through_all_branches_and_conflicts_go_by_them(store: Any, clock: Clock) -> None:
    first = create(store, "n", np.arange(4))
    store.create_branch("side")
    versions = [first.version]
    for number in range(6):
        clock.now -= HOUR
        versions.append(put(store, "n", number % 4, 10 + number, branch=("main", "side")[number % 2]).version)
    assert versions == sorted(set(versions))
    assert store.snapshot(branch="main")["n"][...].tolist() == [14, 1, 12, 3]
    assert store.snapshot(branch="side")["n"][...].tolist() == [0, 15, 2, 13]


# -- as_of ----------------------------------------------------------------------------------------


def test_as_of_is_inclusive(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    clock.now += HOUR
    for number, commit in enumerate(commits):
        assert store.snapshot(as_of=commit.committed_at)["n"][0] == number
        assert store.snapshot(as_of=commit.committed_at + MICROSECOND)["n"][0] == number
        if number:
            assert store.snapshot(as_of=commit.committed_at - MICROSECOND)["n"][0] == number - 1
    snap = store.snapshot(as_of=commits[1].committed_at + HOUR / 2)
    assert snap.version == commits[1].version
    assert snap.committed_at == commits[1].committed_at


@pytest.mark.parametrize(
    "spelled",
    [
        lambda when: when,
        lambda when: when.astimezone(timezone(timedelta(hours=-7))),
        lambda when: when.isoformat(),
        lambda when: when.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
        lambda when: when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        lambda when: when.isoformat(sep=" "),
    ],
    ids=["utc", "other zone", "iso", "iso other zone", "iso with Z", "iso with a blank"],
)
def test_as_of_takes_aware_times_and_iso_strings(store: Any, clock: Clock, spelled: Any) -> None:
    commits = counter(store, clock)
    assert store.snapshot(as_of=spelled(commits[1].committed_at))["n"][0] == 1
    assert store.snapshot(as_of=spelled(commits[2].committed_at - MICROSECOND))["n"][0] == 1


@pytest.mark.parametrize(
    "spelled",
    [
        lambda when: when.replace(tzinfo=None),
        lambda when: when.replace(tzinfo=None).isoformat(),
        lambda when: when.date().isoformat(),
        lambda when: "yesterday",
        lambda when: "",
    ],
    ids=["naive", "iso without offset", "date", "words", "empty"],
)
def test_as_of_refuses_what_is_no_moment(store: Any, clock: Clock, spelled: Any) -> None:
    commits = counter(store, clock)
    with pytest.raises(InvalidInputError) as caught:
        store.snapshot(as_of=spelled(commits[1].committed_at))
    assert "\n" not in str(caught.value)


def test_as_of_in_the_future_is_refused(store: Any, clock: Clock) -> None:
    counter(store, clock)
    clock.now += HOUR
    store.snapshot(as_of=clock.now)
    with pytest.raises(InvalidInputError, match="future"):
        store.snapshot(as_of=clock.now + MICROSECOND)


def test_as_of_later_than_the_head_answers_it_unsettled(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    clock.now += 2 * HOUR
    between = commits[-1].committed_at + HOUR
    snap = store.snapshot(as_of=between)
    assert (snap.settled, snap.version, snap["n"][0]) == (False, commits[-1].version, 3)
    assert store.snapshot(as_of=commits[-1].committed_at).settled is True
    put(store, "n", 0, 4)
    snap = store.snapshot(as_of=between)
    assert (snap.settled, snap.version, snap["n"][0]) == (True, commits[-1].version, 3)


def test_as_of_up_to_the_heads_time_is_repeatable_for_ever(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    when = commits[2].committed_at + HOUR / 2
    answers = []
    for turn in range(4):
        answers.append(store.snapshot(as_of=when)["n"][0])
        clock.now -= 10 * HOUR * turn
        put(store, "n", 0, 100 + turn)
        store.compact()
    assert answers == [2] * 4


def test_a_snapshot_by_version_is_settled(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    assert [store.snapshot(version=commit.version).settled for commit in commits] == [True] * 4


# -- every version stays readable -----------------------------------------------------------------


def test_every_version_reads_what_it_held(store: Any) -> None:
    model = np.arange(12, dtype="i4").reshape(4, 3)
    states = {create(store, "a", model, chunks=(3, 2)).version: model}
    for turn in range(3):
        model = model.copy()
        model[turn : turn + 2, ::2] = 100 + turn
        states[put(store, "a", np.s_[turn : turn + 2, ::2], 100 + turn).version] = model
        model = np.concatenate([model, np.full((1, 3), turn, dtype="i4")])
        states[append(store, "a", model[-1:]).version] = model
    states[resize(store, "a", (2, 3)).version] = model[:2]
    for _ in range(2):
        for version, expected in states.items():
            assert store.snapshot(version=version)["a"][...].tolist() == expected.tolist()
        store.compact()


def test_names_attributes_and_shapes_travel_too(store: Any) -> None:
    first = create(store, "a", np.arange(4), attributes={"k": 1})
    with store.transaction() as tx:
        tx.move("a", "b")
        tx["b"].attrs["k"] = 2
        tx["b"].resize((6,))
    with store.transaction() as last:
        del last["b"]
    assert list(store.snapshot(version=first.version)) == ["a"]
    assert store.snapshot(version=first.version)["a"].attrs["k"] == 1
    middle = store.snapshot(version=tx.commit_info.version)
    assert list(middle) == ["b"]
    assert (middle["b"].attrs["k"], middle["b"].shape) == (2, (6,))
    assert list(store.snapshot()) == []


@pytest.mark.parametrize("version", [10**6, -1, 2**70])
def test_a_version_that_never_was_is_refused(store: Any, version: int) -> None:
    create(store, "a", np.arange(4))
    with pytest.raises((NotFoundError, InvalidInputError)):
        store.snapshot(version=version)


@pytest.mark.parametrize("selector", [{"tag": "missing"}, {"branch": "missing"}])
def test_a_name_that_is_not_there_is_refused(store: Any, selector: dict[str, str]) -> None:
    create(store, "a", np.arange(4))
    with pytest.raises(NotFoundError, match="missing"):
        store.snapshot(**selector)


def test_two_ways_to_name_a_version_at_once_are_refused(store: Any) -> None:
    commit = create(store, "a", np.arange(4))
    store.create_tag("t", commit.version)
    # The design does not say so; a user who gives both has made a mistake.
    for pair in ({"tag": "t", "version": commit.version}, {"version": commit.version, "as_of": commit.committed_at}):
        with pytest.raises(InvalidInputError):
            store.snapshot(**pair)


def test_an_expired_version_says_so(store: Any) -> None:
    versions = [create(store, "n", np.array([0])).version]
    versions += [put(store, "n", 0, number).version for number in range(1, 5)]
    when = next(commit.committed_at for commit in store.log() if commit.version == versions[2])
    store.create_tag("kept", versions[1])
    store.expire(keep_last=1)
    store.vacuum()
    for expired in (versions[0], versions[2], versions[3]):
        with pytest.raises(SnapshotExpiredError):
            store.snapshot(version=expired)["n"][...]
    with pytest.raises(SnapshotExpiredError):
        store.snapshot(as_of=when)["n"][...]
    assert store.snapshot(tag="kept")["n"][0] == 1
    assert store.snapshot(version=versions[1])["n"][0] == 1
    assert store["n"][0] == 4


# -- tags -----------------------------------------------------------------------------------------


def test_a_tag_stays_where_it_is_until_it_is_moved(store: Any) -> None:
    versions = [create(store, "n", np.array([0])).version, put(store, "n", 0, 1).version]
    store.create_tag("t")
    put(store, "n", 0, 2)
    assert store.tags()["t"] == versions[1]
    assert store.snapshot(tag="t")["n"][0] == 1
    with pytest.raises(TxStoreError):
        store.create_tag("t", versions[0])
    assert store.snapshot(tag="t")["n"][0] == 1
    store.create_tag("t", versions[0], move=True)
    assert store.snapshot(tag="t")["n"][0] == 0
    store.delete_tag("t")
    assert store.tags() == {}
    with pytest.raises(NotFoundError):
        store.snapshot(tag="t")
    with pytest.raises(NotFoundError):
        store.delete_tag("t")


def test_moving_and_deleting_tags_does_not_change_the_past(store: Any, clock: Clock) -> None:
    commits = counter(store, clock)
    store.create_tag("t", commits[1].version)
    clock.now += HOUR
    store.create_tag("t", commits[2].version, move=True)
    clock.now += HOUR
    store.delete_tag("t")
    for number, commit in enumerate(commits):
        assert store.snapshot(as_of=commit.committed_at)["n"][0] == number
    assert store.snapshot(as_of=clock.now)["n"][0] == 3


# -- branches -------------------------------------------------------------------------------------


def test_a_branch_goes_its_own_way(store: Any) -> None:
    first = create(store, "n", np.arange(6), chunks=(4,))
    fork = put(store, "n", 0, 100)
    put(store, "n", 1, 101)
    store.create_branch("side", fork.version)
    assert store.snapshot(branch="side")["n"][...].tolist() == [100, 1, 2, 3, 4, 5]
    on_side = put(store, "n", np.s_[1:5], 50, branch="side")
    put(store, "n", 2, 102)
    assert on_side.branch == "side"
    assert tuple(on_side.parents) == (fork.version,)
    assert store.snapshot(branch="side")["n"][...].tolist() == [100, 50, 50, 50, 50, 5]
    assert store["n"][...].tolist() == [100, 101, 102, 3, 4, 5]
    assert store.snapshot(version=first.version)["n"][...].tolist() == [0, 1, 2, 3, 4, 5]
    assert set(store.branches()) == {"main", "side"}


def test_a_version_alone_names_the_state_after_that_commit_on_its_branch(store: Any) -> None:
    create(store, "n", np.arange(4))
    store.create_branch("side")
    on_main = put(store, "n", 0, 10)
    on_side = put(store, "n", 1, 20, branch="side")
    later = put(store, "n", 2, 30)
    assert store.snapshot(version=on_main.version)["n"][...].tolist() == [10, 1, 2, 3]
    assert store.snapshot(version=on_side.version)["n"][...].tolist() == [0, 20, 2, 3]
    assert store.snapshot(version=later.version)["n"][...].tolist() == [10, 1, 30, 3]
    # With a branch, a version is a moment: what that branch held then.
    assert store.snapshot(branch="main", version=on_side.version)["n"][...].tolist() == [10, 1, 2, 3]
    assert store.snapshot(branch="side", version=later.version)["n"][...].tolist() == [0, 20, 2, 3]


def test_a_tag_on_a_branch_reads_that_branch(store: Any) -> None:
    create(store, "n", np.arange(4))
    store.create_branch("side")
    on_side = put(store, "n", 1, 20, branch="side")
    store.create_tag("t", on_side.version)
    put(store, "n", 0, 10)
    put(store, "n", 1, 21, branch="side")
    assert store.snapshot(tag="t")["n"][...].tolist() == [0, 20, 2, 3]


def test_structure_and_appends_on_branches_are_independent(store: Any) -> None:
    create(store, "n", np.arange(4), attributes={"k": 0})
    store.create_branch("side")
    with store.transaction(branch="side") as tx:
        tx["n"].append([40, 50])
        tx["n"].attrs["k"] = 1
        tx.move("n", "moved")
        tx.create_array("only", shape=(1,), dtype="i4", chunks=(1,))
    append(store, "n", [400])
    assert store["n"][...].tolist() == [0, 1, 2, 3, 400]
    assert store["n"].attrs["k"] == 0
    side = store.snapshot(branch="side")
    assert sorted(side) == ["moved", "only"]
    assert side["moved"][...].tolist() == [0, 1, 2, 3, 40, 50]
    assert side["moved"].attrs["k"] == 1


def test_a_branch_of_a_branch_and_the_shrunk_cells_of_its_ancestors(store: Any) -> None:
    create(store, "n", np.arange(8))
    store.create_branch("one")
    resize(store, "n", (3,), branch="one")
    store.create_branch("two", store.snapshot(branch="one").version)
    resize(store, "n", (8,), branch="two")
    put(store, "n", 5, 55, branch="two")
    for _ in range(2):
        assert store.snapshot(branch="two")["n"][...].tolist() == [0, 1, 2, 0, 0, 55, 0, 0]
        assert store.snapshot(branch="one")["n"][...].tolist() == [0, 1, 2]
        assert store["n"][...].tolist() == list(range(8))
        store.compact()


def test_compacting_changes_no_branch(store: Any) -> None:
    create(store, "n", np.arange(20, dtype="f4"), chunks=(3,))
    put(store, "n", np.s_[4:9], -1)
    store.create_branch("side")
    put(store, "n", np.s_[8:12], -2)
    store.compact()
    put(store, "n", np.s_[6:18:3], -3, branch="side")
    store.compact()
    expected = np.arange(20, dtype="f4")
    expected[4:9] = -1
    side = expected.copy()
    expected[8:12] = -2
    side[6:18:3] = -3
    assert store["n"][...].tolist() == expected.tolist()
    assert store.snapshot(branch="side")["n"][...].tolist() == side.tolist()


def test_as_of_on_a_branch(store: Any, clock: Clock) -> None:
    create(store, "n", np.array([0]))
    store.create_branch("side")
    times = []
    for number in range(1, 5):
        clock.now += HOUR
        times.append(put(store, "n", 0, number, branch=("main", "side")[number % 2]).committed_at)
    assert [store.snapshot(branch="side", as_of=when)["n"][0] for when in times] == [1, 1, 3, 3]
    assert [store.snapshot(branch="main", as_of=when)["n"][0] for when in times] == [0, 2, 2, 4]


def test_a_deleted_branch_still_answers_as_of(store: Any, clock: Clock) -> None:
    create(store, "n", np.array([0]))
    store.create_branch("side")
    clock.now += HOUR
    then = put(store, "n", 0, 5, branch="side")
    clock.now += HOUR
    store.delete_branch("side")
    clock.now += HOUR
    put(store, "n", 0, 1)
    assert set(store.branches()) == {"main"}
    with pytest.raises(NotFoundError):
        store.snapshot(branch="side")
    with pytest.raises(NotFoundError):
        put(store, "n", 0, 6, branch="side")
    assert store.snapshot(branch="side", as_of=then.committed_at)["n"][0] == 5
    assert store.snapshot(version=then.version)["n"][0] == 5


def test_a_branch_name_that_is_used_again_means_what_it_meant_then(store: Any, clock: Clock) -> None:
    create(store, "n", np.array([0]))
    times = []
    for number in (5, 6):
        clock.now += HOUR
        store.create_branch("side")
        clock.now += HOUR
        times.append(put(store, "n", 0, number, branch="side").committed_at)
        clock.now += HOUR
        store.delete_branch("side")
    clock.now += HOUR
    put(store, "n", 0, 1)
    store.create_branch("side")
    assert store.snapshot(branch="side")["n"][0] == 1
    assert [store.snapshot(branch="side", as_of=when)["n"][0] for when in times] == [5, 6]


def test_a_transaction_on_a_branch_that_goes_is_refused(store: Any) -> None:
    create(store, "n", np.array([0]))
    store.create_branch("side")
    with store.transaction(branch="side") as tx:
        tx["n"][0] = 1
        store.delete_branch("side")
        with pytest.raises(TxStoreError):
            tx.commit()
    assert store["n"][0] == 0


def test_main_stays_and_names_are_unique(store: Any) -> None:
    create(store, "n", np.array([0]))
    with pytest.raises(TxStoreError):
        store.delete_branch("main")
    store.create_branch("side")
    for name in ("side", "main"):
        with pytest.raises(TxStoreError):
            store.create_branch(name)
    with pytest.raises(NotFoundError):
        store.delete_branch("missing")
    assert set(store.branches()) == {"main", "side"}


# -- the log --------------------------------------------------------------------------------------


def test_the_log_is_newest_first_by_branch_path_and_limit(store: Any) -> None:
    made = [create(store, "g/a", np.arange(4)), create(store, "b", np.arange(4)), put(store, "g/a", 0, 1)]
    store.create_branch("side")
    on_side = put(store, "b", 0, 2, branch="side")
    assert [commit.version for commit in store.log()] == [commit.version for commit in reversed(made)]
    assert [commit.version for commit in store.log(limit=2)] == [made[2].version, made[1].version]
    assert [commit.version for commit in store.log(path="g")] == [made[2].version, made[0].version]
    assert [commit.version for commit in store.log(branch="side", path="b")] == [on_side.version, made[1].version]


def test_the_history_of_cells_names_the_commits_that_wrote_them(store: Any) -> None:
    first = create(store, "a", np.arange(10))
    second = put(store, "a", np.s_[0:4], 1)
    third = put(store, "a", np.s_[3:8:2], 2)
    assert [commit.version for commit in store["a"].history(np.s_[2:4])] == [
        third.version,
        second.version,
        first.version,
    ]
    assert [commit.version for commit in store["a"].history(4)] == [first.version]
    assert [commit.version for commit in store.snapshot(version=second.version)["a"].history(3)] == [
        second.version,
        first.version,
    ]


def test_times_are_aware_utc(store: Any) -> None:
    commit = create(store, "a", np.arange(3))
    assert commit.committed_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - commit.committed_at) < timedelta(days=1)
    assert store.snapshot(version=commit.version).committed_at == commit.committed_at
