"""The systems that are compared: one adapter class each, with the same few verbs.

An adapter does what the system's own documents advise and no more. Heavy imports stand inside the methods: each
system runs in a process that loads nothing of the others.
"""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
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


@dataclass(frozen=True)
class Spec:
    """An array of float32 that is filled with zeros."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    codec: Codec


class System(ABC):
    """One system, with its data below `root`.

    Attributes
    ----------
    name : str
        As in the tables.
    packages : tuple of str
        Whose versions are noted.
    durable : str
        What has happened when :meth:`write` returns.
    most_fragments : int or None
        Where a curve over the number of writes would take hours, it ends here.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    durable: ClassVar[str]
    most_fragments: ClassVar[int | None] = None

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"python": platform.python_version()} | {package: version_of(package) for package in cls.packages}

    @abstractmethod
    def open(self) -> None:
        """Load the system and make ready to read and write, as a new process would; the folder may be empty."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Let go of everything."""

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
    def read(self, name: str, box: Box) -> Values:
        """Read one box of what is newest."""

    def names(self) -> list[str]:
        """List the arrays."""
        raise NotImplementedError

    def compact(self, name: str) -> None:
        """Turn what many writes have left into what reads fast."""
        raise NotImplementedError

    def export_zarr(self, destination: Path) -> None:
        """Write everything as plain Zarr v3."""
        raise NotImplementedError

    def import_zarr(self, source: Path, name: str) -> None:
        """Take in a Zarr array."""
        raise NotImplementedError


class TxStore(System):
    name = "txstore"
    packages = ("txstore", "numcodecs", "numpy", "SQLAlchemy")
    durable = "committed and synced"

    def open(self) -> None:
        import txstore

        self._store = txstore.open(self.root)

    def close(self) -> None:
        self._store.close()

    def create(self, name: str, spec: Spec) -> None:
        self.create_many([name], spec)

    def create_many(self, names: Iterable[str], spec: Spec) -> None:
        codecs: dict[str, Any] = {"zstd": [self.zstd], "default": "auto", "raw": ()}
        with self._store.transaction() as tx:
            for name in names:
                tx.create_array(
                    name, shape=spec.shape, dtype="f4", chunks=spec.chunks, shards=None, codecs=codecs[spec.codec]
                )

    zstd: ClassVar = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}

    def write(self, name: str, box: Box, values: Values) -> None:
        with self._store.transaction() as tx:
            tx[name][box] = values

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._store[name][box]
        return values

    def names(self) -> list[str]:
        return [path for path, _ in self._store.snapshot().arrays()]

    def compact(self, name: str) -> None:
        self._store.compact(name)

    def export_zarr(self, destination: Path) -> None:
        self._store.export(destination)

    def import_zarr(self, source: Path, name: str) -> None:
        self._store.import_zarr(source, path=name)


class Zarr(System):
    name = "zarr"
    packages = ("zarr", "numcodecs", "numpy")
    durable = "renamed into place, not synced; no commit"
    pipeline: ClassVar[str | None] = None

    def open(self) -> None:
        import zarr

        if self.pipeline:
            zarr.config.set({"codec_pipeline.path": self.pipeline})
        self._group = zarr.open_group(self.root, mode="a", zarr_format=3)
        self._arrays: dict[str, Any] = {}

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = self._group[name]
        return self._arrays[name]

    def create(self, name: str, spec: Spec) -> None:
        from zarr.codecs import ZstdCodec

        compressors: dict[str, Any] = {"zstd": ZstdCodec(level=3), "default": "auto", "raw": None}
        self._arrays[name] = self._group.create_array(
            name,
            shape=spec.shape,
            chunks=spec.chunks,
            dtype="f4",
            compressors=compressors[spec.codec],
            fill_value=0,
        )

    def write(self, name: str, box: Box, values: Values) -> None:
        self._array(name)[box] = values

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._array(name)[box]
        return values

    def names(self) -> list[str]:
        return list(self._group.array_keys())


class Zarrs(Zarr):
    name = "zarrs"
    packages = ("zarrs", "zarr", "numpy")
    durable = "written in place, not synced; no commit"
    pipeline = "zarrs.ZarrsCodecPipeline"


class TensorStore(System):
    name = "tensorstore"
    packages = ("tensorstore", "numpy")
    durable = "each chunk synced and renamed, with its folder; no commit"

    def open(self) -> None:
        import tensorstore

        self._tensorstore: Any = tensorstore
        self._arrays: dict[str, Any] = {}

    def _open(self, name: str, **options: Any) -> Any:
        kvstore = {"driver": "file", "path": f"{self.root}/{name}/"}
        return self._tensorstore.open({"driver": "zarr3", "kvstore": kvstore, **options}).result()

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = self._open(name, open=True)
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
        self._arrays[name] = self._open(name, create=True, metadata=metadata)

    def write(self, name: str, box: Box, values: Values) -> None:
        self._array(name)[box].write(values).result()

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._array(name)[box].read().result()
        return values


class TileDB(System):
    name = "tiledb"
    packages = ("tiledb", "numpy")
    durable = "one fragment, its files synced, not its folder"
    most_fragments = 2_000

    def open(self) -> None:
        import tiledb

        self._tiledb: Any = tiledb
        self.root.mkdir(exist_ok=True)

    def _uri(self, name: str) -> str:
        return str(self.root / name)

    def create(self, name: str, spec: Spec) -> None:
        tiledb = self._tiledb
        dimensions = [
            tiledb.Dim(f"d{axis}", domain=(0, n - 1), tile=min(chunk, n), dtype="int64")
            for axis, (n, chunk) in enumerate(zip(spec.shape, spec.chunks, strict=True))
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
        with self._tiledb.open(self._uri(name), "w") as array:
            array[box] = values

    def read(self, name: str, box: Box) -> Values:
        # An open array stays at the time of its opening.
        with self._tiledb.open(self._uri(name)) as array:
            values: Values = array[box]
            return values

    def compact(self, name: str) -> None:
        self._tiledb.consolidate(self._uri(name))
        self._tiledb.vacuum(self._uri(name))


#: In the order of the tables. TensorStore's OCDBT and Icechunk have their places here.
SYSTEMS: dict[str, type[System]] = {system.name: system for system in (TxStore, Zarr, Zarrs, TensorStore, TileDB)}
