"""Where an export goes: a directory or a zip file, built beside its place and moved there whole.

Whoever looks at the place finds what was there before or all of the export, never a mixture, whenever a process or
the machine dies. What is being built lies beside it under a hidden name, locked by the process that builds it; the
next export to the same place removes what a dead one has left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from txstore.compaction.removing import remove_tree
from txstore.errors import AlreadyExistsError, StorageError
from txstore.failures import storage_error
from txstore.folders import sync_folder

#: What the hidden names end with: of what is being built, and of what was moved aside for it.
BUILDING, REPLACED = ".exporting", ".replaced"

#: How a file system says that it has no hard links.
NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class Writer(Protocol):
    """An object that is written piece by piece."""

    def write(self, data: bytes | memoryview, /) -> Any:
        """Add bytes."""


class Destination:
    """What an export is written into.

    Parameters
    ----------
    final : str
        Where it will lie; absolute.
    replace : bool
        Whether it may take the place of an earlier export, or of another Zarr hierarchy.

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

    def __init__(self, final: str, *, replace: bool) -> None:
        self.final = final
        self._replace = replace
        self._parent, name = os.path.split(final)
        self._prefix = f".{_short(name)}."
        try:
            os.lstat(final)
        except FileNotFoundError:
            pass
        except OSError as error:  # such as a name that is too long, which had better be known now than at the end
            raise storage_error(f"write {final}", error) from error
        self._guard: int | None = None
        #: The directories whose names have to be durable, the deepest first.
        self._above = [self._parent]
        while not os.path.isdir(self._above[-1]) and os.path.dirname(self._above[-1]) != self._above[-1]:
            self._above.append(os.path.dirname(self._above[-1]))
        try:
            # Before anything is looked at: another export may be about to put its tree there and to remove this one.
            self._guard = _only_one(final) if replace else None
            self._check()
            os.makedirs(self._parent, exist_ok=True)
            self._sweep()
            self._staged, self._lock = self._create()
        except OSError as error:
            self._release()
            if isinstance(error, StorageError):
                raise
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

    def take_over(self, old: str, new: str, names: Sequence[str]) -> None:
        """Give the objects of these names in a folder of the tree that is replaced to a folder of this one."""
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
            if self._replace and self._guard is None:
                # Another export has come to lie there meanwhile; who brings it up to date takes over files by path.
                self._guard = _only_one(self.final)
            self._move()
            for directory in self._above:
                sync_folder(directory)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise storage_error(f"move what was exported to {self.final}", error) from error
        self._release()
        self._remove(self._staged)

    def abort(self) -> None:
        """Remove what was built; idempotent, and nothing after :meth:`commit`.

        Where it has changed places with what it replaces, that is left to the next export to this place: it must not
        go before the name of the new one is durable.
        """
        self._close()
        with contextlib.suppress(FileNotFoundError):
            if self._lock is not None and os.path.samestat(os.fstat(self._lock), os.stat(self._staged)):
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

    def hidden(self, suffix: str) -> str:
        """A fresh name beside the place."""
        return os.path.join(self._parent, f"{self._prefix}{uuid.uuid4().hex}{suffix}")

    def taken(self) -> AlreadyExistsError:
        """The error that something lies at the place already."""
        return AlreadyExistsError(f"there is something at {self.final} already; overwrite=True replaces an export")

    def _release(self) -> None:
        for number in (getattr(self, "_lock", None), self._guard):
            if number is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(number, fcntl.LOCK_UN)  # a child that was forked meanwhile has it, too
                os.close(number)
        self._lock = self._guard = None  # type: ignore[assignment]

    def _sweep(self) -> None:
        """Remove what exports that died have left, and put back what one of them had moved aside."""
        for name in os.listdir(self._parent):
            left = name.removeprefix(self._prefix)
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
            remove_tree(path)
        else:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _short(name: str) -> str:
    """A name to which 75 bytes can be added, where names have 255 bytes."""
    data = os.fsencode(name)
    return name if len(data) <= 180 else data[:140].decode(errors="ignore") + hashlib.sha256(data).hexdigest()[:32]


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


__all__ = ["BUILDING", "NO_LINKS", "REPLACED", "Destination", "Writer"]
