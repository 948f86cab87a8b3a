"""Identifiers that nobody else has made."""

from __future__ import annotations

import os
import time
import uuid


def fresh_id() -> uuid.UUID:
    """A UUID of version 7: the time in milliseconds, then 74 random bits (RFC 9562, section 5.7).

    What is made later sorts later. Rows of a table that is keyed by such names go to its end, where random ones would
    touch another page of the index with each commit.
    """
    moment = time.time_ns() // 1_000_000 & (1 << 48) - 1
    random = int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=moment << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (1 << 62) - 1)


__all__ = ["fresh_id"]
