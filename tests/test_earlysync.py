"""A tree that is synced while it is written: what for, by whom, and that nothing is said of it."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise, same

from txstore.compaction import earlysync, exportdir
from txstore.compaction.earlysync import EarlySync
from txstore.compaction.renaming import syncfs
from txstore.errors import StorageError


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the file system has been synced early; there is no pause before."""
    done = threading.Event()

    def watched(directory: int) -> bool:
        found = syncfs(directory)
        done.set()
        return found

    monkeypatch.setattr(earlysync, "_PAUSE_S", 0.001)
    monkeypatch.setattr(earlysync, "syncfs", watched)
    return done


def wait_for(event: threading.Event) -> Any:
    """A progress callback that holds the export until then."""
    return lambda _: event.wait(20)


def test_an_export_is_synced_while_it_is_written(store: Any, tmp_path: Path, synced: threading.Event) -> None:
    create(store, "a", noise((64, 32)), chunks=(8, 8))
    store.export(tmp_path / "out", progress=wait_for(synced))
    assert synced.is_set()


def test_its_errors_are_not_told_but_those_of_the_last_sync_are(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise((64, 32))
    create(store, "a", data, chunks=(8, 8))
    failed = threading.Event()

    def failing(*arguments: Any) -> bool:
        failed.set()
        raise OSError(errno.EIO, "it is broken")

    monkeypatch.setattr(earlysync, "_PAUSE_S", 0.001)
    monkeypatch.setattr(earlysync, "syncfs", failing)
    store.export(tmp_path / "out", progress=wait_for(failed))
    assert failed.is_set()
    zarr = pytest.importorskip("zarr")
    same(np.asarray(zarr.open_group(tmp_path / "out", mode="r")["a"][...]), data)
    monkeypatch.setattr(exportdir, "sync_filesystem", failing)
    with pytest.raises(StorageError, match="broken"):
        store.export(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["out"]


def test_where_the_system_cannot_it_is_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlysync, "_PAUSE_S", 0.001)
    monkeypatch.setattr(earlysync, "syncfs", lambda directory: False)
    early = EarlySync(str(tmp_path))
    early._thread.join(20)
    assert not early._thread.is_alive()
    early.end()
    early.end()
