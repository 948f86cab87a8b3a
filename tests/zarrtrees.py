"""What the tests of export and import share: hierarchies, and ways to read them by others than us."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from txstore.compaction.marker import MARKER

#: One of each kind that an array may have, with a fill value that is not the default.
DTYPES: dict[str, tuple[Any, Any]] = {
    "bool": ("?", True),
    **{name: (name, 7) for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4")},
    "u8": ("u8", 2**64 - 1),
    "f2": ("f2", np.inf),
    "f4": ("f4", -np.inf),
    "f8": ("f8", np.nan),
    "f8-negative-zero": ("f8", -0.0),
    "c8": ("c8", 1 + 2j),
    "c16": ("c16", complex(np.nan, np.nan)),
    "c16-half-nan": ("c16", complex(np.nan, 1)),
    "datetime": ("M8[ns]", np.datetime64("NaT")),
    "datetime-days": ("M8[D]", np.datetime64("2020-02-29")),
    "datetime-scaled": ("M8[25s]", np.datetime64("NaT")),
    "timedelta": ("m8[us]", np.timedelta64(5, "us")),
    "bytes": ("S5", b"ab"),
    "text": ("U4", "äß"),
    "raw": ("V3", None),
    "record": ([("a", "i4"), ("b", "S3"), ("c", "f8")], None),
}


def sample(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Values of a dtype that are not all alike."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 100, shape)
    if kind.names is not None:
        out = np.zeros(shape, kind)
        for name in kind.names:
            out[name] = sample(kind[name], shape, seed + 1)
        return out
    if kind.kind == "V":
        return np.frombuffer(rng.bytes(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape).copy()
    if kind.kind in "mM":
        out = numbers.astype("i8").view(f"{kind.str[1:]}")
        out.reshape(-1)[:1] = "NaT"
        return out
    if kind.kind == "b":
        numbers %= 2
    return numbers.astype(kind)


def contents(root: Path) -> dict[str, bytes]:
    """Every object of an export by its key, the marker left out."""
    if root.suffix == ".zip":
        with zipfile.ZipFile(root) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return {key: data for key, data in found.items() if Path(key).name != MARKER}


def document(root: Path, key: str) -> Any:
    """A metadata document, strictly JSON."""

    def refuse(text: str) -> Any:
        raise AssertionError(f"{key} holds a bare {text}")

    return json.loads(contents(root)[key], parse_constant=refuse)


class opened:
    """A hierarchy opened by zarr-python, closed at the end of the block."""

    def __init__(self, root: Path, **options: Any) -> None:
        self._store: Any = zarr.storage.ZipStore(root, mode="r") if root.suffix == ".zip" else root
        self._options = options

    def __enter__(self) -> Any:
        return zarr.open(self._store, mode="r", **self._options)

    def __exit__(self, *_: object) -> None:
        if hasattr(self._store, "close"):
            self._store.close()
