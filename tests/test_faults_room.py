"""The room of vacuumed files is free soon, although a reader has had them open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from histories import create, noise, put

import txstore


def deleted_but_open(root: Path) -> int:
    """Bytes of deleted files below `root` that this process has open: no file system can use them again."""
    total = 0
    for number in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{number}"
        try:
            if os.readlink(path).startswith(str(root / "segments")) and not os.stat(path).st_nlink:
                total += os.stat(path).st_size
        except FileNotFoundError:
            continue
    return total


def test_a_reader_gives_the_room_of_vacuumed_files_back(tmp_path: Path, open_store: Any) -> None:
    store = open_store(inline_bytes=0)
    create(store, "a", np.zeros(5000, "i4"), chunks=(500,), codecs=())
    with txstore.open(tmp_path / "store", mode="r", cache_bytes=0) as reader:
        held = reader.snapshot()
        for seed in range(8):
            put(store, "a", np.s_[seed * 500 + 100 : seed * 500 + 700], noise(600, seed=seed))
            reader["a"][...]
        store.compact()
        store.expire(keep_last=1)
        put(store, "a", 0, 1)
        store.expire(keep_last=1)
        assert store.vacuum().segments >= 8
        assert deleted_but_open(tmp_path / "store") >= 8 * 2400
        expected = reader["a"][...]  # asks for the newest state, and so learns that there was a vacuum
        assert deleted_but_open(tmp_path / "store") == 0
        assert (expected == store["a"][...]).all()
        # Whoever still holds an old state is told, as after any vacuum.
        try:
            assert not held["a"][...].any()
        except txstore.SnapshotExpiredError:
            pass
