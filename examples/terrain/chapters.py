"""What happens to the survey after it has landed: corrections, a fault and its undoing, time travel, export."""

from __future__ import annotations

import itertools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import txstore
from terrain.survey import FEET_PER_METRE, IMPLAUSIBLE_M, Landed, Model


def check_head(store: txstore.Store, model: Model, what: str) -> None:
    """The newest version, cell by cell."""
    snapshot = store.snapshot()
    model.check(f"{what}: dem", snapshot["dem"][...], model.dem)
    model.check(f"{what}: count", snapshot["count"][...], model.count)


def check_history(store: txstore.Store, model: Model, landed: list[Landed]) -> list[tuple[int, np.ndarray]]:
    """The follower's film, and one moment asked for by its time, against the strips landed by then. The film."""
    order = sorted(landed, key=lambda strip: strip.version)
    model.require("a version for each strip", len({strip.version for strip in order}) == len(order))
    model.require("times in order", all(a.committed_at < b.committed_at for a, b in itertools.pairwise(order)))
    film = store["film/frames"][...]
    versions = [int(version) for version in store["film/versions"][...]]
    frames = list(zip(versions, film, strict=True))
    replay = Model(model.terrain)
    moment = order[len(order) // 2]
    due = sorted([*frames, (moment.version, None)], key=lambda frame: frame[0])
    at = 0
    for version, frame in due:
        while at < len(order) and order[at].version <= version:
            replay.land(order[at].strip)
            at += 1
        if frame is not None:
            model.check(f"film at version {version}", frame, replay.dem)
            continue
        for asked in (moment.committed_at, moment.committed_at.isoformat()):
            then = store.snapshot(as_of=asked)
            model.require("as of a moment: the version", then.version == moment.version)
            model.check("as of a moment: dem", then["dem"][...], replay.dem)
            model.check("as of a moment: count", then["count"][...], replay.count)
    return frames


def correct(store: txstore.Store, model: Model) -> int:
    """Corrections as they come after a survey: a box, a mask, a list of points. Returns how many commits."""
    rows, columns = slice(40, 171), slice(57, 250)
    with store.transaction(message="datum shift in the north-west", author="office") as tx:
        tx["dem"][rows, columns] = tx["dem"][rows, columns] + np.float32(0.75)
    model.dem[rows, columns] += np.float32(0.75)

    level = np.float32(np.quantile(model.terrain, 0.02))
    with store.transaction(message="the lake is level", author="office") as tx:
        tx["dem"][model.dem < level] = level
    model.dem[model.dem < level] = level

    rng = np.random.default_rng(5)
    points = tuple(rng.integers(0, extent, 60) for extent in model.dem.shape)
    heights = (model.terrain[points] + 0.25).astype("f4")
    with store.transaction(message="spot heights by GPS", author="office") as tx:
        tx["dem"].vindex[points] = heights
    model.dem[points] = heights
    check_head(store, model, "after the corrections")
    return 3


@dataclass
class Fault:
    """The bad ingest, as it was found."""

    version: int
    author: str | None
    message: str | None
    dem: np.ndarray
    boxes: list[Any]


def break_find_and_undo(store: txstore.Store, model: Model) -> Fault:
    """Somebody delivers feet; it is noticed, traced to a commit, and undone with what the version before held."""
    deliveries = [
        (slice(203, 251), slice(31, 118)),
        (slice(20, 62), slice(290, 381)),
        (slice(251, 262), slice(90, 170)),
    ]
    with store.transaction(message="strips of the northern block", author="contractor") as tx:
        for place in deliveries:
            tx["dem"][place] = model.terrain[place] * np.float32(FEET_PER_METRE)
            tx["count"].accumulate(place, 1)
    with store.transaction(message="quarry surveyed again", author="aircraft 3") as tx:
        tx["dem"][300:330, 300:371] = model.terrain[300:330, 300:371] - np.float32(12)
    model.dem[300:330, 300:371] = model.terrain[300:330, 300:371] - np.float32(12)

    # Something is wrong: no point of this country lies so high. Whose commit was that?
    dem = store["dem"]
    now = dem[...]
    row, column = (int(index) for index in np.unravel_index(np.nanargmax(now), now.shape))
    model.require("the fault shows", bool(now[row, column] > IMPLAUSIBLE_M))
    suspect = dem.history((slice(row, row + 1), slice(column, column + 1)))[0]
    before = store.snapshot(version=suspect.parents[0])
    model.require("the version before is plausible", bool(before["dem"][row, column] < IMPLAUSIBLE_M))
    model.require("history names the contractor", suspect.author == "contractor")

    boxes = list(store.diff(before.version, suspect.version).boxes["dem"])
    written = np.zeros(now.shape, bool)
    for box in boxes:
        written[box.slices()] = True
    expected = np.zeros(now.shape, bool)
    for place in deliveries:
        expected[place] = True
    model.check("the boxes of the diff", written, expected)

    with store.transaction(message=f"undo version {suspect.version}", author="office") as tx:
        tx["dem"][written] = before["dem"][written]
        for place in deliveries:
            tx["count"].accumulate(place, -1)
    check_head(store, model, "after the undoing")
    return Fault(suspect.version, suspect.author, suspect.message, now, boxes)


@dataclass
class Exported:
    """How long an export took, and what came out."""

    logical_bytes: int
    stored_bytes: int
    seconds: float

    @property
    def rate_mb_s(self) -> float:
        return self.logical_bytes / 1e6 / self.seconds


def export_and_reread(store: txstore.Store, model: Model, out: Path) -> dict[int, Exported]:
    """Plain Zarr of both formats, opened by zarr-python, which knows nothing of us."""
    results = {}
    snapshot = store.snapshot()
    names = ("dem", "count", "film/frames", "film/versions")
    logical = sum(snapshot[name].nbytes for name in names)
    for zarr_format in (3, 2):
        target = out / f"survey.v{zarr_format}.zarr"
        if target.exists():
            shutil.rmtree(target)
        start = time.perf_counter()
        store.export(target, zarr_format=zarr_format)
        seconds = time.perf_counter() - start
        results[zarr_format] = Exported(logical, size_of(target), seconds)
        group: Any = zarr.open_group(target, mode="r")
        model.require(f"v{zarr_format}: the format", group.metadata.zarr_format == zarr_format)
        model.check(f"v{zarr_format} by zarr-python: dem", group["dem"][...], model.dem)
        model.check(f"v{zarr_format} by zarr-python: count", group["count"][...], model.count)
        for name in names[2:]:
            model.check(f"v{zarr_format} by zarr-python: {name}", group[name][...], snapshot[name][...])
        attributes = dict(group["dem"].attrs)
        model.require(f"v{zarr_format}: attributes", (attributes["units"], attributes["crs"]) == ("m", "EPSG:4269"))
        # Zarr v2 has no place for the names of dimensions but an attribute, which xarray has made a custom.
        names_of_axes = attributes.get("_ARRAY_DIMENSIONS") or group["dem"].metadata.dimension_names
        model.require(f"v{zarr_format}: the names of the axes", list(names_of_axes) == ["y", "x"])
        model.require(f"v{zarr_format}: the fill value", bool(np.isnan(group["dem"].fill_value)))
    return results


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; one that goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
