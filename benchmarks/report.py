"""Tables and pictures from runs. Rows that lose, fail or do not exist stay in."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Run
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS, Workload

OURS = "txstore"
#: Beside the columns of the workload itself.
ASIDE = ("disk_bytes", "files", "settle_s", "peak_MB")


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """The median of each figure over the repeats."""
    keys = {key for run in runs for key, value in run.items() if isinstance(value, int | float)} - {"repeat", "n"}
    return {key: statistics.median(run[key] for run in runs if key in run) for key in keys}


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(workload: Workload, mine: float, peers: Sequence[float]) -> str:
    """How this system stands to the best of the peers; above 1 it is ahead."""
    if not peers or not mine:
        return "–"
    return f"{mine / max(peers) if workload.better == 'more' else min(peers) / mine:.2f}×"


def rows(workload: Workload, runs: Sequence[Run]) -> Iterator[list[str]]:
    """One row a system: its figures, its spread and its place among the peers."""
    by_system = {name: [run for run in runs if run["system"] == name] for name in SYSTEMS}
    good = {name: [run for run in mine if run["status"] == "ok"] for name, mine in by_system.items()}
    heads = {name: medians(mine)[workload.headline] for name, mine in good.items() if mine}
    for name, mine in by_system.items():
        if not mine:
            continue
        if not good[name]:
            yield [name, mine[-1]["error"].splitlines()[0], *[""] * (len(workload.columns) + len(ASIDE) + 1)]
            continue
        figures = medians(good[name])
        peers = [head for peer, head in heads.items() if peer not in (OURS, name)]
        spread = sorted(run[workload.headline] for run in good[name])
        yield [
            name,
            ratio(workload, heads[name], peers),
            f"{number(spread[0])} … {number(spread[-1])}",
            *(number(figures[column]) if column in figures else "–" for column in (*workload.columns, *ASIDE)),
        ]


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up in the source, too."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, body)])


def curve_table(runs: Sequence[Run]) -> str:
    """The points of every system's curve, one row each."""
    keys = [key for key in runs[0]["curve"][0] if key != "n"]
    body = [
        [run["system"], f"{point['n']:,}", *(number(point[key]) for key in keys)]
        for run in runs
        for point in run["curve"]
    ]
    return markdown(["system", "n", *keys], body)


def text(results: dict[str, Any]) -> str:
    """The whole report in Markdown."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    parts = ["# Benchmarks", f"{results['when']}; size {results['size']}; {facts}"]
    if results["machine"]["filesystem"] in ("tmpfs", "ramfs"):
        parts.append("**The scratch folder lies in memory: durable commits cost nothing here. Choose another one.**")
    for workload in WORKLOADS.values():
        for codec in workload.codecs:
            runs = [r for r in results["runs"] if (r["workload"], r["codec"]) == (workload.name, codec)]
            if not runs:
                continue
            parts.append(f"## {workload.name}, codec {codec}\n\n{workload.title}. Goal: {workload.goal}.")
            header = ["system", f"to best peer ({workload.headline})", "least … most", *workload.columns, *ASIDE]
            parts.append(markdown(header, list(rows(workload, runs))))
            curves = [run for run in runs if run.get("curve")]
            if curves:
                parts.append(curve_table(curves))
    used = {run["system"]: run["versions"] for run in results["runs"] if "versions" in run}
    settings = [[name, SYSTEMS[name].durable, ", ".join(f"{k} {v}" for k, v in used[name].items())] for name in used]
    parts.append("## Systems\n\n" + markdown(["system", "after a write", "versions"], settings))
    return "\n\n".join(parts) + "\n"


def pictures(results: dict[str, Any], folder: Path) -> list[Path]:
    """The curves as pictures, both axes logarithmic: flat is flat."""
    made = []
    for workload in (w for w in WORKLOADS.values() if w.curve):
        runs = [r for r in results["runs"] if r["workload"] == workload.name and r.get("curve")]
        if not runs:
            continue
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot

        keys = [key for key in runs[0]["curve"][0] if key not in ("n", "commits_per_s")]
        figure, axes = pyplot.subplots(1, len(keys), figsize=(3.4 * len(keys), 3.2), squeeze=False, sharex=True)
        for axis, key in zip(axes[0], keys, strict=True):
            for run in runs:
                points = run["curve"]
                axis.loglog([p["n"] for p in points], [p[key] for p in points], "o-", label=run["system"])
            axis.set_title(key)
            axis.set_xlabel(workload.name.removeprefix("many_"))
            axis.grid(True, which="both", alpha=0.3)
            low, high = axis.get_ylim()
            axis.set_ylim(low / 3, high * 3)  # a decade at least, so that flat looks flat
        axes[0][0].legend()
        figure.tight_layout()
        path = folder / f"{workload.name}.png"
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        made.append(path)
    return made
