"""The log of shapes: what it says to readers of each version, against a list of rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import txstore
from txstore.boxes import Box, full
from txstore.fragment import unpack_shape
from txstore.shapelog import ShapeLog, ShapeRow, smaller

EXTENTS = st.tuples(st.integers(0, 9), st.integers(0, 9))


def smallest_since(rows: list[ShapeRow], order: tuple[int, int]) -> tuple[int, ...] | None:
    later = [row.shape for row in rows if (row.version, row.rank) > order]
    return tuple(map(min, *later)) if len(later) > 1 else later[0] if later else None


@given(st.lists(st.tuples(st.booleans(), EXTENTS), min_size=1, max_size=12), st.data())
def test_it_says_what_the_whole_list_says(steps: list[tuple[bool, tuple[int, int]]], data: st.DataObject) -> None:
    rows: list[ShapeRow] = []
    version = rank = 1
    for further, shape in steps:
        version, rank = (version + 1, 1) if further else (version, rank + 1)
        rows.append(ShapeRow(version, rank, shape))
    known = data.draw(st.integers(rows[0].version, version), "first asked for")
    then = [row for row in rows if row.version <= known]
    log = ShapeLog(known, then[-1].shape, [row for before, row in pairwise(then) if smaller(row.shape, before.shape)])
    half = data.draw(st.integers(known, version), "then up to")
    log.extend([row for row in rows if known < row.version <= half], half)
    log.extend([row for row in rows if row.version > known], version)  # some of them once more
    for asked in range(rows[0].version, version + 1):
        seen = [row for row in rows if row.version <= asked]
        found = log.at(asked) if asked >= known else log.before(asked, seen[-1].shape)
        assert found.shape == seen[-1].shape
        limits = found.limits()
        # A fragment lies inside of the shape of its time.
        for position, row in enumerate(seen):
            order = (row.version, row.rank)
            cells = full(row.shape)
            limit = None if limits is None else limits.since(order)
            shown = cells if limit is None else cells.intersect(limit)
            expected = smallest_since(seen[position:], order)
            naive = cells if expected is None else cells.intersect(Box((0, 0), expected))
            assert (shown is None or shown.empty) == (naive is None or naive.empty)
            if naive is not None and not naive.empty:
                assert shown == naive


def test_an_append_reads_no_more_of_the_log_when_it_is_long(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    unpack = unpack_shape

    def noted(data: bytes) -> tuple[int, ...]:
        read.append(data)
        return unpack(data)

    monkeypatch.setattr("txstore.index.shaperows.unpack_shape", noted)
    with store.transaction() as tx:
        tx.create_array("a", shape=(0, 4), dtype="i4", chunks=(4, 4))
    counts = []
    for number in range(40):
        read.clear()
        with store.transaction() as tx:
            tx["a"].append(np.full((1, 4), number))
        counts.append(len(read))
    assert max(counts[2:]) == 0  # what this process has appended it knows; others' rows are read once
    assert store["a"][:, 0].tolist() == list(range(40))


def test_what_others_append_is_read_once(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []

    def noted(data: bytes) -> tuple[int, ...]:
        read.append(data)
        return unpack_shape(data)

    with store.transaction() as tx:
        tx.create_array("a", shape=(0, 4), dtype="i4", chunks=(4, 4))
    with txstore.open(tmp_path / "store") as other:
        for number in range(0, 40, 2):
            for one in (store, other):
                with one.transaction() as tx:
                    tx["a"].append(np.full((1, 4), number))
        monkeypatch.setattr("txstore.index.shaperows.unpack_shape", noted)
        for number in range(40, 60):
            with (store, other)[number % 2].transaction() as tx:
                tx["a"].append(np.full((1, 4), number))
    assert len(read) == 20
    assert store["a"].shape == (60, 4)


def test_a_long_log_is_not_read_to_open_an_array(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.transaction() as tx:
        tx.create_array("a", shape=(0, 4), dtype="i4", chunks=(4, 4))
    for number in range(30):
        with store.transaction() as tx:
            tx["a"].append(np.full((1, 4), number))
        if number in (10, 20):
            with store.transaction() as tx:
                tx["a"].resize((number // 2 - 1, 4))
    model = store["a"][...]
    read: list[bytes] = []

    def noted(data: bytes) -> tuple[int, ...]:
        read.append(data)
        return unpack_shape(data)

    monkeypatch.setattr("txstore.index.shaperows.unpack_shape", noted)
    with txstore.open(tmp_path / "store", mode="r") as other:
        np.testing.assert_array_equal(other["a"][...], model)
        assert len(read) == 3  # the newest, and the two that have cut
        shapes = [other.snapshot(version=version)["a"].shape[0] for version in range(1, 34)]
        assert shapes == [*range(12), *range(4, 15), *range(9, 19)]
        assert [other.snapshot(version=version)["a"].shape[0] for version in range(1, 34)] == shapes
        assert len(read) < 3 + 33 + 1
