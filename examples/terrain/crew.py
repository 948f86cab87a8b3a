"""The processes of the demo: aircraft that write strips, and a follower that reads while they do."""

from __future__ import annotations

import time
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import numpy as np

import txstore
from terrain.survey import Landed, Strip

#: What the processes share; set once in each by :func:`join`.
_shared: dict[str, Any] = {}


def shared(context: SpawnContext, writers: int) -> dict[str, Any]:
    """A counter for the next strip, a gate at which the writers meet, and a flag for the end."""
    return {"next": context.Value("l", 0), "gate": context.Barrier(writers + 1), "landed": context.Event()}


def join(values: dict[str, Any]) -> None:
    """Run first in every process."""
    _shared.update(values)


def fly(root: Path, aircraft: int, strips: list[Strip], terrain: np.ndarray) -> list[Landed]:
    """Take the next strip, write it and count it in one commit, until none is left."""
    landed: list[Landed] = []
    with txstore.open(root, mode="r+") as store:
        _shared["gate"].wait()
        while True:
            with _shared["next"].get_lock():
                number = _shared["next"].value
                _shared["next"].value += 1
            if number >= len(strips):
                return landed
            landed.append(_ingest(store, strips[number], terrain, f"aircraft {aircraft}"))


def _ingest(store: txstore.Store, strip: Strip, terrain: np.ndarray, author: str) -> Landed:
    tries = 0

    def write(tx: Any) -> Any:
        nonlocal tries
        tries += 1
        tx["dem"][strip.box] = terrain[strip.box]
        tx["count"].accumulate(strip.box, 1)
        return tx

    tx = store.run(write, message=f"strip {strip.number}", author=author, timeout=600)
    return Landed(strip, tx.commit_info.version, tx.commit_info.committed_at, tries - 1)


def follow(root: Path, terrain: np.ndarray, total: int, frames: int) -> dict[str, int]:
    """Look at the newest version again and again, and keep a film of it in the same store.

    Each snapshot has to be whole: a cell is surveyed where it is counted, and then it holds the true elevation.
    """
    snapshots = wrong = 0
    with txstore.open(root, mode="r+") as store:
        first = store.snapshot().version
        taken = 0
        _shared["gate"].wait()
        while True:
            last = _shared["landed"].is_set()
            snapshot = store.snapshot()
            dem, count = snapshot["dem"][...], snapshot["count"][...]
            surveyed = count > 0
            wrong += int(np.count_nonzero(surveyed != ~np.isnan(dem)))
            wrong += int(np.count_nonzero(dem[surveyed] != terrain[surveyed]))
            snapshots += 1
            if snapshot.version - first >= taken * total / frames or last:
                with store.transaction(message=f"frame {taken}", author="follower") as tx:
                    tx["film/frames"].append(dem[np.newaxis])
                    tx["film/versions"].append(np.array([snapshot.version]))
                taken += 1
            if last:
                return {"snapshots": snapshots, "wrong": wrong, "frames": taken}
            time.sleep(0.02)
