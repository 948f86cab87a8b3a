"""Descriptors kept open for reading: a bounded number, shared by threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from txstore.descriptors import renew_in_children


class OpenFile:
    """A file that is open for reading; closed when the last user drops it.

    So no eviction closes it under a reader, who would then read from whatever file got its number next.
    """

    __slots__ = ("number", "recent", "size")

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.number).st_size
        self.recent = False

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class OpenFiles:
    """The files that were read lately, by key.

    Parameters
    ----------
    limit : int
        How many stay open.
    path_of : callable
        Where the file of a key lies; raises for what is no key.

    Notes
    -----
    Thread safety: safe, and without a lock where the file is open. Fork: a child starts with none.

    A file that has been deleted takes its room on the disk for as long as it is open here: see :meth:`drop_deleted`.
    """

    def __init__(self, limit: int, path_of: Callable[[str], str]) -> None:
        self._limit = max(limit, 1)
        self._path_of = path_of
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        self._files: dict[str, OpenFile] = {}
        self._opening = threading.RLock()

    def get(self, key: str) -> OpenFile:
        """The open file of a key.

        Raises
        ------
        OSError
            If it can't be opened.
        """
        file = self._files.get(key)
        if file is None:
            return self._open(key)
        file.recent = True
        return file

    def _open(self, key: str) -> OpenFile:
        path = self._path_of(key)
        with self._opening:
            file = self._files.get(key)
            if file is None:
                file = OpenFile(path)
                self._make_room()
                self._files[key] = file
            return file

    def _make_room(self) -> None:
        # Second chance: what was read since it was last looked at goes to the end of the line.
        while len(self._files) >= self._limit:
            oldest = next(iter(self._files), "")
            file = self._files.pop(oldest, None)
            if file is not None and file.recent:
                file.recent = False
                self._files[oldest] = file

    def drop(self, key: str) -> None:
        """Forget a file that has been deleted: after it has, so that nobody is about to open it once more."""
        with self._opening:
            self._files.pop(key, None)

    def drop_deleted(self) -> None:
        """Forget the files that others have deleted: a look at each, some microseconds in all."""
        with self._opening:
            for key in list(self._files):
                file = self._files.get(key)
                if file is not None and not os.fstat(file.number).st_nlink:
                    self._files.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        with self._opening:
            self._files.clear()


__all__ = ["OpenFile", "OpenFiles"]
