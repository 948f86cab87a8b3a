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


def fresh_segment() -> bytes:
    """The 16 bytes that name a segment: a UUID of version 8 (RFC 9562, section 5.8) that begins with a random byte.

    That spreads files over 256 directories. The time follows, in steps of 16 milliseconds: so the rows of small
    segments go to 256 places of their table's index, which stay in memory, and not to random ones.
    """
    random = int.from_bytes(os.urandom(11), "big")
    moment = time.time_ns() // 16_000_000 & (1 << 40) - 1
    name = (random >> 80) << 120 | moment << 80 | 8 << 76 | (random >> 62 & 0xFFF) << 64 | 2 << 62
    return (name | random & (1 << 62) - 1).to_bytes(16, "big")


__all__ = ["fresh_id", "fresh_segment"]
