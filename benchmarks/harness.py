"""Runs workloads: every system in turn, in a fresh process each time, and the whole round again and again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

from benchmarks.systems import SYSTEMS, Codec
from benchmarks.workloads import WORKLOADS, Size

ROOT = Path(__file__).resolve().parent.parent
CODECS: tuple[Codec, ...] = get_args(Codec)

#: What was to be run, then also how it went. "status" is "ok", "loses" (cells; figures are there), "failed" or
#: "skipped" (both with "error").
Run = dict[str, Any]


def plan(workloads: Sequence[str], systems: Sequence[str], codecs: Sequence[str], repeat: int) -> Iterator[Run]:
    """Every run in its order: the systems next to one another in time, so that noise falls on all alike."""
    for name in workloads:
        workload = WORKLOADS[name]
        chosen = [system for system in workload.systems if system in systems]
        for codec in (codec for codec in workload.codecs if codec in codecs):
            for number in range(1 if workload.curve else repeat):
                turn = number % max(len(chosen), 1)  # nobody is always the first, or always after the same one
                for system in chosen[turn:] + chosen[:turn]:
                    yield {"workload": name, "codec": codec, "system": system, "repeat": number}


def run_all(runs: Sequence[Run], size: Size, scratch: Path, timeout_s: float) -> Iterator[Run]:
    """All runs, one after the other, at no time two; each in a process of its own. Each as soon as it is done.

    At the small size, where figures mean nothing, all runs of a system share a process, for loading it takes the most
    time; and two systems go at once.
    """
    groups = [[run] for run in runs] if size == "full" else [[r for r in runs if r["system"] == s] for s in SYSTEMS]
    with ThreadPoolExecutor(1 if size == "full" else 2) as lanes:
        for finished in lanes.map(lambda group: run_process(group, size, scratch, timeout_s), filter(None, groups)):
            yield from finished


def run_process(runs: Sequence[Run], size: Size, scratch: Path, timeout_s: float) -> list[Run]:
    """Runs of one system in a fresh process and a fresh folder; the runs with their figures."""
    system = SYSTEMS[runs[0]["system"]]
    if not system.installed():
        return [run | {"status": "skipped", "error": f"{system.module} is not installed"} for run in runs]
    with tempfile.TemporaryDirectory(dir=scratch, prefix="run-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "benchmarks.worker", folder, size, json.dumps(runs)]
        try:
            os.sync()  # what another run has left to the system to write is not this one's to wait for
            status = subprocess.run(command, cwd=ROOT, timeout=timeout_s * len(runs)).returncode
            fault = f"the process died with status {status}"
        except subprocess.TimeoutExpired:
            fault = f"not done after {timeout_s:.0f} s"
        written = Path(folder, "results")
        lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
    results: list[Run] = [json.loads(line) for line in lines]
    results += [{"status": "failed", "error": fault}] * (len(runs) - len(results))
    return [run | result for run, result in zip(runs, results, strict=True)]


def named(run: Run) -> str:
    """Which run it is."""
    return f"{run['workload']} {run['codec']} {run['system']}"


def shown(run: Run) -> str:
    """One run in a line."""
    if "error" in run:
        return f"{run['status']}: {run['error']}"
    compared = WORKLOADS[run["workload"]].compared
    loses = f"loses {run['lost_cells']} cells; " if run["status"] == "loses" else ""
    return loses + ", ".join(f"{figure} {run[figure]:.4g}" for figure in compared)


def machine(scratch: Path) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_GB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "filesystem": filesystem(scratch),
    }


def filesystem(path: Path) -> str:
    """The kind of file system that `path` lies on, where /proc tells it; a tmpfs makes every sync free."""
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        _, mount, fstype, *_ = line.split()
        if str(path.resolve()).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind
