"""What the daemon is to do, and how hard it may try."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from txstore.errors import InvalidInputError

_SECONDS = ("interval_s", "vacuum_interval_s", "backoff_s", "backoff_max_s", "lease_ttl_s", "older_than_s")
#: Thirty years: more than some clock or other could hold.
_LONGEST_S = 1e9


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a daemon.

    Attributes
    ----------
    interval_s : float
        The pause between the end of one round and the start of the next.
    min_fragments : int
        Compact a partition when a reader of it applies at least so many fragments to its base.
    keep_last : int or None
        Expire all but so many of the newest versions of main.
    older_than_s : float or None
        Expire what was no longer the newest version so long ago. A version is kept if either rule keeps it; without
        either nothing expires.
    rate_limit_bytes_s : float or None
        Write encoded bytes no faster than this, over a few seconds; None: as fast as it goes.
    vacuum_interval_s : float
        The pause between two vacuums. The first round vacuums, too, for what a dead predecessor has left.
    metrics_port : int or None
        Serve Prometheus metrics there; 0: on any free port; None: not at all.
    metrics_host : str
        The address to serve them on: only this machine's by default, for nobody is asked who they are.
    lease_ttl_s : float
        After how long a daemon whose process stands still (stopped, or on a machine that sleeps) is taken to have given
        up its task. A dead one is known at once.
    backoff_s, backoff_max_s : float
        How long to leave alone what has failed: so long after the first time, doubled each time, up to a limit.

    Raises
    ------
    InvalidInputError
        If a value can't be used.
    """

    interval_s: float = 10.0
    min_fragments: int = 8
    keep_last: int | None = None
    older_than_s: float | None = None
    rate_limit_bytes_s: float | None = None
    vacuum_interval_s: float = 3600.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    lease_ttl_s: float = 60.0
    backoff_s: float = 30.0
    backoff_max_s: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("interval_s", "vacuum_interval_s", "backoff_s", "backoff_max_s"):
            self._require(name, lambda value: value >= 0, "a number of seconds")
        self._require("lease_ttl_s", lambda value: value >= 0.1, "a number of seconds, 0.1 or more")
        self._require("older_than_s", lambda value: value >= 0, "a number of seconds, or None", optional=True)
        self._require("rate_limit_bytes_s", lambda value: value > 0, "a number of bytes above 0", optional=True)
        self._require("min_fragments", lambda value: value >= 1, "an integer from 1 on", whole=True)
        self._require("keep_last", lambda value: value >= 1, "an integer from 1 on, or None", whole=True, optional=True)
        self._require("metrics_port", lambda value: 0 <= value < 1 << 16, "a port, or None", whole=True, optional=True)
        if not isinstance(self.metrics_host, str) or not self.metrics_host:
            raise InvalidInputError(f"metrics_host={self.metrics_host!r} must be the name or the number of an address")

    def _require(
        self, name: str, fits: Callable[[float], bool], what: str, *, whole: bool = False, optional: bool = False
    ) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        kinds = int if whole else (int, float)
        usable = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not usable or not fits(value) or (name in _SECONDS and value > _LONGEST_S):
            raise InvalidInputError(f"{name}={value!r} must be {what}")

    @property
    def expires(self) -> bool:
        """Whether there is a rule by which versions expire."""
        return self.keep_last is not None or self.older_than_s is not None

    def to_dict(self) -> dict[str, Any]:
        """The rules as a JSON-able dict."""
        return asdict(self)


__all__ = ["Policy"]
