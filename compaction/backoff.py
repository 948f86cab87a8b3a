"""What has failed is left alone for a while, longer each time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class Backoff:
    """Remembers failures, by key.

    Parameters
    ----------
    first_s, most_s : float
        How long the first failure counts, and how long any at most; doubled each time.
    clock : callable
        Seconds that never go back.

    Notes
    -----
    Belongs to one thread.
    """

    def __init__(self, first_s: float, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._clock = clock
        self._failures: dict[Hashable, tuple[int, float]] = {}

    def failed(self, key: Hashable) -> float:
        """Note a failure; the seconds until the next attempt."""
        count = self._failures.get(key, (0, 0.0))[0] + 1
        # Beyond 2**60 no limit is larger.
        delay = min(self._first_s * 2.0 ** min(count - 1, 60), self._most_s)
        self._failures[key] = count, self._clock() + delay
        return delay

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures."""
        self._failures.pop(key, None)

    def ready(self, key: Hashable) -> bool:
        """Whether it may be tried (again)."""
        entry = self._failures.get(key)
        return entry is None or self._clock() >= entry[1]

    def keep(self, keys: set[Hashable]) -> None:
        """Forget all others."""
        self._failures = {key: entry for key, entry in self._failures.items() if key in keys}


__all__ = ["Backoff"]
