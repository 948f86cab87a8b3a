"""Files below ``segments`` that are not the store's: noticed, left alone, and no damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import create, noise

import txstore
from txstore.storage import segment_key


@pytest.fixture
def store(open_store: Any) -> Any:
    """A store that puts all but the smallest commits into files."""
    return open_store(inline_bytes=1000)


@pytest.fixture
def root(tmp_path: Path, store: Any) -> Path:
    """A store with a segment file."""
    create(store, "a", noise((256, 256)), chunks=(128, 128), codecs=())
    assert list((tmp_path / "store" / "segments").glob("??/*"))
    return tmp_path / "store"


def stray(root: Path, name: str | bytes) -> str:
    path = os.path.join(os.fsencode(root), b"segments", os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"not ours")
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def test_stray_files_are_noticed_and_are_no_damage(root: Path, store: Any) -> None:
    uuid = "ab" * 16
    names = [
        ".DS_Store",
        "ab/.nfs00000000001",
        f"ab/{uuid}~",
        f"ab/{uuid}.tmp.tmp",
        f"ac/{uuid}",
        f"ab/{uuid.upper()}",
        "zz/whatever",
        "note",
    ]
    for name in names:
        stray(root, name)
    report = store.verify()
    assert report.ok and not report.problems
    assert {notice.kind for notice in report.notices} == {"stray"}
    # A folder that is not ours is told once, whatever is in it.
    assert {notice.where for notice in report.notices} == {
        f"segments/{name if name != 'zz/whatever' else 'zz'}" for name in names
    }
    assert report.to_dict()["ok"] is True and len(report.to_dict()["notices"]) == len(names)
    store.vacuum()
    assert all((root / "segments" / name).exists() for name in names), "whose they are is not known"
    assert not store.verify("a").notices, "one array says nothing about files"


def test_names_that_are_no_text_can_be_printed(root: Path, store: Any) -> None:
    stray(root, b"ab/\xff\n")
    (notice,) = store.verify().notices
    assert notice.where == "segments/ab/\\udcff\n"
    str(notice).encode()


def test_a_finished_file_that_no_row_knows_is_a_problem(tmp_path: Path) -> None:
    with txstore.open(tmp_path / "own") as store:
        create(store, "a", np.arange(4))
        key = segment_key(os.urandom(16))
        sink = store._core.storage.create(key)
        sink.write(b"lost")
        sink.commit()
        report = store.verify()
        assert not report.ok and not report.notices
        assert [(problem.kind, problem.where) for problem in report.problems] == [("orphan", key)]


def test_unfinished_files(root: Path, store: Any) -> None:
    """Of a living writer: nothing is said. Of nobody: nobody will ever remove it."""
    tx = store.transaction()
    tx["a"][...] = noise((256, 256), seed=1)
    written = list(root.rglob("*.tmp"))
    assert written, "it has not spilled: the test tests nothing"
    report = store.verify()
    assert report.ok and not report.notices
    tx.abort()
    key = segment_key(os.urandom(16))
    sink = store._core.storage.create(key)
    sink.write(b"announced to nobody")
    report = store.verify()
    assert report.ok
    assert [(notice.kind, notice.where) for notice in report.notices] == [("stray", key + ".tmp")]
    sink.abort()
    assert not store.verify().notices
