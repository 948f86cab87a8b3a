"""The objects of a Zarr hierarchy on this machine: files of a directory, or entries of a zip file.

What is read comes from outside: an object larger than it can rightly be is refused before memory is taken for it.
"""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from typing import Protocol

from txstore.errors import CorruptionError
from txstore.failures import storage_error
from txstore.interrupts import let_through


class ZarrFiles(Protocol):
    """Objects by key.

    Notes
    -----
    Implementations are safe for threads.
    """

    def size(self, key: str) -> int | None:
        """The bytes of an object; None when there is none."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A part of an object that is there."""

    def below(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix, relative to it, in any order."""

    def close(self) -> None:
        """Give back what is open; idempotent."""


def read_whole(files: ZarrFiles, key: str, most: int) -> bytes | None:
    """A whole object; None when there is none.

    Raises
    ------
    CorruptionError
        If it has more than `most` bytes.
    StorageError
        If it can't be read.
    """
    size = files.size(key)
    if size is None:
        return None
    if size > most:
        raise CorruptionError(f"{key} has {size} bytes, where {most} would be many")
    return files.read(key, 0, size)


class DirectoryFiles:
    """Files of a directory."""

    def __init__(self, root: str) -> None:
        self.root = root

    def size(self, key: str) -> int | None:
        """See ZarrFiles."""
        try:
            found = os.stat(os.path.join(self.root, key))
            # Nothing else is an object; to open a pipe would wait for somebody to write into it.
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(f"look at {key} in {self.root}", error) from error

    def read(self, key: str, offset: int, length: int) -> bytes:
        """See ZarrFiles."""
        try:
            with open(os.path.join(self.root, key), "rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(length)
                while len(data) < length and (more := file.read(length - len(data))):
                    data += more
        except OSError as error:
            raise storage_error(f"read {key} in {self.root}", error) from error
        return _whole(data, key, length)

    def below(self, prefix: str) -> Iterator[str]:
        """See ZarrFiles."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(self.root, prefix, folder)) as entries:
                    for entry in entries:
                        key = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir():
                            folders.append(key)
                        else:
                            yield key
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage_error(f"list {os.path.join(prefix, folder)} in {self.root}", error) from error

    def close(self) -> None:
        """See ZarrFiles."""


class ZipFiles:
    """Entries of a zip file."""

    def __init__(self, path: str) -> None:
        self.root = path
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise CorruptionError(f"{path} is no zip file: {error}") from error
        except OSError as error:
            raise storage_error(f"read {path}", error) from error
        self._lock = threading.Lock()

    def size(self, key: str) -> int | None:
        """See ZarrFiles."""
        info = self._zip.NameToInfo.get(key)
        return None if info is None else info.file_size

    def read(self, key: str, offset: int, length: int) -> bytes:
        """See ZarrFiles."""
        try:
            with self._lock, self._zip.open(key) as file:
                file.seek(offset)
                return _whole(file.read(length), key, length)
        except CorruptionError:
            raise
        except Exception as error:  # each way of compressing has errors of its own, bz2 those of the system
            let_through(error)
            if isinstance(error, OSError) and error.errno is not None:
                raise storage_error(f"read {key} in {self.root}", error) from error
            raise CorruptionError(f"{key} in {self.root} is damaged: {error}") from error

    def below(self, prefix: str) -> Iterator[str]:
        """See ZarrFiles."""
        prefix = f"{prefix}/" if prefix else ""
        for name in self._zip.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                yield name[len(prefix) :]

    def close(self) -> None:
        """See ZarrFiles."""
        self._zip.close()


def _whole(data: bytes, key: str, length: int) -> bytes:
    if len(data) != length:
        raise CorruptionError(f"{key} is cut short: {len(data)} bytes, where {length} are expected")
    return data


__all__ = ["DirectoryFiles", "ZarrFiles", "ZipFiles", "read_whole"]
