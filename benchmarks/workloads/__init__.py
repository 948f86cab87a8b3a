"""The kinds of work: one function each, which runs one system once, checks what it has done, and returns its figures.

A workload is run in a fresh process. What it has to find on disk is made in another one (``prepare``), so that neither
memory nor caches of the preparation are its own.
"""

from __future__ import annotations

from benchmarks.workloads import appends, boxes, bulk, compaction, export, growth, history, memory, reads, starts
from benchmarks.workloads.registry import Size, Workload

#: In the order of the report.
MODULES = (boxes, appends, bulk, reads, starts, growth, compaction, export, history, memory)
WORKLOADS = {found.name: found for module in MODULES for found in vars(module).values() if isinstance(found, Workload)}

__all__ = ["WORKLOADS", "Size", "Workload"]
