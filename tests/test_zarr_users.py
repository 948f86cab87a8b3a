"""The five cases that users of Zarr have asked for since 2020, each for real."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from histories import watched_sql
from workers import KILL_SHAPE, Worker, create_kill_store, crew, kill_block, kill_box, together

import txstore
from txstore.errors import TxStoreError

PROCESSES = 6


class FileRules:
    """Rules for the files of this process, kept by an audit hook: it sees every listing and every opening.

    Notes
    -----
    An audit hook can't be taken away again, so that one is set once and asks this object.
    """

    def __init__(self) -> None:
        self.unlisted: Path | None = None
        self.invisible: set[str] = set()
        self.hooked = False

    def hook(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("os.listdir", "os.scandir", "os.walk", "glob.glob"):
            if self.unlisted is not None and isinstance(arguments[0], str | os.PathLike):
                folder = Path(os.path.abspath(os.fspath(arguments[0])))
                if folder.is_relative_to(self.unlisted):
                    raise PermissionError(13, "this directory can't be listed", str(folder))
        elif name == "open" and self.invisible and isinstance(arguments[0], str | os.PathLike):
            if Path(os.fspath(arguments[0])).name in self.invisible:
                raise FileNotFoundError(2, "not visible yet", os.fspath(arguments[0]))

    def install(self) -> None:
        if not self.hooked:
            sys.addaudithook(self.hook)
            self.hooked = True


RULES = FileRules()


@contextmanager
def unlisted(root: Path) -> Iterator[None]:
    RULES.install()
    RULES.unlisted = root.resolve()
    try:
        yield
    finally:
        RULES.unlisted = None


@contextmanager
def invisible(names: set[str]) -> Iterator[None]:
    """Files that another process has written, and that have not arrived here."""
    RULES.install()
    RULES.invisible = names
    try:
        yield
    finally:
        RULES.invisible = set()


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    statements: list[str] = []
    with watched_sql(lambda statement, connection: statements.append(statement)):
        yield statements


def data_files(root: Path) -> set[str]:
    """The names of the files that hold data: neither the index nor locks."""
    return {path.name for path in (root / "segments").rglob("*") if path.is_file()}


def test_a_store_that_cannot_be_listed(tmp_path: Path) -> None:
    """Writing, reading and looking through the hierarchy never list a directory."""
    root = tmp_path / "store"
    big = np.random.default_rng(0).random((300, 300))
    with txstore.open(root) as store, store.transaction() as tx:
        tx.create_array("g/h/big", data=big, chunks=(64, 64))
        tx.create_array("g/small", data=np.arange(10), attributes={"units": "m"})
    with unlisted(root):
        with pytest.raises(PermissionError):
            os.listdir(root)
        with txstore.open(root, mode="r+") as store:
            assert [name for name, _ in store.snapshot().groups()] == ["g"]
            assert sorted(name for name, _ in store.snapshot()["g"].arrays()) == ["small"]
            assert (store["g/h/big"][...] == big).all()
            with store.transaction() as tx:
                tx["g/h/big"][10:200, 20:250] = 7
                tx.create_array("k", data=big[:5])
            assert (store["g/h/big"][10:200, 20:250] == 7).all()
            assert (store.snapshot(version=1)["g/h/big"][...] == big).all()
            assert sorted(store.snapshot()) == ["g", "k"]
    with txstore.open(root) as store:
        assert store.verify().ok


def _hierarchy(root: Path, groups: int, arrays: int) -> None:
    with txstore.open(root) as store, store.transaction() as tx:
        for g in range(groups):
            for a in range(arrays):
                tx.create_array(
                    f"g{g:03d}/a{a:03d}",
                    shape=(g + 1, a + 1),
                    dtype="f4",
                    chunks=(1, 1),
                    attributes={"n": g * 1000 + a},
                )


def _statements_to_see_all(root: Path, groups: int, arrays: int) -> int:
    """How many statements it takes to learn shape, dtype and attributes of every array."""
    with txstore.open(root, mode="r") as store, counted_statements() as statements:
        snapshot = store.snapshot()
        seen = {}
        for _, group in snapshot.groups():
            for name, array in group.arrays():
                seen[array.path] = (array.shape, array.dtype, array.attrs["n"])
                assert array.path.endswith(name)
        expected = {
            f"g{g:03d}/a{a:03d}": ((g + 1, a + 1), np.dtype("f4"), g * 1000 + a)
            for g in range(groups)
            for a in range(arrays)
        }
        assert seen == expected
        assert sum(1 for _ in snapshot.members(max_depth=None)) == groups * arrays + groups
    return len([statement for statement in statements if statement.lstrip().upper().startswith(("SELECT", "WITH"))])


def test_all_metadata_of_ten_thousand_arrays_at_once(tmp_path: Path) -> None:
    """The number of queries does not depend on the number of arrays."""
    _hierarchy(tmp_path / "few", 2, 5)
    _hierarchy(tmp_path / "many", 100, 100)
    few = _statements_to_see_all(tmp_path / "few", 2, 5)
    many = _statements_to_see_all(tmp_path / "many", 100, 100)
    assert many == few
    assert many <= 12


def test_a_reader_on_an_eventually_consistent_directory(tmp_path: Path) -> None:
    """Files that show up late are an error with a name or not missed at all; never fill, never half a commit."""
    root = tmp_path / "store"
    create_kill_store(root).close()
    sizes = ["segment", "inline", "segment", "inline", "inline", "segment"]
    expected = np.zeros(KILL_SHAPE)
    refused = 0
    with txstore.open(root, mode="r") as reader, Worker("commits_on_word", root=str(root), sizes=sizes) as writer:
        writer.expect("ready")
        for number, size in enumerate(sizes, start=1):
            arrived = data_files(root)
            writer.tell()
            writer.expect(f"committed {number}")
            before = expected.copy()
            expected[kill_box(number, size)] = kill_block(number, size)
            with invisible(data_files(root) - arrived):
                snapshot = reader.snapshot()
                # What the index says is there at once, and agrees with itself.
                assert snapshot["sum"].attrs["last"] == number
                assert snapshot["log"].shape == (number,)
                for name, values in (("log", np.arange(1, number + 1)), ("x", expected)):
                    try:
                        assert (snapshot[name][...] == values).all()
                    except TxStoreError:
                        refused += 1
                # An older version needs no file that is late.
                older = reader.snapshot(version=snapshot.version - 1)
                assert (older["x"][...] == before).all()
            # The same snapshot, once the files have arrived.
            assert (snapshot["log"][...] == np.arange(1, number + 1)).all()
            assert (snapshot["x"][...] == expected).all()
        writer.tell("end")
        assert refused == 2 * sizes.count("segment"), "only what lies in files can be late"
        report = reader.verify()
        assert report.ok, report.problems


def test_arrays_created_in_one_group_by_processes_over_days(store: Any, tmp_path: Path) -> None:
    """Every transaction spans all the others' commits. Siblings never conflict; of one name, one wins."""
    rounds = 4
    with crew("long_transactions", PROCESSES, root=str(tmp_path / "store"), rounds=rounds) as workers:
        for _ in range(rounds):
            for step in ("staged", "committed"):
                for worker in workers:
                    worker.tell()
                for worker in workers:
                    worker.expect(step)
        won = sum(worker.result()["won"] for worker in workers)
    assert won == rounds
    days = store.snapshot()["days"]
    names = [name for name, _ in days.arrays()]
    assert len(names) == len(set(names)) == rounds * (PROCESSES + 1)
    for number in range(PROCESSES):
        for k in range(rounds):
            array = days[f"{k:02d}-{number}"]
            assert (array[...] == number * 100 + k).all()
            assert array.attrs["by"] == number


def test_concurrent_writes_into_regions_of_one_array(store: Any, tmp_path: Path) -> None:
    """Regions aligned to nothing, written by processes at once; read back here and, as plain Zarr, by zarr-python."""
    shape, count = (1003, 301), 8
    edges = np.linspace(0, shape[0], count + 1).astype(int).tolist()
    with store.transaction() as tx:
        tx.create_array("x", shape=shape, dtype="i8", chunks=(64, 64), fill_value=-1)
    rows = [{"lo": lo, "hi": hi} for lo, hi in itertools.pairwise(edges)]
    with crew("region", rows, root=str(tmp_path / "store")) as workers:
        together(workers)
    expected = np.arange(shape[0] * shape[1]).reshape(shape)
    assert (store["x"][...] == expected).all()
    store.compact()
    assert (store["x"][...] == expected).all()
    store.export(tmp_path / "out.zarr")
    assert (np.asarray(zarr.open_array(tmp_path / "out.zarr" / "x", mode="r")[...]) == expected).all()
