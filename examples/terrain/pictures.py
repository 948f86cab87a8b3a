"""The pictures: the terrain as it came in, what lies where before and after compaction, and a fault undone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

_LIGHT = LightSource(azdeg=315, altdeg=40)
_NOTHING = (0.93, 0.93, 0.94, 1.0)
_INK = "#2b2f36"
_MUTED = "#6b7280"
_DPI = 150


def relief(dem: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shaded relief as RGBA; where nothing is surveyed, a light grey."""
    known = ~np.isnan(dem)
    filled = np.where(known, dem, np.nanmin(dem) if known.any() else low)
    colours = matplotlib.colormaps["gist_earth"](0.22 + 0.72 * Normalize(low, high, clip=True)(filled))
    shaded = _LIGHT.shade_rgb(colours[..., :3], filled, vert_exag=0.05, blend_mode="soft")
    image = np.ones((*dem.shape, 4))
    image[..., :3] = np.clip(shaded, 0, 1)
    image[~known] = _NOTHING
    return image


def _plain(axes: Axes, title: str, note: str = "") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#c4c8cf")
    axes.set_title(title, fontsize=10.5, color=_INK, loc="left", pad=6)
    if note:
        axes.set_title(note, fontsize=8.5, color=_MUTED, loc="right", pad=6)


def _scale(figure: Figure, axes: Any, low: float, high: float) -> None:
    colours = matplotlib.colormaps["gist_earth"](np.linspace(0.22, 0.94, 256))
    mappable = matplotlib.cm.ScalarMappable(Normalize(low, high), matplotlib.colors.ListedColormap(colours))
    bar = figure.colorbar(mappable, ax=axes, shrink=0.6, aspect=30, pad=0.015)
    bar.set_label("elevation (m)", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)


def stages(frames: Sequence[tuple[int, np.ndarray]], count: int) -> list[tuple[int, np.ndarray]]:
    """So many of the frames, in their order, that the surveyed part grows by steps as even as they allow."""
    left = [frame for frame in frames if not np.isnan(frame[1]).all()]
    shares = [float(np.count_nonzero(~np.isnan(dem))) / dem.size for _, dem in left]
    picked: set[int] = set()
    for wanted in np.linspace(0.1, 0.97, count):
        free = [index for index in range(len(left)) if index not in picked]
        picked |= set(sorted(free, key=lambda index: abs(shares[index] - wanted))[:1])
    return [left[index] for index in sorted(picked)]


def terrain_over_time(file: Path, frames: Sequence[tuple[int, np.ndarray]], corrected: np.ndarray) -> None:
    """Five versions of the survey while it came in, and the corrected terrain at the end."""
    low, high = float(np.nanmin(corrected)), float(np.nanmax(corrected))
    figure = Figure(figsize=(13, 7.4), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 3)
    for axes, (version, dem) in zip(panels.flat[:-1], frames, strict=False):
        share = 100 * np.count_nonzero(~np.isnan(dem)) / dem.size
        axes.imshow(relief(dem, low, high), interpolation="nearest")
        _plain(axes, f"version {version:,}", f"{share:.0f} % surveyed")
    panels.flat[-1].imshow(relief(corrected, low, high), interpolation="nearest")
    _plain(panels.flat[-1], "at the end", "corrected")
    for axes in panels.flat[len(frames) : -1]:
        axes.set_axis_off()
    _scale(figure, panels, low, high)
    figure.suptitle("The terrain over time: each picture is one version of the store", color=_INK, fontsize=13)
    figure.savefig(file, dpi=_DPI)


def _boxes(axes: Axes, fragments: Sequence[tuple[Any, int]], colours: np.ndarray, filled: float) -> None:
    patches = [
        Rectangle((box.lo[1] - 0.5, box.lo[0] - 0.5), box.hi[1] - box.lo[1], box.hi[0] - box.lo[0])
        for box, _ in fragments
    ]
    faces = colours.copy()
    faces[:, 3] = filled
    axes.add_collection(PatchCollection(patches, facecolors=faces, edgecolors=colours, linewidths=0.6))


def fragment_map(
    file: Path,
    dem: np.ndarray,
    chunks: tuple[int, ...],
    before: Sequence[tuple[Any, int]],
    after: Sequence[tuple[Any, int]],
) -> None:
    """What a reader of the newest version has to look at, as (box, version), before and after compaction."""
    grey = 0.82 + 0.18 * _LIGHT.hillshade(np.nan_to_num(dem, nan=float(np.nanmin(dem))), vert_exag=0.05)
    figure = Figure(figsize=(13, 6.2), layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    versions = [version for _, version in [*before, *after]]
    norm = Normalize(min(versions, default=0), max(versions, default=1))
    colour_map = matplotlib.colormaps["viridis"]
    for axes, fragments, title in ((left, before, "before compaction"), (right, after, "after compaction")):
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
        if fragments:
            colours = np.array(colour_map(norm([version for _, version in fragments])))
            _boxes(axes, fragments, colours, 0.10 if axes is left else 0.30)
        for row in range(0, dem.shape[0], chunks[0]):
            axes.axhline(row - 0.5, color=_INK, linewidth=0.7, alpha=0.55)
        for column in range(0, dem.shape[1], chunks[1]):
            axes.axvline(column - 0.5, color=_INK, linewidth=0.7, alpha=0.55)
        axes.set_xlim(-0.5, dem.shape[1] - 0.5)
        axes.set_ylim(dem.shape[0] - 0.5, -0.5)
        unit = "piece" if len(fragments) == 1 else "pieces"
        _plain(axes, title, f"{len(fragments):,} {unit} on the read path")
    mappable = matplotlib.cm.ScalarMappable(norm, colour_map)
    bar = figure.colorbar(mappable, ax=[left, right], shrink=0.7, aspect=30, pad=0.015)
    bar.set_label("written by version", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    figure.suptitle("Fragments of the elevation model; the lines are chunks", color=_INK, fontsize=13)
    figure.savefig(file, dpi=_DPI)


def fault_and_undo(file: Path, bad: np.ndarray, boxes: Sequence[Any], good: np.ndarray, count: np.ndarray) -> None:
    """A bad ingest with what the diff says of it, the terrain after it was undone, and how often cells were seen."""
    low, high = float(np.nanmin(good)), float(np.nanmax(good))
    figure = Figure(figsize=(15, 4.6), layout="constrained", facecolor="white")
    first, second, third = figure.subplots(1, 3)
    first.imshow(relief(bad, low, high), interpolation="nearest")
    for box in boxes:
        first.add_patch(
            Rectangle(
                (box.lo[1] - 0.5, box.lo[0] - 0.5),
                box.hi[1] - box.lo[1],
                box.hi[0] - box.lo[0],
                fill=False,
                edgecolor="#d92d20",
                linewidth=1.8,
            )
        )
    _plain(first, "a bad ingest: feet for metres", "red: the boxes of the diff")
    second.imshow(relief(good, low, high), interpolation="nearest")
    _plain(second, "undone", "from the version before")
    image = third.imshow(count, cmap="magma", interpolation="nearest")
    _plain(third, "count map", "kept by accumulate")
    bar = figure.colorbar(image, ax=third, shrink=0.8, aspect=25, pad=0.02)
    bar.set_label("strips over a cell", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    figure.savefig(file, dpi=_DPI)
