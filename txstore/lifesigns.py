"""Files by which a process shows that it lives: each is locked by its maker, and the lock goes with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Iterator

from txstore.descriptors import Descriptor
from txstore.folders import make_folder

_NAME = re.compile(r"[0-9a-f]{32}")


def make(directory: str, data: bytes) -> tuple[bytes, Descriptor]:
    """Make a file, its name 32 hexadecimal digits, and lock it for as long as the descriptor is open.

    Parameters
    ----------
    directory : str
        Where; made when it is not there.
    data : bytes
        What is in the file before anybody can see that it is locked.

    Returns
    -------
    (bytes, Descriptor)
        The 16 bytes that name it, and the file, open for reading and writing.

    Raises
    ------
    OSError
        If it can't be made or locked.
    """
    make_folder(directory)
    while True:
        identity = uuid.uuid4().bytes
        file = Descriptor(os.path.join(directory, identity.hex()), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.pwrite(file.number, data, 0)
        try:
            fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # somebody looks at it just now, takes it for a dead one's and removes it
        else:
            if os.fstat(file.number).st_nlink:
                return identity, file
        file.close()


def found(directory: str) -> list[str]:
    """The paths of such files; none where there is no directory.

    Raises
    ------
    OSError
        If the directory can't be read.
    """
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory) if _NAME.fullmatch(name)]
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def living(path: str, flags: int) -> Iterator[Descriptor | None]:
    """A file, open as `flags` say, where its maker lives; else None, and the file is removed.

    Raises
    ------
    OSError
        If it can't be looked at.
    """
    try:
        file = Descriptor(path, flags)
    except FileNotFoundError:
        yield None
        return
    try:
        if _locked(file):
            yield file
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            yield None
    finally:
        file.close()


def _locked(file: Descriptor) -> bool:
    try:
        # Shared, so that two who look at once do not take each other for the maker.
        fcntl.flock(file.number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


__all__ = ["found", "living", "make"]
