"""A closed store holds nothing: not by the grace of the garbage collector, but because it was closed."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import children, descriptors, threads

import txstore


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Nothing is closed merely because it has been collected."""
    gc.disable()
    yield
    gc.enable()


def test_close_gives_everything_back(tmp_path: Path, no_collection: None) -> None:
    store = txstore.open(tmp_path / "store")
    with store.transaction() as tx:
        tx.create_array("a", data=np.arange(100_000, dtype="f8"), codecs=())
    snapshot = store.snapshot()
    assert snapshot["a"][7] == 7
    dropped = store.transaction()
    dropped["a"][:10] = 1
    store.compact()
    assert [name for name in descriptors() if str(tmp_path) in name], "nothing to give back: the test looks elsewhere"
    store.close()
    assert not [name for name in descriptors() if str(tmp_path) in name]
    assert not [name for name in threads() if "txstore" in name]
    assert not children()


def test_a_store_that_can_not_be_opened_leaves_nothing_open(tmp_path: Path, no_collection: None) -> None:
    with pytest.raises(txstore.StoreNotFoundError):
        txstore.open(tmp_path / "missing", mode="r")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "empty.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(txstore.TxStoreError):
        txstore.open(tmp_path / "empty.zarr")
    assert not [name for name in descriptors() if str(tmp_path) in name]
