"""The number of the store's format: of its tables, and of what the values in them mean."""

from __future__ import annotations

from typing import Final

#: What this code reads and writes. It stands in ``store.format``; a change of the schema raises it by one and comes
#: with a step in :mod:`txstore.index.migrations`.
FORMAT: Final = 1

__all__ = ["FORMAT"]
