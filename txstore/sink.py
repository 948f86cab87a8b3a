"""A file that is being written: beside its place, unseen until it is whole and synced."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from txstore.errors import StorageError
from txstore.failures import storage_error
from txstore.folders import make_folder
from txstore.interrupts import Deferred

#: What the name of an unfinished file ends with.
UNFINISHED = ".tmp"

# macOS has no fdatasync.
_sync_data = getattr(os, "fdatasync", os.fsync)

#: After so many bytes the disk is told to begin with them, so that the sync at the end finds little left to wait for.
_EARLY_BYTES = 2 << 20


class Sink:
    """A file that is being written; nobody sees it before :meth:`commit`.

    Parameters
    ----------
    key : str
        What the storage calls it.
    path : str
        Where it will lie.
    sync : bool
        Whether :meth:`commit` waits until the bytes have reached the disk.
    sync_dirs : callable
        Syncs the directories of keys.

    Notes
    -----
    Thread safety: one writer at a time; :meth:`read_back` may run beside it. Process safety: a forked child can't
    use it, and dropping it there leaves the parent's file alone. Crash safety: the temporary file stays, and
    :meth:`txstore.storage.LocalStorage.delete` of the same key removes it.
    """

    def __init__(self, key: str, path: str, sync: bool, sync_dirs: Callable[[Iterable[str]], None]) -> None:
        self.key = key
        #: How many bytes have been written.
        self.position = 0
        self._begun = 0  # up to where the disk was told to begin
        self._path = path
        self._sync = sync
        self._sync_dirs = sync_dirs
        self._number = -1
        self._pid = os.getpid()
        self._broken = False
        # A fixed name, taken exclusively: whoever has it and finds no finished file is the only one to make it.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            with Deferred():  # until it is noted that there is a file
                try:
                    self._number = os.open(path + UNFINISHED, flags, 0o666)
                except FileNotFoundError:
                    make_folder(os.path.dirname(path))
                    self._number = os.open(path + UNFINISHED, flags, 0o666)
        except OSError as error:
            raise storage_error(f"create {key}", error) from error
        if os.path.lexists(path):
            self.abort()
            raise storage_error(f"create {key}", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; all of them.

        Raises
        ------
        StorageError
            If they can't be written. Nothing but :meth:`abort` works afterwards.
        """
        self._check()
        view = memoryview(data)
        if not view.nbytes:
            return
        view = view.cast("B")
        try:
            while view:
                count = os.write(self._number, view)
                self.position += count
                view = view[count:]
            if self._sync and self.position - self._begun >= _EARLY_BYTES:
                _begin(self._number, self._begun, self.position)
                self._begun = self.position
        except OSError as error:
            self._broken = True
            raise storage_error(f"write {self.key}", error) from error

    def read_back(self, offset: int, length: int) -> bytes:
        """Bytes that have been written already.

        Raises
        ------
        StorageError
            If they can't be read, or were never written.
        """
        self._check()
        if offset < 0 or length < 0 or offset + length > self.position:
            raise StorageError(f"{self.key}: {length} bytes at {offset} have not been written yet")
        parts = []
        try:
            while length:
                part = os.pread(self._number, length, offset)
                if not part:
                    raise StorageError(f"{self.key} has been cut while it was being written")
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except OSError as error:
            raise error if isinstance(error, StorageError) else storage_error(f"read {self.key}", error) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def commit(self) -> int:
        """Make it durable and visible; its size.

        Raises
        ------
        StorageError
            If that failed, or somebody deleted the file meanwhile. There is no such file then.
        """
        self._check()
        try:
            if self._sync:
                _sync_data(self._number)
            os.rename(self._path + UNFINISHED, self._path)
        except OSError as error:
            self._broken = True
            raise storage_error(f"commit {self.key}", error) from error
        self._close()
        if self._sync:
            try:
                self._sync_dirs([self.key])
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
                raise
        return self.position

    def abort(self) -> None:
        """Remove what was written; idempotent, and nothing after :meth:`commit`."""
        if self._number >= 0:
            self._close()
            if self._pid == os.getpid():
                with contextlib.suppress(OSError):
                    os.unlink(self._path + UNFINISHED)

    def _check(self) -> None:
        if self._number < 0 or self._broken or self._pid != os.getpid():
            raise StorageError(f"{self.key} is no longer being written here")

    def _close(self) -> None:
        number, self._number = self._number, -1
        with contextlib.suppress(OSError):
            os.close(number)

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            self.abort()


def _begin(number: int, start: int, end: int) -> None:
    """Have the system start writing a part of a file to the disk, where it knows how; it waits for nothing.

    Of the hints of POSIX this one does that on Linux: pages that are not needed any more have to go to the disk, and
    those that are on their way stay in memory.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(number, start, end - start, os.POSIX_FADV_DONTNEED)


__all__ = ["UNFINISHED", "Sink"]
