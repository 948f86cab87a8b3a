"""Identifiers: UUIDs of version 7, in the order of time."""

from __future__ import annotations

import time
import uuid

from txstore.identity import fresh_id


def test_they_are_uuids_of_version_7() -> None:
    before = time.time_ns() // 1_000_000
    made = fresh_id()
    assert made.version == 7 and made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_no_two_are_equal_and_later_ones_sort_later() -> None:
    early = [fresh_id() for _ in range(1000)]
    time.sleep(0.002)
    late = [fresh_id() for _ in range(1000)]
    assert len({*early, *late}) == 2000
    assert max(early) < min(late)
    assert len({one.int & (1 << 62) - 1 for one in early}) == 1000
