"""What a daemon counts, for Prometheus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from txstore.compaction.retention import ExpireReport, VacuumReport
from txstore.compaction.rewrite import CompactionReport
from txstore.errors import InvalidInputError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_PREFIX = "txstore_daemon"


class Metrics:
    """The counters and gauges of one daemon.

    Parameters
    ----------
    registry : prometheus_client.CollectorRegistry, optional
        Where to register them; by default one of their own, so that several daemons may live in one process.

    Notes
    -----
    Safe for threads. prometheus-client is imported when the first object is made.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = registry or CollectorRegistry()

        def counter(name: str, text: str) -> Counter:
            return Counter(f"{_PREFIX}_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"{_PREFIX}_{name}", text, registry=registry)

        self._partitions = counter("partitions_compacted", "Partitions that got a base.")
        self._fragments = counter("fragments_compacted", "Fragments that new readers no longer pass.")
        self._read = counter("read_bytes", "Encoded bytes copied from older segments.")
        self._written = counter("written_bytes", "Encoded bytes written.")
        self._lost = counter("lost_races", "Partitions that another was first to publish, or whose lease lapsed.")
        self._errors = counter("errors", "Tasks and rounds that failed.")
        self._expired = counter("expired_commits", "Commits that fell below the horizon.")
        self._vacuums = counter("vacuums", "Vacuums that ran to their end.")
        self._freed = counter("vacuumed_bytes", "Encoded bytes that vacuum has freed.")
        self._segments = counter("vacuumed_segments", "Files that vacuum has deleted.")
        self._throttled = counter("throttled_seconds", "Time slept for the sake of the rate limit.")
        self._rounds = Histogram(
            f"{_PREFIX}_round_seconds",
            "How long a round took.",
            buckets=(0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0),
            registry=registry,
        )
        self._backlog = gauge("backlog_partitions", "Partitions that wait for compaction.")
        self._horizon = gauge("horizon_version", "The oldest version that is kept for its own sake.")
        self._success = gauge("last_success_timestamp_seconds", "When a round last ended without an error.")
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    def compacted(self, report: CompactionReport) -> None:
        """A partition was compacted, or lost to another."""
        self._partitions.inc(report.partitions)
        self._fragments.inc(report.fragments)
        self._read.inc(report.bytes_read)
        self._written.inc(report.bytes_written)
        self._lost.inc(report.lost)

    def expired(self, report: ExpireReport) -> None:
        """The horizon was moved, or looked at."""
        self._expired.inc(0 if report.dry_run else report.expired)
        self._horizon.set(report.before if report.dry_run else report.horizon)

    def vacuumed(self, report: VacuumReport) -> None:
        """A vacuum has ended."""
        self._vacuums.inc()
        self._freed.inc(report.bytes)
        self._segments.inc(report.segments)

    def failed(self) -> None:
        """Something failed."""
        self._errors.inc()

    def waiting(self, partitions: int) -> None:
        """So many are left to be compacted."""
        self._backlog.set(partitions)

    def round(self, seconds: float, throttled_s: float, *, well: bool) -> None:
        """A round has ended."""
        self._rounds.observe(seconds)
        self._throttled.inc(throttled_s)
        if well:
            self._success.set_to_current_time()

    def serve(self, host: str, port: int) -> tuple[str, int]:
        """Answer HTTP from a thread; the address, with the port that was chosen for port 0.

        Raises
        ------
        InvalidInputError
            If the address can't be used.
        """
        from prometheus_client import start_http_server

        try:
            self._server = start_http_server(port, host, self.registry)
        except (OSError, OverflowError) as error:
            raise InvalidInputError(f"metrics can't be served on {host}, port {port}: {error}") from error
        address = self._server[0].server_address
        return str(address[0]), int(address[1])

    def close(self) -> None:
        """Stop answering; idempotent."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join()


__all__ = ["Metrics"]
