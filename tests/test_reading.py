"""Reads of many chunks and layers at once, by several threads: the same cells as one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from txstore.composer import Composer
from txstore.errors import CorruptionError
from txstore.storage import MissingFileError

#: Past the size from which memory comes cleared from the system.
LARGE = (2304, 4096)


def paint(store: Any, name: str, model: np.ndarray[Any, Any], count: int, seed: int) -> None:
    """Boxes over boxes, sums among them, in commits of their own."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        lo = [int(rng.integers(0, n)) for n in model.shape]
        box = tuple(slice(at, at + int(rng.integers(1, n // 3 + 2))) for at, n in zip(lo, model.shape, strict=True))
        values = rng.integers(0, 9, model[box].shape).astype(model.dtype)
        with store.transaction() as tx:
            if number % 4 == 3:
                tx[name].accumulate(box, values)
                model[box] += values
            else:
                tx[name][box] = values
                model[box] = values


@pytest.mark.parametrize("codecs", [[{"name": "zstd", "configuration": {"level": 1}}], "auto", ()], ids=str)
@pytest.mark.parametrize("fill", [0, 7, -0.0])
def test_layers_over_layers(store: Any, codecs: Any, fill: float) -> None:
    model = np.full((90, 70), fill, "f4")
    with store.transaction() as tx:
        tx.create_array("a", shape=model.shape, dtype="f4", chunks=(16, 32), codecs=codecs, fill_value=fill)
    paint(store, "a", model, 40, seed=1)
    for _ in range(2):
        found = store["a"][...]
        assert found.tobytes() == model.tobytes()
        for box in (np.s_[3:80, 1:70], np.s_[16:32, 32:64], np.s_[20:21, 40:41], np.s_[89:2:-3, ::2]):
            assert store["a"][box].tobytes() == model[box].tobytes()
        store.compact()


@pytest.mark.parametrize("codecs", [["zstd"], ["crc32c", "zstd"], "auto", ()], ids=str)
def test_small_parts_of_large_tiles(open_store: Any, codecs: Any) -> None:
    # Of a large tile no more is decoded than is needed, and several are by several threads.
    model = np.random.default_rng(4).integers(0, 99, (700, 1100)).astype("f4")
    store = open_store(cache_bytes=0, workers=2)
    with store.transaction() as tx:
        tx.create_array("a", shape=model.shape, dtype="f4", chunks=(300, 400), shards=None, codecs=codecs)
        tx["a"][...] = model
    for _ in range(2):
        for rows in (np.s_[0:1], np.s_[100:164], np.s_[220:300], np.s_[299:301], np.s_[500:699:7]):
            for columns in (np.s_[0:1], np.s_[380:444], np.s_[399:1100], np.s_[1099:3:-5]):
                assert store["a"][rows, columns].tobytes() == model[rows, columns].tobytes()
        points = np.random.default_rng(5).integers(0, model.shape, (50, 2)).T
        assert store["a"].vindex[tuple(points)].tobytes() == model[tuple(points)].tobytes()
        store.compact()


@pytest.mark.damaged
@pytest.mark.parametrize("codecs", [[{"name": "zstd", "configuration": {"level": 1}}], "auto", ()], ids=str)
def test_of_tiles_read_together_each_is_checked(store: Any, codecs: Any) -> None:
    model = np.arange(64 * 64, dtype="i4").reshape(64, 64)
    with store.transaction() as tx:
        tx.create_array("a", shape=model.shape, dtype="i4", chunks=(8, 8), shards=None, codecs=codecs)
        tx["a"][...] = model
    store.compact()
    assert np.array_equal(store["a"][...], model)
    (file,) = [path for path in Path(store.root, "segments").rglob("*") if path.is_file()]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # of the last tile
    file.write_bytes(data)
    with pytest.raises(CorruptionError) as caught:
        store["a"][...]
    assert "do not match" in str(caught.value)
    assert np.array_equal(store["a"][:56], model[:56])
    file.write_bytes(data[:-1])
    with pytest.raises(CorruptionError):
        store["a"][...]


@pytest.mark.parametrize("fill", [0, 3])
def test_a_large_read_begins_anew_after_a_segment_was_missing(
    store: Any, monkeypatch: pytest.MonkeyPatch, fill: int
) -> None:
    model = np.full(LARGE, fill, "i4")
    with store.transaction() as tx:
        tx.create_array("a", shape=LARGE, dtype="i4", chunks=(256, 1024), fill_value=fill)
    with store.transaction() as tx:
        tx["a"].accumulate(np.s_[100:2300, 100:4000], 5)
    model[100:2300, 100:4000] += 5
    compose, calls = Composer.compose, 0

    def missing_once(self: Composer, *arguments: Any) -> None:
        nonlocal calls
        compose(self, *arguments)
        calls += 1
        if calls == 5:
            raise MissingFileError("compacted and vacuumed")

    monkeypatch.setattr(Composer, "compose", missing_once)
    found = store["a"][...]
    assert calls > 5
    assert np.array_equal(found, model)
    calls = 0
    into = np.full(LARGE, 9, "i4")
    store["a"].read(np.s_[...], out=into)
    assert calls > 5
    assert np.array_equal(into, model)


def test_a_large_tile_is_several_frames_until_it_is_a_chunk(store: Any) -> None:
    zstd = [{"name": "zstd", "configuration": {"level": 3}}]
    model = np.random.default_rng(3).integers(0, 99, (5, 256, 256)).astype("f4")
    with store.transaction() as tx:
        tx.create_array("a", shape=(0, 256, 256), dtype="f4", chunks=(4, 256, 256), shards=None, codecs=zstd)
    for plane in model:
        with store.transaction() as tx:
            tx["a"].append(plane)
            assert np.array_equal(tx["a"][-1], plane)
    assert store["a"][...].tobytes() == model.tobytes()
    assert store["a"][2:4, 3:7, 5:].tobytes() == model[2:4, 3:7, 5:].tobytes()
    frames = [_frames(store, fragment) for fragment in _view(store).stored_fragments(None)]
    assert frames == 5 * [[2]]
    store.compact()
    (base,) = _view(store).stored_fragments(None)
    assert _frames(store, base) == [1, 1]
    assert store["a"][...].tobytes() == model.tobytes()
    with store.transaction() as tx:
        tx["a"][0:4] = model[1:]  # a whole chunk at once
    *_, written = _view(store).stored_fragments(None)
    assert _frames(store, written) == [1]


def _view(store: Any) -> Any:
    snapshot = store.snapshot()
    return snapshot._tree.view(snapshot["a"]._row, "a")


def _frames(store: Any, fragment: Any) -> list[int]:
    """How many zstd frames the tiles of a fragment have."""
    directory = fragment.directory(_view(store).grid.chunks)
    return [_view(store).fetch(place).count(b"\x28\xb5\x2f\xfd") for _, place in directory.places()]
