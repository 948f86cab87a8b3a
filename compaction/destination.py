"""Where an export goes: a directory or a zip file, built beside its place and moved there whole.

Whoever looks at the place finds what was there before or all of the export, never a mixture, whenever a process or
the machine dies. What is being built lies beside it under a hidden name, locked by the process that builds it; the
next export to the same place removes what a dead one has left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

from txstore.compaction.renaming import exchange, sync_filesystem
from txstore.errors import AlreadyExistsError, InvalidInputError, StorageError
from txstore.failures import storage_error

#: What the hidden names end with: of what is being built, and of what was moved aside for it.
BUILDING, REPLACED = ".exporting", ".replaced"

_ZARR = ("zarr.json", ".zgroup", ".zarray")
_FICLONE = 0x40049409  # linux/fs.h
_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class Writer(Protocol):
    """An object that is written piece by piece."""

    def write(self, data: bytes, /) -> Any:
        """Add bytes."""


class Destination:
    """What an export is written into.

    Parameters
    ----------
    final : str
        Where it will lie; absolute.
    replace : bool
        Whether it may take the place of an earlier export, or of another Zarr hierarchy.
    sync : bool
        Whether :meth:`commit` waits until the bytes have reached the disk.

    Raises
    ------
    AlreadyExistsError
        If there is something at the place that may not be replaced.
    StorageError
        If nothing can be written beside it, or another export to the same place is under way.

    Notes
    -----
    Process safety: of two exports to one place the second to finish is refused, or replaces the first. Crash safety:
    see the module.
    """

    #: Whether several objects may be written at the same time.
    parallel = False
    #: Whether :meth:`clone` is worth trying.
    clones = False

    def __init__(self, final: str, *, replace: bool, sync: bool) -> None:
        self.final = final
        self._replace = replace
        self._sync = sync
        self._parent, self._name = os.path.split(final)
        self._check()
        self._guard = _only_one(final) if replace else None
        try:
            os.makedirs(self._parent, exist_ok=True)
            self._sweep()
            self._staged, self._lock = self._create()
        except OSError as error:
            self._release()
            raise storage_error(f"write beside {final}", error) from error
        except BaseException:
            self._release()
            raise

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object; every key is written once."""
        raise NotImplementedError

    def begin(self, key: str) -> contextlib.AbstractContextManager[Writer]:
        """Write an object piece by piece."""
        raise NotImplementedError

    def take_over(self, old: str, key: str) -> bool:
        """Give an object of the tree that is replaced to this one; False when there is none."""
        raise NotImplementedError

    def clone(self, path: str, key: str) -> bool:
        """Make an object that shares the blocks of a file; False where the file system can't."""
        return False

    def commit(self) -> None:
        """Move what was built to its place.

        Raises
        ------
        AlreadyExistsError
            If something has appeared there meanwhile.
        StorageError
            If bytes or names could not be made durable.
        """
        try:
            self._finish()
            self._move()
            if self._sync:
                _sync_directory(self._parent)
        except OSError as error:
            raise storage_error(f"move what was exported to {self.final}", error) from error
        self._release()
        self._remove(self._staged)

    def abort(self) -> None:
        """Remove what was built; idempotent, and nothing after :meth:`commit`."""
        self._close()
        self._remove(self._staged)
        self._release()

    # --- for the two kinds ----------------------------------------------------------------------

    def _check(self) -> None:
        raise NotImplementedError

    def _create(self) -> tuple[str, int]:
        """Make the hidden file or directory, locked; its path and descriptor."""
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _move(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        pass

    def _hidden(self, suffix: str) -> str:
        return os.path.join(self._parent, f".{self._name[:180]}.{uuid.uuid4().hex}{suffix}")

    def _taken(self) -> AlreadyExistsError:
        return AlreadyExistsError(f"there is something at {self.final} already; overwrite=True replaces an export")

    def _release(self) -> None:
        for number in (getattr(self, "_lock", None), self._guard):
            if number is not None:
                os.close(number)
        self._lock = self._guard = None  # type: ignore[assignment]

    def _sweep(self) -> None:
        """Remove what exports that died have left, and put back what one of them had moved aside."""
        prefix = f".{self._name[:180]}."
        for name in os.listdir(self._parent):
            left = name.removeprefix(prefix)
            if left == name or len(left.partition(".")[0]) != 32:
                continue
            path = os.path.join(self._parent, name)
            if left.endswith(BUILDING):
                number = _lock(path)
                if number is not None:
                    self._remove(path)
                    os.close(number)
            elif left.endswith(REPLACED):
                if os.path.lexists(self.final):
                    self._remove(path)
                else:
                    os.rename(path, self.final)

    @staticmethod
    def _remove(path: str) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


class DirectoryDestination(Destination):
    """A directory; objects are files in it, and may be written by several threads at once."""

    parallel = True
    clones = True

    def put(self, key: str, data: bytes) -> None:
        """See Destination."""
        with self.begin(key) as writer:
            writer.write(data)

    @contextmanager
    def begin(self, key: str) -> Iterator[Writer]:
        """See Destination."""
        path = os.path.join(self._staged, key)
        try:
            with self._open(path) as file:
                yield file
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(f"write {key} of {self.final}", error) from error

    @staticmethod
    def _open(path: str) -> IO[bytes]:
        try:
            return open(path, "xb")
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return open(path, "xb")

    def take_over(self, old: str, key: str) -> bool:
        """See Destination; a hard link where there can be one."""
        source, target = os.path.join(self.final, old), os.path.join(self._staged, key)
        try:
            try:
                os.link(source, target)
            except FileNotFoundError:
                if not os.path.exists(source):
                    return False
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise storage_error(f"link {key} of {self.final}", error) from error
            shutil.copyfile(source, target)
        return True

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
            raise self._taken()
        if names and not any(name in names for name in _ZARR):
            raise AlreadyExistsError(f"{self.final} holds something else than a Zarr hierarchy: it is not replaced")

    def _create(self) -> tuple[str, int]:
        while True:
            path = self._hidden(BUILDING)
            os.mkdir(path)
            number = os.open(path, os.O_RDONLY)
            fcntl.flock(number, fcntl.LOCK_EX)
            # Before it was locked, somebody may have taken it for a dead one's and removed it.
            if os.path.isdir(path):
                return path, number
            os.close(number)

    def _finish(self) -> None:
        if self._sync:
            sync_filesystem(self._lock, self._staged)

    def _move(self) -> None:
        try:
            # Also onto an empty directory.
            os.rename(self._staged, self.final)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if not self._replace:
            raise self._taken()
        if exchange(self._staged, self.final):
            return
        aside = self._hidden(REPLACED)
        os.rename(self.final, aside)
        os.rename(self._staged, self.final)
        self._staged = aside


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
            raise self._taken()
        if not zipfile.is_zipfile(self.final) and os.path.getsize(self.final):
            raise AlreadyExistsError(f"{self.final} is something else than a zip file: it is not replaced")

    def _create(self) -> tuple[str, int]:
        while True:
            path = self._hidden(BUILDING)
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
        if self._sync:
            os.fsync(self._file.fileno())
        self._file.close()

    def _move(self) -> None:
        if self._replace:
            os.replace(self._staged, self.final)
            return
        try:
            os.link(self._staged, self.final)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self.final):
                raise self._taken() from None
            os.rename(self._staged, self.final)

    def _close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()
        self._file.close()


def open_destination(dest: str | os.PathLike[str], store_root: str, *, replace: bool, sync: bool) -> Destination:
    """The destination that a path names: a zip file where it ends in ``.zip``, a directory otherwise.

    Raises
    ------
    InvalidInputError
        If it is no local path, or lies in the store or around it.
    AlreadyExistsError, StorageError
        As :class:`Destination`.
    """
    text = os.fspath(dest)
    if not isinstance(text, str) or not text or "\x00" in text:
        raise InvalidInputError(f"{text!r} is no path to export to")
    if "://" in text.removeprefix("file://"):
        raise InvalidInputError(f"{text!r} is no local path, and only to those can be exported")
    final = os.path.realpath(os.path.expanduser(text.removeprefix("file://")))
    root = os.path.realpath(store_root)
    if os.path.commonpath([final, root]) in (final, root):
        raise InvalidInputError(f"{final} lies in the store {root} or around it; export to another place")
    kind = ZipDestination if final.endswith(".zip") else DirectoryDestination
    return kind(final, replace=replace, sync=sync)


def _only_one(path: str) -> int | None:
    """Hold what is to be replaced against other exports; None when there is nothing."""
    while os.path.lexists(path):
        number = _lock(path)
        if number is None:
            if os.path.lexists(path):
                raise StorageError(f"another export to {path} is under way; run this one again when it is done")
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), os.stat(path)):
                return number
        os.close(number)  # the other export has just put something new there
    return None


def _lock(path: str) -> int | None:
    """A descriptor of a file or directory, locked; None when there is none or somebody else holds the lock."""
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return number


def _sync_directory(path: str) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(number)


__all__ = ["BUILDING", "REPLACED", "Destination", "DirectoryDestination", "Writer", "ZipDestination", "open_destination"]
