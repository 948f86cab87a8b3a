"""Who is alive, and from which version on it reads: a file that each process locks for its life.

Garbage collection asks the lock and never a clock: what a process has announced is safe for as long as it lives,
however slow it is, and is garbage as soon as it is dead.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import struct
import threading

from txstore import lifesigns
from txstore.descriptors import Descriptor, generation, guard
from txstore.errors import StorageError
from txstore.failures import storage_error

#: What a holder that reads no version writes into its file.
NO_VERSION = 2**63 - 1

_VERSION = struct.Struct("<q")


class Holder:
    """A sign that this process lives, and from which version on it reads.

    Parameters
    ----------
    directory : str or path
        Where the holders of a store have their files, named by 32 hexadecimal digits; made when it is not there.

    Raises
    ------
    StorageError
        If the file can't be made or locked; so do :attr:`id`, :attr:`minimum`, :meth:`pin` in a forked child.

    Notes
    -----
    The file holds the lowest pinned version as a little-endian int64, :data:`NO_VERSION` when nothing is pinned.
    Others see it as soon as :meth:`pin` returns. A reader pins first and then looks at the horizon; who moves the
    horizon looks at the holders afterwards: one of the two sees the other.

    Thread safety: safe.

    Process safety: a forked child has an identity and a file of its own, made when it first uses the holder,
    with what was pinned when it was forked; until then the parent's file protects it.

    Crash safety: the lock goes with the process; its file stays until somebody asks :meth:`live`.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.realpath(directory)
        self._id = b""
        self._file: Descriptor | None = None
        self._closed = False
        self._pinned: dict[int, int] = {}
        self._order: list[tuple[int, int]] = []  # heap of (version, token); tokens no longer pinned are skipped
        self._next_token = 0
        self._written = NO_VERSION
        self._mutex = threading.RLock()
        self._generation = generation()
        self._open()

    def __repr__(self) -> str:
        return f"Holder({self._id.hex()}{', closed' if self._closed else ''})"

    @property
    def id(self) -> bytes:
        """The 16 bytes that name this process in the index."""
        with self._current():
            self._opened()
            return self._id

    @property
    def minimum(self) -> int:
        """The lowest pinned version; :data:`NO_VERSION` when nothing is pinned."""
        with self._current():
            self._opened()
            return self._written

    def pin(self, version: int) -> int:
        """Keep a version, and what is newer, readable; returns a token for :meth:`unpin`.

        Raises
        ------
        StorageError
            If the holder is closed, or its file can't be written: nothing is pinned then.
        """
        with self._current():
            file = self._opened()
            token = self._next_token
            self._next_token = token + 1
            # Noted before it is written: a finalizer may let go another one at any time, and writes the lowest of all.
            self._pinned[token] = version
            heapq.heappush(self._order, (version, token))
            try:
                if version < self._written:
                    self._write(file, version)
            except BaseException:
                self._pinned.pop(token, None)
                raise
            return token

    def unpin(self, token: int) -> None:
        """Let go what :meth:`pin` kept. A token that is not pinned is ignored, and so is all after :meth:`close`.

        Raises
        ------
        StorageError
            If the file can't be written: others then keep more than they need to.
        """
        with self._current():
            if self._closed or self._pinned.pop(token, None) is None:
                return
            if len(self._order) > 64 and len(self._order) > 4 * len(self._pinned):
                self._order = [(version, token) for token, version in self._pinned.copy().items()]
                heapq.heapify(self._order)
            lowest = self._lowest()
            if lowest != self._written:
                self._write(self._opened(), lowest)

    def close(self) -> None:
        """Remove the file and let go whatever is pinned; idempotent. In a child the parent's file stays."""
        with self._current():
            self._closed = True
            self._pinned.clear()
            self._order.clear()
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.directory, self._id.hex()))
                file.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def _current(self) -> threading.RLock:
        if self._generation != generation():
            with guard():
                if self._generation != generation():
                    # The threads that may have held the mutex are not in this process, and the file is the parent's.
                    self._mutex = threading.RLock()
                    self._file = None
                    self._generation = generation()
        return self._mutex

    def _opened(self) -> Descriptor:
        if self._closed:
            raise StorageError(f"the holder in {self.directory} is closed")
        return self._file or self._open()

    def _open(self) -> Descriptor:
        lowest = self._lowest()
        try:
            identity, file = lifesigns.make(self.directory, _VERSION.pack(lowest))
        except OSError as error:
            raise storage_error(f"make a lock file in {self.directory}", error) from error
        self._id, self._written, self._file = identity, lowest, file
        return file

    def _lowest(self) -> int:
        order = self._order
        while order and order[0][1] not in self._pinned:
            heapq.heappop(order)
        return order[0][0] if order else NO_VERSION

    def _write(self, file: Descriptor, version: int) -> None:
        try:
            os.pwrite(file.number, _VERSION.pack(version), 0)
        except OSError as error:
            raise storage_error(f"write {self._id.hex()} in {self.directory}", error) from error
        self._written = version

    @staticmethod
    def live(directory: str | os.PathLike[str]) -> dict[bytes, int]:
        """The holders that are alive, each with the lowest version it needs; the files of dead ones are removed.

        A file that can't be understood although its holder lives counts as one that needs every version.

        Raises
        ------
        StorageError
            If the directory or a file in it can't be read.
        """
        found: dict[bytes, int] = {}
        try:
            for path in lifesigns.found(os.fspath(directory)):
                with lifesigns.living(path, os.O_RDONLY) as file:
                    if file is not None:
                        data = os.pread(file.number, 9, 0)
                        version = max(int(_VERSION.unpack(data)[0]), 0) if len(data) == 8 else 0
                        found[bytes.fromhex(os.path.basename(path))] = version
        except OSError as error:
            raise storage_error(f"list {os.fspath(directory)}, or read a file in it", error) from error
        return found


__all__ = ["NO_VERSION", "Holder"]
