"""What a store, its snapshots and its transactions share: index, storage, caches, threads, liveness."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from txstore.commits import to_us
from txstore.crew import Crew
from txstore.descriptors import renew_in_children
from txstore.errors import InvalidInputError, ReadOnlyError, StoreClosedError, TxStoreError
from txstore.holder import Holder
from txstore.index import branches, commitlog, segments
from txstore.index import engine as clock
from txstore.index.commit import Committed
from txstore.index.connection import Connection
from txstore.index.edits import MAIN
from txstore.index.engine import Head, Index, read_head
from txstore.index.timeline import Timeline, require_retained
from txstore.source import TileSource
from txstore.states import State, branch_name, check_reference, last_same, resolve
from txstore.storage import LocalStorage

_MAX_TIMELINES = 16


class Address(NamedTuple):
    """How to open the same store again, in another process too."""

    root: str
    index_url: str | None
    mode: str
    config: tuple[tuple[str, Any], ...]


class Core:
    """The machinery of one open store.

    Parameters
    ----------
    address : Address
        How it was opened.
    index : Index
        The index.
    storage : LocalStorage
        The bytes.
    locks : str
        The folder of the files by which processes show that they live.
    read_only : bool
        Whether writing is refused.
    cache_bytes : int
        Decoded tiles to keep in memory.
    inline_bytes : int
        Up to this many encoded bytes a transaction keeps its tiles in the index.
    workers : int
        Threads that encode and decode.

    Notes
    -----
    Safe for threads; after a fork the child makes threads, connections and a liveness file of its own.
    """

    def __init__(
        self,
        address: Address,
        index: Index,
        storage: LocalStorage,
        locks: str,
        *,
        read_only: bool,
        cache_bytes: int,
        inline_bytes: int,
        workers: int,
    ) -> None:
        self.address = address
        self.index = index
        self.storage = storage
        self.locks = locks
        self.read_only = read_only
        self.inline_bytes = inline_bytes
        self.workers = workers
        self.source = TileSource(index, storage, cache_bytes)
        self.closed, self.known_head = False, 0
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Begin without threads, pins, transactions and rows, at first and in a forked child: they are its parent's."""
        self.open_transactions: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None
        self._holder: Holder | None = None
        self._timelines: dict[int, Timeline] = {}
        self._main: tuple[State, Timeline] | None = None  # the newest state of main that is known
        self._put_off: deque[Callable[[], None]] = deque()

    @property
    def synced(self) -> bool:
        """Whether all that is committed is on the disk; no longer once anybody has written with ``durability="os"``."""
        return not os.path.exists(os.path.join(os.path.dirname(self.locks), "unsynced"))

    def check_open(self) -> None:
        """Raise StoreClosedError after :meth:`close`."""
        if self.closed:
            raise StoreClosedError(f"the store {self.address.root} has been closed; open it again")

    def require_writable(self, what: str) -> None:
        """Raise ReadOnlyError where the store was opened for reading."""
        self.check_open()
        if self.read_only:
            raise ReadOnlyError(f"the store {self.address.root} was opened read-only; open it with mode='r+' to {what}")

    @property
    def pool(self) -> Executor:
        """Threads for encoding and decoding."""
        self.check_open()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="txstore")
            return self._pool

    @property
    def crew(self) -> Crew:
        """The threads that read together."""
        return Crew(lambda: self.pool, self.workers)

    @property
    def holder(self) -> Holder:
        """This process's sign of life; made when it is first needed."""
        self.check_open()
        with self._lock:
            if self._holder is None:
                self._holder = Holder(self.locks)
            return self._holder

    # --- segments -------------------------------------------------------------------------------

    def announce(self, segment: bytes) -> None:
        """Tell the index that this process is about to write a file, so that nobody takes it for garbage."""
        segments.announce(self.index, self.holder.id, [segment])

    def withdraw(self, uuids: list[bytes]) -> None:
        """Forget announced segments whose files are gone."""
        if uuids:
            segments.withdraw(self.index, uuids)

    def later(self, what: Callable[[], None]) -> None:
        """Have something done for a finalizer, which may come anywhere and must not wait for the store's lock."""
        self._put_off.append(what)

    def tidy(self) -> None:
        """Do what was put off: before a commit, and when the store is closed. What fails is left to vacuum."""
        while self._put_off:
            try:
                what = self._put_off.popleft()
            except IndexError:  # another thread was quicker
                break
            with contextlib.suppress(TxStoreError):
                what()

    # --- states ---------------------------------------------------------------------------------

    def state(
        self,
        *,
        branch: str | None = None,
        version: int | None = None,
        as_of: datetime | str | None = None,
        tag: str | None = None,
    ) -> tuple[State, Timeline]:
        """Resolve a reference.

        Raises
        ------
        NotFoundError
            If there is no such branch, tag or version.
        InvalidInputError
            If the arguments exclude each other, or the time is naive or in the future.
        SnapshotExpiredError
            If the version lies below the horizon and nothing keeps it.
        """
        self.check_open()
        check_reference(branch, version, as_of, tag)
        newest = version is None and as_of is None and tag is None and branch in (None, "main")
        if newest and (found := self._newest_main()) is not None:
            return found
        with self.index.read() as connection:
            head = self._met(read_head(connection))
            upto, settled = head.head, True
            if as_of is not None:
                moment = to_us(as_of)
                if moment > max(clock.now_us(), head.head_at):
                    raise InvalidInputError(f"as_of={as_of} lies in the future")
                settled = moment <= head.head_at
                upto = commitlog.version_at(connection, moment)
            branch_id, asked = resolve(connection, head, branch, version, tag, upto)
            seen = branches.lineage(connection, branch_id, asked)
            commit = commitlog.newest_commit(connection, seen)
            if asked < head.horizon:
                asked = last_same(connection, head, branch_id, asked)
                seen = seen.at(asked)
                require_retained(connection, head, seen)
            row = commitlog.commit_row(connection, commit) if commit else None
            name = branch_name(connection, branch_id)
            timeline = self._timeline(connection, head, branch_id)
        state = State(branch_id, name, commit, asked, row.committed_at if row else 0, settled, head.head)
        if newest:
            self._remember(state, timeline)
        return state, timeline

    def _met(self, head: Head) -> Head:
        self.known_head = max(self.known_head, head.head)
        self.storage.maintained(head.maintenance)
        return head

    def _newest_main(self) -> tuple[State, Timeline] | None:
        """The newest state of main from one that is known: one statement, or two where something has happened since."""
        if self._main is None:
            return None
        with self.index.glance() as connection:
            head = self._met(read_head(connection))
            with self._lock:
                if self._main is None:
                    return None
                known, timeline = self._main
                if head.head == known.head and timeline.knows(head):
                    return self._main
                timeline.advance(connection, head, head.head)
                if timeline.upto != head.head or known.head > head.head:
                    return None  # another thread has seen a newer head since this one has read its own
                if head.head > known.head:
                    commit, committed_at = timeline.newest_after(known.commit) or (known.commit, known.committed_at)
                    known = State(MAIN, "main", commit, head.head, committed_at, True, head.head)
                    self._main = known, timeline
                return known, timeline

    def _remember(self, state: State, timeline: Timeline) -> None:
        with self._lock:
            # Another thread may have begun the timeline at a newer head: it knows nothing of what came in between.
            if timeline.began <= state.head and (self._main is None or self._main[0].head <= state.head):
                self._main = state, timeline

    @contextlib.contextmanager
    def pinned(self, **reference: Any) -> Iterator[tuple[State, Timeline]]:
        """A state, resolved as :meth:`state` does, that can't expire while it is used.

        Where a store that is open for reading lies on a disk that can't be written, nothing can be pinned.
        """
        if self.read_only and not os.access(os.path.dirname(self.locks), os.W_OK):
            yield self.state(**reference)
            return
        # Pin first, then look: as low as the reference may lie, and as high as it does afterwards.
        version = reference.get("version")
        named = reference.get("tag") is not None or reference.get("as_of") is not None
        low = self.known_head if not isinstance(version, int) else min(version, self.known_head)
        holder = self.holder
        pin = holder.pin(0 if named else max(low, 0))
        try:
            state, timeline = self.state_pinned(**reference)
            pin, old = holder.pin(state.version), pin
            holder.unpin(old)
            yield state, timeline
        finally:
            holder.unpin(pin)

    def state_pinned(self, **reference: Any) -> tuple[State, Timeline]:
        """As :meth:`state`, after the caller has pinned a version at or below it.

        Expiry reads the pins and moves the horizon under one lock. Who asks for the newest state gets one that the
        horizon can't have passed; who asks for an older one has to come before expiry, or after it.
        """
        newest = all(reference.get(key) is None for key in ("version", "as_of", "tag"))
        with contextlib.nullcontext() if newest or self.read_only else self.index.dialect.exclusive():
            return self.state(**reference)

    def landed(self, state: State, done: Committed) -> None:
        """Learn of a commit of this process, made from `state`, and of those since."""
        row = done.row
        assert row is not None and done.touched is not None
        with self._lock:
            self.known_head = max(self.known_head, row.version)
            if state.branch != MAIN or self._main is None:
                return
            timeline = self._main[1]
            moment = row.committed_at
            if timeline.landed(state.version, done.since, row.version, moment, done.touched, done.shapes):
                newest = State(MAIN, "main", row.version, row.version, row.committed_at, True, row.version)
                self._main = newest, timeline

    def _timeline(self, connection: Connection, head: Head, branch_id: int) -> Timeline:
        with self._lock:
            timeline = self._timelines.get(branch_id)
            if timeline is None:
                timeline = Timeline(self.index, branches.lineage(connection, branch_id, head.head), head)
                if len(self._timelines) >= _MAX_TIMELINES:
                    self._timelines.pop(next(iter(self._timelines)))
                self._timelines[branch_id] = timeline
            else:
                timeline.advance(connection, head, head.head)
            return timeline

    def forget(self) -> None:
        """Drop every cached row, after maintenance by this process."""
        with self._lock:
            self._main = None
            for timeline in self._timelines.values():
                timeline.forget()

    def close(self) -> None:
        """Give everything back; idempotent."""
        self.tidy()
        with self._lock:
            if self.closed:
                return
            self.closed = True
            if self._pool is not None:
                self._pool.shutdown(wait=True)
            if self._holder is not None:
                self._holder.close()
        self.index.close()
        self.storage.close()
        self.source.clear()
