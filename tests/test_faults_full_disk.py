"""No room: a commit fails with an error that says so, leaves nothing, and the same store commits when there is room."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise, put, same
from scripts import environment, run

from txstore.errors import StorageError

# -- the database may not grow --------------------------------------------------------------------


@contextlib.contextmanager
def no_more_pages(store: Any) -> Iterator[None]:
    """The database may not grow: SQLite itself then says that it is full."""
    index = store._core.index
    with index.bare() as connection:
        (count,) = connection.raw.execute("PRAGMA page_count").fetchone()
        connection.raw.execute(f"PRAGMA max_page_count={count}")
    yield
    with index.bare() as connection:
        connection.raw.execute("PRAGMA max_page_count=4294967294")


def test_a_full_index(open_store: Any) -> None:
    store = open_store(inline_bytes=1 << 24)
    data = noise((64, 1024))
    create(store, "a", np.zeros_like(data), chunks=(8, 1024), codecs=())
    version = put(store, "a", 0, 1).version
    tx = store.transaction()
    tx["a"][...] = data
    tx["a"].attrs["units"] = "m"
    with no_more_pages(store), pytest.raises(StorageError, match="full"):
        tx.commit()
    assert tx.status == "aborted"
    assert store.snapshot().version == version
    assert store["a"][:2, 0].tolist() == [1, 0] and not store["a"].attrs
    put(store, "a", ..., data)
    same(store["a"][...], data)
    assert store.resolve(tx.txid) is None


# -- a file may not grow --------------------------------------------------------------------------

LIMITED = """
import os, resource, sys
import numpy as np
import txstore
from txstore.errors import CommitUnknownError, StorageError

root = sys.argv[1]
store = txstore.open(root, inline_bytes=1 << 24)
with store.transaction() as tx:
    tx.create_array("a", data=np.zeros(5000, "i4"), chunks=(500,), codecs=())
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for pages in range(60):
    before, version = store["a"][...], store.snapshot().version
    tx = store.transaction()
    tx["a"][...] = 1
    tx["a"][:1000] = np.arange(1000)
    # The log is what grows at COMMIT; so it fails there, after so many pages.
    size = os.path.getsize(os.path.join(root, "index.sqlite-wal"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + pages * 4120, hard))
    try:
        tx.commit()
        outcome = "committed"
    except CommitUnknownError as error:
        assert error.txid == tx.txid and tx.status == "unknown"
        outcome = "unknown"
    except StorageError as error:
        assert tx.status == "aborted", tx.status
        outcome = "failed"
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    print(outcome)
    landed = store.resolve(tx.txid) is not None
    assert landed == (outcome == "committed")
    assert store.snapshot().version == version + landed
    if landed:
        break
    assert (store["a"][...] == before).all()
    with store.transaction() as tx:
        tx["a"][pages] = 7
    assert store["a"][pages] == 7
assert store.verify().ok
"""


def test_a_log_that_may_not_grow(tmp_path: Path) -> None:
    """COMMIT fails in the midst of its pages, after each number of them; and so may the question what became of it."""
    outcomes = run(LIMITED, tmp_path / "store").split()
    assert outcomes[-1] == "committed" and len(outcomes) > 5
    assert set(outcomes[:-1]) == {"failed", "unknown"}, outcomes


# -- the disk is full -----------------------------------------------------------------------------

FULL = """
import errno, os, subprocess, sys
import numpy as np
import txstore
from txstore.errors import StorageError

mount, inline_bytes = sys.argv[1], int(sys.argv[2])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", mount], check=True)
root, ballast = os.path.join(mount, "store"), os.path.join(mount, "ballast")


def fill(leave):
    stat = os.statvfs(mount)
    with open(ballast, "wb") as file:
        file.write(bytes(max(stat.f_bavail * stat.f_frsize - leave, 0)))


def found():
    return {name for _, _, names in os.walk(os.path.join(root, "segments")) for name in names}


def live():
    with store._core.index.read() as connection:
        rows = connection.raw.execute("SELECT uuid FROM segments WHERE state = 'live'")
        return {row[0].hex() for row in rows}


def failing_until_there_is_room(work, check):
    # With more and more room: where the first failures came from.
    failures = []
    for leave in range(0, 1 << 20, 8192):
        left = found()
        fill(leave)
        try:
            work()
            os.unlink(ballast)
            return failures
        except StorageError as error:
            assert "full" in str(error) or "No space" in str(error), error
            assert "\\n" not in str(error)
            failures.append("index" if "index.sqlite" in str(error) else "segment")
        # Still without room. The first thing to free some is what the failure has left.
        check()
        assert found() == left
        os.unlink(ballast)
        # The same store commits as soon as there is some.
        with store.transaction() as tx:
            tx["a"][leave % 1000] = 1
        assert (store["a"][leave % 1000], reader["a"][leave % 1000]) == (1, 1)
        assert found() == left
    raise AssertionError("never enough room")


rng = np.random.default_rng(0)
data = rng.integers(0, 256, 200_000, dtype="u1")
store = txstore.open(root, inline_bytes=inline_bytes)
with store.transaction() as tx:
    tx.create_array("a", shape=data.shape, dtype="u1", chunks=(1 << 16,), codecs=())
# Somebody else has it open, so that the log stays when the connection of a failed commit is closed.
reader = txstore.open(root, mode="r")
transactions = []


def write():
    state[:] = [store.snapshot().version, reader["a"][...]]
    with store.transaction() as tx:
        transactions.append(tx)
        tx["a"][...] = data


def nothing_has_happened():
    assert store.snapshot().version == state[0]
    for one in (store, reader):
        assert (one["a"][...] == state[1]).all()


def refused():
    assert transactions[-1].status == "aborted"
    nothing_has_happened()


state = [0, None]
failures = failing_until_there_is_room(write, refused)
assert all(store.resolve(tx.txid) is None for tx in transactions[:-1])
assert (reader["a"][...] == data).all()
print(failures.count("segment"), failures.count("index"))


def compact():
    state[:] = [store.snapshot().version, reader["a"][...]]
    assert store.compact().partitions


print(len(failing_until_there_is_room(compact, nothing_has_happened)))
assert store.verify().ok
assert found() == live()
reader.close()
store.close()
"""


def in_its_own_mounts() -> list[str]:
    """The command before a command that may mount what nobody else sees; skips the test where there is none."""
    tried = [["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]]
    for prefix in tried:
        command = [*prefix, "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
        if shutil.which("unshare") and not subprocess.run(command, capture_output=True, check=False).returncode:
            return prefix
    pytest.skip("may not mount a small file system: neither as root nor in a name space of its own")


@pytest.mark.parametrize("inline_bytes", [1 << 24, 1 << 12], ids=["in the index", "in a file"])
def test_a_full_disk(tmp_path: Path, inline_bytes: int) -> None:
    (tmp_path / "mount").mkdir()
    done = subprocess.run(
        [*in_its_own_mounts(), sys.executable, "-c", FULL, str(tmp_path / "mount"), str(inline_bytes)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    segment, index, compaction = map(int, done.stdout.split())
    # It has run out of room at every stage.
    assert index > 2 and compaction > 2
    assert (segment > 2) == (inline_bytes == 1 << 12)
