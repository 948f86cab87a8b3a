"""Bringing what is written to the disk while more of it is being written."""

from __future__ import annotations

import contextlib
import os
import threading

from txstore.compaction.renaming import syncfs

#: So long nothing is done: what is small is synced once, at its end.
_PAUSE_S = 0.2


class EarlySync:
    """A thread that syncs the file system of a directory again and again, until it is told to end.

    The system would begin to write when much more has gathered, and whoever syncs at the end would wait for all of it
    with nothing else to do.

    Parameters
    ----------
    directory : str
        Its path.

    Notes
    -----
    Nothing counts as durable for it, and its errors are not looked at. It has a descriptor of its own, for the system
    tells each descriptor of an error once: whoever has opened one before the first write, and syncs at the end, is told
    of all.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="txstore-early-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            number = os.open(self._directory, os.O_RDONLY)
            try:
                while not self._over.wait(_PAUSE_S) and syncfs(number):
                    pass
            finally:
                os.close(number)

    def end(self) -> None:
        """Wait until it is done; idempotent."""
        self._over.set()
        self._thread.join()


__all__ = ["EarlySync"]
