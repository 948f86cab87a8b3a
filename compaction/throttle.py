"""A limit on bytes a second: a token bucket, and the sleeping that goes with it."""

from __future__ import annotations

import time
from collections.abc import Callable

from txstore.compaction.stop import Stop


class TokenBucket:
    """How long to wait so that bytes flow at a rate; pure arithmetic on a clock.

    The bucket holds what may be written at once and fills at the rate. What is written is taken out, also
    more than is in it: the debt is what has to be waited for.

    Parameters
    ----------
    rate_bytes_s : float
        How fast it fills, above 0.
    burst_bytes : float, optional
        How much it holds; by default what flows in a second. It is full at first.
    clock : callable
        Seconds that never go back.

    Notes
    -----
    Belongs to one thread.
    """

    def __init__(
        self, rate_bytes_s: float, burst_bytes: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate_bytes_s = rate_bytes_s
        self.burst_bytes = rate_bytes_s if burst_bytes is None else burst_bytes
        self._clock = clock
        self._level = self.burst_bytes
        self._at = clock()

    @property
    def level_bytes(self) -> float:
        """What may be written now without waiting; negative: the debt."""
        now = self._clock()
        self._level = min(self.burst_bytes, self._level + max(0.0, now - self._at) * self.rate_bytes_s)
        self._at = now
        return self._level

    def take(self, count_bytes: int) -> float:
        """Count bytes that were written; the seconds to wait until they are paid for."""
        self._level = self.level_bytes - count_bytes
        return max(0.0, -self._level / self.rate_bytes_s)


class Throttle:
    """Told of every piece of work that was done; sleeps where it goes too fast, and ends it where it is to stop.

    Parameters
    ----------
    bucket : TokenBucket or None
        The limit; None: none.
    stop : Stop
        What ends the sleep and the work.
    clock : callable
        Seconds that never go back.

    Attributes
    ----------
    bytes : int
        All bytes that it was told of.
    waited_s : float
        How long it has slept.

    Notes
    -----
    Belongs to one thread.
    """

    def __init__(self, bucket: TokenBucket | None, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self.waited_s = 0.0
        self._bucket = bucket
        self._stop = stop
        self._clock = clock

    def __call__(self, count_bytes: int) -> None:
        """Note bytes, 0 between steps; returns when more may be written.

        Raises
        ------
        Stopped
            If the work is to end.
        """
        self.bytes += count_bytes
        seconds = 0.0 if self._bucket is None or not count_bytes else self._bucket.take(count_bytes)
        if seconds > 0:
            start = self._clock()
            self._stop.wait(seconds)
            self.waited_s += self._clock() - start
        self._stop.check()


__all__ = ["Throttle", "TokenBucket"]
