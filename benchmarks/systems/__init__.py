"""The systems that are compared: one adapter class each, with the same few verbs."""

from __future__ import annotations

from benchmarks.systems.base import Codec, Spec, System
from benchmarks.systems.icechunk import Icechunk, IcechunkSplit
from benchmarks.systems.tensorstore import OCDBT, TensorStore
from benchmarks.systems.tiledb import TileDB, TileDBWithBudget
from benchmarks.systems.txstore import TxStore, TxStoreAutoChunks
from benchmarks.systems.zarr import Zarr, Zarrs

#: In the order of the tables.
SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        TxStore,
        TxStoreAutoChunks,
        Zarr,
        Zarrs,
        TensorStore,
        OCDBT,
        TileDB,
        TileDBWithBudget,
        Icechunk,
        IcechunkSplit,
    )
}

__all__ = ["SYSTEMS", "Codec", "Spec", "System"]
