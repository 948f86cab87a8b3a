"""TileDB: dense arrays, one fragment a write."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from benchmarks.data import Box, Values
from benchmarks.measure import disk
from benchmarks.systems.base import Spec, System

#: A dense array has its domain from the beginning: planes for what is to be appended.
ROOM = 4_096


class TileDB(System):
    name = "tiledb"
    module = "tiledb"
    packages = ("tiledb", "numpy")
    durable = "one fragment, its files synced, not its folder"
    most_fragments = 2_000
    config: ClassVar[dict[str, str]] = {}
    start = 'import tiledb\nwith tiledb.open(f"{root}/a") as array:\n    values = array[box]'

    def open(self) -> None:
        import tiledb

        self._tiledb: Any = tiledb
        self._context = tiledb.Ctx(self.config)
        self._held: list[Any] = []
        self.root.mkdir(exist_ok=True)

    def close(self) -> None:
        for array in self._held:
            array.close()
        self._held.clear()

    def _open(self, name: str, *arguments: Any, **options: Any) -> Any:
        return self._tiledb.open(self._uri(name), *arguments, ctx=self._context, **options)

    def _uri(self, name: str) -> str:
        return str(self.root / name)

    def create(self, name: str, spec: Spec) -> None:
        tiledb = self._tiledb
        shape = [n or ROOM for n in spec.shape]
        dimensions = [
            tiledb.Dim(f"d{axis}", domain=(0, n - 1), tile=min(chunk, n), dtype="int64")
            for axis, (n, chunk) in enumerate(zip(shape, spec.chunks, strict=True))
        ]
        filters: dict[str, Any] = {
            "zstd": {"filters": tiledb.FilterList([tiledb.ZstdFilter(level=3)])},
            "raw": {"filters": tiledb.FilterList()},
            "default": {},
        }
        attribute = tiledb.Attr(name="", dtype="float32", fill=0, **filters[spec.codec])
        schema = tiledb.ArraySchema(domain=tiledb.Domain(*dimensions), attrs=[attribute], sparse=False)
        tiledb.Array.create(self._uri(name), schema)

    def write(self, name: str, box: Box, values: Values) -> None:
        with self._open(name, "w") as array:
            array[box] = values

    def append(self, name: str, values: Values, end: int) -> None:
        self.write(name, (slice(end, end + len(values)), *(slice(0, n) for n in values.shape[1:])), values)

    def read(self, name: str, box: Box) -> Values:
        # An open array stays at the time of its opening.
        with self._open(name) as array:
            values: Values = array[box]
            return values

    def reader(self, name: str) -> Callable[[Box], Values]:
        self._held.append(self._open(name))
        read: Callable[[Box], Values] = self._held[-1].__getitem__
        return read

    def newest(self) -> Any:
        # Fragments have times of milliseconds: the next one shall not have this one's.
        now = time.time_ns() // 1_000_000
        time.sleep(0.002)
        return now

    def read_at(self, name: str, state: Any, box: Box) -> Values:
        with self._open(name, timestamp=state) as array:
            values: Values = array[box]
            return values

    def compact(self, name: str) -> int:
        before = disk(self.root)["disk_MB"]
        self._tiledb.consolidate(self._uri(name), ctx=self._context)
        written = disk(self.root)["disk_MB"] - before
        self._tiledb.vacuum(self._uri(name), ctx=self._context)
        return int(written * 1e6)


class TileDBWithBudget(TileDB):
    """With a bound on the memory that it takes."""

    name = "tiledb-budget"
    settings = "sm.mem.total_budget = 256 MiB"
    config: ClassVar = {"sm.mem.total_budget": str(256 << 20)}
