"""A lease that is kept for as long as the work under it goes on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from txstore.core import Core
from txstore.errors import TxStoreError
from txstore.holder import Holder
from txstore.index import leases
from txstore.index.leases import Lease


class LeaseLost(Exception):
    """Somebody else has taken the lease: what was done under it can't be published any more."""


class Tenure:
    """Renews a lease from a thread of its own, a few times in its life.

    Notes
    -----
    The thread sleeps with its process: where that was stopped for longer than the lease lasts, another one has
    taken it, and the first renewal says so. Losing it costs work, never truth: the epoch is checked where the work is
    published.
    """

    def __init__(self, core: Core, lease: Lease, ttl_s: float) -> None:
        self.lease = lease
        self._core = core
        self._ttl_s = ttl_s
        self._lost = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"txstore-lease-{lease.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost if it is somebody else's by now."""
        if self._lost:
            raise LeaseLost(self.lease.name)

    def _renew(self) -> None:
        while not self._done.wait(self._ttl_s / 3):
            try:
                if not leases.renew(self._core.index, self.lease, self._ttl_s):
                    self._lost = True
                    return
            except TxStoreError:
                continue  # the next time may do better; if none does, the publishing finds out

    def end(self) -> None:
        """Stop renewing, and give the lease back."""
        self._done.set()
        self._thread.join()
        if not self._lost:
            with contextlib.suppress(TxStoreError):  # it then lapses by itself
                leases.release(self._core.index, self.lease)


@contextlib.contextmanager
def tenure(core: Core, name: str, ttl_s: float) -> Iterator[Tenure | None]:
    """Hold a lease while the block runs; None where somebody else who lives has it.

    Raises
    ------
    StorageError
        If the index fails.
    """
    lease = leases.take(core.index, name, core.holder.id, ttl_s, lambda: Holder.live(core.locks))
    if lease is None:
        yield None
        return
    held = Tenure(core, lease, ttl_s)
    try:
        yield held
    finally:
        held.end()


__all__ = ["LeaseLost", "Tenure", "tenure"]
