"""Which file systems can hold a store: SQLite's log and ``flock`` need one that this machine has for itself."""

from __future__ import annotations

import ctypes
import os
import sys

from txstore.errors import StorageError

# f_type of statfs(2), from linux/magic.h and the headers of the file systems themselves.
_NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0xAAD7AAEA: "PanFS",
    0x73757245: "Coda",
    0x013111A8: "IBRIX",
}


def file_system_type(path: str) -> int | None:
    """The ``f_type`` of the file system that holds `path`; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    # The first member is a long on every Linux that Python runs on; the rest only has to fit.
    buffer = (ctypes.c_long * 64)()
    if libc.statfs(os.fsencode(path), ctypes.byref(buffer)) != 0:
        return None
    return int(buffer[0]) & 0xFFFFFFFF


def check_local(root: str | os.PathLike[str]) -> None:
    """Refuse a root on a network file system. It need not exist yet.

    Raises
    ------
    StorageError
        With the name of the file system and what to do instead.

    Notes
    -----
    SQLite keeps the index of its write-ahead log in memory that processes share through the file; between machines
    that is not shared, and the database is damaged sooner or later.
    """
    path = os.path.abspath(root)
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    kind = file_system_type(path)
    name = None if kind is None else _NETWORK.get(kind)
    if name is not None:
        raise StorageError(
            f"{os.path.abspath(root)} is on a network file system ({name}), where SQLite would lose data. Put the "
            "store on a local disk, or give index= a database server"
        )


__all__ = ["check_local", "file_system_type"]
