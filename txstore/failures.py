"""Failures of the operating system in our terms."""

from __future__ import annotations

import errno

from txstore.errors import StorageError

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def storage_error(what: str, error: OSError, kind: type[StorageError] = StorageError) -> StorageError:
    """The error to raise from `error`, which keeps its ``errno``; `what` says what could not be done to which file."""
    advice = ""
    if error.errno in _NO_LOCKS:
        advice = "; this file system has no locks, put the store on a local one"
    elif error.errno in _FULL:
        advice = "; what was there before is whole, make room and run it again"
    failure = kind(f"can't {what}: {error.strerror or error}{advice}")
    failure.errno = error.errno
    return failure


__all__ = ["storage_error"]
