"""Asking whoever holds a lock to do one's own work along with theirs: requests and their answers, each in a file.

Who waits for a lock writes down what they would do with it. Who holds it may take that, do it, and write the answer
into the same file; who has asked need not have the lock at all then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections import deque

from txstore import lifesigns
from txstore.checksum import crc32c
from txstore.descriptors import Descriptor

#: Neither a request nor an answer may be longer.
MOST_BYTES = 1 << 20

#: At the beginning of the file stand the number of the request that is asked for (0: none) and of the last that was
#: answered, each with the length and the checksum of the body, and the numbers of the last that was taken and of the
#: last that was given back.
_ASKED, _TAKEN, _GIVEN_BACK, _ANSWERED, _BODY = 0, 16, 24, 32, 64
_NUMBER = struct.Struct("<Q")
_HEAD = struct.Struct("<QII")
#: Whatever order processors have for what they write and read: what was written so long ago has been.
_VISIBLE_S = 0.001


class Request:
    """One that this process has made. Either it can still be withdrawn, or somebody has taken it.

    Made by :meth:`Requests.ask`.

    Notes
    -----
    For one thread at a time. Crash safety: it goes with its process, unless somebody has taken it before.
    """

    __slots__ = ("_file", "_number", "_path")

    def __init__(self, directory: str) -> None:
        identity, self._file = lifesigns.make(directory, bytes(_BODY))
        self._path = os.path.join(directory, identity.hex())
        self._number = 0

    @property
    def usable(self) -> bool:
        """Whether the file was made in this process, and not in the one that it was forked from."""
        return self._file.usable

    def ask(self, body: bytes) -> None:
        """Ask for something else."""
        self._number += 1
        os.pwrite(self._file.number, body, _BODY)
        os.pwrite(self._file.number, _head(self._number, body), _ASKED)

    @property
    def answer(self) -> bytes | None:
        """What who has taken it says now that it is done; None: nothing yet.

        Raises
        ------
        OSError
            If the file can't be read.
        """
        head = _read(self._file, _HEAD.size, _ANSWERED)
        number, length, _ = _HEAD.unpack(head)
        if number != self._number:
            return None
        body = _read(self._file, min(length, MOST_BYTES), _BODY)
        return body if _head(number, body) == head else None

    @property
    def in_doubt(self) -> bool:
        """Whether somebody has taken it, and not given it back: it is being done, or done, or will never be.

        Raises
        ------
        OSError
            If the file can't be read.
        """
        mine = _NUMBER.pack(self._number)
        taken = _read(self._file, 2 * _NUMBER.size, _TAKEN)
        return taken[: _NUMBER.size] == mine and taken[_NUMBER.size :] != mine

    def retract(self) -> None:
        """Ask no longer, where there is nobody who could take it.

        Raises
        ------
        OSError
            If the file can't be written.
        """
        os.pwrite(self._file.number, _NUMBER.pack(0), _ASKED)

    def withdraw(self) -> bool:
        """Ask no longer, and say whether nobody is doing it: then nobody will.

        Raises
        ------
        OSError
            If the file can't be read or written.
        """
        self.retract()
        # Who takes it notes that first, and then looks whether it is still asked for: one of the two sees the other.
        time.sleep(_VISIBLE_S)
        return not self.in_doubt

    def close(self) -> None:
        """Ask no longer, and remove the file; idempotent."""
        if self.usable:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._file.close()


class Taken:
    """The request of somebody who lives, taken to be done.

    Attributes
    ----------
    body : bytes
        What is asked for.
    """

    __slots__ = ("_number", "_path", "body")

    def __init__(self, path: str, number: int, body: bytes) -> None:
        self._path = path
        self._number = number
        self.body = body

    def answer(self, body: bytes) -> None:
        """Say that it is done. Where that fails, who has asked has to find out."""
        if len(body) <= MOST_BYTES:
            self._write((body, _BODY), (_head(self._number, body), _ANSWERED))

    def give_back(self) -> None:
        """Say that it was not done and will not be. Where that fails, who has asked has to find out."""
        self._write((_NUMBER.pack(self._number), _GIVEN_BACK))

    def _write(self, *parts: tuple[bytes, int]) -> None:
        with contextlib.suppress(OSError):
            file = Descriptor(self._path, os.O_RDWR)
            try:
                for data, offset in parts:
                    os.pwrite(file.number, data, offset)
            finally:
                file.close()


class Requests:
    """The requests to whoever holds one lock.

    Parameters
    ----------
    directory : str
        Where the files lie; made when somebody asks for the first time.

    Notes
    -----
    Thread safety: safe. Process safety: who asks has a file locked for as long as they live; a forked child makes its
    own. Crash safety: requests of the dead are not taken, and their files are removed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._idle: deque[Request] = deque()

    def ask(self, body: bytes) -> Request:
        """Ask for something, until :meth:`end`.

        Raises
        ------
        OSError
            If it can't be written down.
        ValueError
            If it is longer than :data:`MOST_BYTES`.
        """
        if len(body) > MOST_BYTES:
            raise ValueError(f"a request of {len(body)} bytes")
        request = None
        while request is None or not request.usable:
            request = self._idle.pop() if self._idle else Request(self._directory)
        try:
            request.ask(body)
        except BaseException:
            request.close()
            raise
        return request

    def end(self, request: Request) -> None:
        """Be done with a request that has been answered, or that its maker, who holds the lock, has done."""
        try:
            request.retract()
        except OSError:
            request.close()
        else:
            self._idle.append(request)

    def take(self) -> list[Taken]:
        """Take what is asked for and has not been taken before. For who holds the lock.

        What can't be read is left to who has asked.
        """
        found: list[Taken] = []
        with contextlib.suppress(OSError):
            for path in lifesigns.found(self._directory):
                with contextlib.suppress(OSError), lifesigns.living(path, os.O_RDWR) as file:
                    taken = None if file is None else _take(path, file)
                    if taken is not None:
                        found.append(taken)
        return found

    def close(self) -> None:
        """Remove the files that are not in use; idempotent."""
        while self._idle:
            self._idle.pop().close()


def _read(file: Descriptor, count: int, offset: int) -> bytes:
    data = os.pread(file.number, count, offset)
    if len(data) != count:
        raise OSError(errno.EIO, "somebody has cut the file of a request")
    return data


def _take(path: str, file: Descriptor) -> Taken | None:
    begin = _read(file, _BODY, 0)
    number, length, _ = _HEAD.unpack_from(begin, _ASKED)
    if not number or length > MOST_BYTES or number == _NUMBER.unpack_from(begin, _TAKEN)[0]:
        return None
    body = _read(file, length, _BODY)
    if _head(number, body) != begin[_ASKED : _ASKED + _HEAD.size]:
        return None  # who has asked is asking for something else
    os.pwrite(file.number, _NUMBER.pack(number), _TAKEN)
    if os.pread(file.number, _NUMBER.size, _ASKED) != _NUMBER.pack(number):
        return None  # withdrawn meanwhile
    return Taken(path, number, body)


def _head(number: int, body: bytes) -> bytes:
    return _HEAD.pack(number, len(body), crc32c(body) ^ (number & 0xFFFFFFFF))


__all__ = ["MOST_BYTES", "Request", "Requests", "Taken"]
