"""Folders: those of a store are made when they are needed, but never its root; and brought to the disk."""

from __future__ import annotations

import errno
import os


def make_folder(path: str) -> None:
    """Make a folder that lies two levels below the root of a store, and the one between; they may be there already.

    A root that has been moved or deleted under those who have the store open does not come back, in parts and empty.

    Raises
    ------
    OSError
        If it can't be made: FileNotFoundError where there is no root.
    """
    for folder in (os.path.dirname(path), path):
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            moved = "the store has been moved or deleted since it was opened"
            raise FileNotFoundError(errno.ENOENT, moved, folder) from None
        except FileExistsError:
            if not os.path.isdir(folder):
                raise


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the disk, where the file system knows such a thing.

    Raises
    ------
    OSError
        If it can't be done.
    """
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(number)


__all__ = ["make_folder", "sync_folder"]
