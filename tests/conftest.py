"""What every test gets: a store that is verified when the test is done, a watch for leaks, and Hypothesis' profiles."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from hypothesis import HealthCheck, settings

# -- Hypothesis -----------------------------------------------------------------------------------

# Examples touch disks and databases: how long one takes says nothing about its being right.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
# In CI a failure must be the change's and not the day's: the same examples every time.
settings.register_profile("ci", settings.get_profile("dev"), max_examples=100, derandomize=True, print_blob=True)
settings.register_profile("nightly", settings.get_profile("dev"), max_examples=2000, stateful_step_count=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


# -- stores ---------------------------------------------------------------------------------------


class OpenStore(Protocol):
    """Opens a store below the test's folder; closed and verified when the test is done."""

    def __call__(self, name: str = "store", /, **config: Any) -> Any: ...


def check_store(root: Path) -> None:
    """A store that is found sound by its own check, every byte and every row of it."""
    import txstore

    with txstore.open(root, mode="r") as store:
        report = store.verify()
    assert report.ok, f"{root.name} is damaged:\n" + "\n".join(str(problem) for problem in report.problems)


@pytest.fixture
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """A way to open any number of stores, once or several times each.

    Whatever the test has left open is closed at its end, and every store is verified, unless the
    test is marked ``damaged``. Later backends are chosen here, by parameters of this fixture.
    """
    import txstore

    opened: list[Any] = []
    roots: dict[Path, dict[str, Any]] = {}

    def open_one(name: str = "store", /, **config: Any) -> Any:
        root = tmp_path / name
        store = txstore.open(root, **config)
        opened.append(store)
        roots[root] = config
        return store

    yield open_one
    for store in reversed(opened):
        store.close()
    if request.node.get_closest_marker("damaged") is None:
        for root in roots:
            check_store(root)


@pytest.fixture
def store(open_store: OpenStore) -> Any:
    """An empty store at ``tmp_path / "store"``; closed and verified when the test is done."""
    return open_store()


# -- leaks ----------------------------------------------------------------------------------------

#: How long what is ending may take to end.
GRACE_S = 5.0

#: Threads that live as long as the process, by the start of their names: zarr's event loop and its workers.
LASTING_THREADS = ("zarr_io", "zarr_pyloop", "asyncio_")
#: Processes likewise, by a word of their command: multiprocessing's own servants.
LASTING_CHILDREN = ("resource_tracker", "forkserver")


def threads() -> Counter[str]:
    return Counter(
        f"thread {thread.name!r}"
        for thread in threading.enumerate()
        if thread.is_alive() and not thread.name.startswith(LASTING_THREADS)
    )


def children() -> Counter[str]:
    found: Counter[str] = Counter()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if not any(word in command for word in LASTING_CHILDREN):
                found[f"process {child.pid} ({command or child.name()}, {child.status()})"] += 1
    return found


def descriptors() -> Counter[str]:
    """Open files by path. Sockets, pipes and event descriptors belong to event loops that last, and have no name."""
    found: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError):  # no /proc: another system than Linux
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{number}")
                if target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/", "/memfd:")):
                    found[f"descriptor of {target}"] += 1
    return found


WATCHED: tuple[Callable[[], Counter[str]], ...] = (threads, children, descriptors)


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a thread, an open file or a child process behind.

    It is set up before every other fixture of its scope, and so looks again when those are gone.
    """
    before = [look() for look in WATCHED]
    yield
    if request.node.get_closest_marker("leaks") is not None:
        return

    def leaked() -> list[str]:
        return [str(what) for look, known in zip(WATCHED, before, strict=True) for what in look() - known]

    if not leaked():
        return
    deadline = time.monotonic() + GRACE_S
    while left := leaked():
        gc.collect()  # what only awaits collection is no leak; it may hold more that then awaits it
        if time.monotonic() > deadline:
            pytest.fail("the test leaves behind:\n" + "\n".join(left))
        time.sleep(0.02)
