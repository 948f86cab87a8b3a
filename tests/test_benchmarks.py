"""The harness of benchmarks/: that it runs whole, that every result is right, and that its ratios say what they say.

Nothing is asserted of times: they are of the machine and its day.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data import separate_boxes
from benchmarks.harness import plan
from benchmarks.report import best_peer, ratio, standing, standings, summary, text
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parent.parent


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    """The results of a small run, whose data and files lie in the folder."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks", "--size", "small", "--repeat", "1", *arguments]
    done = subprocess.run(
        [*command, "--scratch", str(scratch), "--out", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(scratch.iterdir())
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return results


@pytest.mark.timeout(900)
def test_every_workload_runs_and_every_result_is_right(tmp_path: Path) -> None:
    results = bench(tmp_path)
    runs = results["runs"]
    planned = list(plan(list(WORKLOADS), list(SYSTEMS), ["zstd"], 1))
    assert {(run["workload"], run["system"]) for run in runs} == {(r["workload"], r["system"]) for r in planned}
    for run in runs:
        kind, named = SYSTEMS[run["system"]], f"{run['workload']} with {run['system']}: {run.get('error')}"
        if not kind.installed():
            assert run["status"] == "skipped"
            continue
        if run["workload"] == "eight_writers" and not kind.ours:
            continue  # who loses cells, or falls over them, is shown and nobody's peer
        assert run["status"] == "ok", named
        wanted = {*WORKLOADS[run["workload"]].compared, "rise_MB", "disk_MB", "files", "took_s"}
        assert wanted <= set(run), named
    report = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert all(f"## {name}, codec zstd" in report for name in WORKLOADS)
    assert (tmp_path / "ratios.png").stat().st_size


@pytest.mark.parametrize("codec", ["default", "raw"])
def test_every_codec_writes_what_is_read(tmp_path: Path, codec: str) -> None:
    results = bench(tmp_path, "write_all", "--codecs", codec)
    assert {run["status"] for run in results["runs"]} <= {"ok", "skipped"}


def test_what_was_measured_of_other_work_is_kept_on_demand(tmp_path: Path) -> None:
    mine = ("--systems", "txstore")
    (before,) = bench(tmp_path, "unaligned_boxes", *mine)["runs"]
    added = bench(tmp_path, "unaligned_boxes", "time_travel", *mine, "--add")["runs"]
    assert [run["workload"] for run in added] == ["unaligned_boxes", "time_travel"]
    assert added[0]["commits_per_s"] != before["commits_per_s"]
    assert bench(tmp_path, "read_boxes", *mine, "--add")["runs"][:2] == added
    assert [run["workload"] for run in bench(tmp_path, "time_travel", *mine)["runs"]] == ["time_travel"]


def test_separate_boxes_share_no_cell() -> None:
    boxes = separate_boxes(304, (4096, 4096), (100, 100), seed=4)
    assert len(boxes) == 304
    apart = [
        any(p.stop <= q.start or q.stop <= p.start for p, q in zip(*pair, strict=True))
        for pair in combinations(boxes, 2)
    ]
    assert all(apart)


def run(system: str, value: float, **more: Any) -> dict[str, Any]:
    """One run of the boxes, as the harness notes it."""
    named = {"workload": "unaligned_boxes", "codec": "zstd", "system": system, "status": "ok", "versions": {}}
    return named | {"commits_per_s": value, "p99_ms": 10 / value} | more


RUNS = [
    run("txstore", 90),
    run("txstore", 110),
    run("txstore", 300),
    run("zarr", 50),
    run("tensorstore", 400, status="loses", lost_cells=7),
    run("tiledb", 20),
    run("icechunk", 1, status="skipped", error="icechunk is not installed"),
]
RESULTS = {"when": "now", "size": "small", "machine": {"filesystem": "ext4"}, "runs": RUNS}


def test_ratios_are_of_medians_to_the_best_that_loses_nothing() -> None:
    [(_, _, found)] = standings(RESULTS)
    by_name = {one.system: one for one in found}
    best = best_peer("commits_per_s", "more", found, "txstore")
    assert best is by_name["zarr"]
    assert ratio("commits_per_s", "more", by_name["txstore"], best) == pytest.approx(110 / 50)
    # The less the better: the ratio says the same, above 1 is ahead.
    assert ratio("p99_ms", "less", by_name["txstore"], best) == pytest.approx(110 / 50)
    # A peer stands beside the best of the others, and txstore is nobody's peer.
    assert best_peer("commits_per_s", "more", found, "zarr") is by_name["tiledb"]


def test_rows_that_lose_or_are_not_there_stay_in_the_tables() -> None:
    report = text(RESULTS)
    assert "loses 7 cells" in report
    assert "icechunk is not installed" in report
    assert "2.20×" in summary(RESULTS)


def test_one_loss_in_many_runs_is_a_loss() -> None:
    runs = [run("zarr", 50), run("zarr", 50, status="loses", lost_cells=3), run("zarr", 50)]
    assert standing("zarr", runs).fault == "loses 3 cells"


def test_nobody_is_always_the_first() -> None:
    runs = list(plan(["read_boxes"], list(SYSTEMS), ["zstd"], 3))
    assert len({r["system"] for r in runs if r["repeat"] == 0}) == len(WORKLOADS["read_boxes"].systems)
    firsts = [next(r["system"] for r in runs if r["repeat"] == number) for number in range(3)]
    assert len(set(firsts)) == 3


def test_an_unknown_workload_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "read_everything"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no such workload: read_everything" in done.stderr
