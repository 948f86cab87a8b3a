"""Tables from runs. Rows that lose, fail or do not exist stay in."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Run
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS, Workload
from benchmarks.workloads.registry import Better

#: Beside the columns of the workload itself.
ASIDE = ("rise_MB", "disk_MB", "files", "settle_s")


@dataclass(frozen=True)
class Standing:
    """How one system has done a workload: medians over its good runs, or why there are none.

    Attributes
    ----------
    least, most : dict
        The spread of each figure.
    fault : str
        ``"loses N cells"``, an error, or empty. Who has a fault is nobody's peer.
    """

    system: str
    figures: dict[str, float]
    least: dict[str, float]
    most: dict[str, float]
    fault: str


def standing(system: str, runs: Sequence[Run]) -> Standing:
    """The standing of one system, of all its runs of one workload with one codec."""
    good = [run for run in runs if run["status"] in ("ok", "loses")]
    bad = [run["error"].splitlines()[0] for run in runs if run["status"] in ("failed", "skipped")]
    lost = max((run.get("lost_cells", 0) for run in good), default=0)
    values = {
        key: [run[key] for run in good if key in run]
        for run in good
        for key, value in run.items()
        if isinstance(value, int | float)
    }
    return Standing(
        system,
        {key: statistics.median(each) for key, each in values.items()},
        {key: min(each) for key, each in values.items()},
        {key: max(each) for key, each in values.items()},
        bad[0] if bad else f"loses {lost:,} cells" if lost else "",
    )


def standings(results: dict[str, Any]) -> Iterator[tuple[Workload, str, list[Standing]]]:
    """Every workload and codec that was run, with the systems in the order of the tables."""
    for workload in WORKLOADS.values():
        for codec in workload.codecs:
            runs = [run for run in results["runs"] if (run["workload"], run["codec"]) == (workload.name, codec)]
            by_system = {name: [run for run in runs if run["system"] == name] for name in SYSTEMS}
            found = [standing(name, mine) for name, mine in by_system.items() if mine]
            if found:
                yield workload, codec, found


def best_peer(figure: str, better: Better, found: Sequence[Standing], mine: str) -> Standing | None:
    """The best of the others that are not txstore and have no fault."""
    peers = [
        s for s in found if s.system != mine and not SYSTEMS[s.system].ours and not s.fault and figure in s.figures
    ]
    pick = max if better == "more" else min
    return pick(peers, key=lambda peer: peer.figures[figure], default=None)


def ratio(figure: str, better: Better, mine: Standing, best: Standing | None) -> float | None:
    """How a system stands to the best of the peers; above 1 it is ahead. None where there is nothing to divide."""
    if best is None or figure not in mine.figures:
        return None
    above, below = (mine, best) if better == "more" else (best, mine)
    numerator, denominator = above.figures[figure], below.figures[figure]
    return numerator / denominator if numerator > 0 and denominator > 0 else None


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up in the source, too."""
    widths = [max(len(row[i]) for row in (header, *body)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, body)])


# -- the parts of the report ----------------------------------------------------------------------


def summary(results: dict[str, Any]) -> str:
    """The one table: txstore beside the best peer, for each figure that is compared."""
    body = []
    for workload, codec, found in standings(results):
        for mine in (each for each in found if SYSTEMS[each.system].ours):
            name = workload.name + mine.system.removeprefix("txstore")
            goal = workload.goal  # once
            for figure, better in workload.compared.items():
                best = best_peer(figure, better, found, mine.system)
                peer = "–" if best is None else f"{best.system} {number(best.figures[figure])}"
                times_best = "fault" if mine.fault else times(ratio(figure, better, mine, best))
                body.append([name, codec, figure, number(mine.figures.get(figure)), peer, times_best, goal])
                goal = ""
    return markdown(["work", "codec", "figure", "txstore", "best peer", "ratio", "goal"], body)


def table(workload: Workload, found: Sequence[Standing]) -> str:
    """One row a system: the figures that are compared, each with its spread and its ratio, and the others."""
    others = [key for key in (*workload.columns, *ASIDE) if key not in workload.compared]
    header = ["system"]
    for figure in workload.compared:
        header += [figure, "least … most", "to best peer"]
    body = []
    for mine in found:
        row = [mine.system]
        for figure, better in workload.compared.items():
            value, best = mine.figures.get(figure), best_peer(figure, better, found, mine.system)
            spread = "–" if value is None else f"{number(mine.least[figure])} … {number(mine.most[figure])}"
            row += [number(value), spread, mine.fault or times(ratio(figure, better, mine, best))]
        body.append(row + [number(mine.figures.get(key)) for key in others])
    return markdown(header + others, body)


def curve_table(runs: Sequence[Run]) -> str:
    """The points of every system's curve, one row each."""
    keys = list(dict.fromkeys(key for run in runs for point in run["curve"] for key in point if key != "n"))
    body = [
        [run["system"], f"{point['n']:,}", *(number(point.get(key)) for key in keys)]
        for run in runs
        for point in run["curve"]
    ]
    return markdown(["system", "n", *keys], body)


def systems_table(results: dict[str, Any]) -> str:
    """What each system was, and how it was used."""
    used = {run["system"]: run["versions"] for run in results["runs"] if "versions" in run}
    body = [
        [name, SYSTEMS[name].durable, SYSTEMS[name].settings, ", ".join(f"{k} {v}" for k, v in used[name].items())]
        for name in SYSTEMS
        if name in used
    ]
    return markdown(["system", "after a write", "settings", "versions"], body)


def text(results: dict[str, Any]) -> str:
    """The whole report in Markdown."""
    facts = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    parts = ["# Benchmarks", f"{results['when']}; size {results['size']}; {facts}"]
    if results["machine"]["filesystem"] in ("tmpfs", "ramfs"):
        parts.append("**The scratch folder lies in memory: durable commits cost nothing here. Choose another one.**")
    parts.append(summary(results))
    for workload, codec, found in standings(results):
        parts.append(f"## {workload.name}, codec {codec}\n\n{workload.title}. Goal: {workload.goal}.")
        parts.append(table(workload, found))
        curves = [run for run in results["runs"] if run["workload"] == workload.name and run.get("curve")]
        if curves:
            parts.append(curve_table(curves))
    parts.append("## Systems\n\n" + systems_table(results))
    return "\n\n".join(parts) + "\n"
