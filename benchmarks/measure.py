"""What is measured beside the time: peak memory, bytes and files on disk, and what a late sync still costs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

_Result = TypeVar("_Result")

# -- memory ---------------------------------------------------------------------------------------


class Peak:
    """How far the resident memory of this process rises inside of a ``with`` block.

    Notes
    -----
    Where Linux lets us, the kernel's own high-water mark is reset and read, which misses nothing; elsewhere a thread
    looks every few milliseconds. Resident pages of mapped files count as well.
    """

    def __init__(self) -> None:
        self.rise_bytes = 0

    @property
    def rise_MB(self) -> float:
        return self.rise_bytes / 1e6

    def __enter__(self) -> Peak:
        self._baseline = self._seen = psutil.Process().memory_info().rss
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.003):
            self._seen = max(self._seen, process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        if self._watcher is None:
            self._seen = max(self._seen, high_water_bytes())
        else:
            self._done.set()
            self._watcher.join()
        self.rise_bytes = self._seen - self._baseline


def high_water_bytes() -> int:
    """The largest resident memory of this process so far (since it was last reset), where /proc tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


# -- time -----------------------------------------------------------------------------------------


def timed(action: Callable[..., Any], *arguments: Any) -> float:
    """The seconds that a call takes."""
    return clocked(action, *arguments)[0]


def clocked(action: Callable[..., _Result], *arguments: Any) -> tuple[float, _Result]:
    """The seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = action(*arguments)
    return time.perf_counter() - start, result


def median_ms(seconds: Iterable[float]) -> float:
    """The median, in milliseconds."""
    return statistics.median(seconds) * 1e3


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


# -- disk -----------------------------------------------------------------------------------------


def files_below(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def disk(root: Path) -> dict[str, float]:
    """Megabytes and number of the files below a folder; a file with two names counts once."""
    found = {(s.st_dev, s.st_ino): s.st_size for s in (path.stat() for path in files_below(root))}
    return {"disk_MB": sum(found.values()) / 1e6, "files": len(found)}


def sync_files(root: Path) -> None:
    for path in files_below(root):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def settle(root: Path) -> float:
    """The seconds that syncing all files below a folder still takes: what is owed where writes were not synced.

    A sync of a file that owes nothing takes time as well; what a second round takes is therefore not counted.
    """
    return max(0.0, timed(sync_files, root) - timed(sync_files, root))


# -- other processes ------------------------------------------------------------------------------

_SPAWN = multiprocessing.get_context("spawn")
_READY_S = 120


def apart(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Run `function` in a process of its own, so that what it allocates is not found in our memory."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as process:
        return process.submit(function, *arguments).result()


def together(function: Callable[..., _Result], shares: Sequence[Sequence[Any]]) -> list[_Result]:
    """Run `function` once for each share, each in a process of its own; they meet at :func:`ready`."""
    barrier = _SPAWN.Barrier(len(shares))
    with ProcessPoolExecutor(len(shares), _SPAWN, _meet_at, (barrier,)) as processes:
        return [future.result() for future in [processes.submit(function, *share) for share in shares]]


_barrier: Any = None


def _meet_at(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def ready() -> None:
    """Called in the processes of :func:`together`: returns when all of them have come here."""
    _barrier.wait(_READY_S)
