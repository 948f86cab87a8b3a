"""What every adapter does.

An adapter does what the system's own documents advise and no more. Heavy imports stand inside the methods: each
system runs in a process that loads nothing of the others.
"""

from __future__ import annotations

import importlib.util
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.data import Box, Values

#: "zstd": level 3 and no shuffle, for all alike; "default": what each takes when asked for nothing; "raw": none.
Codec = Literal["zstd", "default", "raw"]


def version_of(package: str) -> str:
    """The version of what is installed; a checkout may not be."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def batches(pieces: Iterable[tuple[Box, Values]], count: int = 1000) -> Iterator[list[tuple[Box, Values]]]:
    """So many at a time, for commits of many boxes."""
    rest = iter(pieces)
    while batch := list(islice(rest, count)):
        yield batch


@dataclass(frozen=True)
class Spec:
    """An array of float32 that is filled with zeros; what has no length yet is appended to."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    codec: Codec


class System(ABC):
    """One system, with its data below `root`.

    Parameters
    ----------
    root : Path
        A folder that may not exist yet.
    cache_bytes : int
        For decoded data, where the system has such a cache. None by default, as most have none.

    Attributes
    ----------
    name : str
        As in the tables.
    ours : bool
        Whether it is txstore, which is compared with the others and is nobody's peer.
    module : str
        What is imported; where it is not installed, the system is skipped by name.
    packages : tuple of str
        Whose versions are noted.
    durable : str
        What has happened when :meth:`write` returns.
    settings : str
        What is not as the system has it by itself.
    most_fragments : int or None
        Where a curve over the number of writes would take hours, it ends here.
    start : str
        Opening the store at ``root`` and reading ``box`` (a tuple of slices) of the array ``a`` into ``values``, as a
        user would type it, imports included.
    """

    name: ClassVar[str]
    ours: ClassVar[bool] = False
    module: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    durable: ClassVar[str]
    settings: ClassVar[str] = "as installed"
    most_fragments: ClassVar[int | None] = None
    start: ClassVar[str]

    def __init__(self, root: Path, cache_bytes: int = 0) -> None:
        self.root = root
        self.cache_bytes = cache_bytes

    @classmethod
    def installed(cls) -> bool:
        return importlib.util.find_spec(cls.module) is not None

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"python": platform.python_version()} | {package: version_of(package) for package in cls.packages}

    # --- opening --------------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> None:
        """Load the system and make ready to read and write, as a new process would; the folder may be empty."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Let go of everything."""

    # --- writing --------------------------------------------------------------------------------

    @abstractmethod
    def create(self, name: str, spec: Spec) -> None:
        """Make an array."""

    def create_many(self, names: Iterable[str], spec: Spec) -> None:
        """Make many arrays of one kind, in the fastest way there is."""
        for name in names:
            self.create(name, spec)

    @abstractmethod
    def write(self, name: str, box: Box, values: Values) -> None:
        """Write one box: one commit, as durable as the system makes it."""

    @abstractmethod
    def append(self, name: str, values: Values, end: int) -> None:
        """Append along the first axis, one commit; `end` is where the array ends, for systems that must be told."""

    def fill(self, name: str, pieces: Iterable[tuple[Box, Values]]) -> None:
        """Write many boxes in the quickest way that leaves what as many calls of :meth:`write` would leave."""
        for box, values in pieces:
            self.write(name, box, values)

    # --- reading --------------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str, box: Box) -> Values:
        """Read one box of what is newest."""

    def reader(self, name: str) -> Callable[[Box], Values]:
        """An array as one holds it to read from it many times; it may stay at its version."""
        return lambda box: self.read(name, box)

    def names(self) -> list[str]:
        """List the arrays."""
        raise NotImplementedError

    def newest(self) -> Any:
        """A name (JSON) for the state that the last write has left, for :meth:`read_at`."""
        raise NotImplementedError

    def read_at(self, name: str, state: Any, box: Box) -> Values:
        """Read one box as it was."""
        raise NotImplementedError

    # --- upkeep ---------------------------------------------------------------------------------

    def compact(self, name: str) -> int:
        """Turn what many writes have left into what reads fast; the bytes written. Most have nothing to do."""
        return 0

    def drop_history(self) -> None:  # noqa: B027 (most keep none)
        """Delete what only older versions need."""

    def export_zarr(self, destination: Path, *, again: bool = False) -> None:
        """Write everything as plain Zarr v3; `again`: bring an older copy up to date, where that can be done."""
        raise NotImplementedError

    def import_zarr(self, source: Path, name: str) -> None:
        """Take in a Zarr array."""
        raise NotImplementedError
