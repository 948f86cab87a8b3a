"""Promise 8: compaction, expiry and vacuum fail no writer, change no read, and never make a check blind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import append, conflict, create, files, noise, put, resize, same, sql

from txstore.compaction import retention
from txstore.compaction.renaming import sync_filesystem
from txstore.errors import ConflictError, CorruptionError, SnapshotExpiredError
from txstore.index import retention as rows
from txstore.storage import LocalStorage

MAINTENANCE: dict[str, Callable[[Any], object]] = {
    "compact": lambda store: store.compact(),
    "expire": lambda store: store.expire(keep_last=1),
    "vacuum": lambda store: store.vacuum(),
    "all": lambda store: (store.compact(), store.expire(keep_last=1), store.vacuum(), store.vacuum()),
}


def rich_history(store: Any) -> dict[int, np.ndarray[Any, Any]]:
    """Versions of one array by everything that changes cells; returns what each holds, bit for bit."""
    model = (np.arange(60, dtype="f4").reshape(10, 6) + 1) / 3
    versions = {create(store, "a", model, chunks=(4, 3), fill_value=-0.0).version: model}

    def done(commit: Any, changed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        versions[commit.version] = changed
        return changed.copy()

    model = model.copy()
    model[2:7, 1:5] = 0.1
    model = done(put(store, "a", np.s_[2:7, 1:5], 0.1), model)
    model[::3, ::2] = np.nan
    model = done(put(store, "a", np.s_[::3, ::2], np.nan), model)
    mask = np.arange(60).reshape(10, 6) % 7 == 2
    model[mask] = 1e8
    model = done(put(store, "a", mask, 1e8), model)
    for value in (3.3, -1e8, 7e-4):
        with store.transaction() as tx:
            tx["a"].accumulate(np.s_[1:9, :], value)
        model[1:9] = model[1:9] + np.float32(value)
        model = done(tx.commit_info, model)
    with store.transaction() as tx:
        tx["a"].append(np.full((5, 6), 9, dtype="f4"))
        model = np.concatenate([model, np.full((2, 6), 8, dtype="f4")])
        model = done(append(store, "a", model[-2:]), model)
    model = np.concatenate([model, np.full((5, 6), 9, dtype="f4")])
    model = done(tx.commit_info, model)
    model = done(resize(store, "a", (7, 5)), model[:7, :5].copy())
    grown = np.full((12, 6), -0.0, dtype="f4")
    grown[:7, :5] = model
    model = done(resize(store, "a", (12, 6)), grown)
    with store.transaction() as tx:
        tx["a"].clear(np.s_[2:4, :])
        tx["a"][11, 5] = 0.0  # not the fill value, whose sign is negative
    model[2:4] = -0.0
    model[11, 5] = 0.0
    done(tx.commit_info, model)
    return versions


# -- reads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 3])
def test_compaction_changes_no_version_by_a_bit(store: Any, times: int) -> None:
    versions = rich_history(store)
    held = {version: store.snapshot(version=version) for version in versions}
    for _ in range(times):
        store.compact()
        for version, expected in versions.items():
            same(store.snapshot(version=version)["a"][...], expected)
            same(held[version]["a"][...], expected)
            same(held[version]["a"][3:9:2, 1:4], expected[3:9:2, 1:4])


def test_compaction_after_every_commit_changes_no_version_by_a_bit(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = rich_history(store)
    with store.transaction() as tx:
        del tx["a"]

    transaction = store.transaction

    class Compacting:
        """A store that is compacted before each transaction begins."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def transaction(self, **options: Any) -> Any:
            store.compact()
            return transaction(**options)

    compacted = rich_history(Compacting())
    for (_, expected), (version, again) in zip(sorted(plain.items()), sorted(compacted.items()), strict=True):
        same(again, expected)
        same(store.snapshot(version=version)["a"][...], expected)


def test_expiry_and_vacuum_change_no_version_that_is_kept(store: Any) -> None:
    versions = rich_history(store)
    numbers = sorted(versions)
    store.create_tag("kept", numbers[3])
    store.create_branch("side", numbers[5])
    put(store, "a", np.s_[0, 0:2], 5, branch="side")
    side = versions[numbers[5]].copy()
    side[0, 0:2] = 5
    store.compact()
    store.expire(keep_last=3)
    for _ in range(3):
        store.vacuum()
        same(store.snapshot(tag="kept")["a"][...], versions[numbers[3]])
        same(store.snapshot(version=numbers[5])["a"][...], versions[numbers[5]])
        same(store.snapshot(branch="side")["a"][...], side)
        same(store["a"][...], versions[numbers[-1]])
        store.compact()


def test_a_snapshot_that_is_held_reads_right_or_says_that_it_expired(store: Any) -> None:
    versions = rich_history(store)
    held = {version: store.snapshot(version=version)["a"] for version in versions}
    MAINTENANCE["all"](store)
    put(store, "a", ..., 1)
    MAINTENANCE["all"](store)
    for version, expected in versions.items():
        try:
            found = held[version][...]
        except SnapshotExpiredError:
            continue
        same(found, expected)


def test_expired_versions_raise_and_never_read_fill(store: Any) -> None:
    versions = rich_history(store)
    MAINTENANCE["all"](store)
    newest = max(versions)
    for version, expected in versions.items():
        if version == newest:
            same(store.snapshot(version=version)["a"][...], expected)
        else:
            with pytest.raises(SnapshotExpiredError):
                store.snapshot(version=version)["a"][...]


def test_a_dry_run_changes_nothing(store: Any, tmp_path: Path) -> None:
    versions = rich_history(store)
    create(store, "big", noise(1 << 19), chunks=(1 << 17,), codecs=())
    put(store, "big", ..., 0)
    tables = {name: sql(tmp_path, f"SELECT count(*) FROM {name}") for name in ("fragments", "bases", "blobs")}
    left = files(tmp_path)
    store.compact(dry_run=True)
    store.expire(keep_last=1, dry_run=True)
    store.vacuum(dry_run=True)
    assert {name: sql(tmp_path, f"SELECT count(*) FROM {name}") for name in tables} == tables
    assert files(tmp_path) == left
    for version, expected in versions.items():
        same(store.snapshot(version=version)["a"][...], expected)


def test_vacuum_gives_back_what_no_version_needs(store: Any, tmp_path: Path) -> None:
    create(store, "keep", np.arange(4))
    left = files(tmp_path)
    for seed in range(3):
        create(store, f"big{seed}", noise(1 << 19, seed=seed), chunks=(1 << 17,), codecs=())
    grown = files(tmp_path)
    assert len(grown) > len(left)
    with store.transaction() as tx:
        for seed in range(3):
            del tx[f"big{seed}"]
    store.expire(keep_last=1)
    store.vacuum()
    store.vacuum()  # deletion takes two phases; nobody needs anything from before the first
    assert files(tmp_path) <= left
    assert store["keep"][...].tolist() == [0, 1, 2, 3]


# -- writers --------------------------------------------------------------------------------------


def write_everything(tx: Any) -> None:
    """One edit of every kind that has a base to depend on."""
    tx["a"][0:2] = 50
    tx["a"][[3, 5]] = 51
    tx["a"].append([60, 61])
    tx["a"].accumulate(np.s_[6:8], 100)
    tx["a"].attrs["k"] = 2
    tx["b"].resize((6,))
    tx["b"].clear(np.s_[1:2])
    tx.move("c", "g/c")
    tx.create_array("new", shape=(2,), dtype="i8", chunks=(2,))[...] = 9


@pytest.mark.parametrize("work", MAINTENANCE.values(), ids=MAINTENANCE)
@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
@pytest.mark.parametrize("when", ["before staging", "after staging"])
def test_maintenance_fails_no_writer(store: Any, work: Callable[[Any], object], isolation: str, when: str) -> None:
    for path in ("a", "b", "c", "elsewhere"):
        create(store, path, np.arange(10), chunks=(4,))
    for number in range(4):
        put(store, "a", np.s_[number : number + 3], 10 * number)
    with store.transaction(isolation=isolation) as tx:
        if when == "after staging":
            write_everything(tx)
        put(store, "elsewhere", ..., 7)
        put(store, "a", 2, 21)
        work(store)
        if when == "before staging":
            write_everything(tx)
        assert tx["a"][4] == 30
        assert tx["g/c"][3:5].tolist() == [3, 4]
    assert store["a"][...].tolist() == [50, 50, 21, 51, 30, 51, 106, 107, 8, 9, 60, 61]
    assert store["b"][...].tolist() == [0, 0, 2, 3, 4, 5]
    assert store["g/c"][9] == 9
    assert store["new"][...].tolist() == [9, 9]


@pytest.mark.parametrize("work", MAINTENANCE.values(), ids=MAINTENANCE)
def test_what_came_between_is_still_found_after_maintenance(store: Any, work: Callable[[Any], object]) -> None:
    create(store, "a", np.arange(10), chunks=(4,), attributes={"k": 0})
    with store.transaction() as cells, store.transaction() as key, store.transaction() as name:
        cells["a"][3:6] = 1
        key["a"].attrs["k"] = 1
        name.create_group("new")
        with store.transaction() as winner:
            winner["a"][5] = 2
            winner["a"].attrs["k"] = 2
            winner.create_group("new")
        put(store, "a", ..., 3)
        work(store)
        with conflict("cells", path="a"):
            cells.commit()
        with conflict("attribute", path="a"):
            key.commit()
        with conflict("structure"):
            name.commit()
    assert store["a"][...].tolist() == [3] * 10


def test_an_old_base_is_checked_or_told_so_but_never_blind(store: Any) -> None:
    base = create(store, "a", np.arange(10), chunks=(4,))
    put(store, "a", np.s_[0:5], 1)
    put(store, "a", np.s_[2:8], 2)
    for _ in range(3):
        MAINTENANCE["all"](store)
    before = store["a"][...]
    for sel in (0, np.s_[4:6], np.s_[7:9]):
        with pytest.raises((SnapshotExpiredError, ConflictError)), store.transaction(base=base.version) as tx:
            tx["a"][sel] = 9
    same(store["a"][...], before)
    try:
        with store.transaction(base=base.version) as tx:
            tx["a"][9] = 90  # nobody has written this one since
    except (SnapshotExpiredError, ConflictError):
        return
    assert store["a"][9] == 90


@pytest.mark.parametrize(
    "change",
    [
        lambda tx: tx["a"].__setitem__(9, 1),
        lambda tx: tx["a"].append([1]),
        lambda tx: tx["a"].accumulate(9, 1),
        lambda tx: tx["a"].attrs.__setitem__("k", 1),
        lambda tx: tx.create_group("new"),
        lambda tx: tx["a"].resize((12,)),
    ],
    ids=["cells", "append", "accumulate", "attribute", "structure", "shape"],
)
def test_a_transaction_older_than_the_conflict_horizon_is_told_so(
    store: Any, tmp_path: Path, change: Callable[[Any], object]
) -> None:
    create(store, "a", np.arange(10))
    with store.transaction() as tx:
        change(tx)
        put(store, "a", 0, 5)
        # What a vacuum does once the lease of this transaction's holder has lapsed.
        sql(tmp_path, "UPDATE store SET conflict_horizon = head, horizon = head, maintenance = maintenance + 1")
        with conflict("horizon") as refusal:
            tx.commit()
    assert "\n" not in str(refusal.one)
    assert store["a"][...].tolist() == [5, *range(1, 10)]
    put(store, "a", 0, 6)
    assert store["a"][0] == 6


def test_a_base_that_was_never_committed_is_refused(store: Any) -> None:
    create(store, "a", np.arange(10))
    with pytest.raises((KeyError, ValueError)):
        store.transaction(base=10**6)


def test_a_diff_that_starts_below_the_horizon_is_told_so(store: Any) -> None:
    first = create(store, "a", np.arange(10), chunks=(4,))
    second = put(store, "a", np.s_[2:4], 1)
    third = put(store, "a", np.s_[6:7], 1)
    assert store.diff(first.version, third.version).boxes
    for _ in range(3):
        MAINTENANCE["all"](store)
    for start in (first.version, second.version):
        try:
            found = store.diff(start, third.version)
        except SnapshotExpiredError:
            continue
        assert found.boxes, "rows are gone, and the diff is silently empty"


def test_what_is_kept_by_either_rule_tags_and_branches_stays(store: Any) -> None:
    versions = [create(store, "a", np.array([0])).version]
    versions += [put(store, "a", 0, number).version for number in range(1, 8)]
    store.create_tag("tagged", versions[1])
    store.create_branch("forked", versions[3])
    store.expire(keep_last=2)
    readable = []
    for number, version in enumerate(versions):
        try:
            assert store.snapshot(version=version)["a"][0] == number
            readable.append(number)
        except SnapshotExpiredError:
            pass
    assert {1, 3, 6, 7} <= set(readable)
    assert not {0, 2, 4} & set(readable)


def test_expiry_without_a_rule_is_refused_or_keeps_everything(store: Any) -> None:
    version = create(store, "a", np.array([0])).version
    put(store, "a", 0, 1)
    try:
        store.expire()
    except ValueError:
        pass
    assert store.snapshot(version=version)["a"][0] == 0


# -- side by side ---------------------------------------------------------------------------------


def test_maintenance_runs_beside_writers_and_readers(store: Any) -> None:
    create(store, "a", np.zeros((40, 8), dtype="i4"), chunks=(8, 8))
    create(store, "sum", np.zeros(8, dtype="i8"))
    failures: list[BaseException] = []
    writing = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    def writer(lane: int) -> Callable[[], None]:
        def work() -> None:
            for turn in range(1, 11):
                with store.transaction() as tx:
                    tx["a"][4 * turn - 4 : 4 * turn, lane] = turn
                    tx["sum"].accumulate(lane, 4 * turn)

        return work

    def maintainer() -> None:
        while not writing.is_set():
            store.compact()
            store.expire(keep_last=20)
            store.vacuum()

    def reader() -> None:
        while not writing.is_set():
            snap = store.snapshot()
            assert snap["a"][...].sum(axis=0).tolist() == snap["sum"][...].tolist()

    writers = [threading.Thread(target=guarded(writer(lane))) for lane in range(4)]
    others = [threading.Thread(target=guarded(work)) for work in (maintainer, reader)]
    for thread in writers + others:
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in others:
        thread.join()
    assert failures == []
    assert store["sum"][...].tolist() == [220] * 4 + [0] * 4
    assert store["a"][...].sum(axis=0).tolist() == [220] * 4 + [0] * 4


def test_two_compactions_at_once_are_both_harmless(store: Any) -> None:
    versions = rich_history(store)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            store.compact()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for version, expected in versions.items():
        same(store.snapshot(version=version)["a"][...], expected)


@pytest.mark.parametrize("durability", ["full", "os"])
def test_what_stands_in_for_what_is_deleted_is_on_the_disk_before(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    """Once anybody has left syncing to the system, whoever vacuums syncs: a power failure would leave neither."""
    careless, store = open_store(durability=durability, inline_bytes=0), open_store(inline_bytes=0)
    create(careless, "a", np.zeros(64, "i4"), chunks=(8,))
    put(careless, "a", np.s_[1:7], np.arange(6))
    careless.compact()
    careless.expire(keep_last=1)
    steps: list[str] = []

    def note(name: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            steps.append(name)
            return real(*args)

        return call

    monkeypatch.setattr(retention, "sync_filesystem", note("sync", sync_filesystem))
    monkeypatch.setattr(rows, "doom", note("rows", rows.doom))
    monkeypatch.setattr(LocalStorage, "delete", note("delete", LocalStorage.delete))
    assert store.vacuum().segments
    expected = ["rows", "delete"] if durability == "full" else ["sync", "rows", "sync", "delete"]
    assert [step for step, before in zip(steps, ["", *steps], strict=False) if step != before] == expected


def file_of(store: Any, work: Callable[[], object]) -> Path:
    """The one file that some work puts into the store."""
    segments = Path(store.root, "segments")
    before = {*segments.rglob("*")}
    work()
    (made,) = (found for found in {*segments.rglob("*")} - before if found.is_file())
    return made


@pytest.mark.parametrize("left", [None, 0, 5])
def test_what_a_power_failure_has_cut_stands_in_for_nothing(open_store: Any, left: int | None) -> None:
    store = open_store(durability="os", inline_bytes=0)
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    create(store, "b", np.zeros(8, "i4"), chunks=(8,))
    put(store, "a", np.s_[1:7], np.arange(6))
    before = set(Path(store.root, "segments").rglob("*"))
    base = file_of(store, store.compact)
    store.expire(keep_last=1)
    data = base.read_bytes()
    base.unlink() if left is None else base.write_bytes(data[:left])
    found = "nothing" if left is None else f"{left} bytes"
    with pytest.raises(CorruptionError, match=f"array 'a': .*{found} of {len(data)} are there"):
        store.vacuum()
    assert before <= set(Path(store.root, "segments").rglob("*"))
    base.write_bytes(data)
    assert store.vacuum().segments
    same(store["a"][...], np.concatenate([[0], np.arange(6), np.zeros(57, "i4")]).astype("i4"))


def test_a_cut_file_keeps_only_what_it_stands_in_for(open_store: Any) -> None:
    store = open_store(durability="os", inline_bytes=0)
    create(store, "a", shape=(100_000,), dtype="i4", chunks=(8,))
    create(store, "b", np.arange(64), chunks=(8,))
    segments = Path(store.root, "segments")

    def compacted(path: str, start: int, stop: int) -> Path:
        """Write some cells and compact them; the file of the base."""
        put(store, path, np.s_[start:stop], np.arange(start, stop))
        base = file_of(store, lambda: store.compact(path))
        store.expire(keep_last=1)
        return base

    far = compacted("a", 90_001, 90_007)
    assert store.vacuum().segments
    data = far.read_bytes()
    far.unlink()
    # Another partition of the array, and another array, have nothing to do with it.
    for path in ("a", "b"):
        compacted(path, 1, 7)
        assert store.vacuum().segments
    # What it stands in for stays, and only that, under a tag too.
    far.write_bytes(data)
    store.create_tag("kept")
    base = compacted("a", 90_002, 90_006)
    other = compacted("b", 2, 6)
    base.rename(base.with_suffix(".away"))
    before = {*segments.rglob("*")}
    with pytest.raises(CorruptionError, match="all else vacuumed"):
        store.vacuum()
    gone = before - {*segments.rglob("*")}
    assert gone and far.exists() and other.exists()
    base.with_suffix(".away").rename(base)
    expected = np.arange(90_000, 90_008, dtype="i4")
    expected[[0, -1]] = 0
    same(store["a"][90_000:90_008], expected)
    same(store.snapshot(tag="kept")["a"][90_000:90_008], expected)
    assert store.vacuum().segments
    assert store.verify().ok


def test_what_only_a_tag_reads_stands_in_for_nothing_newer(open_store: Any) -> None:
    store = open_store(durability="os", inline_bytes=0)
    create(store, "a", np.arange(64), chunks=(8,))
    put(store, "a", np.s_[1:7], np.arange(6))
    base = file_of(store, store.compact)
    store.create_tag("old")
    store.expire(keep_last=1)
    store.vacuum()
    data = base.read_bytes()
    base.write_bytes(data[:10])
    put(store, "a", np.s_[:], np.arange(64))
    store.compact()
    store.expire(keep_last=1)
    store.vacuum()
    for _ in range(2):
        put(store, "a", np.s_[:], np.arange(64) + 1)
        store.compact()
        store.expire(keep_last=1)
        assert store.vacuum().segments
    same(store["a"][...], np.arange(64) + 1)
    base.write_bytes(data)
    same(store.snapshot(tag="old")["a"][:8], [0, 0, 1, 2, 3, 4, 5, 7])


def test_what_another_vacuum_deletes_meanwhile_is_not_cut(open_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(durability="os", inline_bytes=0)
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    put(store, "a", np.s_[1:7], np.arange(6))
    store.compact()
    store.expire(keep_last=1)
    size = LocalStorage.size

    def later(storage: LocalStorage, key: str) -> int | None:
        monkeypatch.setattr(LocalStorage, "size", size)
        with open_store(durability="os", inline_bytes=0) as other:
            put(other, "a", np.s_[1:7], np.arange(6) + 2)
            other.compact()
            other.expire(keep_last=1)
            assert other.vacuum().segments
        return storage.size(key)

    monkeypatch.setattr(LocalStorage, "size", later)
    store.vacuum()
    assert store.verify().ok
