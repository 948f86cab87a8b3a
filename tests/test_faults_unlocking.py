"""A commit that has landed has landed, whatever becomes of the lock under which it did."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, put
from scripts import run

ANOTHER = """
import sys, txstore
with txstore.open(sys.argv[1], lock_timeout_s=20) as store, store.transaction() as tx:
    tx["a"][1] = 5
"""


def refuse_to_unlock(number: int, operation: int, flock: Callable[[int, int], None] = fcntl.flock) -> None:
    if operation == fcntl.LOCK_UN:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    flock(number, operation)


def test_a_landed_commit_is_no_failure_where_unlocking_fails(
    tmp_path: Path, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "a", np.zeros(4, "i4"))
    for value in (1, 2):
        tx = store.transaction()
        tx["a"][0] = value
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", refuse_to_unlock)
            commit = tx.commit()
        assert tx.status == "committed"
        assert store["a"][0] == value
        assert store.resolve(tx.txid) == commit
        run(ANOTHER, tmp_path / "store")  # nobody is kept out
        assert store["a"][1] == 5
    put(store, "a", 2, 7)
    assert store["a"][...].tolist() == [2, 5, 7, 0]
