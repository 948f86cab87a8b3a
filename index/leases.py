"""Leases: who may do a maintenance task for a while. A lease is a hint to others, its epoch is the lock.

Work under a lease is published with the epoch it was taken with; whoever takes a lapsed lease raises the epoch, so
that a process which was asleep can't publish any more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

from txstore.index import engine as clock
from txstore.index.engine import Index
from txstore.index.sql import sa, schema


class Lease(NamedTuple):
    """A lease that was taken.

    Attributes
    ----------
    name : str
        What it is about.
    epoch : int
        Checked where its work is published.
    """

    name: str
    epoch: int


def take(
    index: Index, name: str, holder: bytes, ttl_s: float, alive: Callable[[], Container[bytes]] | None = None
) -> Lease | None:
    """Take a lease for a while; None while somebody else has it.

    Parameters
    ----------
    index : Index
        The index.
    name : str
        What the lease is about.
    holder : bytes
        The process that takes it; for others to ask whether it lives.
    ttl_s : float
        After how many seconds without :func:`renew` it lapses.
    alive : callable, optional
        Tells who lives. A lease of the dead is taken at once, whatever the clock says.

    Raises
    ------
    StorageError
        If the index fails.
    """
    table = schema.leases
    with index.maintain() as connection:
        now = clock.now_us()
        row = connection.execute(
            sa.select(table.c.holder, table.c.epoch, table.c.expires_at).where(table.c.name == name)
        ).first()
        if row is not None and row.holder is not None and row.expires_at > now:
            # Its own holder is refused as well: two daemons of one process are two.
            if alive is None or row.holder == holder or row.holder in alive():
                return None
        # By the clock, so that a row may go with its lease and the next one still has another epoch.
        epoch = now if row is None else max(now, row.epoch + 1)
        values = {"holder": holder, "epoch": epoch, "expires_at": now + int(ttl_s * 1e6)}
        if row is None:
            connection.execute(table.insert(), {"name": name, **values})
        else:
            connection.execute(table.update().where(table.c.name == name).values(values))
    return Lease(name, epoch)


def renew(index: Index, lease: Lease, ttl_s: float) -> bool:
    """Put off the end of a lease, also of one that has lapsed but that nobody has taken; False: it is another's.

    Raises
    ------
    StorageError
        If the index fails.
    """
    table = schema.leases
    with index.maintain() as connection:
        changed = connection.execute(
            table.update()
            .where(table.c.name == lease.name, table.c.epoch == lease.epoch, table.c.holder.is_not(None))
            .values(expires_at=clock.now_us() + int(ttl_s * 1e6))
        )
        return bool(changed.rowcount == 1)


def release(index: Index, lease: Lease) -> None:
    """Give a lease back, if it is still ours.

    Raises
    ------
    StorageError
        If the index fails; the lease then lapses by itself.
    """
    table = schema.leases
    with index.maintain() as connection:
        connection.execute(table.delete().where(table.c.name == lease.name, table.c.epoch == lease.epoch))


@contextlib.contextmanager
def held(index: Index, name: str, holder: bytes, ttl_s: float) -> Iterator[Lease | None]:
    """Take a lease, and give it back at the end."""
    lease = take(index, name, holder, ttl_s)
    try:
        yield lease
    finally:
        if lease is not None:
            release(index, lease)
