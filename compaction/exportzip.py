"""An export into a zip file, as zarr-python's ZipStore reads it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from txstore.compaction.destination import BUILDING, NO_LINKS, Destination, Writer
from txstore.errors import AlreadyExistsError, StorageError
from txstore.failures import storage_error


class ZipDestination(Destination):
    """A zip file, stored without compression of its own; every entry is written once, by one thread.

    Notes
    -----
    Entries carry no time of day: the same version makes the same file.
    """

    def put(self, key: str, data: bytes) -> None:
        """See Destination."""
        try:
            self._zip.writestr(self._entry(key), data)
        except OSError as error:
            raise storage_error(f"write {key} of {self.final}", error) from error

    @contextmanager
    def begin(self, key: str) -> Iterator[Writer]:
        """See Destination."""
        try:
            with self._zip.open(self._entry(key), "w", force_zip64=True) as file:
                yield file
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(f"write {key} of {self.final}", error) from error

    def _entry(self, key: str) -> zipfile.ZipInfo:
        if key in self._zip.NameToInfo:
            raise AssertionError(f"{key} is in {self.final} already")
        info = zipfile.ZipInfo(key, date_time=(1980, 1, 1, 0, 0, 0))
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        return info

    def _check(self) -> None:
        if not os.path.lexists(self.final):
            return
        if os.path.isdir(self.final):
            raise AlreadyExistsError(f"{self.final} is a directory; a path that ends in .zip makes a file")
        if not self._replace:
            raise self.taken()
        if not zipfile.is_zipfile(self.final) and os.path.getsize(self.final):
            raise AlreadyExistsError(f"{self.final} is something else than a zip file: it is not replaced")

    def _create(self) -> tuple[str, int]:
        while True:
            path = self.hidden(BUILDING)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(number, fcntl.LOCK_EX)
            if os.fstat(number).st_nlink:
                break
            os.close(number)
        self._file = os.fdopen(os.dup(number), "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        return path, number

    def _finish(self) -> None:
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _move(self) -> None:
        if self._replace:
            os.replace(self._staged, self.final)
            return
        try:
            os.link(self._staged, self.final)
        except FileExistsError:
            raise self.taken() from None
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(self.final):
                raise self.taken() from None
            os.rename(self._staged, self.final)

    def _close(self) -> None:
        for file in (self._zip, self._file):
            with contextlib.suppress(OSError, ValueError):  # what is buffered can't be written to a full disk
                file.close()


__all__ = ["ZipDestination"]
