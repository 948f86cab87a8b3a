"""Removing trees: all of it, nothing beside it, and no error for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from txstore.compaction.removing import remove_tree


@pytest.mark.parametrize("wide", [0, 3, 40])
@pytest.mark.parametrize("deep", [1, 3])
def test_all_of_a_tree_goes_and_nothing_beside_it(tmp_path: Path, wide: int, deep: int) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "letter").write_text("dear")
    root = tmp_path / "root"
    for number in range(wide):
        folder = root / "c" / "/".join([str(number)] * deep)
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(b"0")
        (folder / "elsewhere").symlink_to(beside)
    root.mkdir(exist_ok=True)
    (root / "elsewhere").symlink_to(beside)
    remove_tree(str(root))
    assert [path.name for path in tmp_path.rglob("*")] == ["beside", "letter"]
    remove_tree(str(root))  # nothing there any more
