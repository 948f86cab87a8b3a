"""Runs workloads: every system in turn, in a fresh process each time, and the whole round again and again."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems import Codec
from benchmarks.workloads import WORKLOADS, Size

ROOT = Path(__file__).resolve().parent.parent
Run = dict[str, Any]


def plan(workloads: Sequence[str], systems: Sequence[str], codecs: Sequence[str], repeat: int) -> Iterator[Run]:
    """Every run in its order: the systems next to one another in time, so that noise falls on all alike."""
    for name in workloads:
        workload = WORKLOADS[name]
        for codec in workload.codecs:
            if codec not in codecs:
                continue
            for number in range(1 if workload.curve else repeat):
                for system in workload.systems:
                    if system in systems:
                        yield {"workload": name, "codec": codec, "system": system, "repeat": number}


def run_one(run: Run, size: Size, scratch: Path, timeout_s: float) -> Run:
    """One run in a fresh process and a fresh folder; the run with its figures."""
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="run-"))
    command = [sys.executable, "-m", "benchmarks.worker"]
    command += [run["workload"], run["system"], run["codec"], size, str(folder)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=timeout_s, text=True)
        result: Run = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        result = {"status": "failed", "error": f"not done after {timeout_s:.0f} s"}
    except (IndexError, json.JSONDecodeError):
        result = {"status": "failed", "error": f"the process died with status {done.returncode}"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run | result


def run_all(runs: Sequence[Run], size: Size, scratch: Path, timeout_s: float, say: Callable[[str], None]) -> list[Run]:
    """All runs, one after the other; at no time two."""
    done = []
    for number, run in enumerate(runs, 1):
        result = run_one(run, size, scratch, timeout_s)
        figure = result.get(WORKLOADS[run["workload"]].headline)
        shown = result.get("error", result["status"]) if figure is None else f"{figure:.4g}"
        say(f"[{number}/{len(runs)}] {run['workload']} {run['codec']} {run['system']}: {shown}")
        done.append(result)
        os.sync()  # what one run has left to the system to write is not the next one's to wait for
    return done


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


def known_codecs() -> list[Codec]:
    return ["zstd", "default", "raw"]
