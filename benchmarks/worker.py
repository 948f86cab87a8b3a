"""Runs workloads in the process that runs this module; writes each result as a line of JSON.

``python -m benchmarks.worker FOLDER SIZE RUNS``: the runs as JSON, the data and ``results`` below the folder.
"""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.measure import clocked
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS


def run_one(run: dict[str, Any], size: Any, folder: Path) -> dict[str, Any]:
    """Do the work; what went wrong is a result as well."""
    kind, workload = SYSTEMS[run["system"]], WORKLOADS[run["workload"]]
    try:
        figures = workload.run(kind(folder / "data"), run["codec"], size)
    except Exception as error:
        traceback.print_exc()
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    return {"status": "loses" if figures.get("lost_cells") else "ok", "versions": kind.versions(), **figures}


def main(folder: str, size: str, runs: str) -> None:
    with open(Path(folder, "results"), "w", encoding="utf-8") as results:
        for number, run in enumerate(json.loads(runs)):
            own = Path(folder, str(number))
            own.mkdir()
            took_s, result = clocked(run_one, run, size, own)
            shutil.rmtree(own)
            print(json.dumps(result | {"took_s": took_s}), file=results, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
