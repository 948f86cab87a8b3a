"""A survey, from thousands of strips to plain Zarr: the main job of txstore on real terrain, checked cell by cell.

Eight aircraft, each a process, write unaligned and overlapping strips of a real elevation model into one array, a
commit a strip, while the daemon compacts and another process follows. Then come corrections, a bad ingest that is
found and undone, a look back at a moment, and an export that zarr-python reads. Every result is compared with a
NumPy model; the exit status is 1 when a single cell differs.

Run it with ``python examples/demo.py --out DIR [--size small]``.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from terrain import chapters, crew, pictures
from terrain.survey import Landed, Model, Strip, flight_plan, load_terrain

import txstore

AIRCRAFT = 8
CHUNKS = (64, 64)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    strips: int
    frames: int


SIZES = {"small": Size(strips=400, frames=8), "full": Size(strips=4000, frames=40)}


def create(root: Path, shape: tuple[int, ...]) -> txstore.Store:
    """A new store with the arrays of the survey."""
    store = txstore.open(root, mode="x")
    with store.transaction(message="create", author="office") as tx:
        tx.create_array(
            "dem",
            shape=shape,
            dtype="f4",
            chunks=CHUNKS,
            fill_value=np.nan,
            dimension_names=("y", "x"),
            attributes={"units": "m", "crs": "EPSG:4269"},
        )
        tx.create_array("count", shape=shape, dtype="i4", chunks=CHUNKS, dimension_names=("y", "x"))
        tx.create_array("film/frames", shape=(0, *shape), dtype="f4", chunks=(1, 128, 128), fill_value=np.nan)
        tx.create_array("film/versions", shape=(0,), dtype="i8", chunks=(256,))
    return store


@contextlib.contextmanager
def daemon(root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as anybody would start it, stopped by SIGTERM."""
    package = str(Path(txstore.__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-m", "txstore", "daemon", str(root), "--interval", "1s", "--min-fragments", "64"]
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@dataclass
class Ingest:
    """What the ingest was."""

    landed: list[Landed]
    seconds: float
    follower: dict[str, int]
    daemon_status: int


def ingest(root: Path, out: Path, strips: list[Strip], terrain: np.ndarray, size: Size) -> Ingest:
    """All aircraft, the follower and, for the first two thirds, the daemon: the last third shows what it is for."""
    context = multiprocessing.get_context("spawn")
    values = crew.shared(context, AIRCRAFT + 1)
    with (
        daemon(root, out / "daemon.log") as background,
        ProcessPoolExecutor(AIRCRAFT + 1, context, initializer=crew.join, initargs=(values,)) as pool,
    ):
        follower = pool.submit(crew.follow, root, terrain, len(strips), size.frames)
        flights = [pool.submit(crew.fly, root, number, strips, terrain) for number in range(AIRCRAFT)]
        values["gate"].wait()
        start = time.perf_counter()
        while values["next"].value < len(strips) * 2 // 3 and not any(flight.done() for flight in flights):
            time.sleep(0.05)
        background.send_signal(signal.SIGTERM)
        landed = [strip for flight in flights for strip in flight.result()]
        seconds = time.perf_counter() - start
        values["landed"].set()
        seen = follower.result()
    return Ingest(landed, seconds, seen, background.returncode)


def on_read_path(store: txstore.Store) -> list[tuple[Any, int]]:
    """(box, version) of what a reader of the newest elevations looks at."""
    return [(fragment.clip, fragment.version) for fragment in store["dem"].fragments()]


def run(out: Path, size: Size, console: Console) -> Model:
    """The whole story; the model knows in the end what was found different."""
    terrain = load_terrain()
    model = Model(terrain)
    strips = flight_plan(terrain.shape, size.strips)
    root = out / "survey"
    rows: list[tuple[str, str]] = []

    console.print(f"ingesting {len(strips):,} strips by {AIRCRAFT} processes ...")
    store = create(root, terrain.shape)
    with store:
        done = ingest(root, out, strips, terrain, size)
        for landed in done.landed:
            model.land(landed.strip)
        model.require("every strip has landed once", len(done.landed) == len(strips))
        model.require("the daemon stopped cleanly", done.daemon_status == 0)
        model.check("the follower", np.array(done.follower["wrong"]), np.array(0))
        chapters.check_head(store, model, "after the ingest")
        conflicts = sum(landed.conflicts for landed in done.landed)
        rows += [
            ("commits", f"{len(strips):,} by {AIRCRAFT} processes, {len(strips) / done.seconds:,.0f} commits/s"),
            ("conflicts retried", f"{conflicts:,}"),
            ("whole snapshots followed", f"{done.follower['snapshots']:,}, {done.follower['frames']} kept as a film"),
        ]

        console.print("compacting ...")
        before, bytes_before = on_read_path(store), chapters.size_of(root)
        dem_before = store["dem"][...]
        store.compact()
        after = on_read_path(store)
        chapters.check_head(store, model, "after compaction")
        store.create_tag("as-surveyed")
        surveyed = model.dem.copy()
        rows.append(("fragments read, before and after", f"{len(before):,} → {len(after):,}"))
        frames = chapters.check_history(store, model, done.landed)

        console.print("correcting, breaking, finding, undoing ...")
        chapters.correct(store, model)
        fault = chapters.break_find_and_undo(store, model)
        rows.append(("bad ingest found and undone", f"version {fault.version:,}, {len(fault.boxes)} boxes"))

        console.print("exporting ...")
        store.compact()
        exported = chapters.export_and_reread(store, model, out)
        store.expire(keep_last=1)
        store.vacuum()
        store.vacuum()
        chapters.check_head(store, model, "after expiry and vacuum")
        model.check("the tagged version, after vacuum", store.snapshot(tag="as-surveyed")["dem"][...], surveyed)
        report = store.verify()
        model.require(f"verify: {report.problems}", report.ok)
        rows += [
            (f"export to Zarr v{number}", f"{result.stored_bytes / 1e6:.1f} MB, {result.rate_mb_s:,.0f} MB/s")
            for number, result in exported.items()
        ]
    rows.append(("bytes of the store", f"{bytes_before / 1e6:.1f} MB → {chapters.size_of(root) / 1e6:.1f} MB"))

    console.print("drawing ...")
    pictures.terrain_over_time(out / "terrain-over-time.png", pictures.stages(frames, 5), model.dem)
    pictures.fragment_map(out / "fragments.png", dem_before, CHUNKS, before, after)
    pictures.fault_and_undo(out / "bad-ingest.png", fault.dem, fault.boxes, model.dem, model.count)
    rows.append(("cells compared with NumPy", f"{model.compared:,}"))
    rows.append(("mismatched cells", f"{model.mismatched:,}"))
    table = Table(title="The survey", show_header=False, title_justify="left")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    return model


def main() -> int:
    """Parse the command line, run, and say where everything is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder for the store, the exports and the pictures"
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    options = parser.parse_args()
    console = Console(highlight=False)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "survey", ignore_errors=True)
    start = time.perf_counter()
    model = run(out, SIZES[options.size], console)
    for fault in model.faults:
        console.print(f"[red]wrong:[/red] {fault}", markup=True)
    console.print(f"{time.perf_counter() - start:.0f} s; pictures and exports are in {out}", soft_wrap=True)
    return 1 if model.mismatched else 0


if __name__ == "__main__":
    sys.exit(main())
