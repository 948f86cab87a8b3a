"""The kinds of work: one function each, which runs one system once, checks what it has done, and returns its figures.

A workload is run in a fresh process. What it has to find on disk is made in another one (``apart``), so that neither
memory nor caches of the preparation are its own.
"""

from __future__ import annotations

# Each module enters its workloads into WORKLOADS when it is imported.
from benchmarks.workloads import bulk, commits, curves, memory
from benchmarks.workloads.registry import WORKLOADS, Size, Workload

__all__ = ["WORKLOADS", "Size", "Workload", "bulk", "commits", "curves", "memory"]
