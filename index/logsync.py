"""When what was committed is on the disk: SQLite's log is synced after the store's lock has been released.

SQLite can sync it in COMMIT, but then under the lock, so that each writer waits for the syncs of all others. Here a
commit is seen by others as soon as the lock is free, and its writer is told that it has landed when the log is synced:
by itself, or by another one that came later, for a sync takes all with it that stands before.

So for a moment there is a version that a crash of the machine would take back. Nobody acts on it but writers, whose own
commits lie behind it in the same log: who reads makes sure first that what it reads is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import struct

from txstore.descriptors import Descriptor
from txstore.errors import StorageError
from txstore.failures import storage_error

_VERSION = struct.Struct("<q")
#: Where in the mark it says that a sync has failed, and what it says then.
_FAILED_AT, _FAILED = _VERSION.size, b"failed\0\0"


class LogSync:
    """The log of one index, and up to which version it is known to be on the disk.

    Parameters
    ----------
    log : str
        SQLite's write-ahead log. It need not be there: the last to close the database copies it back, with a sync.
    mark : str
        A file in which those who have synced it tell others up to which version: a little-endian int64. Eight bytes
        follow: zeros, or, once a sync has failed, others.
    read_only : bool
        Do not make or write the mark.
    sync : bool
        False leaves everything to the operating system.

    Notes
    -----
    Safe for threads, processes and forks, without a lock. The mark is written after the sync, and says too much only
    where somebody has put an older index beside it. So readers believe it, and writers only where it has come to their
    version after they had committed it. One that is too low costs a sync. To open and close the log drops no lock of
    SQLite, which has none on it.

    After a failed sync the system may take for written what it has lost, and the next sync succeeds all the same. What
    stands behind the gap in the log would be lost with it. So nobody commits any more until all have closed the
    database, and with it the log.
    """

    __slots__ = ("_file", "_log", "_mark", "_read_only", "_seen", "_sync")

    def __init__(self, log: str, mark: str, *, read_only: bool, sync: bool) -> None:
        self._log = log
        self._mark = mark
        self._read_only = read_only
        self._sync = sync
        self._file: Descriptor | None = None
        self._seen = -1

    @property
    def told(self) -> int:
        """What the mark says now; -1 where there is none."""
        file = self._opened() if self._sync else None
        data = b"" if file is None else os.pread(file.number, _VERSION.size, 0)
        return int(_VERSION.unpack(data)[0]) if len(data) == _VERSION.size else -1

    def require_sound(self) -> None:
        """To be called under the store's lock, before anything is put into the log.

        Raises
        ------
        StorageError
            If the log could not be synced, and is still the same.
        """
        file = self._opened() if self._sync else None
        if file is not None and os.pread(file.number, len(_FAILED), _FAILED_AT).strip(b"\0"):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._log).st_size:
                    raise StorageError(
                        f"{self._log} could not be synced, so that nothing is written behind it any more: close the "
                        "store in all processes, which copies the log back, and see that the disk is well"
                    )
            os.pwrite(file.number, bytes(len(_FAILED)), _FAILED_AT)

    def seen(self, version: int) -> None:
        """Return when a version that has been read is on the disk.

        Raises
        ------
        StorageError
            If the log can't be synced.
        """
        if version > self._seen and self._sync:
            self._seen = self.told
            if version > self._seen:
                self._sync_log()
                self._tell(_VERSION.pack(version))
                self._seen = version

    def committed(self, version: int | None = None, told: int = 0) -> None:
        """Return when what this process has committed is on the disk.

        Parameters
        ----------
        version : int, optional
            The version that it has made, if it has made one.
        told : int
            What :attr:`told` was before.

        Raises
        ------
        StorageError
            If the log can't be synced: whether the commit will survive a crash of the machine is not known.
        """
        if not self._sync or (version is not None and told < version <= self.told):
            return
        self._sync_log()
        if version is not None:
            self._tell(_VERSION.pack(version))

    def _sync_log(self) -> None:
        try:
            number = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(f"open {self._log}", error) from error
        try:
            # macOS has no fdatasync.
            getattr(os, "fdatasync", os.fsync)(number)
        except OSError as error:
            self._tell(_FAILED, _FAILED_AT)
            # Without its number: who cleans up after a full disk would take what has landed for what has not.
            raise StorageError(f"{self._log} can't be synced: {error.strerror}") from error
        finally:
            os.close(number)

    def _tell(self, what: bytes, where: int = 0) -> None:
        file = self._opened()
        if file is not None and not self._read_only:
            with contextlib.suppress(OSError):  # a full disk: others then sync once more
                os.pwrite(file.number, what, where)

    def _opened(self) -> Descriptor | None:
        if self._file is None or not self._file.usable:
            try:
                self._file = Descriptor(self._mark, os.O_RDONLY if self._read_only else os.O_RDWR | os.O_CREAT)
            except OSError:
                self._file = None
        return self._file

    def close(self) -> None:
        """Give the mark's descriptor back; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


__all__ = ["LogSync"]
