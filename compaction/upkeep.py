"""The upkeep of a store by a policy, a round at a time: what waits is compacted, what is old expires, what is
garbage goes.

Every task is done under a lease, so that several daemons divide the work; and every task is done again by whoever comes
next when it was cut short, so that a daemon may die anywhere.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from txstore.compaction.background import background_pool
from txstore.compaction.backlog import Backlog, Job
from txstore.compaction.backoff import Backoff
from txstore.compaction.joblog import JobLog
from txstore.compaction.metrics import Metrics
from txstore.compaction.policy import Policy
from txstore.compaction.retention import expire, vacuum
from txstore.compaction.rewrite import CompactionReport, compact_partition
from txstore.compaction.stop import Stop, Stopped
from txstore.compaction.tenure import LeaseLost, Tenure, tenure
from txstore.compaction.throttle import Throttle, TokenBucket
from txstore.core import Core
from txstore.errors import StorageError, StoreNotFoundError, TxStoreError
from txstore.grid import partition_coords
from txstore.index.engine import read_head
from txstore.reader import ArrayView
from txstore.states import State

if TYPE_CHECKING:
    from txstore.store import Store


@dataclass(frozen=True)
class DaemonReport:
    """What a daemon did.

    Attributes
    ----------
    rounds : int
        Rounds that ran to their end.
    partitions, fragments : int
        Partitions that got a base, and the fragments that new readers no longer pass.
    chunks_kept, chunks_copied, chunks_merged : int
        Tiles taken over where they lay, copied undecoded, and read and encoded.
    bytes_read, bytes_written : int
        Encoded bytes.
    lost : int
        Partitions that another was first to publish, or whose lease lapsed.
    errors : int
        Tasks and rounds that failed; the log says why.
    expired : int
        Commits that fell below the horizon.
    vacuums, vacuumed_fragments, vacuumed_segments, vacuumed_bytes : int
        Vacuums that ran to their end, and what they deleted: rows, files, encoded bytes.
    backlog : int
        Partitions that wait at the end.
    seconds, throttled_s : float
        How long it worked, sleep between rounds not counted; how much of it the rate limit took.
    stopped : bool
        Whether it was asked to stop.
    """

    rounds: int = 0
    partitions: int = 0
    fragments: int = 0
    chunks_kept: int = 0
    chunks_copied: int = 0
    chunks_merged: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    lost: int = 0
    errors: int = 0
    expired: int = 0
    vacuums: int = 0
    vacuumed_fragments: int = 0
    vacuumed_segments: int = 0
    vacuumed_bytes: int = 0
    backlog: int = 0
    seconds: float = 0.0
    throttled_s: float = 0.0
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return asdict(self)


class Upkeep:
    """Keeps one store by a policy.

    Parameters
    ----------
    store : Store
        The store, open for writing.
    policy : Policy
        The rules.
    stop : Stop
        Ends the work.
    log : JobLog
        Told of what is done and what fails.
    metrics : Metrics
        Likewise, in numbers.

    Notes
    -----
    Belongs to one thread. Whatever ends a round leaves a correct store.
    """

    def __init__(self, store: Store, policy: Policy, stop: Stop, log: JobLog, metrics: Metrics) -> None:
        self._store = store
        self._core: Core = store._core
        self._policy = policy
        self._stop = stop
        self._log = log
        self._metrics = metrics
        rate = policy.rate_limit_bytes_s
        self._throttle = Throttle(None if rate is None else TokenBucket(rate), stop)
        self._backoff = Backoff(policy.backoff_s, policy.backoff_max_s)
        self._backlog = Backlog(self._core, policy.min_fragments, self._backoff, self._array_failed, self._throttle)
        self._identity = self._index_file()
        self._vacuum_at = time.monotonic()
        self._counts: dict[str, Any] = DaemonReport().to_dict()
        self._pool: Executor | None = None

    @property
    def report(self) -> DaemonReport:
        """What has been done so far."""
        counts = {**self._counts, "backlog": len(self._backlog.jobs), "stopped": self._stop.reason is not None}
        return DaemonReport(**counts)

    def require_store(self) -> None:
        """Raise if there is nothing left to keep.

        Raises
        ------
        StoreClosedError
            If the store has been closed.
        StoreNotFoundError
            If it has been deleted, or another one stands in its place.
        FormatError
            If a newer txstore has taken it over.
        StorageError, CorruptionError
            If the index fails.
        """
        self._core.check_open()
        self._require_file()
        with self._core.index.read() as connection:
            read_head(connection)

    def _require_file(self) -> None:
        # The index stays open, so that while this process lives no other file gets its number.
        if self._index_file() != self._identity:
            raise StoreNotFoundError(f"the store {self._core.address.root} has been deleted or replaced")

    def _index_file(self) -> tuple[int, int]:
        try:
            found = os.stat(self._core.index.dialect.path)
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"the store {self._core.address.root} has been deleted") from error
        except OSError as error:
            raise StorageError(f"the store {self._core.address.root} can't be reached: {error.strerror}") from error
        return found.st_dev, found.st_ino

    # --- a round --------------------------------------------------------------------------------

    def round(self) -> bool:
        """Do everything that is to be done now; whether all of it went well.

        Raises
        ------
        Stopped
            If the end was asked for.
        StoreClosedError, StoreNotFoundError, FormatError
            If the store is gone: the end, too.
        StorageError, CorruptionError
            If the index fails. What fails in one task only is logged and left alone for a while.
        """
        start, waited, errors = time.monotonic(), self._throttle.waited_s, self._counts["errors"]
        well = False
        try:
            self.require_store()
            # The threads begin with the first chunk that is encoded.
            with background_pool(self._core.workers) as self._pool:
                for job in self._backlog.refresh():
                    self._metrics.waiting(len(self._backlog.jobs))
                    self._throttle(0)
                    if self._backoff.ready(job.key):
                        self._guarded(job.key, "compact", partial(self._compact, job), **_about(job))
                self._expire()
                self._settle()
            self._vacuum()
            well = bool(self._counts["errors"] == errors)
            self._counts["rounds"] += 1
        finally:
            seconds, waited = time.monotonic() - start, self._throttle.waited_s - waited
            self._counts["seconds"] += seconds
            self._counts["throttled_s"] += waited
            self._metrics.waiting(len(self._backlog.jobs))
            self._metrics.round(seconds, waited, well=well)
        return well

    def failed(self, task: str, error: BaseException, **facts: Any) -> None:
        """Count and log what failed."""
        self._counts["errors"] += 1
        self._metrics.failed()
        trace = None if isinstance(error, TxStoreError) else "".join(traceback.format_exception(error))
        self._log.error("failed", task=task, error=type(error).__name__, message=str(error), **facts, traceback=trace)

    def _guarded(self, key: Hashable, task: str, work: Callable[[], None], **facts: Any) -> None:
        """Do one task. Its failure is not the round's, unless the store itself is gone."""
        try:
            work()
        except LeaseLost:
            self._count(lost=1)
            self._metrics.compacted(CompactionReport(0, lost=1))
            self._log.warning("lost", task=task, reason="the lease lapsed and another has taken it", **facts)
        except Stopped:
            raise
        except Exception as error:
            self.require_store()
            self.failed(task, error, **facts, retry_in_s=self._backoff.failed(key))
        else:
            self._backoff.succeeded(key)

    def _array_failed(self, path: str, key: tuple[int, int], error: Exception) -> None:
        self.require_store()
        self.failed("plan", error, path=path, retry_in_s=self._backoff.failed(key))

    def _count(self, **counts: float) -> None:
        for name, count in counts.items():
            self._counts[name] += count

    def _pace(self, held: Tenure) -> Callable[[int], None]:
        def pace(count_bytes: int) -> None:
            held.check()
            self._require_file()
            self._throttle(count_bytes)

        return pace

    # --- the tasks ------------------------------------------------------------------------------

    def _compact(self, job: Job) -> None:
        core, backlog = self._core, self._backlog
        # Somebody else may have been here since it was planned. Looking costs less than a lease.
        state, timeline = core.state(branch=job.branch_name)
        if backlog.measured(job, state, timeline) is None:
            return
        with tenure(core, job.lease, self._policy.lease_ttl_s) as held:
            if held is None:
                return  # another is at it: seen again in the next round
            with core.pinned(branch=job.branch_name) as (state, timeline):
                found = backlog.measured(job, state, timeline)
                if found is None:
                    return
                if self._rewrite(job._replace(task=found[1]), state, found[0], held):
                    backlog.done(job)

    def _rewrite(self, job: Job, state: State, view: ArrayView, held: Tenure) -> bool:
        """Give a partition a base at a pinned state; whether nobody else was first."""
        facts = {**_about(job), "path": view.path, "partition": _coordinates(view, job.task.partition)}
        self._log.info("compacting", **facts, version=state.commit, fragments=job.task.fragments)
        start = time.monotonic()
        report = CompactionReport(state.commit)
        try:
            report = compact_partition(
                self._core, state, view, job.task, report, self._pool, held.lease, self._pace(held)
            )
        finally:
            view.timeline.forget(view.node)
        self._metrics.compacted(report)
        counts = report.to_dict()
        del counts["version"], counts["dry_run"]
        self._count(**counts)
        if report.lost:
            self._log.warning("lost", task="compact", reason="another was first", **facts)
            return False
        del counts["lost"], counts["partitions"]
        self._log.info("compacted", **facts, version=state.commit, **counts, seconds=round(time.monotonic() - start, 3))
        return True

    def _settle(self) -> None:
        """Bases at the horizon of an idle store, so that vacuum need not keep what came before it."""
        if time.monotonic() < self._vacuum_at or not self._backoff.ready("settle"):
            return

        def work() -> None:
            horizon, names = self._backlog.idle(self._policy.vacuum_interval_s)
            for name in names:
                with self._core.pinned(branch=name, version=horizon) as (state, timeline):
                    for job, view in self._backlog.outweighed(state, timeline):
                        self._throttle(0)
                        if self._backoff.ready(("settle", job.key)):
                            rewrite = partial(self._settle_one, job, state, view)
                            self._guarded(("settle", job.key), "compact", rewrite, **_about(job))

        self._guarded("settle", "settle", work)

    def _settle_one(self, job: Job, state: State, view: ArrayView) -> None:
        with tenure(self._core, job.lease, self._policy.lease_ttl_s) as held:
            if held is not None:
                self._rewrite(job, state, view, held)

    def _expire(self) -> None:
        if not self._policy.expires or not self._backoff.ready("expire"):
            return

        def work() -> None:
            age = self._policy.older_than_s
            move = partial(
                expire,
                self._store,
                older_than=None if age is None else timedelta(seconds=age),
                keep_last=self._policy.keep_last,
            )
            # Most rounds have nothing to expire, and a lease costs two commits of the index.
            report = move(dry_run=True)
            if report.horizon > report.before:
                with tenure(self._core, "expire", self._policy.lease_ttl_s) as held:
                    if held is None:
                        return
                    report = move(dry_run=False)
                self._core.forget()
                self._count(expired=report.expired)
                self._log.info("expired", horizon=report.horizon, before=report.before, commits=report.expired)
            self._metrics.expired(report)

        self._guarded("expire", "expire", work)

    def _vacuum(self) -> None:
        if time.monotonic() < self._vacuum_at or not self._backoff.ready("vacuum"):
            return

        def work() -> None:
            with tenure(self._core, "vacuum", self._policy.lease_ttl_s) as held:
                if held is not None:
                    start = time.monotonic()
                    report = vacuum(self._store, throttle=self._pace(held))
                    self._metrics.vacuumed(report)
                    counts = report.to_dict()
                    del counts["dry_run"]
                    self._count(
                        vacuums=1,
                        vacuumed_fragments=report.fragments,
                        vacuumed_segments=report.segments,
                        vacuumed_bytes=report.bytes,
                    )
                    self._log.info("vacuumed", **counts, seconds=round(time.monotonic() - start, 3))
            self._vacuum_at = time.monotonic() + self._policy.vacuum_interval_s

        self._guarded("vacuum", "vacuum", work)


def _about(job: Job) -> dict[str, Any]:
    return {"path": job.task.path, "branch": job.branch_name, "partition": job.task.partition.hex()}


def _coordinates(view: ArrayView, partition: bytes) -> list[int]:
    return list(partition_coords(partition, view.grid.ndim))


__all__ = ["DaemonReport", "Upkeep"]
