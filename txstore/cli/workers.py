"""Threads for maintenance and export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor


@contextmanager
def pool(threads: int | None) -> Iterator[Executor | None]:
    """An executor of ``threads`` threads for the block; for ``None`` none, which leaves the choice to the store."""
    if threads is None:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="txstore") as executor:
        yield executor


__all__ = ["pool"]
