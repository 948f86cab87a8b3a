"""What stays behind at a fork: descriptors that carry locks, and what was locked by threads.

A forked child inherits every descriptor, and with it the ``flock`` that was taken through it: the child would keep
the lock after its parent has died. So the descriptors that carry locks are opened here, listed, and closed in every
child. Nobody else may close or duplicate their numbers.

It inherits every mutex, too, locked where a thread of its parent held it, and not the thread that would unlock it. So
who has a mutex that outlives a call says so (:func:`renew_in_children`) and gets to make another one.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import fcntl
import logging
import os
import threading
import weakref
from typing import Protocol

# Re-entrant, because a garbage collection inside may close a dropped descriptor.
_guard = threading.RLock()
_numbers: set[int] = set()
_generation = 0


class Renewable(Protocol):
    """What has locks, or what they guard, to make anew in a forked child."""

    def renew(self) -> None:
        """Take nothing for granted that another thread may have been changing. No other thread runs; never raises."""


class Pausing(Renewable, Protocol):
    """What other threads must not be in the midst of while the process is forked."""

    def pause(self) -> None:
        """Before a fork, in the thread that forks: let nobody begin, and wait for those who have. Never raises."""

    def resume(self) -> None:
        """After it, in the parent. Never raises."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
_pausing: weakref.WeakSet[Pausing] = weakref.WeakSet()
_paused: list[list[Pausing]] = []


def renew_in_children(what: Renewable) -> None:
    """Have ``what.renew()`` called in every forked child, before anything else runs there, for as long as it lives."""
    with _guard:
        _renewables.add(what)


def pause_for_forks(what: Pausing) -> None:
    """Have ``what`` paused before every fork, resumed after it, and renewed in the child, for as long as it lives."""
    with _guard:
        _pausing.add(what)
        _renewables.add(what)


def generation() -> int:
    """How many forks lie between the first process and this one; what remembers another one was inherited."""
    return _generation


def guard() -> threading.RLock:
    """The lock under which what was inherited is renewed: never held by a thread that a fork has left behind."""
    return _guard


def _before_fork() -> None:
    with _guard:
        found = list(_pausing)
    try:
        for what in found:
            what.pause()
    finally:  # an interrupt comes out of here and is told, but the fork goes on
        _guard.acquire()
        _paused.append(found)


def _after_fork_in_parent() -> None:
    found = _paused.pop()
    _guard.release()
    for what in found:
        what.resume()


def _after_fork_in_child() -> None:
    global _guard, _generation
    for number in _numbers:
        # Closed, never unlocked: the lock belongs to what the number stands for, which the parent shares.
        with contextlib.suppress(OSError):
            os.close(number)
    _numbers.clear()
    _paused.clear()
    _guard = threading.RLock()
    _generation += 1
    for what in list(_renewables):
        what.renew()


# What is registered last is called first before a fork. These two hold locks from there on: whoever is waited for here
# may need them, so they have to be registered already.
assert concurrent.futures.thread and logging
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

    @property
    def usable(self) -> bool:
        """Whether it is open, and was opened in this process."""
        return self._generation == _generation

    def unlock(self) -> None:
        """Drop the ``flock``, if there is one; where the system refuses that, close the descriptor, which drops it too.

        Explicitly at first, for a child between fork and exec may still hold a copy of the descriptor, and closing
        ours would then not be enough.
        """
        if self.usable:
            try:
                fcntl.flock(self.number, fcntl.LOCK_UN)
            except OSError:
                self.close()

    def close(self) -> None:
        """Unlock and close; idempotent. Whatever the system says to that, the number is free afterwards."""
        with _guard:
            if not self.usable:
                return
            self._generation = -1
            _numbers.discard(self.number)
            with contextlib.suppress(OSError):
                fcntl.flock(self.number, fcntl.LOCK_UN)
            with contextlib.suppress(OSError):
                os.close(self.number)

    def __del__(self) -> None:
        self.close()


__all__ = ["Descriptor", "Pausing", "Renewable", "generation", "guard", "pause_for_forks", "renew_in_children"]
