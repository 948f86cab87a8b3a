"""Incremental exports: equal to whole ones after any history, and refused where nobody can know what has changed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import append, create, put, resize, same
from zarrtrees import contents, opened

from txstore.boxes import Box, full
from txstore.compaction import destination, exportdir
from txstore.compaction.destination import BUILDING
from txstore.compaction.exportmeta import chunk_index, chunk_key
from txstore.compaction.incremental import Changes, Since, parted
from txstore.compaction.marker import MARKER, Marker, first_array
from txstore.errors import AlreadyExistsError, InvalidInputError, SnapshotExpiredError, StorageError
from txstore.index.branches import Lineage
from txstore.index.commitlog import Identity
from txstore.spans import cells_in

LAYOUTS: list[dict[str, Any]] = [
    {},
    {"layout": "shards"},
    {"zarr_format": 2},
    {"zarr_format": 2, "profile": "portable"},
]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(map(str, layout.values())) or "v3")

DEM = np.random.default_rng(2).normal(size=(40, 40)).astype("f4")
OPTIONS = {"chunks": (8, 8), "shards": (16, 16)}


def inodes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_ino for path in root.rglob("*") if path.is_file()}


# -- what is written and what stays ---------------------------------------------------------------


@layouts
def test_only_what_changed_is_written(store: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, **OPTIONS)
    create(store, "g/b", DEM, **OPTIONS)
    first = store.export(out, incremental=True, **layout)  # nothing is there yet
    assert first.chunks_unchanged == 0
    before = inodes(out)
    put(store, "a", np.s_[3, 5], 9)
    with store.transaction() as tx:
        tx["a"].attrs["units"] = "m"
    report = store.export(out, incremental=True, **layout)
    assert (report.chunks_written, report.chunks_unchanged, report.chunks_deleted) == (1, first.chunks_written - 1, 0)
    now = inodes(out)
    assert now.keys() == before.keys()
    same_file = {key for key in now if now[key] == before[key]}
    assert len(same_file) == first.chunks_written - 1
    with opened(out) as root:
        same(root["a"][...], store["a"][...])
        same(root["g/b"][...], DEM)
        assert root["a"].attrs["units"] == "m"
    again = store.export(out, incremental=True, **layout)
    assert (again.chunks_written, again.bytes_copied, again.bytes_encoded) == (0, 0, 0)


@layouts
def test_compaction_changes_nothing(store: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, **OPTIONS)
    put(store, "a", np.s_[3:30, 5:20], 9)
    store.export(out, **layout)
    store.compact()
    report = store.export(out, incremental=True, **layout)
    assert report.chunks_written == 0
    with opened(out) as root:
        same(root["a"][...], store["a"][...])


def test_chunks_that_became_fill_are_deleted(store: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, chunks=(8, 8), fill_value=0)
    store.export(out)
    put(store, "a", np.s_[8:24, :16], 0)
    report = store.export(out, incremental=True)
    assert (report.chunks_written, report.chunks_unchanged, report.chunks_deleted) == (0, 21, 4)
    store.export(tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_growing_leaves_the_edge_alone_and_shrinking_does_not(store: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(store, "a", np.ones((20, 20), "i4"), chunks=(8, 8))
    store.export(out)
    resize(store, "a", (44, 20))
    assert store.export(out, incremental=True).chunks_written == 0
    resize(store, "a", (12, 20))
    resize(store, "a", (44, 20))
    report = store.export(out, incremental=True)
    assert (report.chunks_written, report.chunks_unchanged, report.chunks_deleted) == (3, 3, 3)
    append(store, "a", np.full((2, 20), 5, "i4"))
    report = store.export(out, incremental=True)
    assert (report.chunks_written, report.chunks_unchanged) == (3, 6)
    store.export(tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_arrays_come_go_and_move(store: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b", "g/c"):
        create(store, name, DEM, **OPTIONS)
    store.export(out)
    before = inodes(out)
    with store.transaction() as tx:
        del tx["a"]
        tx.move("b", "g/moved")
        tx.create_array("a", data=np.arange(3))
        tx.create_group("late")
    report = store.export(out, incremental=True)
    assert (report.chunks_written, report.chunks_unchanged, report.chunks_deleted) == (1, 50, 25)
    assert inodes(out)["g/moved/c/0/0"] == before["b/c/0/0"]
    store.export(tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_back_to_an_older_version_and_to_other_branches(store: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    base = create(store, "a", np.zeros((40, 40), "i4"), **OPTIONS).version
    put(store, "a", np.s_[0, 0], 1)
    store.create_branch("one", base)
    store.create_branch("two", base)
    put(store, "a", np.s_[0, 30], 2, branch="one")
    resize(store, "a", (20, 40), branch="two")
    resize(store, "a", (40, 40), branch="two")
    put(store, "a", np.s_[30, 0], 3, branch="two")
    places: list[dict[str, Any]] = [
        {},
        {"version": base},
        {},
        {"branch": "one"},
        {"branch": "two"},
        {"branch": "one"},
        {"version": base},
        {"branch": "two"},
        {},
    ]
    for k, place in enumerate(places):
        store.export(out, incremental=True, **place)
        store.export(tmp_path / "whole", overwrite=True, **place)
        assert contents(out) == contents(tmp_path / "whole"), (k, place)


def test_the_newest_version_in_common() -> None:
    main = Lineage(((0, 20),))
    child = Lineage(((1, 18), (0, 7)))
    grandchild = Lineage(((2, 19), (1, 12), (0, 7)))
    sibling = Lineage(((3, 15), (0, 9)))
    assert parted(main, Lineage(((0, 5),))) == 5
    assert parted(child, main) == parted(main, child) == 7
    assert parted(grandchild, child) == parted(child, grandchild) == 12
    assert parted(grandchild, sibling) == parted(sibling, grandchild) == 7


@pytest.mark.parametrize("extent", [(), (3,), (2, 5), (4, 1, 3)])
@pytest.mark.parametrize("seed", range(5))
def test_touched_objects_are_those_that_share_a_cell(extent: tuple[int, ...], seed: int) -> None:
    rng = random.Random(seed)
    shape = tuple(4 * step - 1 for step in extent)
    boxes = []
    for _ in range(rng.randint(0, 5)):
        corners = [sorted((rng.randint(0, end), rng.randint(0, end))) for end in shape]
        boxes.append(Box(tuple(low for low, _ in corners), tuple(high for _, high in corners)))
    changes = Changes(extent, boxes)
    whole = list(cells_in(full(shape), extent))
    expected = {index for index, cells in whole if any(box.intersect(cells) is not None for box in boxes)}
    assert changes.none == (not expected)
    rows: dict[tuple[int, ...], list[int]] = {}
    for index, cells in whole:
        rows.setdefault(index[:-1], []).append(index[-1] if index else 0)
        assert changes.meet(cells) == (index in expected)
    order = list(rows)
    rng.shuffle(order)
    for row in order:
        touched = changes.touched(row, rows[row])
        assert list(touched) == [(*row, place)[: len(extent)] in expected for place in rows[row]]
    assert changes.meet(full(shape)) == bool(expected)


@layouts
def test_what_others_put_beside_the_chunks_is_not_taken_over(
    store: Any, tmp_path: Path, layout: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, **OPTIONS)
    store.export(out, **layout)
    folder = out / "a" if "zarr_format" in layout else out / "a" / "c" / "0"
    names = ("0.9", "0.01", "-1.0") if "zarr_format" in layout else ("9", "01", "-1", str(2**70))
    for name in (*names, "notes.txt"):
        (folder / name).write_text("mine")
    put(store, "a", np.s_[3, 5], 9)
    report = store.export(out, incremental=True, **layout)
    assert (report.chunks_written, report.chunks_deleted) == (1, len(names) + 1)
    store.export(tmp_path / "whole", **layout)
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_index_comes_back_from_its_key_and_from_nothing_else(zarr_format: Any) -> None:
    for index in ((), (0,), (7, 0, 12)):
        assert chunk_index(chunk_key(index, zarr_format), zarr_format, len(index)) == index
        assert chunk_index(chunk_key(index, zarr_format), zarr_format, len(index) + 2) is None
    key = chunk_key((1, 2), zarr_format)
    for wrong in ("", "c", "x", f"{key}.json", f"{key}x", key.replace("1", "01"), key.replace("1", "-1"), f" {key}"):
        assert chunk_index(wrong, zarr_format, 2) is None


# -- against whole exports, over histories --------------------------------------------------------


class History:
    """Random commits on random branches."""

    def __init__(self, store: Any, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.branches = ["main"]
        self.made = 0

    def array(self, tx: Any) -> Any:
        names = [path for path, member in tx.members() if hasattr(member, "shape")]
        return tx[self.rng.choice(names)] if names else None

    def box(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        rng = self.rng
        edges = [sorted((rng.randint(0, extent), rng.randint(0, extent))) for extent in shape]
        return tuple(slice(low, high) for low, high in edges)

    def step(self) -> None:
        rng, store = self.rng, self.store
        roll = rng.random()
        if roll < 0.06:
            store.compact(branch=rng.choice(self.branches))
            return
        if roll < 0.1 and len(self.branches) < 4 and store.snapshot().version:
            name = f"b{len(self.branches)}"
            store.create_branch(name, rng.randint(1, store.snapshot().version))
            self.branches.append(name)
            return
        with store.transaction(branch=rng.choice(self.branches)) as tx:
            for _ in range(rng.randint(1, 2)):
                self.edit(tx)

    def edit(self, tx: Any) -> None:
        rng = self.rng
        array = self.array(tx)
        kind = rng.choice(("write", "write", "write", "mask", "append", "resize", "clear", "add", "tree", "attribute"))
        if array is None or (kind == "tree" and rng.random() < 0.5):
            self.made += 1
            shape = (rng.randint(0, 30), rng.randint(1, 30))
            array = tx.create_array(
                f"{rng.choice(('', 'g/', 'h/'))}a{self.made}",
                shape=shape,
                dtype="i4",
                chunks=(4, 6),
                shards=rng.choice((None, (8, 12))),
                codecs=rng.choice(((), ("zstd",), ("numcodecs.lz4",))),
                fill_value=rng.choice((0, 3)),
                dimension_names=(f"y{self.made}", f"x{self.made}"),
            )
            array[self.box(shape)] = rng.randint(0, 9)
        elif kind == "tree":
            if rng.random() < 0.3:
                del tx[array.path]
            else:
                self.made += 1
                tx.move(array.path, f"moved{self.made}")
        elif kind == "write":
            box = self.box(array.shape)
            values = np.array([rng.randint(0, 5) for _ in range(10)], "i4")
            shape = tuple(part.stop - part.start for part in box)
            array[box] = np.resize(values, shape)
        elif kind == "mask" and array.size:
            array.vindex[[rng.randrange(array.shape[0])], [rng.randrange(array.shape[1])]] = rng.randint(0, 5)
        elif kind == "append":
            array.append(np.full((rng.randint(1, 6), array.shape[1]), rng.randint(0, 5), "i4"))
        elif kind == "resize":
            array.resize((rng.randint(0, 30), rng.randint(1, 30)))
        elif kind == "clear":
            array.clear(self.box(array.shape) if rng.random() < 0.7 else ...)
        elif kind == "add":
            array.accumulate(self.box(array.shape), 1)
        else:
            array.attrs["k"] = rng.randint(0, 5)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@layouts
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_whole_exports_after_any_history(
    store: Any, tmp_path: Path, layout: dict[str, Any], seed: int
) -> None:
    history = History(store, seed)
    out = tmp_path / "out"
    for _ in range(8):
        for _ in range(history.rng.randint(1, 4)):
            history.step()
        place: dict[str, Any] = {"branch": history.rng.choice(history.branches)}
        if history.rng.random() < 0.3:
            place = {"version": history.rng.randint(0, store.snapshot().version)}
        report = store.export(out, incremental=True, **place, **layout)
        store.export(tmp_path / "whole", overwrite=True, **place, **layout)
        assert contents(out) == contents(tmp_path / "whole"), place
        whole = store.export(tmp_path / "whole.zip", overwrite=True, **place, **layout)
        assert report.chunks_written + report.chunks_unchanged == whole.chunks_written
        snapshot = store.snapshot(**place)
        with opened(tmp_path / "out") as root:
            for path, member in snapshot.members():
                if hasattr(member, "shape"):
                    same(root[path][...], member[...])


# -- refusals -------------------------------------------------------------------------------------


def refused(store: Any, out: Path, error: type[Exception], says: str, **options: Any) -> None:
    """Refused, nothing changed; and with overwrite everything is written."""
    before = contents(out)
    with pytest.raises(error, match=says) as caught:
        store.export(out, incremental=True, **options)
    assert "overwrite=True" in str(caught.value)
    assert contents(out) == before
    report = store.export(out, incremental=True, overwrite=True, **options)
    assert report.chunks_unchanged == 0
    with opened(out) as root:
        same(root["a"][...], store["a"][...])


def test_other_options_are_refused(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM)
    store.export(tmp_path / "out")
    refused(store, tmp_path / "out", InvalidInputError, "zarr_format", zarr_format=2)
    refused(store, tmp_path / "out", InvalidInputError, "profile", zarr_format=2, profile="portable")
    # But not what no chunk depends on.
    store.export(tmp_path / "out", incremental=True, zarr_format=2, profile="portable", consolidated=False)


def test_another_store_is_refused(open_store: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        create(open_store(name), "a", DEM)
    open_store("one").export(tmp_path / "out")
    refused(open_store("two"), tmp_path / "out", AlreadyExistsError, "no export of this store")


def test_a_hierarchy_of_others_is_refused(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM)
    out = tmp_path / "out"
    store.export(out)
    (marker,) = out.rglob(MARKER)
    text = marker.read_text()
    for wrong in (None, "", "{}", "[1]", text.replace('"format": 3', '"format": 99'), text[: len(text) // 2]):
        store.export(out, overwrite=True)
        marker.unlink()
        if wrong is not None:
            marker.write_text(wrong)
        refused(store, out, AlreadyExistsError, "marker")


def test_something_else_is_refused(store: Any, tmp_path: Path) -> None:
    create(store, "a", DEM)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    with pytest.raises(AlreadyExistsError):
        store.export(tmp_path / "home", incremental=True)
    with pytest.raises(InvalidInputError, match="zip"):
        store.export(tmp_path / "out.zip", incremental=True)
    assert sorted(os.listdir(tmp_path)) == ["home", "store"]


def test_a_hierarchy_without_arrays_is_brought_up_to_date(store: Any, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.create_group("g")
    store.export(tmp_path / "out", incremental=True)
    create(store, "a", DEM)
    store.export(tmp_path / "out", incremental=True)
    with opened(tmp_path / "out") as root:
        same(root["a"][...], DEM)


def test_below_the_conflict_horizon_it_is_refused(store: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, chunks=(8, 8))
    store.export(out)
    for k in range(4):
        put(store, "a", np.s_[k], k)
    store.compact()
    store.expire(keep_last=1)
    # History outlives the bytes: what has changed can still be told.
    assert store.export(out, incremental=True).chunks_unchanged
    store.export(out, version=store.snapshot().version, overwrite=True)
    for k in range(4):
        put(store, "a", np.s_[k], k)
    old = contents(out)
    for _ in range(3):
        store.compact()
        store.expire(keep_last=1)
        store.vacuum()
    horizon = store.info()["conflict_horizon"]
    (marker,) = out.rglob(MARKER)
    if Marker.decode(marker.read_bytes()).made.version >= horizon:
        # However long rows are kept: below the horizon nothing is guessed.
        value = json.loads(marker.read_text())
        if horizon == 0:
            pytest.skip("this store never forgets rows")
        value["version"] = horizon - 1
        marker.write_text(json.dumps(value))
    assert contents(out) == old
    refused(store, out, SnapshotExpiredError, "known no longer")


def test_a_vacuum_beside_it_takes_what_tells_the_changes(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    create(store, "a", DEM, **OPTIONS)
    store.export(out)
    put(store, "a", np.s_[3, 5], 9)
    store.compact()
    before = contents(out)
    changes = Since.changes

    def later(since: Since, *args: Any, **options: Any) -> Changes:
        store.expire(keep_last=1)
        store.vacuum()
        return changes(since, *args, **options)

    monkeypatch.setattr(Since, "changes", later)
    with pytest.raises(SnapshotExpiredError, match="known no longer"):
        store.export(out, incremental=True)
    assert contents(out) == before
    monkeypatch.undo()
    store.export(out, overwrite=True)
    put(store, "a", np.s_[2, 3], 7)
    store.compact()
    monkeypatch.setattr(Since, "changes", later)
    assert store.export(out, incremental=True, overwrite=True).chunks_unchanged == 0
    with opened(out) as root:
        same(root["a"][...], store["a"][...])


def test_a_store_that_was_put_back_is_refused(open_store: Any, tmp_path: Path) -> None:
    """The index as it was before the export: the export's version is yet to come."""
    store = open_store()
    create(store, "a", DEM)
    shutil.copytree(store.root, tmp_path / "copy")
    put(store, "a", np.s_[0], 1)
    store.export(tmp_path / "out")
    refused(open_store("copy"), tmp_path / "out", AlreadyExistsError, "no export of this store")


def test_where_links_can_not_be_made_files_are_copied(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "a", DEM, chunks=(8, 8))
    store.export(tmp_path / "out")
    put(store, "a", np.s_[0, 0], 1)
    link = os.link

    def refuse(source: Any, target: Any) -> None:
        link(source, target)  # for what must be there
        os.unlink(target)
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    report = store.export(tmp_path / "out", incremental=True)
    assert report.chunks_unchanged == 24
    monkeypatch.undo()
    with opened(tmp_path / "out") as root:
        same(root["a"][...], store["a"][...])


def test_a_marker_survives_its_json() -> None:
    text = b'{"format": 3, "store": "ab", "epoch": 0, "version": 2, "branch": 1, "txid": "cd", "committed_at": 7, '
    text += b'"options": {}, "arrays": []}'
    marker = Marker("ab", 0, Identity(2, 1, b"\xcd", 7), {}, ())
    assert Marker.decode(Marker.decode(text).encode()) == marker


def test_the_first_array_is_found_by_name(tmp_path: Path) -> None:
    for path in ("b/c", "b-a", "a/deep/er"):
        (tmp_path / path).mkdir(parents=True)
    assert first_array(str(tmp_path)) is None
    (tmp_path / "b-a" / ".zarray").touch()
    (tmp_path / "b" / "c" / ".zarray").touch()
    assert first_array(str(tmp_path)) == "b/c"
    (tmp_path / "a" / "deep" / "er" / "zarr.json").write_text('{"node_type": "array"}')
    assert first_array(str(tmp_path)) == "a/deep/er"


@pytest.mark.parametrize("later", [0, 1])
def test_what_a_restored_copy_has_made_anew_is_not_mistaken(open_store: Any, tmp_path: Path, later: int) -> None:
    store = open_store()
    create(store, "a", np.zeros(10), chunks=(2,))
    store.export(tmp_path / "old")
    store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    store = open_store()
    put(store, "a", np.s_[0:4], 1)
    store.export(tmp_path / "out")
    store.close()
    restored = open_store("backup")
    for value in range(7, 8 + later):
        put(restored, "a", np.s_[6:8], value)
    refused(restored, tmp_path / "out", AlreadyExistsError, "another version 2 than this store has")
    # What both have in common is brought up to date by either.
    restored.export(tmp_path / "old", incremental=True)
    with opened(tmp_path / "old") as root:
        same(root["a"][...], restored["a"][...])


def test_a_branch_of_a_restored_copy_with_the_same_number_is_not_mistaken(open_store: Any, tmp_path: Path) -> None:
    store = open_store()
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    store.create_branch("dev")
    put(store, "a", np.s_[0:8], 100)
    put(store, "a", np.s_[8:16], 5, branch="dev")
    store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    store = open_store()
    store.create_branch("release", version=4)
    store.export(tmp_path / "out", branch="release")
    store.close()
    restored = open_store("backup")
    restored.create_branch("other", version=3)
    put(restored, "a", np.s_[32:40], 7)
    restored.export(tmp_path / "out", incremental=True)
    with opened(tmp_path / "out") as root:
        same(root["a"][...], restored["a"][...])


def test_a_transaction_id_that_is_used_again_in_a_restored_copy_is_not_mistaken(
    open_store: Any, tmp_path: Path
) -> None:
    job = uuid.uuid5(uuid.NAMESPACE_URL, "nightly")
    store = open_store()
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    store = open_store()
    put(store, "a", np.s_[0:8], 1)
    put(store, "a", np.s_[8:16], 2, txid=job)
    store.export(tmp_path / "out")
    store.close()
    restored = open_store("backup")
    put(restored, "a", np.s_[16:24], 9)
    put(restored, "a", np.s_[8:16], 2, txid=job)
    refused(restored, tmp_path / "out", AlreadyExistsError, "another version 3 than this store has")


class Pause:
    """Stops an export where it begins with an array, until it is told to go on."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.reached, self.on = threading.Event(), threading.Event()

    def __call__(self, progress: Any) -> None:
        if progress.label == self.label and not self.reached.is_set():
            self.reached.set()
            assert self.on.wait(20)


def test_an_export_does_not_take_the_place_of_one_that_is_being_brought_up_to_date(store: Any, tmp_path: Path) -> None:
    """Begun while there was nothing in its place, it would pull older chunks under the feet of the other one."""
    out = tmp_path / "out"
    for name in "ab":
        create(store, name, np.full(64, 1, "i4"), chunks=(8,))
    results: dict[str, Any] = {}

    def exporting(name: str, **options: Any) -> threading.Thread:
        def work() -> None:
            try:
                results[name] = store.export(out, **options)
            except BaseException as error:
                results[name] = error

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    slow, pause = Pause("a"), Pause("a")
    first = exporting("first", overwrite=True, progress=slow)
    assert slow.reached.wait(20)
    put(store, "b", ..., 2)
    exporting("second", overwrite=True).join()
    put(store, "a", np.s_[0:8], 3)
    third = exporting("third", incremental=True, progress=pause)
    assert pause.reached.wait(20)
    slow.on.set()
    first.join()
    pause.on.set()
    third.join()
    assert isinstance(results["first"], StorageError), results
    assert not isinstance(results["third"], BaseException), results
    with opened(out) as root:
        for name in "ab":
            same(root[name][...], store[name][...])


def test_who_removes_the_old_tree_is_not_taken_for_a_foreign_hierarchy(store: Any, tmp_path: Path) -> None:
    """Another export had just changed places with what was looked at, and removed its documents first."""
    out = tmp_path / "out"
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    store.export(out)
    shutil.rmtree(out / "a")
    (out / "zarr.json").rename(out / "left")
    number = os.open(out, os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    with pytest.raises(StorageError, match=r"another export .* is under way"):
        store.export(out, overwrite=True)
    os.close(number)
    with pytest.raises(AlreadyExistsError, match="something else than a Zarr hierarchy"):
        store.export(out, overwrite=True)


def test_the_old_tree_stays_until_the_name_of_the_new_one_is_durable(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exports" / "out"
    create(store, "a", np.full(64, 1, "i4"), chunks=(8,))
    store.export(out)
    put(store, "a", ..., 2)

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="Input/output"):
        patch.setattr(destination, "sync_folder", fail)
        store.export(out, overwrite=True)
    old, new = sorted(out.parent.iterdir())
    assert new == out and old.name.startswith(".out.")
    for tree, value in ((old, 1), (new, 2)):
        with opened(tree) as root:
            assert (root["a"][...] == value).all()
    store.export(out, overwrite=True)
    assert list(out.parent.iterdir()) == [out]


def test_a_tree_that_can_not_be_moved_leaves_the_old_one(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exports" / "out"
    create(store, "a", np.full(64, 1, "i4"), chunks=(8,))
    store.export(out)
    put(store, "a", ..., 2)
    rename = os.rename

    def fail(one: Any, other: Any) -> None:
        if os.fspath(other) == os.fspath(out) and os.fspath(one).endswith(BUILDING):
            raise OSError(errno.EIO if not out.exists() else errno.ENOTEMPTY, "no")
        rename(one, other)

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr(os, "rename", fail)
        patch.setattr(exportdir, "exchange", lambda one, other: False)
        store.export(out, overwrite=True)
    assert list(out.parent.iterdir()) == [out]
    with opened(out) as root:
        assert (root["a"][...] == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_was_forked_meanwhile_does_not_keep_the_place(store: Any, tmp_path: Path) -> None:
    create(store, "a", np.zeros(64, "i4"), chunks=(8,))
    children: list[int] = []

    def fork(progress: Any) -> None:
        if not children:
            child = os.fork()
            if not child:
                signal.pause()
            children.append(child)

    try:
        store.export(tmp_path / "out", progress=fork)
        store.export(tmp_path / "out", incremental=True)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
