"""The folders of a store: made when they are needed, but never its root."""

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


__all__ = ["make_folder"]
