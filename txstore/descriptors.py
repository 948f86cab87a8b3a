"""Descriptors that stay behind at a fork.

A forked child inherits every descriptor, and with it the ``flock`` that was taken through it: the child would keep
the lock after its parent has died. So the descriptors that carry locks are opened here, listed, and closed in every
child. Nobody else may close or duplicate their numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading

# Re-entrant, because a garbage collection inside may close a dropped descriptor.
_guard = threading.RLock()
_numbers: set[int] = set()
_generation = 0


def generation() -> int:
    """How many forks lie between the first process and this one; what remembers another one was inherited."""
    return _generation


def guard() -> threading.RLock:
    """The lock under which what was inherited is renewed: never held by a thread that a fork has left behind."""
    return _guard


def _before_fork() -> None:
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    global _guard, _generation
    for number in _numbers:
        # Closed, never unlocked: the lock belongs to what the number stands for, which the parent shares.
        with contextlib.suppress(OSError):
            os.close(number)
    _numbers.clear()
    _guard = threading.RLock()
    _generation += 1


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


class Descriptor:
    """An open file that no forked child keeps; closed when it is dropped.

    Parameters
    ----------
    path : str
        The file.
    flags : int
        As for ``os.open``; a file that is made may be read and written by whom the umask allows.

    Raises
    ------
    OSError
        If it can't be opened.

    Notes
    -----
    Not to be closed by one thread while another uses :attr:`number`. In a forked child the number is meaningless;
    closing or dropping the object does nothing there.
    """

    __slots__ = ("_generation", "number")

    def __init__(self, path: str, flags: int) -> None:
        self._generation = -1
        with _guard:
            self.number = os.open(path, flags, 0o666)
            _numbers.add(self.number)
            self._generation = _generation

    def unlock(self) -> None:
        """Drop the ``flock``, if there is one.

        Explicitly, for a child between fork and exec may still hold a copy of the descriptor, and closing ours would
        then not be enough.
        """
        if self._generation == _generation:
            fcntl.flock(self.number, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unlock and close; idempotent."""
        with _guard:
            if self._generation != _generation:
                return
            self._generation = -1
            with contextlib.suppress(OSError):
                fcntl.flock(self.number, fcntl.LOCK_UN)
            _numbers.discard(self.number)
            os.close(self.number)

    def __del__(self) -> None:
        self.close()


__all__ = ["Descriptor", "generation", "guard"]
