"""Real processes on one store: nothing is lost, nothing is refused without a reason, nothing is seen by half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workers import Worker, crew, together

WRITERS = 8
COMMITS = 50


def create(store: Any, **arrays: dict[str, Any]) -> None:
    with store.transaction(message="create") as tx:
        for name, options in arrays.items():
            tx.create_array(name, **options)


def test_eight_writers_on_the_cells_of_one_chunk(store: Any, tmp_path: Path) -> None:
    side = 64
    create(store, x={"shape": (side, side), "dtype": "i4", "chunks": (side, side)})
    before = store.snapshot().version
    with crew("cells", WRITERS, root=str(tmp_path / "store"), count=WRITERS, commits=20) as workers:
        assert together(workers) == [20] * WRITERS
    expected = np.arange(1, side * side + 1).reshape(side, side)
    assert (store["x"][...] == expected).all()
    assert len([c for c in store.log() if c.version > before]) == WRITERS * 20
    store.compact()
    assert (store["x"][...] == expected).all()


def test_eight_writers_of_boxes_in_one_chunk(store: Any, tmp_path: Path) -> None:
    side = 64
    create(store, y={"shape": (side, side), "dtype": "i4", "chunks": (side, side)})
    with crew("boxes", WRITERS, root=str(tmp_path / "store"), count=WRITERS, commits=30) as workers:
        together(workers)
    rows, columns = np.indices((side, side))
    expected = np.where(rows < 30, columns // (side // WRITERS) * 1000 + rows, 0)
    assert (store["y"][...] == expected).all()


def test_increments_through_run_are_all_counted(store: Any, tmp_path: Path) -> None:
    create(store, n={"shape": (8,), "dtype": "i8", "chunks": (8,)})
    before = store.snapshot().version
    with crew("increments", WRITERS, root=str(tmp_path / "store"), commits=COMMITS) as workers:
        together(workers)
    assert store["n"][3] == WRITERS * COMMITS
    # Each version holds exactly one increment more than the one before.
    versions = [c.version for c in store.log() if c.version > before]
    assert [int(store.snapshot(version=v)["n"][3]) for v in reversed(versions)] == list(range(1, 401))


def test_appenders_are_never_refused_and_blocks_stay_whole(store: Any, tmp_path: Path) -> None:
    create(store, x={"shape": (0, 5), "dtype": "i8", "chunks": (4, 3)})
    with crew("appends", WRITERS, root=str(tmp_path / "store"), commits=COMMITS) as workers:
        placed = together(workers)
    values = store["x"][...]
    assert (values == values[:, :1]).all()
    taken = np.zeros(len(values), int)
    for number, blocks in enumerate(placed):
        assert len(blocks) == COMMITS
        for k, (start, rows) in enumerate(blocks):
            taken[start : start + rows] += 1
            assert (values[start : start + rows] == number * 1000 + k).all()
        assert [start for start, _ in blocks] == sorted(start for start, _ in blocks)
    assert (taken == 1).all()  # 400 blocks, back to back
    store.compact()
    assert (store["x"][...] == values).all()


@pytest.mark.parametrize("keep", [2, 20])
def test_readers_see_whole_commits_while_maintenance_runs(store: Any, tmp_path: Path, keep: int) -> None:
    arrays: dict[str, dict[str, Any]] = {
        name: {"shape": (60, 60), "dtype": "i8", "chunks": (16, 16), "shards": (32, 32)} for name in "pq"
    }
    create(store, **arrays, n={"shape": (1,), "dtype": "i8", "attributes": {"commits": 0}})
    root = str(tmp_path / "store")
    with (
        crew("reads", 2, root=root) as readers,
        crew("maintains", 1, root=root, keep=keep) as maintainers,
        crew("pairs", 3, root=root, commits=COMMITS) as writers,
    ):
        background: list[Worker] = [*readers, *maintainers]
        for worker in background:
            worker.tell()
        together(writers)
        for worker in background:
            worker.tell("stop")
        seen = [worker.result() for worker in background]
    assert all(result["snapshots"] > 0 for result in seen[:2])
    assert seen[2]["rounds"] > 0
    assert (store["p"][...] == store["q"][...]).all()
    assert store["n"][0] == store["n"].attrs["commits"] == 3 * COMMITS
