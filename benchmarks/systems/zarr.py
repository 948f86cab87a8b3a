"""zarr-python, with its own codec pipeline and with that of zarrs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from benchmarks.data import Box, Values
from benchmarks.systems.base import Spec, System


def create_array(group: Any, name: str, spec: Spec) -> Any:
    """Make an array with zarr-python, wherever the group lies."""
    from zarr.codecs import ZstdCodec

    compressors: dict[str, Any] = {"zstd": ZstdCodec(level=3), "default": "auto", "raw": None}
    return group.create_array(
        name, shape=spec.shape, chunks=spec.chunks, dtype="f4", compressors=compressors[spec.codec], fill_value=0
    )


class Zarr(System):
    name = "zarr"
    module = "zarr"
    packages = ("zarr", "numcodecs", "numpy")
    durable = "renamed into place, not synced; no commit"
    most_fragments = 100_000
    pipeline: ClassVar[str | None] = None
    start = 'import zarr\nvalues = zarr.open_array(root, path="a", mode="r")[box]'

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
        self._arrays[name] = create_array(self._group, name, spec)

    def write(self, name: str, box: Box, values: Values) -> None:
        self._array(name)[box] = values

    def append(self, name: str, values: Values, end: int) -> None:
        self._array(name).append(values)

    def read(self, name: str, box: Box) -> Values:
        values: Values = self._array(name)[box]
        return values

    def names(self) -> list[str]:
        return list(self._group.array_keys())

    def export_zarr(self, destination: Path, *, again: bool = False) -> None:
        import zarr

        target = zarr.open_group(destination, mode="a", zarr_format=3)
        for name, array in self._group.arrays():
            zarr.from_array(target.store, name=name, data=array, overwrite=again)


class Zarrs(Zarr):
    name = "zarrs"
    module = "zarrs"
    packages = ("zarrs", "zarr", "numpy")
    durable = "written in place, not synced; no commit"
    settings = "codec_pipeline.path = zarrs.ZarrsCodecPipeline"
    pipeline = "zarrs.ZarrsCodecPipeline"
    start = (
        "import zarr\n"
        "zarr.config.set({'codec_pipeline.path': 'zarrs.ZarrsCodecPipeline'})\n"
        "values = zarr.open_array(root, path='a', mode='r')[box]"
    )
