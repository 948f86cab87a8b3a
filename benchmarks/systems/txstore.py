"""txstore."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.data import Box, Values
from benchmarks.systems.base import Spec, System


class TxStore(System):
    name = "txstore"
    ours = True
    module = "txstore"
    packages = ("txstore", "numcodecs", "numpy", "SQLAlchemy")
    durable = "committed and synced"
    settings = "cache_bytes=0 (but where the cache is what is measured); shards=None, as the others have none"
    start = 'import txstore\nvalues = txstore.open(root, cache_bytes=0)["a"][box]'
    zstd: ClassVar = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}

    def open(self) -> None:
        self._open()

    def _open(self, **config: Any) -> None:
        import txstore

        self._store = txstore.open(self.root, cache_bytes=self.cache_bytes, **config)

    def close(self) -> None:
        self._store.close()

    def create(self, name: str, spec: Spec) -> None:
        self.create_many([name], spec)

    def create_many(self, names: Iterable[str], spec: Spec) -> None:
        codecs: dict[str, Any] = {"zstd": [self.zstd], "default": "auto", "raw": ()}
        with self._store.transaction() as tx:
            for name in names:
                tx.create_array(
                    name,
                    shape=spec.shape,
                    dtype="f4",
                    chunks=self.chunks(spec),
                    shards=None,
                    codecs=codecs[spec.codec],
                )

    def chunks(self, spec: Spec) -> Any:
        return spec.chunks

    def write(self, name: str, box: Box, values: Values) -> None:
        with self._store.transaction() as tx:
            tx[name][box] = values

    def append(self, name: str, values: Values, end: int) -> None:
        with self._store.transaction() as tx:
            tx[name].append(values)

    def fill(self, name: str, pieces: Iterable[tuple[Box, Values]]) -> None:
        # A commit each; only when they reach the disk is left to the system.
        self.close()
        self._open(durability="os")
        super().fill(name, pieces)
        self.close()
        self.open()

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._store[name][box]
        return values

    def reader(self, name: str) -> Callable[[Box], Values]:
        read: Callable[[Box], Values] = self._store[name].__getitem__
        return read

    def names(self) -> list[str]:
        return [path for path, _ in self._store.snapshot().arrays()]

    def newest(self) -> Any:
        return self._store.snapshot().version

    def read_at(self, name: str, state: Any, box: Box) -> Values:
        values: Values = self._store.snapshot(version=state)[name][box]
        return values

    def compact(self, name: str) -> int:
        return self._store.compact(name).bytes_written

    def drop_history(self) -> None:
        self._store.expire(keep_last=1)
        self._store.vacuum()

    def export_zarr(self, destination: Path, *, again: bool = False) -> None:
        self._store.export(destination, incremental=again)

    def import_zarr(self, source: Path, name: str) -> None:
        self._store.import_zarr(source, path=name)

    def index_bytes(self) -> int:
        """The size of the index without the tiles that lie inline in it; for a store that is closed."""
        with sqlite3.connect(self.root / "index.sqlite") as connection:
            (inline,) = connection.execute("SELECT coalesce(sum(length(data)), 0) FROM blobs").fetchone()
        connection.close()
        return (self.root / "index.sqlite").stat().st_size - int(inline)


class TxStoreAutoChunks(TxStore):
    """With the chunks that it chooses by itself."""

    name = "txstore-auto-chunks"
    settings = "as txstore, chunks='auto'"

    def chunks(self, spec: Spec) -> Any:
        return "auto"
