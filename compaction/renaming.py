"""Two calls of the operating system that Python's ``os`` lacks: exchanging two names, and syncing a whole tree."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from typing import Any

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


@functools.cache
def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


def exchange(one: str, other: str) -> bool:
    """Let two paths change places, atomically; False where system or file system can't.

    Raises
    ------
    OSError
        If it could but failed.
    """
    linux, macos = _function("renameat2"), _function("renamex_np")
    if linux is not None:
        status = linux(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    elif macos is not None:
        status = macos(os.fsencode(one), os.fsencode(other), _RENAME_SWAP)
    else:
        return False
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), other)


def syncfs(directory: int) -> bool:
    """Bring everything on the file system of a descriptor to the disk; False where the system can't.

    Raises
    ------
    OSError
        If something could not be written, since the descriptor was opened or last asked about.
    """
    function = _function("syncfs")
    if function is None:
        return False
    if function(directory) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))


def sync_filesystem(directory: int, root: str) -> None:
    """Bring everything below a directory to the disk.

    Parameters
    ----------
    directory : int
        A descriptor of it, open since before anything was written: failures since then are reported.
    root : str
        Its path.

    Raises
    ------
    OSError
        If something could not be written.

    Notes
    -----
    One ``syncfs`` (Linux) in place of a sync per file and directory, of which there may be a million. Elsewhere each
    is synced.
    """
    if syncfs(directory):
        return
    for folder, _, names in os.walk(root):
        for name in (*names, "."):
            number = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(number)
            except OSError as error:
                if name != "." or error.errno not in (errno.EINVAL, errno.EBADF):
                    raise
            finally:
                os.close(number)


__all__ = ["exchange", "sync_filesystem", "syncfs"]
