"""The daemon, in this process and as a user starts it: what it does, how it ends, and what its death leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise, put, same, sql
from prometheus_client.parser import text_string_to_metric_families
from scripts import environment, eventually
from test_kill import POINTS, KillModel, Zygote, clean_up, random_pause, strays
from workers import Worker, create_kill_store, kill_commit

import txstore
from txstore.compaction import upkeep
from txstore.compaction.daemon import Daemon, DaemonReport, Policy
from txstore.errors import InvalidInputError, ReadOnlyError, StorageError, StoreClosedError, StoreNotFoundError
from txstore.index import engine
from txstore.locks import FileLock


class Kept:
    """A daemon in this process, and its log."""

    def __init__(self, store: Any, **policy: Any) -> None:
        self.out = io.StringIO()
        self.daemon = Daemon(store, Policy(**{"min_fragments": 2, **policy}), log_format="json", stream=self.out)
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]

    def once(self) -> DaemonReport:
        return self.daemon.run(once=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Kept]:
        """In a thread, until the block ends or the daemon does."""

        def run() -> None:
            try:
                self.daemon.run()
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()
        try:
            yield self
        finally:
            self.daemon.stop()
            self._thread.join()

    def ended(self) -> bool:
        assert self._thread is not None
        return not self._thread.is_alive()


def segment_files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "segments").rglob("*") if path.is_file())


def unfinished(root: Path) -> bool:
    return any(path.suffix == ".tmp" for path in segment_files(root))


def slow(root: Path, arrays: int = 1) -> dict[str, np.ndarray]:
    """Arrays whose compaction takes long at a few bytes a second: chunks that no codec makes smaller."""
    models = {}
    with txstore.open(root, inline_bytes=0) as store:
        for number in range(arrays):
            models[f"a{number}"] = data = noise((64, 1024), seed=number)
            create(store, f"a{number}", data, chunks=(1, 1024))
            put(store, f"a{number}", np.s_[:, 10:20], number)
            data[:, 10:20] = number
    return models


#: Slow enough that a partition of :func:`slow` never comes to its end.
CRAWL = 500.0


# -- a round --------------------------------------------------------------------------------------


def test_one_round_does_everything(store: Any, tmp_path: Path) -> None:
    model = np.zeros((50, 50))
    create(store, "a", model, chunks=(8, 8))
    for number in range(6):
        put(store, "a", np.s_[number : number + 30, 5:40], number)
        model[number : number + 30, 5:40] = number
    store.create_branch("side")
    put(store, "a", 3, 7, branch="side")
    create(store, "small", np.zeros(4))
    kept = Kept(store, min_fragments=4, keep_last=1)
    report = kept.once()
    assert report.rounds == 1
    assert (report.partitions, report.errors, report.lost, report.backlog) == (2, 0, 0, 0)
    assert report.fragments == 7 + 8  # of main; and on the branch its own as well
    assert report.expired > 0
    assert report.vacuums == 1
    assert not report.stopped
    assert report.to_dict()["bytes_written"] == report.bytes_written > 0
    assert sql(tmp_path, "SELECT count(*) FROM bases") == [(2,)]
    assert sql(tmp_path, "SELECT count(*) FROM leases") == [(0,)]
    same(store["a"][...], model)
    model[3] = 7
    same(store.snapshot(branch="side")["a"][...], model)
    assert [event["event"] for event in kept.events] == [
        "started",
        *["compacting", "compacted"] * 2,
        "expired",
        "vacuumed",
        "stopped",
    ]
    compacted = kept.named("compacted")[0]
    assert (compacted["path"], compacted["branch"], compacted["partition"]) == ("a", "side", [0, 0])
    assert kept.events[-1]["partitions"] == 2
    assert Kept(store, min_fragments=4).once().partitions == 0


def test_rounds_follow_what_is_written(store: Any) -> None:
    create(store, "a", np.zeros(100), chunks=(8,))
    kept = Kept(store, interval_s=0.01, vacuum_interval_s=0, keep_last=3)
    with kept.running():

        def followed() -> bool:
            put(store, "a", np.s_[:9], 99)
            return kept.daemon.report.partitions > 1 and kept.daemon.report.vacuumed_fragments > 0

        # Written until it was compacted a second time: a writer may be done before the first round.
        eventually(followed)
        for number in range(40):
            put(store, "a", np.s_[number : number + 9], number)
        # One round may find new work again and again while the writer goes on, so the second is waited for as well.
        eventually(lambda: kept.daemon.report.rounds > 1 and kept.daemon.report.vacuums > 1)
    assert kept.ended()
    assert kept.error is None
    report = kept.daemon.report
    assert report.stopped
    assert report.errors == 0
    assert store["a"][:40].tolist() == list(range(40))


def test_without_rules_nothing_expires(store: Any, tmp_path: Path) -> None:
    first = create(store, "a", np.arange(4)).version
    for number in range(5):
        put(store, "a", 0, number)
    assert Kept(store).once().expired == 0
    assert store.snapshot(version=first)["a"][...].tolist() == [0, 1, 2, 3]
    assert Kept(store, older_than_s=3600).once().expired == 0
    assert Kept(store, older_than_s=0).once().expired > 0
    assert sql(tmp_path, "SELECT horizon FROM store") > [(first,)]


def test_bytes_and_time_are_counted_under_a_limit(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store, "a", noise((64, 1024)), chunks=(1, 1024), codecs=())
    put(store, "a", np.s_[:, :3], 0)
    slept: list[float] = []
    kept = Kept(store, rate_limit_bytes_s=1024.0)

    def wait(seconds: float) -> bool:
        slept.append(seconds)
        return False

    monkeypatch.setattr(kept.daemon._stop, "wait", wait)
    report = kept.once()
    assert report.bytes_written == 64 * 4096
    assert kept.daemon._upkeep._throttle.bytes == report.bytes_written
    # Nothing sleeps here, so every wait is for the whole debt: the last one for all but the second that was free.
    assert len(slept) == 64
    assert 250 < slept[-1] <= 255


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.damaged
def test_what_fails_in_one_partition_does_not_stop_the_others(store: Any, tmp_path: Path) -> None:
    for name in ("broken", "sound"):
        create(store, name, noise((256, 1024)), chunks=(64, 256), codecs=())
        if name == "broken":
            (file,) = segment_files(tmp_path / "store")
        put(store, name, np.s_[:, 10:20], 0)
    put(store, "broken", 0, 0)  # so that it comes first
    content = bytearray(file.read_bytes())
    content[100] ^= 1  # in the first tile, which must be merged
    file.write_bytes(content)
    kept = Kept(store, interval_s=0.01, backoff_s=3600)
    with kept.running():
        eventually(lambda: kept.daemon.report.rounds > 3)
    report = kept.daemon.report
    assert kept.error is None
    assert (report.partitions, report.errors, report.backlog) == (1, 1, 1), "tried again, or not at all"
    (failed,) = kept.named("failed")
    assert (failed["level"], failed["task"], failed["path"]) == ("error", "compact", "broken")
    assert failed["error"] == "CorruptionError"
    assert failed["retry_in_s"] == 3600
    assert len(segment_files(tmp_path / "store")) == 3, "files of the failed attempt"
    assert Kept(store).once().errors == 1


def test_a_bug_in_one_task_is_logged_with_its_place(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store, "a", np.arange(4))
    put(store, "a", 0, 1)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(upkeep, "compact_partition", broken)
    kept = Kept(store)
    assert kept.once().errors == 1
    (failed,) = kept.named("failed")
    assert failed["error"] == "ZeroDivisionError"
    assert "in broken" in failed["traceback"]


def test_an_index_that_fails_is_tried_again(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create(store, "a", np.arange(4))
    put(store, "a", 0, 1)
    fails = 1

    def read_head(connection: Any) -> Any:
        nonlocal fails
        if fails:
            fails -= 1
            raise StorageError("the disk is away")
        return engine.read_head(connection)

    monkeypatch.setattr(upkeep, "read_head", read_head)
    kept = Kept(store)
    with pytest.raises(StorageError):
        kept.once()
    assert [event["event"] for event in kept.events] == ["started", "failed", "stopped"]
    fails = 1
    kept = Kept(store, interval_s=0)
    with kept.running():
        eventually(lambda: kept.daemon.report.partitions == 1)
    assert kept.error is None
    assert kept.daemon.report.errors == 1


@pytest.mark.parametrize("busy", [True, False])
def test_a_store_that_is_closed_ends_it(tmp_path: Path, busy: bool) -> None:
    slow(tmp_path / "store")
    store = txstore.open(tmp_path / "store", mode="r+")
    kept = Kept(store, interval_s=0.01, rate_limit_bytes_s=20_000 if busy else None)
    with kept.running():
        if busy:
            eventually(lambda: unfinished(tmp_path / "store"))
        else:
            eventually(lambda: kept.daemon.report.rounds > 0)
        store.close()
        eventually(kept.ended)
    assert isinstance(kept.error, StoreClosedError)
    with txstore.open(tmp_path / "store", mode="r+") as again:
        again.vacuum()
        assert again.verify().ok
        assert strays(tmp_path / "store") == set()


@pytest.mark.parametrize("instead", ["nothing", "an empty folder", "another store"])
@pytest.mark.parametrize("busy", [True, False])
def test_a_store_that_is_deleted_ends_it(tmp_path: Path, instead: str, busy: bool) -> None:
    root = tmp_path / "store"
    slow(root)
    store = txstore.open(root, mode="r+")
    kept = Kept(store, interval_s=0.01, rate_limit_bytes_s=20_000 if busy else None)
    with kept.running():
        if busy:
            eventually(lambda: unfinished(root))
        else:
            eventually(lambda: kept.daemon.report.rounds > 0)
        os.rename(root, tmp_path / "away")  # at once, for the daemon is at work in it
        if instead == "an empty folder":
            root.mkdir()
        elif instead == "another store":
            with txstore.open(root) as other:
                create(other, "mine", np.arange(3))
        shutil.rmtree(tmp_path / "away")
        eventually(kept.ended)
    assert isinstance(kept.error, StoreNotFoundError), kept.error
    with contextlib.suppress(StorageError):
        store.close()
    if instead == "another store":
        with txstore.open(root) as other:
            assert other["mine"][...].tolist() == [0, 1, 2]
            assert other.verify().ok


def test_what_can_not_be_kept_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "store"
    slow(root)
    with txstore.open(root, mode="r") as store, pytest.raises(ReadOnlyError):
        Daemon(store)
    with txstore.open(root, mode="r+") as store, pytest.raises(InvalidInputError):
        Daemon(store, log_format="xml")
    with pytest.raises(StoreClosedError):
        Daemon(store)


# -- metrics --------------------------------------------------------------------------------------


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_metrics_are_served_while_it_runs(store: Any) -> None:
    create(store, "a", noise(100), chunks=(8,))
    for number in range(5):
        put(store, "a", np.s_[number : number + 9], noise(9, seed=number))
    kept = Kept(store, interval_s=0.01, vacuum_interval_s=0, keep_last=1, metrics_port=0)
    before = time.time()
    with kept.running():
        eventually(lambda: kept.daemon.report.rounds > 1)
        (serving,) = kept.named("serving")
        assert serving["host"] == "127.0.0.1"
        found = scrape(serving["port"])
        name = "txstore_daemon_"
        assert found[name + "partitions_compacted_total"] == 1
        assert found[name + "fragments_compacted_total"] == 6
        assert found[name + "written_bytes_total"] > 0
        assert found[name + "lost_races_total"] == 0
        assert found[name + "errors_total"] == 0
        assert found[name + "vacuums_total"] > 0
        assert found[name + "vacuumed_bytes_total"] > 0
        assert found[name + "expired_commits_total"] > 0
        assert found[name + "horizon_version"] == store.snapshot().version
        assert found[name + "round_seconds_count"] > 1
        assert found[name + "backlog_partitions"] == 0
        assert before <= found[name + "last_success_timestamp_seconds"] <= time.time()
        with pytest.raises(InvalidInputError, match=str(serving["port"])):
            Kept(store, metrics_port=serving["port"]).once()
    with pytest.raises(OSError):
        scrape(serving["port"])


def test_a_program_may_serve_the_metrics_itself(store: Any) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    Daemon(store, registry=registry, stream=io.StringIO()).run(once=True)
    assert registry.get_sample_value("txstore_daemon_round_seconds_count") == 1


# -- as a process ---------------------------------------------------------------------------------


class Process:
    """``python -m txstore daemon``, and its log."""

    def __init__(self, root: Path, *options: object) -> None:
        command = [sys.executable, "-m", "txstore", "daemon", root, "--log-format", "json", "--min-fragments", 2]
        self.process = subprocess.Popen(
            [str(word) for word in [*command, *options]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), "PYTHONFAULTHANDLER": "1"},
        )
        self.events: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """The next event of that name."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"it ended before {event!r}: {self.events}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Its exit status; every line that it has said is JSON."""
        if number is not None:
            self.process.send_signal(number)
        _, rest = self.process.communicate()
        self.events += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # Where one does not do what it should, its last words are what it logged and where each of its threads stood.
        self.process.send_signal(signal.SIGKILL if error is None else signal.SIGABRT)
        _, rest = self.process.communicate()
        if error is not None:
            error.add_note("\n".join([f"daemon {self.process.pid}:", *map(json.dumps, self.events), rest]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["compacting", "asleep"])
def test_a_signal_stops_it_cleanly(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    root = tmp_path / "store"
    models = slow(root)
    before = segment_files(root)
    limit = ["--rate-limit", 0.001] if moment == "compacting" else []
    with Process(root, "--interval", "1d", *limit) as daemon:
        daemon.until("compacting")
        if moment == "compacting":
            eventually(lambda: unfinished(root))
        else:
            daemon.until("vacuumed")
        assert daemon.end(number) == 0
    stopped = daemon.events[-1]
    assert (stopped["event"], stopped["reason"], stopped["stopped"]) == ("stopped", number.name, True)
    assert stopped["partitions"] == (0 if moment == "compacting" else 1)
    if moment == "compacting":
        assert segment_files(root) == before
        assert sql(tmp_path, "SELECT count(*) FROM bases") == [(0,)]
    assert sql(tmp_path, "SELECT count(*) FROM segments WHERE state != 'live'") == [(0,)]
    assert sql(tmp_path, "SELECT count(*) FROM leases") == [(0,)]
    with txstore.open(root, mode="r+") as store:
        assert store.verify().ok
        same(store["a0"][...], models["a0"])


def test_once_as_a_process(tmp_path: Path) -> None:
    root = tmp_path / "store"
    slow(root, 2)
    with Process(root, "--once", "--keep-last", 1, "--json") as daemon:
        out, log = daemon.process.communicate()
    assert daemon.process.returncode == 0
    assert json.loads(out)["partitions"] == 2
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "stopped"


@pytest.mark.damaged
def test_once_says_in_its_status_that_something_failed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    slow(root)
    (file,) = segment_files(root)
    file.unlink()
    with Process(root, "--once", "--json") as daemon:
        out, _ = daemon.process.communicate()
    assert daemon.process.returncode == 1
    assert json.loads(out)["errors"] == 1


def test_two_daemons_divide_the_work(tmp_path: Path) -> None:
    root, arrays = tmp_path / "store", 16
    models = slow(root, arrays)
    # A fraction of a second for each array, so that neither is done before the other has begun.
    options = ["--interval", 0.1, "--rate-limit", 1]
    with Process(root, *options) as one, Process(root, *options) as two:
        eventually(lambda: sql(tmp_path, "SELECT count(*) FROM bases") == [(arrays,)], 120)
        assert one.end(signal.SIGTERM) == two.end(signal.SIGTERM) == 0
    first, second = one.events[-1], two.events[-1]
    assert first["partitions"] + second["partitions"] == arrays
    assert first["partitions"] > 0 and second["partitions"] > 0
    assert first["lost"] == second["lost"] == first["errors"] == second["errors"] == 0
    with txstore.open(root, mode="r+") as store:
        assert store.verify().ok
        for name, model in models.items():
            same(store[name][...], model)
        assert strays(root) == set()


# -- killed, and asleep ---------------------------------------------------------------------------


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with Worker("zygote") as worker:
        worker.expect("ready")
        yield Zygote(worker, tmp_path)


@pytest.mark.parametrize("size", ["inline", "segment"])
def test_killed_anywhere_it_leaves_a_correct_store(tmp_path: Path, zygote: Zygote, size: str) -> None:
    root = tmp_path / "store"
    rng = random.Random(f"daemon {size}")
    model = KillModel(size)
    policy = {"min_fragments": 2, "interval_s": 0, "vacuum_interval_s": 0, "keep_last": 4}
    with create_kill_store(root) as store:
        for _ in range(POINTS):
            for _ in range(3):
                model.advance(model.count + 1)
                kill_commit(store, model.count, size)
            with zygote.victim("keeps", root=str(root), **policy) as victim:
                victim.hear(rng.randint(1, 9))
                random_pause(rng, rng.choice([0.003, 0.03]))
                victim.kill()
            with txstore.open(root, mode="r+") as reopened:
                model.check(reopened.snapshot())
                report = reopened.verify()
                assert report.ok, report.problems
        # The next one waits for none of the leases of the dead.
        with txstore.open(root, mode="r+") as reopened:
            done = Kept(reopened, **policy).once()
            assert (done.backlog, done.errors, done.lost) == (0, 0, 0)
        clean_up(store, root)
        model.check(store.snapshot())
        assert store.verify().ok


@contextlib.contextmanager
def asleep(pid: int, root: Path) -> Iterator[None]:
    """The process is stopped, at a moment when it does not hold the lock that all wait for."""
    lock = FileLock(root / "locks" / "commit", 1)
    while True:
        os.kill(pid, signal.SIGSTOP)
        try:
            with lock:
                break
        except StorageError:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
    lock.close()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_one_that_slept_past_its_lease_publishes_nothing(tmp_path: Path, zygote: Zygote) -> None:
    root = tmp_path / "store"
    models = slow(root)
    policy = {"min_fragments": 2, "lease_ttl_s": 1.0, "interval_s": 0.01}

    def expiry() -> Any:
        return sql(tmp_path, "SELECT expires_at FROM leases WHERE name LIKE 'compact/%'")

    with (
        txstore.open(root, mode="r+") as store,
        zygote.victim("keeps", root=str(root), rate_limit_bytes_s=CRAWL, **policy) as victim,
    ):
        hear_of(victim, "compacting")
        eventually(lambda: unfinished(root))
        first = expiry()
        eventually(lambda: expiry() > first)  # renewed, for the work takes longer than the lease lasts
        with asleep(victim.pid, root):
            ours = Kept(store, **policy)
            with ours.running():
                eventually(lambda: ours.daemon.report.partitions == 1, 60)
            bases = sql(tmp_path, "SELECT node, version, uuid FROM bases")
        lost = hear_of(victim, "lost")
        assert lost["path"] == "a0"
        os.kill(victim.pid, signal.SIGTERM)
        stopped = hear_of(victim, "stopped")
        assert (stopped["partitions"], stopped["lost"], stopped["errors"]) == (0, 1, 0)
        victim.pipe.read()  # its end
        assert sql(tmp_path, "SELECT node, version, uuid FROM bases") == bases
        assert sql(tmp_path, "SELECT count(*) FROM leases") == [(0,)]
        assert strays(root) == set()
        assert store.verify().ok
        same(store["a0"][...], models["a0"])


def hear_of(victim: Any, event: str) -> dict[str, Any]:
    """The next event of that name in the log of a victim."""
    while True:
        victim.hear(1)
        found: dict[str, Any] = json.loads(victim.heard[-1])
        if found["event"] == event:
            return found


def test_a_daemon_beside_writers_fails_none_of_them(store: Any, tmp_path: Path) -> None:
    create(store, "a", np.zeros((40, 8), dtype="i4"), chunks=(8, 8))
    create(store, "sum", np.zeros(8, dtype="i8"))
    failures: list[BaseException] = []

    def writer(lane: int) -> Callable[[], None]:
        def work() -> None:
            try:
                for turn in range(1, 21):
                    with store.transaction() as tx:
                        tx["a"][2 * turn - 2 : 2 * turn, lane] = turn
                        tx["sum"].accumulate(lane, 2 * turn)
            except BaseException as error:
                failures.append(error)

        return work

    with txstore.open(tmp_path / "store", mode="r+") as other:
        kept = Kept(other, interval_s=0, vacuum_interval_s=0, keep_last=2)
        with kept.running():
            threads = [threading.Thread(target=writer(lane)) for lane in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert kept.error is None
        assert kept.daemon.report.errors == 0, kept.named("failed")
    assert failures == []
    assert store["sum"][...].tolist() == [420] * 4 + [0] * 4
    assert store["a"][...].sum(axis=0).tolist() == [420] * 4 + [0] * 4
