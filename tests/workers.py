"""The other processes: what the tests of real processes and of ``kill -9`` start.

Run as ``python workers.py ROLE JSON``. A worker says what has happened in lines on its standard output, each written
at once and never through anything that the test breaks, and waits for lines on its standard input where a test has
to hold it back. The parent's half, :class:`Worker`, lives here too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import txstore
from txstore.errors import ConflictError, SnapshotExpiredError

HERE = Path(__file__).resolve()


# ---- the parent's half


class Worker:
    """A child process in one role.

    Notes
    -----
    Used as a context manager: whatever the test does, the process is gone afterwards.
    """

    def __init__(self, role: str, **arguments: Any) -> None:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        package = str(Path(txstore.__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), role, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def line(self) -> str:
        """The next line that the worker says; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def expect(self, text: str) -> None:
        line = self.line()
        assert line == text, f"expected {text!r}, the worker said {line!r}"

    def tell(self, text: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        """The last line as JSON, once the worker has ended well."""
        assert self.process.stdout is not None
        lines = self.process.stdout.read().splitlines()
        assert self.process.wait() == 0, f"the worker ended with {self.process.returncode}: {lines[-5:]}"
        return json.loads(lines[-1])

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextlib.contextmanager
def crew(role: str, each: int | list[dict[str, Any]], **arguments: Any) -> Iterator[list[Worker]]:
    """So many workers in one role, or one for each set of arguments; numbered by ``number``, all of them ready."""
    own: list[dict[str, Any]] = [{} for _ in range(each)] if isinstance(each, int) else each
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(role, number=k, **arguments, **more)) for k, more in enumerate(own)]
        for worker in workers:
            worker.expect("ready")
        yield workers


def together(workers: list[Worker]) -> list[Any]:
    """Let all go at once, and wait for what they return."""
    for worker in workers:
        worker.tell()
    return [worker.result() for worker in workers]


# ---- what both halves know


def say(text: str) -> None:
    """One line, by one write that is done when this returns."""
    os.write(1, f"{text}\n".encode())


def wait_for_word() -> str:
    """One line from the parent, byte by byte: a buffer would hide the next one from :func:`stopped`."""
    word = bytearray()
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        word += byte
    return word.decode()


def ready() -> None:
    say("ready")
    wait_for_word()


#: The extents of the arrays that the killed writers write.
KILL_SHAPE = (400, 500)


def kill_box(number: int, size: str) -> tuple[slice, slice]:
    """Where commit ``number`` of a writer that is to be killed writes: unaligned, and overlapping earlier ones."""
    rng = random.Random(f"{size}-{number}")
    height, width = (rng.randint(3, 9), rng.randint(3, 9)) if size == "inline" else (330, 410)
    top, left = rng.randint(0, KILL_SHAPE[0] - height), rng.randint(0, KILL_SHAPE[1] - width)
    return slice(top, top + height), slice(left, left + width)


def kill_block(number: int, size: str) -> np.ndarray:
    """What it writes there: nothing that a codec could make small."""
    rows, columns = kill_box(number, size)
    return np.random.default_rng(number).random((rows.stop - rows.start, columns.stop - columns.start))


def create_kill_store(root: Path | str) -> Any:
    store = txstore.open(root)
    with store.transaction(message="create") as tx:
        tx.create_array("x", shape=KILL_SHAPE, dtype="f8", chunks=(64, 64))
        tx.create_array("log", shape=(0,), dtype="i8", chunks=(16,))
        tx.create_array("sum", shape=(), dtype="i8", attributes={"last": 0})
    return store


def kill_commit(store: Any, number: int, size: str) -> None:
    """One commit over three arrays and an attribute: a part of it would be seen."""
    with store.transaction(message=f"commit {number}") as tx:
        tx["x"][kill_box(number, size)] = kill_block(number, size)
        tx["log"].append(np.array([number]))
        tx["sum"].accumulate(..., number, op="add")
        tx["sum"].attrs["last"] = number


# ---- the roles


def cells(root: str, number: int, count: int, commits: int) -> int:
    """Writes its own cells of one chunk, a few at a time; a refusal is an error."""
    store = txstore.open(root, mode="r+")
    side = store["x"].shape[0]
    mine = np.random.default_rng(0).permutation(side * side)[number::count]
    ready()
    for part in np.array_split(mine, commits):
        with store.transaction() as tx:
            rows, columns = np.unravel_index(part, (side, side))
            tx["x"].vindex[rows, columns] = part + 1
    store.close()
    return commits


def boxes(root: str, number: int, count: int, commits: int) -> int:
    """As cells, but each commit writes a box: one row of its own column block."""
    store = txstore.open(root, mode="r+")
    side = store["y"].shape[0]
    width = side // count
    ready()
    for row in range(commits):
        with store.transaction() as tx:
            tx["y"][row, number * width : (number + 1) * width] = number * 1000 + row
    store.close()
    return commits


def increments(root: str, number: int, commits: int) -> int:
    """Read, add one, write; again where somebody else was first. Returns how often it had to try again."""
    store = txstore.open(root, mode="r+")
    tries = 0

    def increment(tx: Any) -> None:
        nonlocal tries
        tries += 1
        tx["n"][3] = tx["n"][3] + 1

    ready()
    for _ in range(commits):
        store.run(increment, timeout=600)
    store.close()
    return tries - commits


def appends(root: str, number: int, commits: int) -> list[list[int]]:
    """Appends blocks of its own, of several lengths. Returns (first row, rows) of each; a refusal is an error."""
    store = txstore.open(root, mode="r+")
    rng = random.Random(number)
    placed = []
    ready()
    for k in range(commits):
        rows = rng.randint(1, 7)
        with store.transaction() as tx:
            appended = tx["x"].append(np.full((rows, 5), number * 1000 + k))
        placed.append([appended.box.lo[0], rows])
    store.close()
    return placed


def pairs(root: str, number: int, commits: int) -> int:
    """Writes one value into the same box of two arrays, and counts the commits in a third and in an attribute."""
    store = txstore.open(root, mode="r+")
    rng = random.Random(number)

    def both(tx: Any) -> None:
        top, left = rng.randint(0, 40), rng.randint(0, 40)
        box = slice(top, top + rng.randint(1, 20)), slice(left, left + rng.randint(1, 20))
        value = rng.randint(1, 10**9)
        tx["p"][box] = value
        tx["q"][box] = value
        done = int(tx["n"][0]) + 1
        tx["n"][0] = done
        tx["n"].attrs["commits"] = done

    ready()
    for _ in range(commits):
        store.run(both, timeout=600)
    store.close()
    return commits


def reads(root: str, number: int) -> dict[str, int]:
    """Looks at heads until it is told to stop: p equals q, and the counts agree, in every snapshot, then and later.

    A snapshot that has expired may be refused, but never be wrong.
    """
    store = txstore.open(root, mode="r")
    ready()
    versions: list[int] = []
    held: tuple[Any, np.ndarray] | None = None
    seen = expired = 0
    while not (seen and stopped()):
        snapshot = store.snapshot()
        try:
            p, q = snapshot["p"][...], snapshot["q"][...]
            assert snapshot["n"][0] == snapshot["n"].attrs["commits"]
            if held is not None:
                then, before = held
                assert (then["p"][...] == before).all(), f"version {then.version} has changed"
        except SnapshotExpiredError:
            held = None
            expired += 1
            continue
        assert (p == q).all(), f"half a commit at version {snapshot.version}"
        assert not versions or snapshot.version >= versions[-1], "versions went back"
        versions.append(snapshot.version)
        if held is None or seen % 5 == 0:
            held = snapshot, p
        seen += 1
    store.close()
    return {"snapshots": seen, "versions": len(set(versions)), "expired": expired}


def maintains(root: str, number: int, keep: int) -> dict[str, int]:
    """Compacts, expires and vacuums until it is told to stop."""
    store = txstore.open(root, mode="r+")
    ready()
    rounds = 0
    while not (rounds and stopped()):
        store.compact()
        store.expire(keep_last=keep)
        store.vacuum()
        rounds += 1
    store.close()
    return {"rounds": rounds}


def stopped() -> bool:
    """Whether a line has come on standard input, without waiting for one."""
    return bool(select.select([0], [], [], 0)[0])


def long_transactions(root: str, number: int, rounds: int) -> dict[str, int]:
    """Creates arrays in one group; each transaction stays open while all the others commit theirs."""
    store = txstore.open(root, mode="r+")
    say("ready")
    won = 0
    for k in range(rounds):
        wait_for_word()
        tx = store.transaction(message=f"day {k} of {number}")
        array = tx.create_array(
            f"days/{k:02d}-{number}", shape=(50,), dtype="i4", chunks=(7,), attributes={"by": number}
        )
        array[...] = number * 100 + k
        contested = store.transaction()
        contested.create_array(f"days/{k:02d}-any", shape=(1,), dtype="i4")[0] = number
        say("staged")
        wait_for_word()
        tx.commit()
        try:
            contested.commit()
            won += 1
        except ConflictError:
            pass
        say("committed")
    store.close()
    return {"won": won}


def region(root: str, number: int, lo: int, hi: int) -> int:
    """Writes the rows [lo, hi) of an array, in two commits that cut through chunks."""
    store = txstore.open(root, mode="r+")
    ready()
    middle = (lo + hi) // 2 + 1
    for start, stop in ((lo, middle), (middle, hi)):
        with store.transaction() as tx:
            width = tx["x"].shape[1]
            tx["x"][start:stop] = np.arange(start * width, stop * width).reshape(stop - start, width)
    store.close()
    return hi - lo


def commits_from(root: str, first: int, size: str) -> None:
    """Commits number ``first``, the next, and so on, each acknowledged by a line, until it is killed."""
    say("start")
    store = txstore.open(root, mode="r+")
    number = first
    while True:
        kill_commit(store, number, size)
        say(str(number))
        number += 1


def commits_on_word(root: str, sizes: list[str]) -> int:
    """Makes commit 1, 2, ..., of these sizes, one for each word."""
    store = txstore.open(root, mode="r+")
    say("ready")
    for number, size in enumerate(sizes, start=1):
        wait_for_word()
        kill_commit(store, number, size)
        say(f"committed {number}")
    wait_for_word()
    store.close()
    return len(sizes)


def maintains_until_killed(root: str, keep: int) -> None:
    """Compacts, expires and vacuums, and says so after each step, until it is killed."""
    say("start")
    store = txstore.open(root, mode="r+")
    while True:
        store.compact()
        say("compacted")
        store.expire(keep_last=keep)
        say("expired")
        store.vacuum()
        say("vacuumed")


def keeps(root: str, **policy: Any) -> None:
    """A daemon, whose log comes out as what this worker says."""
    from txstore.compaction.daemon import Daemon, Policy

    store = txstore.open(root, mode="r+")
    Daemon(store, Policy(**policy), log_format="json", stream=os.fdopen(1, "w", closefd=False)).run()
    store.close()


def zygote() -> None:
    """Forks a worker for each line of JSON, ``{"role", "ack", ...}``, which talks into the named pipe ``ack``.

    The package is imported and no store is open, so that a fork costs milliseconds where a start costs a second.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    say("ready")
    for line in sys.stdin:
        arguments = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pipe = os.open(arguments.pop("ack"), os.O_WRONLY)
            os.dup2(pipe, 1)
            os.close(pipe)
            say(str(os.getpid()))
            try:
                ROLES[arguments.pop("role")](**arguments)
            except BaseException as error:
                say(f"failed: {error!r}")
            os._exit(1)


ROLES: dict[str, Callable[..., Any]] = {
    "appends": appends,
    "boxes": boxes,
    "cells": cells,
    "commits_from": commits_from,
    "commits_on_word": commits_on_word,
    "increments": increments,
    "keeps": keeps,
    "long_transactions": long_transactions,
    "maintains": maintains,
    "maintains_until_killed": maintains_until_killed,
    "pairs": pairs,
    "reads": reads,
    "region": region,
    "zygote": zygote,
}

if __name__ == "__main__":
    say(json.dumps(ROLES[sys.argv[1]](**json.loads(sys.argv[2]))))
