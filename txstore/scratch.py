"""Memory that a thread uses again and again."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

#: Larger buffers are not kept.
MOST_BYTES = 8 << 20


class Scratch(threading.local):
    """A buffer for each thread, as large as it was ever asked for.

    Fresh memory costs a page fault for each 4 KiB when it is first touched, which for a tile is as much as to decode
    it.

    Notes
    -----
    Safe for threads. What :meth:`take` gives is overwritten by the next call of the same thread.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """So many bytes, of any content; shape (n_bytes,)."""
        if n_bytes > MOST_BYTES:
            return np.empty(n_bytes, np.uint8)
        if n_bytes > self._buffer.size:
            self._buffer = np.empty(n_bytes, np.uint8)
        return self._buffer[:n_bytes]


__all__ = ["MOST_BYTES", "Scratch"]
