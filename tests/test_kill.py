"""kill -9 of writers, of maintenance and of the daemon, at many points; reopened and verified.

The oracle is a named pipe to this process, which no part of the store ever touches: a commit counts as acknowledged
once its number has come through. The victim is killed after the n-th line and a random number of microseconds
more, so that over many points every part of a commit is hit. ``HYPOTHESIS_PROFILE=nightly`` tries more points.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workers import KILL_SHAPE, Worker, create_kill_store, kill_block, kill_box, kill_commit

import txstore
from txstore.errors import SnapshotExpiredError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and named pipes")

POINTS = 300 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 25


class Victim:
    """A forked worker: its process id, and what it says."""

    def __init__(self, pid: int, pipe: Any) -> None:
        self.pid = pid
        self.pipe = pipe
        self.heard: list[str] = []

    def hear(self, count: int) -> None:
        """Wait for so many lines."""
        for _ in range(count):
            line = self.pipe.readline().rstrip("\n")
            assert line and not line.startswith("failed"), line or "the worker died by itself"
            self.heard.append(line)

    def kill(self) -> list[str]:
        """Kill it, wait for the end of its pipe, which comes when it is gone; everything it has ever said."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        rest = self.pipe.read().splitlines()
        assert not [line for line in rest if line.startswith("failed")], rest
        self.heard += rest
        return self.heard


class Zygote:
    """Makes victims."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self.folder = folder
        self.count = 0

    @contextlib.contextmanager
    def victim(self, role: str, **arguments: Any) -> Iterator[Victim]:
        self.count += 1
        path = self.folder / f"ack-{self.count}"
        os.mkfifo(path)
        self.worker.tell(json.dumps({"role": role, "ack": str(path), **arguments}))
        with open(path) as pipe:
            victim = Victim(int(pipe.readline()), pipe)
            try:
                yield victim
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
                pipe.read()


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    with Worker("zygote") as worker:
        worker.expect("ready")
        yield Zygote(worker, tmp_path)


class KillModel:
    """What the store holds after the first n commits."""

    def __init__(self, size: str) -> None:
        self.size = size
        self.values = np.zeros(KILL_SHAPE)
        self.count = 0

    def advance(self, count: int) -> None:
        while self.count < count:
            self.count += 1
            self.values[kill_box(self.count, self.size)] = kill_block(self.count, self.size)

    def check(self, snapshot: Any) -> None:
        """The snapshot holds exactly the first so many commits, each whole, and none less than before."""
        last = snapshot["sum"].attrs["last"]
        self.advance(last)
        assert self.count == last, "a commit that was there is gone"
        holds(snapshot, self.count, self.values)


def holds(snapshot: Any, count: int, values: np.ndarray) -> None:
    """The snapshot is the state after ``count`` commits, and nothing of another."""
    assert snapshot["sum"].attrs["last"] == count
    assert snapshot["log"][...].tolist() == list(range(1, count + 1))
    assert snapshot["sum"][()] == count * (count + 1) // 2
    assert (snapshot["x"][...] == values).all()


def strays(root: Path) -> set[Path]:
    """Files of bytes that the index does not know as live."""
    with contextlib.closing(sqlite3.connect(f"file:{root / 'index.sqlite'}?mode=ro", uri=True)) as index:
        known = {row[0].hex() for row in index.execute("SELECT uuid FROM segments WHERE state = 'live'")}
    ours = {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm"}
    files = {path for path in root.rglob("*") if path.is_file()}
    return {
        path
        for path in files
        if path.name not in ours | known and not path.name.endswith("lock") and "locks" not in path.parts
    }


def clean_up(store: Any, root: Path) -> None:
    """Vacuum deletes in two phases: after two of them nothing of the dead is left."""
    store.vacuum()
    store.vacuum()
    assert strays(root) == set()


def random_pause(rng: random.Random, longest_s: float) -> None:
    """Up to so many seconds, by the microsecond: sleeping alone would always overshoot the short ones."""
    until = time.perf_counter() + rng.random() * longest_s
    while (left := until - time.perf_counter()) > 0:
        if left > 0.002:
            time.sleep(left - 0.001)


@pytest.mark.parametrize("size", ["inline", "segment"])
def test_a_writer_killed_at_many_points(tmp_path: Path, zygote: Zygote, size: str) -> None:
    root = tmp_path / "store"
    create_kill_store(root).close()
    rng = random.Random(size)
    model = KillModel(size)
    pause = 0.01
    for point in range(POINTS):
        first = model.count + 1
        with zygote.victim("commits_from", root=str(root), first=first, size=size) as victim:
            victim.hear(1)  # "start": the first points fall into opening and the first commit
            begun = time.perf_counter()
            lines = rng.randint(0, 3)
            victim.hear(lines)
            if lines > 1:
                pause = min(max((time.perf_counter() - begun) / lines, 0.001), 0.25)
            random_pause(rng, pause * 1.5)
            heard = victim.kill()
        acknowledged = int(heard[-1]) if len(heard) > 1 else first - 1
        with txstore.open(root, mode="r+") as store:
            last = store["sum"].attrs["last"]
            assert acknowledged <= last <= acknowledged + 1, "an acknowledged commit is lost"
            model.check(store.snapshot())
            report = store.verify()
            assert report.ok, report.problems
            if point % 5 == 4:
                clean_up(store, root)
                model.check(store.snapshot())
    with txstore.open(root, mode="r+") as store:
        store.compact()
        clean_up(store, root)
        model.check(store.snapshot())
        assert store.verify().ok


def test_the_living_go_on_when_a_writer_is_killed(tmp_path: Path, zygote: Zygote) -> None:
    """Whatever lock the dead one held: this process commits on, and has the dead one's commits whole."""
    root = tmp_path / "store"
    rng = random.Random(7)
    with create_kill_store(root) as store:
        with store.transaction() as tx:
            tx.create_array("mine", shape=(0,), dtype="i4", chunks=(8,))
        model = KillModel("inline")
        count = 0
        for _ in range(POINTS // 2):
            with zygote.victim("commits_from", root=str(root), first=model.count + 1, size="inline") as victim:
                victim.hear(rng.randint(1, 3))
                for _ in range(3):
                    with store.transaction() as tx:
                        tx["mine"].append(np.array([count]))
                    count += 1
                random_pause(rng, 0.01)
                heard = victim.kill()
            with store.transaction() as tx:
                tx["mine"].append(np.array([count]))
            count += 1
            snapshot = store.snapshot()
            assert snapshot["mine"][...].tolist() == list(range(count))
            model.check(snapshot)
            assert model.count >= max([int(line) for line in heard if line.isdigit()], default=0)
        clean_up(store, root)
        assert store.verify().ok


@pytest.mark.parametrize("size", ["inline", "segment"])
def test_maintenance_killed_at_many_points(tmp_path: Path, zygote: Zygote, size: str) -> None:
    root = tmp_path / "store"
    keep = 6
    rng = random.Random(size)
    model = KillModel(size)
    states: dict[int, tuple[int, np.ndarray]] = {}
    with create_kill_store(root) as store:

        def commit_one() -> None:
            model.advance(model.count + 1)
            kill_commit(store, model.count, size)
            states[store.snapshot().version] = model.count, model.values.copy()

        for _ in range(POINTS // 2):
            for _ in range(4):
                commit_one()
            held = store.snapshot()
            with zygote.victim("maintains_until_killed", root=str(root), keep=keep) as victim:
                victim.hear(rng.randint(1, 4))
                commit_one()  # in the middle of it all, and never refused
                random_pause(rng, 0.05)
                victim.kill()
            holds(held, *states[held.version])
            with txstore.open(root, mode="r+") as reopened:
                model.check(reopened.snapshot())
                report = reopened.verify()
                assert report.ok, report.problems
                newest = sorted(states)[-keep:]
                for version in sorted(states)[-keep - 3 :]:
                    try:
                        holds(reopened.snapshot(version=version), *states[version])
                    except SnapshotExpiredError:
                        assert version not in newest
                clean_up(reopened, root)
                model.check(reopened.snapshot())


def test_the_daemon_killed_and_stopped(tmp_path: Path) -> None:
    """The daemon as a user starts it: killed at random moments, and in the end stopped by SIGTERM."""
    root = tmp_path / "store"
    rng = random.Random(11)
    model = KillModel("inline")
    package = str(Path(txstore.__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "txstore", "daemon", str(root)]
    with create_kill_store(root) as store:
        for point in range(5):
            log = tmp_path / f"daemon-{point}.log"
            with open(log, "wb") as out:
                daemon = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
            try:
                # From its first line in the log on it is at work.
                for _ in range(500):
                    if log.stat().st_size or daemon.poll() is not None:
                        break
                    model.advance(model.count + 1)
                    kill_commit(store, model.count, "inline")
                random_pause(rng, 0.5)
                assert daemon.poll() is None, log.read_text()
                daemon.send_signal(signal.SIGKILL if point < 4 else signal.SIGTERM)
                status = daemon.wait()
            finally:
                daemon.kill()
                daemon.wait()
            if point == 4:
                assert status == 0, log.read_text()
            with txstore.open(root, mode="r+") as reopened:
                model.check(reopened.snapshot())
                report = reopened.verify()
                assert report.ok, report.problems
        once = subprocess.run([*command, "--once"], env=environment, capture_output=True, text=True, check=False)
        assert once.returncode == 0, once.stderr
        clean_up(store, root)
        model.check(store.snapshot())
