"""Progress of long work: one value, handed to a callable on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far long work has come.

    Attributes
    ----------
    done : int
        How many units are finished; never falls.
    total : int or None
        How many there will be; None while that is unknown.
    unit : str
        What is counted, in the plural: ``"chunks"``, ``"partitions"``, ``"bytes"``.
    label : str
        What is being worked on, usually the path of an array; empty for the whole.
    """

    done: int
    total: int | None
    unit: str
    label: str = ""


#: What ``progress=`` takes. Raising in it cancels the work, and the exception comes out of the call.
Report: TypeAlias = Callable[[Progress], None]


class Meter:
    """Counts units and tells whoever wants to know.

    Parameters
    ----------
    report : callable or None
        Called with a :class:`Progress` after each step.
    total : int or None
        How many units there will be.
    unit : str
        What is counted, in the plural.

    Notes
    -----
    Not safe for threads: it belongs to the thread that called the long work, so that a callback may draw, raise
    and touch what is its caller's.
    """

    def __init__(self, report: Report | None, total: int | None, unit: str) -> None:
        self._report = report
        self._done = 0
        self._total = total
        self._unit = unit

    @property
    def wanted(self) -> bool:
        """Whether anybody listens: counting in advance is not worth it otherwise."""
        return self._report is not None

    def expect(self, more: int) -> None:
        """Add to the total."""
        self._total = (self._total or 0) + more

    def step(self, label: str = "", count: int = 1) -> None:
        """Note that `count` more units are done; whatever the callable raises goes to the caller."""
        self._done += count
        if self._report is not None:
            if self._total is not None and self._done > self._total:
                self._total = self._done
            self._report(Progress(self._done, self._total, self._unit, label))


__all__ = ["Meter", "Progress", "Report"]
