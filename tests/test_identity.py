"""Identifiers: UUIDs in the order of time, those of segments behind a random byte."""

from __future__ import annotations

import time
import uuid

from txstore.identity import fresh_id, fresh_segment


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


def test_segments_are_named_by_uuids_that_sort_by_time_behind_their_first_byte() -> None:
    early = [fresh_segment() for _ in range(2000)]
    time.sleep(0.02)
    late = [fresh_segment() for _ in range(2000)]
    for name in early:
        assert uuid.UUID(bytes=name).version == 8 and uuid.UUID(bytes=name).variant == uuid.RFC_4122
    assert len({*early, *late}) == 4000
    # Any of them could be missing by chance, but not a tenth of them: they are spread over all folders.
    assert len({name[0] for name in early}) > 230
    assert max(name[1:6] for name in early) < min(name[1:6] for name in late)
