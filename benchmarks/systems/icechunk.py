"""Icechunk, through zarr-python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from benchmarks.data import Box, Values
from benchmarks.systems.base import Spec, System, batches
from benchmarks.systems.zarr import create_array


class Icechunk(System):
    name = "icechunk"
    module = "icechunk"
    packages = ("icechunk", "zarr", "numcodecs", "numpy")
    durable = "committed, not synced; said not to be safe for concurrent commits in a local directory"
    settings = "rebase_with=ConflictDetector(); what still conflicts is done again in a new session"
    most_fragments = 100_000
    start = (
        "import icechunk, zarr\n"
        "repository = icechunk.Repository.open(icechunk.local_filesystem_storage(root))\n"
        "session = repository.readonly_session('main')\n"
        "values = zarr.open_array(session.store, path='a', mode='r')[box]"
    )

    def open(self) -> None:
        import icechunk
        import zarr

        # It warns on stderr, in each process, that a local directory is not safe; so does our table.
        icechunk.set_logs_filter("error")
        self._icechunk, self._zarr = icechunk, zarr
        storage = icechunk.local_filesystem_storage(str(self.root))
        self._repository = icechunk.Repository.open_or_create(storage, self.config())
        self._newest = ""

    def config(self) -> Any:
        return None

    def _commit(self, change: Callable[[Any], object]) -> None:
        """One commit of what `change` does to the Zarr store of a session."""
        while True:
            session = self._repository.writable_session("main")
            change(session.store)
            try:
                self._newest = session.commit("change", rebase_with=self._icechunk.ConflictDetector())
                return
            except (self._icechunk.ConflictError, self._icechunk.RebaseFailedError):
                continue

    def _array(self, name: str, **version: Any) -> Any:
        session = self._repository.readonly_session(**version or {"branch": "main"})
        return self._zarr.open_array(session.store, path=name, mode="r")

    def create(self, name: str, spec: Spec) -> None:
        self._commit(lambda store: create_array(self._zarr.open_group(store, mode="a"), name, spec))

    def write(self, name: str, box: Box, values: Values) -> None:
        self._commit(partial(self._put, name, [(box, values)]))

    def append(self, name: str, values: Values, end: int) -> None:
        self._commit(lambda store: self._zarr.open_array(store, path=name, mode="r+").append(values))

    def fill(self, name: str, pieces: Iterable[tuple[Box, Values]]) -> None:
        for batch in batches(pieces):
            self._commit(partial(self._put, name, batch))

    def _put(self, name: str, pieces: Iterable[tuple[Box, Values]], store: Any) -> None:
        array = self._zarr.open_array(store, path=name, mode="r+")
        for box, values in pieces:
            array[box] = values

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._array(name)[box]
        return values

    def reader(self, name: str) -> Callable[[Box], Values]:
        read: Callable[[Box], Values] = self._array(name).__getitem__
        return read

    def newest(self) -> Any:
        return self._newest

    def read_at(self, name: str, state: Any, box: Box) -> Values:
        values: Values = self._array(name, snapshot_id=state)[box]
        return values

    def drop_history(self) -> None:
        now = datetime.now(UTC)
        self._repository.expire_snapshots(older_than=now)
        self._repository.garbage_collect(now)


class IcechunkSplit(Icechunk):
    """With manifests that do not grow with the array, as its guide to performance advises for a million chunks."""

    name = "icechunk-split"
    settings = "as icechunk; manifests split every 64 chunks along each axis"

    def config(self) -> Any:
        import icechunk

        along = {icechunk.ManifestSplitDimCondition.Any(): 64}
        splitting = icechunk.ManifestSplittingConfig.from_dict({icechunk.ManifestSplitCondition.AnyArray(): along})
        return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))
