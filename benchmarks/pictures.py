"""Pictures from runs: the ratios of all workloads in one, and each curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import best_peer, ratio, standings
from benchmarks.systems import SYSTEMS
from benchmarks.workloads import WORKLOADS


def pictures(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all that there is to be drawn; the files."""
    import matplotlib

    matplotlib.use("agg")
    return [*ratios(results, folder), *curves(results, folder)]


def ratios(results: dict[str, Any], folder: Path) -> list[Path]:
    """How every system stands to the best peer at every figure, on a logarithmic scale."""
    from matplotlib import pyplot

    labels: list[str] = []
    points: dict[str, list[tuple[float, int]]] = {}
    for workload, codec, found in standings(results):
        for figure, better in workload.compared.items():
            best = best_peer(figure, better, found, "")
            if best is None:
                continue
            for mine in found:
                value = None if mine.fault else ratio(figure, better, mine, best)
                if value is not None:
                    points.setdefault(mine.system, []).append((value, len(labels)))
            labels.append(f"{workload.name}, {codec}: {figure}")
    if not labels:
        return []
    figure_, axis = pyplot.subplots(figsize=(9, 1.5 + 0.2 * len(labels)))
    axis.axvline(1, color="black", linewidth=1)
    for system in (name for name in SYSTEMS if name in points):
        ours = SYSTEMS[system].ours
        x, y = zip(*points[system], strict=True)
        axis.scatter(x, y, s=50 if ours else 14, marker="D" if ours else "o", label=system, zorder=3 if ours else 2)
    axis.set_xscale("log")
    axis.set_yticks(range(len(labels)), labels, fontsize=7)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(True, which="major", alpha=0.3)
    axis.set_xlabel("times the best peer; to the right is better")
    axis.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.3, 1.0))
    return [save(figure_, folder / "ratios.png")]


def curves(results: dict[str, Any], folder: Path) -> list[Path]:
    """The curves, both axes logarithmic: flat is flat."""
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter

    made = []
    for workload in (w for w in WORKLOADS.values() if w.curve):
        runs = [run for run in results["runs"] if run["workload"] == workload.name and run.get("curve")]
        if not runs:
            continue
        keys = [key for key in runs[0]["curve"][0] if key.endswith("_ms") or key == "list_us_per_array"]
        figure, axes = pyplot.subplots(
            1, len(keys), figsize=(3.4 * len(keys), 3.2), squeeze=False, sharex=True, layout="constrained"
        )
        for axis, key in zip(axes[0], keys, strict=True):
            for run in runs:
                drawn = [(point["n"], point[key]) for point in run["curve"] if key in point]
                axis.loglog(*zip(*drawn, strict=True), "o-", label=run["system"])
            axis.set_title(key)
            axis.set_xlabel(workload.name)
            axis.grid(True, which="both", alpha=0.3)
            low, high = axis.get_ylim()
            axis.set_ylim(low / 3, high * 3)  # a decade at least, so that flat looks flat
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
        axes[0][0].legend()
        made.append(save(figure, folder / f"{workload.name}.png"))
    return made


def save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    return path
