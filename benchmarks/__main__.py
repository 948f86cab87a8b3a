"""``python -m benchmarks``: run workloads, write results as JSON, as tables and as pictures."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import harness, report
from benchmarks.pictures import pictures
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS


def main() -> int:
    """Run what the command line asks for; 1 if txstore has failed at something."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all when left out")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--codecs", nargs="+", choices=harness.CODECS, help="when left out all, at the small size zstd")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: to see that all is right")
    parser.add_argument("--repeat", type=int, default=3, help="rounds over all systems (curves are drawn once)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one run")
    parser.add_argument("--scratch", type=Path, help="where the data go: a folder on a disk, not in memory")
    parser.add_argument("--add", action="store_true", help="keep what OUT has of other workloads and codecs")
    parser.add_argument("--out", type=Path, default=harness.ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")

    chosen = options.workloads or list(WORKLOADS)
    codecs = options.codecs or (harness.CODECS if options.size == "full" else ("zstd",))
    runs = list(harness.plan(chosen, options.systems, codecs, options.repeat))
    options.out.mkdir(parents=True, exist_ok=True)
    written = [options.out / "results.json", options.out / "results.md"]
    results: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "size": options.size}
    kept = others(written[0], runs, options.size) if options.add else []
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="txstore-bench-") as folder:
        scratch = Path(folder)
        results |= {"machine": harness.machine(scratch), "runs": kept}
        for number, run in enumerate(harness.run_all(runs, options.size, scratch, options.timeout), 1):
            results["runs"].append(run)
            print(f"[{number}/{len(runs)}] {harness.named(run)}: {harness.shown(run)}", flush=True)
            written[0].write_text(json.dumps(results, indent=1), encoding="utf-8")  # hours of work: what there is stays
    written[1].write_text(report.text(results), encoding="utf-8")
    written += pictures(results, options.out)
    print("\n" + report.text(results))
    print("written: " + ", ".join(map(str, written)))
    return int(any(run["status"] in ("failed", "loses") and SYSTEMS[run["system"]].ours for run in results["runs"]))


def others(path: Path, runs: list[harness.Run], size: str) -> list[harness.Run]:
    """What was measured before, of workloads and codecs that are not to be run now."""
    if not path.exists():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    now = {(run["workload"], run["codec"]) for run in runs}
    return [run for run in before["runs"] if before["size"] == size and (run["workload"], run["codec"]) not in now]


if __name__ == "__main__":
    sys.exit(main())
