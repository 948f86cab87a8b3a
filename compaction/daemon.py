"""The daemon: rounds of upkeep until it is told to stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from txstore.compaction.backoff import Backoff
from txstore.compaction.joblog import JobLog
from txstore.compaction.metrics import Metrics
from txstore.compaction.policy import Policy
from txstore.compaction.stop import Stop, Stopped
from txstore.compaction.upkeep import DaemonReport, Upkeep
from txstore.errors import (
    CorruptionError,
    FormatError,
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    StoreClosedError,
    StoreNotFoundError,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from txstore.store import Store

#: Nothing that comes later makes these good again.
_FATAL = (StoreClosedError, StoreNotFoundError, FormatError, ReadOnlyError)


class Daemon:
    """Compacts, expires and vacuums one store on a policy.

    Parameters
    ----------
    store : Store
        Open for writing; stays open.
    policy : Policy, optional
        The rules; by default compaction and vacuum with the defaults of :class:`Policy`, no expiry.
    log_format : {"text", "json"}
        See :class:`~txstore.compaction.joblog.JobLog`.
    stream : text file, optional
        Where the log goes; stderr by default.
    registry : prometheus_client.CollectorRegistry, optional
        Where the metrics are registered, for programs that serve their own.

    Raises
    ------
    ReadOnlyError
        If the store was opened for reading.
    InvalidInputError
        If there is no such log format.

    Notes
    -----
    Threads: :meth:`run` belongs to one, :meth:`stop` may be called from any. Processes: any number of daemons may keep
    one store; they divide its partitions. Crashes: killed anywhere it leaves a correct store, whose next daemon goes
    on where it was.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy | None = None,
        *,
        log_format: str = "text",
        stream: TextIO | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        store._core.require_writable("run a daemon")
        self.policy = Policy() if policy is None else policy
        self._stop = Stop()
        self._log = JobLog(log_format, stream)
        self._metrics = Metrics(registry)
        self._upkeep = Upkeep(store, self.policy, self._stop, self._log, self._metrics)
        self._root = store.root

    @property
    def report(self) -> DaemonReport:
        """What has been done so far."""
        return self._upkeep.report

    def stop(self, reason: str = "stop()") -> None:
        """Ask :meth:`run` to end; it does so within a second or two."""
        self._stop.ask(reason)

    def run(self, *, once: bool = False) -> DaemonReport:
        """Keep the store until SIGTERM, SIGINT or :meth:`stop`.

        What is being compacted then is given up, its files removed. In the main thread the two signals are
        taken over for as long as this runs.

        Parameters
        ----------
        once : bool
            Do one whole round, with a vacuum, and return.

        Returns
        -------
        DaemonReport

        Raises
        ------
        StoreClosedError
            If the store is closed meanwhile.
        StoreNotFoundError
            If it is deleted, or replaced by another.
        FormatError
            If a newer txstore has taken it over.
        StorageError, CorruptionError
            With `once`, if the index fails. Otherwise that is logged, and tried again later.
        InvalidInputError
            If metrics can't be served at the address of the policy.
        """
        with self._stop.on_signals():
            try:
                rules = {name: value for name, value in self.policy.to_dict().items() if value is not None}
                self._log.info("started", root=self._root, pid=os.getpid(), once=once, policy=rules)
                if self.policy.metrics_port is not None:
                    host, port = self._metrics.serve(self.policy.metrics_host, self.policy.metrics_port)
                    self._log.info("serving", host=host, port=port)
                self._rounds(once)
            except Stopped:
                pass
            except (*_FATAL, StorageError, CorruptionError, InvalidInputError) as error:
                self._upkeep.failed("daemon", error)
                raise
            finally:
                self._metrics.close()
                self._log.info("stopped", reason=self._stop.reason, **self.report.to_dict())
        return self.report

    def _rounds(self, once: bool) -> None:
        backoff = Backoff(max(self.policy.interval_s, 1.0), self.policy.backoff_max_s)
        while True:
            self._stop.check()
            pause = self.policy.interval_s
            try:
                self._upkeep.round()
                backoff.succeeded("round")
            except _FATAL:
                raise
            except (StorageError, CorruptionError) as error:
                if once:
                    raise
                pause = max(pause, backoff.failed("round"))
                self._upkeep.failed("round", error, retry_in_s=pause)
            if once or self._stop.wait(pause):
                return


__all__ = ["Daemon", "DaemonReport", "Policy"]
