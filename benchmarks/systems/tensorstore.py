"""TensorStore: Zarr v3 in plain files, and in its own transactional key-value store, OCDBT."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.data import Box, Values
from benchmarks.systems.base import Spec, System, batches


class TensorStore(System):
    name = "tensorstore"
    module = "tensorstore"
    packages = ("tensorstore", "numpy")
    durable = "each chunk synced and renamed, with its folder; no commit"
    most_fragments = 10_000
    start = (
        "import tensorstore\n"
        "kvstore = {'driver': 'file', 'path': f'{root}/a/'}\n"
        "array = tensorstore.open({'driver': 'zarr3', 'kvstore': kvstore}, open=True, read=True).result()\n"
        "values = array[box].read().result()"
    )

    def open(self) -> None:
        import tensorstore

        self._tensorstore: Any = tensorstore
        self._arrays: dict[str, Any] = {}

    def _kvstore(self, name: str) -> dict[str, Any]:
        return {"driver": "file", "path": f"{self.root}/{name}/"}

    def _open(self, kvstore: dict[str, Any], **options: Any) -> Any:
        if self.cache_bytes:
            options |= {"cache_pool": {"total_bytes_limit": self.cache_bytes}, "recheck_cached_data": "open"}
        return self._tensorstore.open({"driver": "zarr3", "kvstore": kvstore, **options}).result()

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = self._open(self._kvstore(name), open=True)
        return self._arrays[name]

    def create(self, name: str, spec: Spec) -> None:
        metadata: dict[str, Any] = {
            "shape": list(spec.shape),
            "data_type": "float32",
            "fill_value": 0.0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(spec.chunks)}},
        }
        if spec.codec != "default":
            zstd = {"name": "zstd", "configuration": {"level": 3}}
            bytes_ = {"name": "bytes", "configuration": {"endian": "little"}}
            metadata["codecs"] = [bytes_, zstd] if spec.codec == "zstd" else [bytes_]
        self._arrays[name] = self._open(self._kvstore(name), create=True, metadata=metadata)

    def write(self, name: str, box: Box, values: Values) -> None:
        self._array(name)[box].write(values).result()

    def append(self, name: str, values: Values, end: int) -> None:
        self._arrays[name] = self._extend(self._array(name), values, end)

    def _extend(self, array: Any, values: Values, end: int) -> Any:
        others = [None] * (values.ndim - 1)
        array = array.resize(exclusive_max=[end + len(values), *others], expand_only=True).result()
        array[end : end + len(values)].write(values).result()
        return array

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._array(name)[box].read().result()
        return values

    def export_zarr(self, destination: Path, *, again: bool = False) -> None:
        # The chunks go from one array to the other, a few at a time.
        source = self._array("a")
        kvstore = {"driver": "file", "path": f"{destination}/a/"}
        metadata = source.spec().to_json()["metadata"]
        self._open(kvstore, create=True, delete_existing=again, metadata=metadata).write(source).result()


class OCDBT(TensorStore):
    name = "ocdbt"
    durable = "one atomic transaction, its files synced"
    settings = "a cache of 64 MiB for the nodes of its tree"
    start = (
        "import tensorstore\n"
        "kvstore = {'driver': 'ocdbt', 'base': {'driver': 'file', 'path': f'{root}/'}, 'path': 'a/'}\n"
        "array = tensorstore.open({'driver': 'zarr3', 'kvstore': kvstore}, open=True, read=True).result()\n"
        "values = array[box].read().result()"
    )

    def _kvstore(self, name: str) -> dict[str, Any]:
        return {
            "driver": "ocdbt",
            "base": {"driver": "file", "path": f"{self.root}/"},
            "path": f"{name}/",
            "cache_pool": {"total_bytes_limit": 64 << 20},
        }

    def write(self, name: str, box: Box, values: Values) -> None:
        self._write_together(name, [(box, values)])

    def _write_together(self, name: str, pieces: Iterable[tuple[Box, Values]]) -> None:
        with self._tensorstore.Transaction(atomic=True) as transaction:
            array = self._array(name).with_transaction(transaction)
            for box, values in pieces:
                array[box].write(values).result()

    def fill(self, name: str, pieces: Iterable[tuple[Box, Values]]) -> None:
        for batch in batches(pieces):
            self._write_together(name, batch)

    def append(self, name: str, values: Values, end: int) -> None:
        with self._tensorstore.Transaction(atomic=True) as transaction:
            self._extend(self._array(name).with_transaction(transaction), values, end)
        self._arrays[name] = self._array(name).resolve().result()

    def newest(self) -> Any:
        # Versions have times of nanoseconds; what is named is the newest until now.
        return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def read_at(self, name: str, state: Any, box: Box) -> Values:
        array = self._open(self._kvstore(name) | {"version": state}, open=True)
        values: Values = array[box].read().result()
        return values
