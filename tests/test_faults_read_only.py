"""A store that its reader may not write: everything is read, nothing is changed, and what can't be right is refused.

The reader is another user where the tests run as root, and one without the permission elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, put
from scripts import process, run, says, tell

import txstore

#: The user that has no rights: nobody.
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can look into, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="txstore-test-"))
    folder.chmod(0o755)
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        pytest.skip(f"other users can't look into {folder}")
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def not_writable(root: Path) -> Iterator[None]:
    """Nobody but root may write while the block runs; and nothing is written."""
    modes = {path: path.stat().st_mode for path in [root, *root.rglob("*")]}
    if os.geteuid():
        for path in modes:
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        before = state(root)
        yield
        assert state(root) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def state(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.stat() for path in [root, *root.rglob("*")]}
    return {path: (stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def make(root: Path) -> Any:
    """A store with three versions, in files and in the index."""
    store = txstore.open(root, inline_bytes=1000)
    create(store, "g/a", np.arange(5000, dtype="i4"), chunks=(1000,), codecs=())
    put(store, "g/a", np.s_[:10], 7, message="few")
    put(store, "g/a", np.s_[10:4000], 8, message="many")
    return store


#: What becomes a reader without rights. It has done all of it once before, so that no module is left to be imported
#: from where only its first user may look.
READER = """
import os, sys
import txstore
from txstore.errors import ReadOnlyError, StorageError

def refused(call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except ReadOnlyError as error:
        assert "mode='r+'" in str(error)
    else:
        raise AssertionError(call)

def look(root, out, newest=None):
    with txstore.open(root, mode="r") as store:
        version = store.snapshot().version
        a = store["g/a"][...]
        assert a[:10].tolist() == [7] * 10 and (a[11:4000] == 8).all() and a[4999] == 4999
        if newest is not None:
            assert a[10] == newest
        assert store.snapshot(version=1)["g/a"][3] == 3
        assert store.snapshot(version=2)["g/a"][8:12].tolist() == [7, 7, 10, 11]
        messages = [commit.message for commit in store.log()]
        assert len(messages) == version and messages[-3:] == ["many", "few", None]
        assert list(store.diff(1, 2).boxes) == ["g/a"]
        assert [commit.message for commit in store["g/a"].history()][-2:] == ["few", None]
        assert store.info()["version"] == version
        report = store.verify()
        assert report.ok, report.problems
        store.export(out)
        store.export(out + "-1", version=1)
        refused(store.transaction)
        refused(store.compact)
        refused(store.vacuum)
        refused(store.expire, keep_last=1)
        refused(store.create_tag, "t")
        refused(store.create_branch, "b")
        refused(store.resolve, "12345678123456781234567812345678")

def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
"""

LOOK = (
    READER
    + """
root, out = sys.argv[1:3]
look(root + "-trial", out + "-trial")
become_nobody()
look(root, out, int(sys.argv[3]))
for mode in ("r+", "a"):
    try:
        with txstore.open(root, mode=mode) as store, store.transaction() as tx:
            tx["g/a"][0] = 1
    except StorageError as error:
        assert root in str(error)
    else:
        raise AssertionError(mode)
print("good")
"""
)


def look(place: Path, newest: int) -> None:
    """Read all of it as another user."""
    make(place / "store-trial").close()
    (place / "out").mkdir()
    (place / "out").chmod(0o777)
    with not_writable(place / "store"):
        assert run(LOOK, place / "store", place / "out" / "z", newest) == "good\n"
    for name, ten in (("z", newest), ("z-1", 10)):
        chunk = np.fromfile(place / "out" / name / "g" / "a" / "c" / "0", "<i4")
        assert chunk[10] == ten


COMMIT_AND_DIE = """
import os, signal, sys, txstore
store = txstore.open(sys.argv[1])
with store.transaction(message="last") as tx:
    tx["g/a"][10] = 9
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(root: Path) -> None:
    """A process dies right after its commit, which then is in the log only."""
    with process(COMMIT_AND_DIE, root) as victim:
        assert victim.wait() < 0
    assert (root / "index.sqlite-wal").stat().st_size


def test_a_store_that_was_closed(place: Path) -> None:
    make(place / "store").close()
    assert not (place / "store" / "index.sqlite-wal").exists()
    look(place, 8)


def test_a_store_that_another_user_has_open(place: Path) -> None:
    with make(place / "store"):
        assert (place / "store" / "index.sqlite-wal").stat().st_size
        look(place, 8)


def test_a_store_whose_last_user_was_killed(place: Path) -> None:
    make(place / "store").close()
    die(place / "store")
    look(place, 9)
    with txstore.open(place / "store") as store:
        assert store["g/a"][10] == 9


REFUSED = (
    READER
    + """
txstore.open(sys.argv[1] + "-trial", mode="r").close()
become_nobody()
try:
    txstore.open(sys.argv[1], mode="r")
except StorageError as error:
    print(error)
"""
)


def test_a_log_without_its_index_is_refused(place: Path) -> None:
    """As a copy has it: the log holds commits, and reading without it would silently be older than what is there."""
    make(place / "store").close()
    die(place / "store")
    (place / "store" / "index.sqlite-shm").unlink()
    make(place / "store-trial").close()
    with not_writable(place / "store"):
        told = run(REFUSED, place / "store")
    assert str(place / "store") in told and "was not closed" in told and "copy the store" in told
    # Who may write opens it, and finds what was committed.
    with txstore.open(place / "store") as store:
        assert store["g/a"][10] == 9
        assert store.verify().ok


OVERTAKEN = (
    READER
    + """
root = sys.argv[1]
look(root + "-trial", root + "-trial-out")
become_nobody()
store = txstore.open(root, mode="r")
index = store._core.index
assert store["g/a"][10] == 8

def wait():
    print("waiting", flush=True)
    sys.stdin.readline()

try:
    with index.read() as connection:
        connection.raw.execute("SELECT count(*) FROM fragments").fetchone()
        wait()
except StorageError as error:
    assert "was written while it was read" in str(error), error
else:
    raise AssertionError("half of the old index and half of the new one")
for _ in range(2):
    print(store["g/a"][10], store.snapshot().version, store.verify().ok, flush=True)
    wait()
"""
)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
@pytest.mark.parametrize("stays", [True, False], ids=["and keeps it open", "and closes it"])
def test_a_store_that_is_written_while_somebody_reads_it_without_locks(place: Path, stays: bool) -> None:
    """SQLite would go on with the pages that it knows, and mix them with new ones."""
    make(place / "store-trial").close()
    make(place / "store").close()

    def write(value: int) -> Any:
        store = txstore.open(place / "store")
        for number in range(50):
            create(store, f"g/new {value} {number}", np.arange(10))
        put(store, "g/a", 10, value)
        store.compact()
        if not stays:
            store.close()
        return store

    with process(OVERTAKEN, place / "store") as reader:
        assert says(reader) == "waiting"
        first = write(9)
        tell(reader)
        assert says(reader) == "9 54 True"
        assert says(reader) == "waiting"
        second = write(10)
        tell(reader)
        assert says(reader) == "10 105 True"
        first.close()
        second.close()
