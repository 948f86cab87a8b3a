"""An export into a directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from txstore.compaction.destination import BUILDING, NO_LINKS, REPLACED, Destination, Writer
from txstore.compaction.earlysync import EarlySync
from txstore.compaction.renaming import exchange, sync_filesystem
from txstore.errors import AlreadyExistsError, StorageError
from txstore.failures import storage_error

_ZARR = ("zarr.json", ".zgroup", ".zarray")
_FICLONE = 0x40049409  # linux/fs.h


class DirectoryDestination(Destination):
    """A directory; objects are files in it, and may be written by several threads at once."""

    parallel = True
    clones = True
    _early: EarlySync | None = None

    def put(self, key: str, data: bytes) -> None:
        """See Destination."""
        with self.begin(key, buffering=0) as writer:
            left = memoryview(data)
            while left:
                left = left[writer.write(left) :]

    @contextmanager
    def begin(self, key: str, buffering: int = -1) -> Iterator[Writer]:
        """See Destination."""
        path = os.path.join(self._staged, key)
        try:
            with self._open(path, buffering) as file:
                yield file
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(f"write {key} of {self.final}", error) from error

    @staticmethod
    def _open(path: str, buffering: int = -1) -> IO[bytes]:
        try:
            return open(path, "xb", buffering)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return open(path, "xb", buffering)

    def take_over(self, old: str, new: str, names: Sequence[str]) -> None:
        """See Destination; hard links where there can be any."""
        source, target = os.path.join(self.final, old), os.path.join(self._staged, new)
        try:
            os.makedirs(target, exist_ok=True)
            for name in names:
                try:
                    os.link(f"{source}/{name}", f"{target}/{name}")
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
        except OSError as error:
            raise storage_error(f"take over {old} of {self.final}", error) from error

    def clone(self, path: str, key: str) -> bool:
        """See Destination."""
        target = os.path.join(self._staged, key)
        with open(path, "rb") as source:
            with self._open(target) as file:
                with contextlib.suppress(OSError):
                    fcntl.ioctl(file.fileno(), _FICLONE, source.fileno())
                    return True
        os.unlink(target)
        self.clones = False  # nor will it for the next one
        return False

    def _check(self) -> None:
        if not os.path.lexists(self.final):
            return
        if not os.path.isdir(self.final):
            raise AlreadyExistsError(f"{self.final} is a file; give a directory, or a path that ends in .zip")
        names = os.listdir(self.final)
        if names and not self._replace:
            raise self.taken()
        if names and not any(name in names for name in _ZARR):
            raise AlreadyExistsError(f"{self.final} holds something else than a Zarr hierarchy: it is not replaced")

    def _create(self) -> tuple[str, int]:
        while True:
            path = self.hidden(BUILDING)
            os.mkdir(path)
            number = os.open(path, os.O_RDONLY)
            fcntl.flock(number, fcntl.LOCK_EX)
            # Before it was locked, somebody may have taken it for a dead one's and removed it.
            if os.path.isdir(path):
                break
            os.close(number)
        with contextlib.suppress(RuntimeError):  # no more threads, and it can be done without
            self._early = EarlySync(path)
        return path, number

    def _finish(self) -> None:
        self._close()
        sync_filesystem(self._lock, self._staged)

    def _close(self) -> None:
        if self._early is not None:
            self._early.end()

    def _move(self) -> None:
        try:
            # Also onto an empty directory.
            os.rename(self._staged, self.final)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if not self._replace:
            raise self.taken()
        if exchange(self._staged, self.final):
            return
        aside = self.hidden(REPLACED)
        os.rename(self.final, aside)
        try:
            os.rename(self._staged, self.final)
        except OSError:
            os.rename(aside, self.final)
            raise
        self._staged = aside


__all__ = ["DirectoryDestination"]
