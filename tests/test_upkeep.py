"""What the daemon is made of: leases, the backlog, the limit on bytes, backing off, the policy and the log."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise, put, resize, sql

from txstore.codecs import TileCodec
from txstore.compaction.background import NICENESS
from txstore.compaction.backlog import Backlog
from txstore.compaction.backoff import Backoff
from txstore.compaction.daemon import Daemon, DaemonReport
from txstore.compaction.joblog import JobLog
from txstore.compaction.policy import Policy
from txstore.compaction.rewrite import CompactionReport, compact_partition, tasks_of
from txstore.compaction.stop import Stop, Stopped
from txstore.compaction.tenure import LeaseLost, tenure
from txstore.compaction.throttle import Throttle, TokenBucket
from txstore.errors import InvalidInputError, SnapshotExpiredError
from txstore.holder import Holder
from txstore.index import engine, leases, segments
from txstore.snapshot import Snapshot


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- the limit on bytes ---------------------------------------------------------------------------


def test_the_bucket_waits_for_the_debt_and_no_longer() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, clock=clock)
    assert bucket.take(60) == 0  # a second's worth may go at once
    assert bucket.take(40) == 0
    assert bucket.take(50) == 0.5
    clock.now += 0.5
    assert bucket.level_bytes == 0
    assert bucket.take(1) == 0.01
    clock.now += 1.01
    assert bucket.level_bytes == pytest.approx(100)
    clock.now += 3600  # what was not used up is not saved
    assert bucket.level_bytes == 100
    assert bucket.take(1100) == 10  # more than it holds: a debt
    clock.now += 4
    assert bucket.take(0) == 6


def test_the_bucket_keeps_the_rate_over_any_history() -> None:
    clock, rng = Clock(), random.Random(5)
    bucket = TokenBucket(1000.0, burst_bytes=200.0, clock=clock)
    start, total = clock.now, 0
    for _ in range(1000):
        count = rng.choice([0, 1, 50, 3000])
        total += count
        clock.now += bucket.take(count) + rng.choice([0, 0, 0.001])
        assert total <= 200 + 1000.0 * (clock.now - start) + 1e-6


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock=clock)
    bucket.take(10)
    clock.now -= 500
    assert bucket.level_bytes == 0
    clock.now += 1
    assert bucket.level_bytes == 10


def test_the_throttle_counts_bytes_and_the_time_it_has_slept() -> None:
    clock = Clock()

    class Sleeper(Stop):
        def wait(self, seconds: float) -> bool:
            clock.now += seconds
            return False

    throttle = Throttle(TokenBucket(100.0, clock=clock), Sleeper(), clock)
    for count in (100, 0, 50, 250):
        throttle(count)
    assert throttle.bytes == 400
    assert throttle.waited_s == pytest.approx(3)
    unlimited = Throttle(None, Sleeper(), clock)
    unlimited(10**12)
    assert (unlimited.bytes, unlimited.waited_s) == (10**12, 0)


def test_the_throttle_wakes_up_to_stop() -> None:
    stop = Stop()
    throttle = Throttle(TokenBucket(1.0), stop)
    timer = threading.Timer(0.05, stop.ask, ["enough"])
    timer.start()
    with pytest.raises(Stopped):
        throttle(10**6)  # would be eleven days
    timer.join()
    with pytest.raises(Stopped):
        throttle(0)


# -- stopping -------------------------------------------------------------------------------------


def test_a_signal_ends_the_wait_and_leaves_the_handlers_as_they_were() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        stop = Stop()
        with stop.on_signals():
            timer = threading.Timer(0.05, os.kill, [os.getpid(), number])
            timer.start()
            assert stop.wait(1000)
            timer.join()
        assert stop.reason == number.name
        assert {number: signal.getsignal(number) for number in before} == before
    assert not Stop().wait(0)
    assert not Stop().wait(0.01)


def test_a_wait_ends_though_a_signal_handler_takes_longer_than_it() -> None:
    stop = Stop()
    before = signal.signal(signal.SIGUSR1, lambda *_: time.sleep(0.4))
    timer = threading.Timer(0.05, signal.pthread_kill, [threading.get_ident(), signal.SIGUSR1])
    rescue = threading.Timer(20, stop.ask, ["it would have slept for ever"])
    timer.start()
    rescue.start()
    try:
        assert not stop.wait(0.2), stop.reason
    finally:
        rescue.cancel()
        timer.join()
        rescue.join()
        signal.signal(signal.SIGUSR1, before)


def test_all_who_wait_wake_up() -> None:
    stop = Stop()
    ended: list[bool] = []
    waiting = [threading.Thread(target=lambda: ended.append(stop.wait(1000))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for _ in range(3):
        stop.ask("enough")
    for thread in waiting:
        thread.join()
    assert ended == [True] * 4
    assert stop.wait(1000)


def test_a_second_interrupt_does_not_wait() -> None:
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.on_signals():
        signal.raise_signal(signal.SIGINT)
        assert stop.reason == "SIGINT"
        signal.raise_signal(signal.SIGTERM)  # asked already: nothing more
        signal.raise_signal(signal.SIGINT)


# -- backing off, the policy ----------------------------------------------------------------------


def test_failures_are_left_alone_for_longer_each_time() -> None:
    clock = Clock()
    backoff = Backoff(10, 35, clock)
    assert backoff.ready("a")
    assert [backoff.failed("a") for _ in range(4)] == [10, 20, 35, 35]
    assert not backoff.ready("a")
    assert backoff.ready("b")
    clock.now += 35
    assert backoff.ready("a")
    assert backoff.failed("a") == 35
    backoff.succeeded("a")
    assert backoff.ready("a")
    assert backoff.failed("a") == 10
    for _ in range(2000):
        backoff.failed("a")


@pytest.mark.parametrize(
    "bad",
    [
        {"interval_s": -1},
        {"interval_s": float("nan")},
        {"interval_s": "10s"},
        {"vacuum_interval_s": 1e12},
        {"min_fragments": 0},
        {"min_fragments": 2.5},
        {"min_fragments": True},
        {"keep_last": 0},
        {"older_than_s": -0.5},
        {"older_than_s": float("inf")},
        {"rate_limit_bytes_s": 0},
        {"metrics_port": 1 << 16},
        {"metrics_host": ""},
        {"lease_ttl_s": 0},
        {"backoff_s": None},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(InvalidInputError, match=name):
        Policy(**bad)


# -- the log --------------------------------------------------------------------------------------


def moment() -> datetime:
    return datetime(2026, 11, 21, 8, 30, 1, 250_000, UTC)


NASTY = 'a\nb\x1b[31m c\u2028d\udc80 = "e"'


def test_json_lines_parse_whatever_is_in_them() -> None:
    out = io.StringIO()
    log = JobLog("json", out, moment)
    log.info("compacted", path=NASTY, partition=[0, 1], seconds=0.25, nothing=None)
    log.error("failed", error="StorageError", where=Path("x"))
    lines = out.getvalue().splitlines()
    assert out.getvalue().isascii()
    assert [json.loads(line) for line in lines] == [
        {
            "time": "2026-11-21T08:30:01.250Z",
            "level": "info",
            "event": "compacted",
            "path": NASTY,
            "partition": [0, 1],
            "seconds": 0.25,
        },
        {
            "time": "2026-11-21T08:30:01.250Z",
            "level": "error",
            "event": "failed",
            "error": "StorageError",
            "where": "x",
        },
    ]


def test_text_lines_stay_lines() -> None:
    out = io.StringIO()
    log = JobLog("text", out, moment)
    log.warning("lost", path="era5/t2m", partition=[0, 1], seconds=0.5, message="no such thing", stopped=False, n=3)
    assert out.getvalue() == (
        "2026-11-21T08:30:01.250Z warning lost path=era5/t2m partition=[0,1] seconds=0.5 "
        'message="no such thing" stopped=false n=3\n'
    )
    out.truncate(out.seek(0))
    log.info("compacted", path=NASTY)
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().rstrip("\n").isprintable()


def test_a_log_that_can_not_be_written_stops_nothing() -> None:
    out = io.StringIO()
    log = JobLog("json", out)
    out.close()
    log.info("started")
    with pytest.raises(InvalidInputError):
        JobLog("xml")


# -- leases ---------------------------------------------------------------------------------------


def test_a_lease_has_one_holder_until_it_lapses(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = store._core.index
    now = engine.now_us()
    monkeypatch.setattr(engine, "now_us", lambda: now)
    mine = leases.take(index, "task", b"a" * 16, 60)
    assert mine is not None
    assert leases.take(index, "task", b"b" * 16, 60) is None
    assert leases.take(index, "task", b"a" * 16, 60) is None, "two daemons of one process are two"
    assert leases.take(index, "other", b"b" * 16, 60) is not None
    now += 59_000_000
    assert leases.renew(index, mine, 60)
    now += 59_000_000
    assert leases.take(index, "task", b"b" * 16, 60) is None
    now += 2_000_000
    assert leases.renew(index, mine, 60), "lapsed, but nobody else has come"
    now += 61_000_000
    theirs = leases.take(index, "task", b"b" * 16, 60)
    assert theirs is not None and theirs.epoch > mine.epoch
    assert not leases.renew(index, mine, 60)
    leases.release(index, mine)  # no longer ours to release
    assert leases.take(index, "task", b"a" * 16, 60) is None
    leases.release(index, theirs)
    assert sql(tmp_path, "SELECT name FROM leases") == [("other",)]
    now -= 3600_000_000  # the clock was set back
    again = leases.take(index, "task", b"a" * 16, 60)
    assert again is not None and again.epoch not in (mine.epoch, theirs.epoch)


def test_a_lease_of_the_dead_is_free_whatever_the_clock_says(store: Any) -> None:
    index = store._core.index
    dead = Holder(store._core.locks)
    who = dead.id
    assert leases.take(index, "task", who, 3600) is not None

    def take() -> object:
        return leases.take(index, "task", store._core.holder.id, 60, lambda: Holder.live(store._core.locks))

    assert take() is None
    dead.close()
    assert take() is not None


def test_what_was_done_under_a_lost_lease_is_not_published(store: Any, tmp_path: Path) -> None:
    create(store, "a", noise(4096), chunks=(512,), codecs=())
    put(store, "a", np.s_[100:200], 1)
    core = store._core
    lease = leases.take(core.index, "task", b"a" * 16, 0)
    assert lease is not None
    thief = leases.take(core.index, "task", b"b" * 16, 60)
    assert thief is not None
    with core.pinned(branch="main") as (state, timeline):
        ((view, task),) = tasks_of(Snapshot(core, state, timeline), "")
        begin = CompactionReport(state.commit)
        report = compact_partition(core, state, view, task, begin, lease=lease)
        assert (report.partitions, report.lost) == (0, 1)
        assert sql(tmp_path, "SELECT count(*) FROM bases") == [(0,)]
        assert sql(tmp_path, "SELECT count(*) FROM segments") == [(0,)]
        assert not [path for path in (tmp_path / "store" / "segments").rglob("*") if path.is_file()]
        leases.release(core.index, thief)
        assert compact_partition(core, state, view, task, begin, lease=lease).lost == 1, "released is not given back"
        lease = leases.take(core.index, "task", b"a" * 16, 60)
        assert compact_partition(core, state, view, task, begin, lease=lease).partitions == 1


def test_a_tenure_renews_and_notices_a_loss(store: Any, tmp_path: Path) -> None:
    core = store._core

    def expiry() -> Any:
        return sql(tmp_path, "SELECT expires_at FROM leases")

    def eventually(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    with tenure(core, "task", 0.3) as held:
        assert held is not None
        with tenure(core, "task", 0.3) as other:
            assert other is None
        first = expiry()
        eventually(lambda: expiry() > first)
        held.check()
        sql(tmp_path, "UPDATE leases SET epoch = epoch + 1")

        def lost() -> bool:
            try:
                held.check()
            except LeaseLost:
                return True
            return False

        eventually(lost)
    assert len(expiry()) == 1, "the lease is the other's"


def test_who_lives_is_asked_under_the_lock(store: Any) -> None:
    """One that begins after the question, and announces a file before the answer is used, would be taken for dead."""
    core = store._core
    core.announce(b"x" * 16)
    asked = []

    def alive() -> dict[bytes, int]:
        asked.append(core.index.dialect.lock.held)
        return Holder.live(core.locks)

    assert segments.doom_intents(core.index, alive) == 0
    assert asked == [True]
    core.withdraw([b"x" * 16])


def test_vacuum_keeps_what_was_pinned_just_before_the_horizon_moved(store: Any, tmp_path: Path) -> None:
    first = create(store, "a", np.zeros(8)).version
    for number in range(5):
        put(store, "a", ..., number)
    store.compact()
    store.expire(keep_last=1)
    pin = store._core.holder.pin(first)  # by one who had looked at the horizon before
    store.vacuum()
    assert sql(tmp_path, "SELECT count(*) FROM fragments") == [(6,)]
    assert sql(tmp_path, "SELECT conflict_horizon FROM store") <= [(first,)]
    store._core.holder.unpin(pin)
    store.vacuum()
    assert sql(tmp_path, "SELECT count(*) FROM fragments") < [(6,)]


# -- the backlog ----------------------------------------------------------------------------------


def backlog(store: Any, min_fragments: int = 3) -> Backlog:
    def failed(path: str, key: tuple[int, int], error: Exception) -> None:
        raise error

    return Backlog(store._core, min_fragments, Backoff(0, 0), failed, lambda _: None)


def real(store: Any, waiting: Backlog) -> dict[tuple[int, int, bytes], int]:
    """What of the jobs is left when one looks closely."""
    found = {}
    for job in waiting.refresh():
        state, timeline = store._core.state(branch=job.branch_name)
        measured = waiting.measured(job, state, timeline)
        if measured is not None:
            found[job.key] = measured[1].fragments
    return found


#: In chunks of one cell: several partitions.
CELLS = 20_000


@pytest.mark.parametrize("seed", range(4))
def test_what_a_backlog_learns_by_and_by_is_what_a_new_one_finds(store: Any, seed: int) -> None:
    rng = random.Random(seed)
    kept = backlog(store)
    for name in ("a", "g/b"):
        with store.transaction() as tx:
            tx.create_array(name, shape=(CELLS,), dtype="f8", chunks=(1,))
    names, branches, made = {"a", "g/b"}, {"main"}, 0
    for _ in range(45):
        branch = rng.choice(sorted(branches))
        lives = [name for name, _ in store.snapshot(branch=branch).members() if name in names]
        step = rng.choice(["write"] * 12 + ["fill", "compact", "branch", "unbranch", "delete", "move", "retain"])
        if step in ("write", "fill", "delete", "move") and not lives:
            continue
        if step == "write":
            start = rng.choice([0, 5000, CELLS // 2, CELLS - 50]) + rng.randrange(50)
            put(store, rng.choice(lives), np.s_[start : start + rng.randint(1, 40)], rng.random(), branch=branch)
        elif step == "fill":
            put(store, rng.choice(lives), ..., made, branch=branch)
        elif step == "compact":
            store.compact(branch=branch)
        elif step == "branch":
            made += 1
            store.create_branch(f"b{made}")
            branches.add(f"b{made}")
        elif step == "unbranch" and branch != "main":
            store.delete_branch(branch)
            branches.discard(branch)
        elif step == "delete" and len(lives) > 1:
            with store.transaction(branch=branch) as tx:
                del tx[lives[0]]
        elif step == "move":
            made += 1
            with store.transaction(branch=branch) as tx:
                tx.move(lives[0], f"m/{made}")
            names.add(f"m/{made}")
        elif step == "retain":
            store.expire(keep_last=5)
            store.vacuum()
        if rng.random() < 0.6:
            assert real(store, kept) == real(store, backlog(store))


def test_an_idle_store_is_not_looked_at_again(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store, "a", np.zeros(8))
    waiting = backlog(store, 1)
    (job,) = waiting.refresh()
    assert job.lease == f"compact/{job.task.node}/00/0"
    monkeypatch.setattr(waiting, "_look_at", lambda *_: pytest.fail("looked"))
    assert waiting.refresh() == [job]
    monkeypatch.undo()
    waiting.done(job)
    assert waiting.refresh() == []
    put(store, "a", 0, 1)
    assert [job.key for job in waiting.refresh()] == [job.key]


# -- an idle store --------------------------------------------------------------------------------


def written(store: Any, commits: int, **options: Any) -> dict[int, np.ndarray[Any, Any]]:
    """An array that each commit writes anew: what every version of it holds."""
    create(store, "a", noise(5000, seed=0), chunks=(1000,), codecs=())
    found = {}
    for seed in range(1, commits):
        data = noise(5000, seed=seed)
        found[put(store, "a", ..., data, **options).version] = data
    return found


def kept(store: Any, **policy: Any) -> DaemonReport:
    """What a round of a daemon does, with a vacuum."""
    rules = Policy(min_fragments=4, keep_last=5, **policy)
    return Daemon(store, rules, stream=io.StringIO()).run(once=True)


def test_an_idle_store_lets_go_what_came_before_the_horizon(store: Any, tmp_path: Path) -> None:
    """The base at the head is of no use to the oldest version that is kept: it gets one of its own."""
    states = written(store, 30)
    horizon, head = sorted(states)[-5], sorted(states)[-1]
    report = kept(store, vacuum_interval_s=0)
    assert (report.partitions, report.errors) == (2, 0)
    assert sql(tmp_path, "SELECT horizon FROM store") == [(horizon,)]
    assert sql(tmp_path, "SELECT version FROM bases ORDER BY version") == [(horizon,), (head,)]
    assert sql(tmp_path, "SELECT min(version) > ? FROM fragments", horizon) == [(1,)]
    for version in range(horizon, head + 1):
        assert (store.snapshot(version=version)["a"][...] == states[version]).all()
    with pytest.raises(SnapshotExpiredError):
        store.snapshot(version=horizon - 1)["a"][...]
    again = kept(store, vacuum_interval_s=0)
    assert (again.partitions, again.vacuumed_fragments, again.errors) == (0, 0, 0)


def test_a_store_in_use_is_left_to_the_horizon(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as versions come, the horizon comes past the bases that are there."""
    states = written(store, 30)
    assert kept(store, vacuum_interval_s=3600).partitions == 1
    assert sql(tmp_path, "SELECT version FROM bases") == [(max(states),)]
    assert sql(tmp_path, "SELECT count(*) FROM fragments") == [(30,)]
    later = engine.now_us() + 3_601_000_000
    monkeypatch.setattr(engine, "now_us", lambda: later)
    assert kept(store, vacuum_interval_s=3600).partitions == 1
    assert sql(tmp_path, "SELECT count(*) FROM fragments") == [(4,)]
    assert (store["a"][...] == states[max(states)]).all()


def test_little_garbage_is_not_worth_a_base(store: Any, tmp_path: Path) -> None:
    create(store, "a", noise(50_000), chunks=(10_000,), codecs=())
    for cell in range(20):
        put(store, "a", np.s_[cell : cell + 2], [cell, 1])
    assert kept(store, vacuum_interval_s=0).partitions == 1
    assert sql(tmp_path, "SELECT count(*) FROM bases") == [(1,)]
    assert sql(tmp_path, "SELECT count(*) FROM fragments") == [(21,)]


def test_an_idle_branch_lets_go_as_well(store: Any, tmp_path: Path) -> None:
    written(store, 3)
    store.create_branch("side")
    states = {}
    for seed in range(100, 120):
        data = noise(5000, seed=seed)
        states[put(store, "a", ..., data, branch="side").version] = data
    for number in range(6):  # main goes on, and with it the horizon
        create(store, f"other {number}", [1])
    report = kept(store, vacuum_interval_s=0)
    assert report.errors == 0
    (horizon,) = sql(tmp_path, "SELECT horizon FROM store")[0]
    assert horizon > max(states)
    assert (store.snapshot(branch="side")["a"][...] == states[max(states)]).all()
    assert sql(tmp_path, "SELECT count(*) FROM fragments WHERE branch <> 0") == [(0,)]


def test_what_is_left_alone_needs_no_old_fragments(store: Any, tmp_path: Path) -> None:
    """A base stands from the newest row on that it folds in, not from the head of the store."""
    states = written(store, 10)
    create(store, "b", np.zeros(4))
    for number in range(8):
        put(store, "b", 0, number)
    store.compact()
    assert sql(tmp_path, "SELECT max(version) FROM bases JOIN nodes ON id = node WHERE created = 1") == [(max(states),)]
    store.expire(keep_last=5)
    store.vacuum()
    assert sql(tmp_path, "SELECT count(*) FROM fragments JOIN nodes ON id = node WHERE created = 1") == [(0,)]
    for version in (None, store.snapshot().version - 4):
        assert (store.snapshot(version=version)["a"][...] == states[max(states)]).all()


def test_a_base_stands_no_lower_than_what_was_cut_off(store: Any, tmp_path: Path) -> None:
    """A shrink is folded in, too: versions before it must not be read from the base."""
    states = written(store, 6)
    full = states[max(states)]
    cut = resize(store, "a", (2000,)).version
    grown = resize(store, "a", (5000,)).version
    create(store, "b", [1])
    store.create_tag("full", cut - 1)
    store.compact("a")
    assert sql(tmp_path, "SELECT version FROM bases") == [(cut,)]
    for _ in range(2):
        assert (store.snapshot(tag="full")["a"][...] == full).all()
        for version in (grown, None):
            now = store.snapshot(version=version)["a"][...]
            assert (now[:2000] == full[:2000]).all() and not now[2000:].any()
        store.vacuum()
        store.expire(keep_last=5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_threads_that_compact_give_way_and_no_others_do(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store, "a", noise((32, 32)), chunks=(8, 8))
    put(store, "a", np.s_[1:30, 1:30], 7)
    seen: list[int] = []
    encode = TileCodec.encode

    def watched(codec: TileCodec, cells: Any) -> bytes:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return encode(codec, cells)

    monkeypatch.setattr(TileCodec, "encode", watched)
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert Daemon(store, Policy(min_fragments=1), stream=io.StringIO()).run(once=True).chunks_merged
    assert set(seen) == {max(ours, NICENESS)}
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours
    for executor, expected in ((None, max(ours, NICENESS)), (store._core.pool, ours)):
        put(store, "a", np.s_[1:30, 1:30], 8)
        seen.clear()
        assert store.compact(executor=executor).chunks_merged
        assert set(seen) == {expected}
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == ours
