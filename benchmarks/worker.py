"""One workload with one system, once, in the process that runs this module; prints the figures as a line of JSON."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.measure import high_water_bytes
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS


def run(workload: str, system_name: str, codec: Any, size: Any, folder: str) -> dict[str, Any]:
    """Do the work; what went wrong is a result as well."""
    kind = SYSTEMS[system_name]
    try:
        versions = kind.versions()
        figures = WORKLOADS[workload].run(kind(Path(folder, "data")), codec, size)
    except Exception as error:
        traceback.print_exc()
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    # Where the workload has reset the mark, this is what came after; the rise is its own figure then.
    return {"status": "ok", "versions": versions, "peak_MB": high_water_bytes() / 1e6, **figures}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
