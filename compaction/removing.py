"""Removing a tree of many files."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

_THREADS = 4
#: From so many directories side by side on, they are shared out among threads.
_ENOUGH = 16


def remove_tree(root: str) -> None:
    """Remove a directory with all that is below it; whatever can't be removed stays, and nothing is raised.

    Notes
    -----
    By several threads, who wait for the disk rather than work: some file systems give the room of each file and
    directory back before they go on (ext4 with ``discard``).
    """
    remove = partial(shutil.rmtree, ignore_errors=True)
    level = [root]
    while level and len(level) < _ENOUGH:
        level = [path for folder in level for path in _folders(folder)]
    if level:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(remove, level))
    remove(root)


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


__all__ = ["remove_tree"]
