"""Files of bytes under a root: every byte of data is written and read here.

Keys are relative paths, made by :func:`segment_key` and checked wherever they come in. A file appears under its key
whole and synced, or not at all; it never changes afterwards, and its key is never used again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from txstore.errors import CorruptionError, StorageError, StoreClosedError
from txstore.failures import storage_error
from txstore.folders import sync_folder
from txstore.openfiles import OpenFile, OpenFiles
from txstore.sink import UNFINISHED, Sink

_SEGMENT_KEY = re.compile(r"segments/([0-9a-f]{2})/(\1[0-9a-f]{30})")


def segment_key(segment: bytes) -> str:
    """Where the file of a segment lies: ``segments/ab/`` and the 32 hexadecimal digits of its 16 bytes."""
    name = segment.hex()
    if len(name) != 32:
        raise StorageError(f"a segment is named by 16 bytes, not by {len(name) // 2}")
    return f"segments/{name[:2]}/{name}"


def segment_of(key: str) -> bytes:
    """The inverse of :func:`segment_key`.

    Raises
    ------
    StorageError
        If it is no such key: absolute, with ``..``, or anything else that was not made here.
    """
    match = _SEGMENT_KEY.fullmatch(key)
    if match is None:
        raise StorageError(f"{key!r} is no key of a segment")
    return bytes.fromhex(match[2])


class MissingFileError(StorageError):
    """There is no file under this key: vacuumed, lost, or not visible yet."""


class LocalStorage:
    """Files in a local directory.

    Parameters
    ----------
    root : str or path
        The directory; made with the first file.
    sync : bool
        False leaves it to the operating system when bytes reach the disk: a crash of the machine may then lose files
        that were committed. A crash of the process does not.
    max_open : int
        How many descriptors are kept open for reading.

    Notes
    -----
    Thread safety: safe; several threads read through one descriptor, by position. Process safety: any number of
    processes. A forked child opens files anew. A file that is deleted elsewhere stays readable here for as long as
    its descriptor is kept, which is right, for it never changes; :meth:`maintained` gives its room on the disk back.

    Every failure of the operating system is a :class:`StorageError` that names the key. No sync is ever tried again:
    after a failure the system may have dropped the bytes and would report success.
    """

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = True, max_open: int = 128) -> None:
        self.root = os.path.abspath(root)
        self.sync = sync
        self._closed = False
        self._maintained = -1
        self._files = OpenFiles(max_open, partial(_path_of, self.root))
        self._anchored: set[str] = set()  # directories whose names are known to be synced

    def __repr__(self) -> str:
        return f"LocalStorage({self.root!r})"

    # -- writing

    def create(self, key: str) -> Sink:
        """Begin a file; it appears under its key with :meth:`Sink.commit`.

        Raises
        ------
        StorageError
            If the key exists or is being written, or the file can't be made.
        """
        return Sink(key, self._path(key), self.sync, self.sync_dirs)

    def delete(self, key: str) -> None:
        """Remove a file, also one that is still being written or whose writer died. A missing one is fine.

        Whoever is still writing it finds out when it commits, and fails.
        """
        path = self._path(key)
        for victim in (path + UNFINISHED, path):
            try:
                os.unlink(victim)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(f"delete {key}", error) from error
        self._files.drop(key)

    def maintained(self, count: int) -> None:
        """Learn how often the store has been maintained, by anybody: if that has changed, files may have been deleted.

        Those that are open here are closed: the room that they took on the disk is free only then.
        """
        if count != self._maintained:
            self._maintained = count
            self._files.drop_deleted()

    def sync_dirs(self, keys: Iterable[str]) -> None:
        """Sync the directories in which the keys lie, and once per process those above, so that names survive."""
        for directory in sorted({os.path.dirname(self._path(key)) for key in keys}):
            self._sync_dir(directory)
            self._anchor(directory)

    def _anchor(self, directory: str) -> None:
        """Sync the names of a directory and of those above it, up to the root's own.

        Also of directories that were found: whoever made them may have died before it came to this.
        """
        if directory in self._anchored:
            return
        if directory == self.root:
            # The place above is perhaps not ours to read.
            try:
                self._sync_dir(os.path.dirname(directory))
            except StorageError as error:
                if error.errno not in (errno.EACCES, errno.EPERM):
                    raise
        else:
            self._sync_dir(os.path.dirname(directory))
            self._anchor(os.path.dirname(directory))
        self._anchored.add(directory)

    def _sync_dir(self, directory: str) -> None:
        try:
            sync_folder(directory)
        except OSError as error:
            raise storage_error(f"sync {directory}", error) from error

    # -- reading

    def read(self, key: str, offset: int, length: int) -> bytes:
        """The `length` bytes from `offset` on.

        Raises
        ------
        MissingFileError
            If there is no such file.
        CorruptionError
            If it is too short; nothing of that length is allocated.
        StorageError
            If the file can't be read.
        """
        file = self._file(key)
        if offset < 0 or length < 0 or offset + length > file.size:
            raise _short(key, offset, length, file.size)
        try:
            data = os.pread(file.number, length, offset)
            if len(data) == length:
                return data
        except OSError as error:
            raise storage_error(f"read {key}", error) from error
        whole = bytearray(length)
        whole[: len(data)] = data
        self._fill(key, file, memoryview(whole), offset, len(data))
        return bytes(whole)

    def read_into(self, key: str, offset: int, buffer: memoryview) -> None:
        """Fill a contiguous buffer with the bytes from `offset` on.

        Raises
        ------
        MissingFileError, CorruptionError, StorageError
            As :meth:`read`; the buffer may then be filled in part.
        """
        file = self._file(key)
        length = buffer.nbytes
        if offset < 0 or offset + length > file.size:
            raise _short(key, offset, length, file.size)
        try:
            done = os.preadv(file.number, [buffer], offset)
        except OSError as error:
            raise storage_error(f"read {key}", error) from error
        if done != length:
            self._fill(key, file, buffer.cast("B"), offset, done)

    def _fill(self, key: str, file: OpenFile, buffer: memoryview, offset: int, done: int) -> None:
        """The rest of a read that the system cut short: it does so above 2 GiB, and at the end of the file."""
        length = len(buffer)
        while done < length:
            try:
                count = os.preadv(file.number, [buffer[done:]], offset + done)
            except OSError as error:
                raise storage_error(f"read {key}", error) from error
            if not count:
                raise _short(key, offset, length, offset + done)
            done += count

    def _file(self, key: str) -> OpenFile:
        if self._closed:
            self._check_open()
        try:
            return self._files.get(key)
        except FileNotFoundError as error:
            raise storage_error(f"read {key}", error, MissingFileError) from error
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(f"open {key}", error) from error

    # -- looking

    def size(self, key: str) -> int | None:
        """The size of a file in bytes; None when there is none."""
        try:
            return os.stat(self._path(key)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(f"look at {key}", error) from error

    def list(self, prefix: str = "segments", *, unfinished: bool = False) -> Iterator[str]:
        """The keys under a directory, in order. For maintenance only: nothing is found by listing.

        Parameters
        ----------
        prefix : str
            ``"segments"``, or one of its directories, ``"segments/ab"``.
        unfinished : bool
            List the files that are being written, or whose writer died, instead of the finished ones.
        """
        self._check_open()
        if not re.fullmatch(r"segments(/[0-9a-f]{2})?/?", prefix):
            raise StorageError(f"{prefix!r} is no directory of segments")
        prefix = prefix.rstrip("/")
        below = [prefix] if "/" in prefix else [f"{prefix}/{name}" for name in self._names(prefix)]
        for directory in below:
            for name in self._names(directory):
                if name.endswith(UNFINISHED) == unfinished:
                    key = f"{directory}/{name.removesuffix(UNFINISHED)}"
                    if _SEGMENT_KEY.fullmatch(key):
                        yield key

    def strays(self) -> Iterator[str]:
        """What else lies under ``segments``: paths that are no keys, nor those of unfinished files, as text."""
        self._check_open()
        for name in self._names("segments"):
            directory = f"segments/{name}"
            if not re.fullmatch("[0-9a-f]{2}", name) or not os.path.isdir(os.path.join(self.root, directory)):
                yield _text(directory)
                continue
            for path in (f"{directory}/{inner}" for inner in self._names(directory)):
                if not _SEGMENT_KEY.fullmatch(path.removesuffix(UNFINISHED)):
                    yield _text(path)

    def _names(self, directory: str) -> Sequence[str]:
        try:
            return sorted(os.listdir(os.path.join(self.root, directory)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_error(f"list {directory}", error) from error

    def close(self) -> None:
        """Close what is open; idempotent. What is being read at the moment is read to its end."""
        self._closed = True
        self._files.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"the store {self.root} has been closed; open it again")

    def _path(self, key: str) -> str:
        self._check_open()
        return _path_of(self.root, key)


def _path_of(root: str, key: str) -> str:
    segment_of(key)
    return f"{root}/{key}"


def _text(path: str) -> str:
    """A path as text that can be printed and encoded, whatever bytes its name is made of."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _short(key: str, offset: int, length: int, size: int) -> CorruptionError:
    return CorruptionError(
        f"{key} ends at byte {size}, but {length} bytes at {offset} are said to be in it", (key, offset, length)
    )


__all__ = ["LocalStorage", "MissingFileError", "segment_key", "segment_of"]
