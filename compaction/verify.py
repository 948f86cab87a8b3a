"""Verification: every byte and every row, read again and checked; nothing is changed.

What is checked: the database's own integrity; the head row; the order of commits; transaction ids; each node's
parent and document; shapes; each fragment's and base's geometry and directory; that every place lies in a segment
that is there, and its bytes match their checksum and decode to the tile's cells; reference counts; and that every
segment file on disk is known. Other files are noticed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from txstore.boxes import Box
from txstore.codecs import TileCodec
from txstore.compaction.findings import Findings, Problem, VerifyReport
from txstore.compaction.progress import Progress
from txstore.core import Core
from txstore.errors import CorruptionError, NotFoundError, StorageError, TxStoreError
from txstore.fragment import Fragment, Frame, unpack_shape
from txstore.grid import WHOLE, Grid
from txstore.index import branches, lookup
from txstore.index.connection import Connection
from txstore.index.edits import ROOT, Touched
from txstore.index.engine import Head, read_head
from txstore.index.rows import partition_extent
from txstore.index.sql import sa, schema
from txstore.metadata import ArrayMetadata
from txstore.segment import Kind, Place, decode_mask
from txstore.segmentheader import HEADER_SIZE, check_header
from txstore.shapelog import smaller
from txstore.sink import UNFINISHED
from txstore.storage import segment_key, segment_of

if TYPE_CHECKING:
    from txstore.store import Store


@dataclass
class _Array:
    """What is needed to check the rows of one array."""

    node: int
    path: str
    meta: ArrayMetadata
    grid: Grid
    codec: TileCodec


def verify(
    store: Store,
    path: str = "",
    *,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> VerifyReport:
    """Check the store, or one array or group of it; see ``Store.verify``.

    Raises
    ------
    NotFoundError
        If there never was anything at `path`.
    FormatError, StorageError, CorruptionError
        If the index can't even be opened.
    """
    core = store._core
    found = Findings()
    path = path.strip("/")
    with core.index.read() as connection:
        # One SQL snapshot for all rows; what vacuum deletes meanwhile is told from what is lost at the end.
        head = read_head(connection)
        for text in core.index.dialect.integrity_problems(connection):
            found.add("index", core.index.dialect.path, text)
        _commits(connection, head, found)
        arrays = list(_arrays(connection, found, path))
        if path and not arrays and not _known(connection, path):
            raise NotFoundError(f"there is no {path!r} to verify")
        for done, array in enumerate(arrays):
            if progress is not None:
                progress(Progress(done, len(arrays), "arrays", array.path))
            _array(core, connection, array, head, found, executor or core.pool)
        if not path:
            _segments(core, connection, found)
        _settle(core, connection, found)
    if progress is not None:
        progress(Progress(len(arrays), len(arrays), "arrays", path))
    return found.report()


# --- the index ----------------------------------------------------------------------------------


def _commits(connection: Connection, head: Head, found: Findings) -> None:
    table = schema.commits
    before, before_at = 0, -1
    statement = sa.select(table.c.version, table.c.committed_at, table.c.txid, table.c.touched, table.c.branch)
    known = {row.id for row in branches.all_branches(connection)} | {0, None}
    for version, at, txid, touched, branch in connection.execute(statement.order_by(table.c.version)):
        if version != before + 1:
            found.add("commit", str(version), f"follows version {before}")
        if at <= before_at:
            found.add("commit", str(version), "its time is not after that of the version before")
        if branch not in known:
            found.add("commit", str(version), f"its branch {branch} is not there")
        try:
            Touched.decode(touched)
        except TxStoreError as error:
            found.add("commit", str(version), error)
        status = connection.execute(sa.select(schema.txids.c.version).where(schema.txids.c.txid == txid)).scalar()
        if status != version:
            found.add("commit", str(version), f"its transaction id is kept with status {status}")
        before, before_at = version, at
    if before != head.head:
        found.add("index", "store", f"the head is {head.head}, the newest commit is {before}")
    if not 0 <= head.conflict_horizon <= head.horizon <= head.head:
        found.add("index", "store", f"horizons out of order: {head.conflict_horizon}, {head.horizon}, head {head.head}")


def _known(connection: Connection, path: str) -> bool:
    name = path.rpartition("/")[2]
    rows = schema.node_versions
    return connection.execute(sa.select(rows.c.node).where(rows.c.name == name).limit(1)).first() is not None


def _arrays(connection: Connection, found: Findings, path: str) -> Iterator[_Array]:
    """Every array that there ever was (or those that hang at or below a path in some version)."""
    rows, nodes = schema.node_versions, schema.nodes
    kinds = {row.id: (row.kind, row.partition) for row in connection.execute(sa.select(nodes))}
    newest: dict[int, Any] = {}
    deleted: set[int] = set()
    for row in connection.execute(sa.select(rows).order_by(rows.c.version)):
        if row.node not in kinds:
            found.add("node", str(row.node), "has a place but no identity")
        elif row.parent is not None:
            newest[row.node] = row
        else:
            deleted.add(row.node)
    paths: dict[int, str | None] = {ROOT: ""}
    # Made and deleted in one commit: what was made below it hangs nowhere, and rightly so.
    paths.update({node: f"node {node}" for node in deleted if node not in newest})

    def path_of(node: int) -> str | None:
        chain: list[int] = []
        while node not in paths:
            if node not in newest or node in chain:
                paths.update(dict.fromkeys([*chain, node]))
                return None
            chain.append(node)
            node = newest[node].parent
        path = paths[node]
        for below in reversed(chain):
            name = newest[below].name
            path = paths[below] = None if path is None else f"{path}/{name}" if path else str(name)
        return path

    for node, row in newest.items():
        full = path_of(node)
        if full is None:
            found.add("node", str(node), "does not hang on the root, or hangs below itself")
            full = f"node {node}"
        kind, partition = kinds[node]
        if kind not in ("array", "group"):
            found.add("node", full, f"is of kind {kind!r}")
        if kind != "array" or not (not path or full == path or full.startswith(path + "/")):
            continue
        try:
            meta = ArrayMetadata.from_stored(row.metadata)
            grid = Grid(meta.chunks, meta.shards, partition_extent(partition))
            yield _Array(node, full, meta, grid, TileCodec.of(meta))
        except (TxStoreError, ValueError, TypeError) as error:
            found.add("node", full, f"its metadata can't be read: {error}")
    for text, owner in connection.execute(sa.select(schema.attributes.c.value, schema.attributes.c.node)):
        try:
            if text is not None:
                json.loads(text)
        except ValueError as error:
            found.add("node", path_of(owner) or str(owner), f"an attribute is no JSON: {error}")


# --- fragments and bases ------------------------------------------------------------------------


def _array(core: Core, connection: Connection, array: _Array, head: Head, found: Findings, pool: Executor) -> None:
    ndim = array.grid.ndim
    shapes = schema.shapes
    before: tuple[int, tuple[int, ...]] | None = None
    for branch, version, data, cuts in connection.execute(
        sa.select(shapes.c.branch, shapes.c.version, shapes.c.shape, shapes.c.cuts)
        .where(shapes.c.node == array.node)
        .order_by(shapes.c.branch, shapes.c.version, shapes.c.rank)
    ):
        try:
            shape = unpack_shape(data, ndim)
        except TxStoreError as error:
            found.add("node", array.path, f"version {version}: {error}")
            continue
        # What came before the first row of a branch stands on another one.
        if before is not None and before[0] == branch and bool(cuts) != smaller(shape, before[1]):
            found.add("node", array.path, f"version {version}: the shape {shape} is marked wrong after {before[1]}")
        before = branch, shape
    if not connection.execute(sa.select(shapes.c.version).where(shapes.c.node == array.node).limit(1)).first():
        found.add("node", array.path, "has no shape")
    jobs: list[tuple[str, Fragment, int, Place, bool]] = []
    for table in (schema.fragments, schema.bases):
        for row in connection.execute(sa.select(table).where(table.c.node == array.node)):
            found.rows += 1
            where = f"{array.path} version {row.version} partition {row.partition.hex() or '-'}"
            kind = "base" if table is schema.bases else "fragment"
            if row.version > head.head:
                found.add(kind, where, f"is newer than the head {head.head}")
            try:
                fragment = _fragment(row, array, kind)
                directory = fragment.directory(array.grid.chunks) if not fragment.stripped else None
            except TxStoreError as error:
                found.add(kind, where, error)
                continue
            if directory is None:
                if row.version > head.conflict_horizon:
                    found.add(kind, where, "has lost its directory")
                continue
            for segment in directory.segments():
                found.refs[segment] += 1
            stored = list(directory.places())
            data = {(tile, place.segment, place.offset) for tile, place in stored if directory.place(tile) == place}
            for tile, place in stored:
                if kind == "base" and place.inline:
                    found.add(kind, where, "points into the index instead of a file")
                if (place.segment, place.offset) not in found.seen:
                    found.seen.add((place.segment, place.offset))
                    jobs.append((where, fragment, tile, place, (tile, place.segment, place.offset) in data))
            if len(jobs) >= 1024:
                _tiles(core, array, jobs, found, pool)
                jobs = []
    _tiles(core, array, jobs, found, pool)


def _fragment(row: Any, array: _Array, kind: str) -> Fragment:
    ndim = array.grid.ndim
    clip = Box.from_bytes(row.clip, ndim)
    frame = None if row.frame is None else Frame.from_bytes(row.frame, ndim)
    try:
        what = Kind.SET if kind == "base" else Kind(row.kind)
    except ValueError:
        raise CorruptionError(f"is of kind {row.kind}") from None
    if frame is not None:
        inside = frame.box.shift(frame.shift)
        if not inside.contains(clip):
            raise CorruptionError(f"its clip {clip} does not lie in its frame {inside}")
    if row.partition != WHOLE and not array.grid.partition_box(row.partition).contains(clip):
        raise CorruptionError(f"its clip {clip} does not lie in its partition")
    masked = kind == "fragment" and bool(row.masked)
    return Fragment(row.version, 0, what, masked, clip, frame, row.directory, array.meta.dtype.itemsize)


def _tiles(
    core: Core,
    array: _Array,
    jobs: list[tuple[str, Fragment, int, Place, bool]],
    found: Findings,
    pool: Executor,
) -> None:
    """Read, check and decode tiles."""
    core.source.prefetch({place.segment for _, _, _, place, _ in jobs if place.inline})

    def check(job: tuple[str, Fragment, int, Place, bool]) -> str | None:
        _, fragment, index, place, is_data = job
        tile = fragment.tiles(array.grid.chunks).tile_box(index)
        try:
            data = core.source.fetch(place)
            if not is_data:
                decode_mask(data, tile.shape)
            elif fragment.masked:
                mask_place = fragment.directory(array.grid.chunks).mask_place(index)
                assert mask_place is not None
                count = int(decode_mask(core.source.fetch(mask_place), tile.shape).sum())
                array.codec.decode(data, (count,))
            else:
                array.codec.decode(data, tile.shape)
        except TxStoreError as error:
            return str(error)
        return None

    for job, problem in zip(jobs, pool.map(check, jobs), strict=True):
        found.tiles += 1
        found.n_bytes += job[3].length
        if problem is not None:
            place = job[3]
            found.doubt((place.segment, place.inline), job[0], f"tile {job[2]}: {problem}")


# --- segments -----------------------------------------------------------------------------------


def _segments(core: Core, connection: Connection, found: Findings) -> None:
    segments, blobs = schema.segments, schema.blobs
    rows = {row.uuid: row for row in connection.execute(sa.select(segments))}
    for uuid, row in rows.items():
        if row.state not in ("intent", "live", "doomed"):
            found.add("segment", uuid.hex(), f"is in state {row.state!r}")
        if row.state != "live":
            continue
        count = found.refs.pop((uuid, False), 0)
        if count != row.refs:
            found.add("segment", uuid.hex(), f"{count} rows point to it, {row.refs} are counted")
        try:
            size = core.storage.size(segment_key(uuid))
            if size is None:
                found.doubt((uuid, False), uuid.hex(), "its file is missing")
            elif size != row.size:
                found.add("segment", uuid.hex(), f"its file has {size} bytes instead of {row.size}")
            else:
                check_header(core.storage.read(segment_key(uuid), 0, HEADER_SIZE), uuid)
        except (CorruptionError, StorageError) as error:
            found.doubt((uuid, False), uuid.hex(), error)
    for uuid, refs in connection.execute(sa.select(blobs.c.uuid, blobs.c.refs)):
        count = found.refs.pop((uuid, True), 0)
        if count != refs:
            found.add("segment", uuid.hex(), f"{count} rows point to this inline segment, {refs} are counted")
    for (uuid, inline), count in found.refs.items():
        found.add("segment", uuid.hex(), f"{count} rows point to it, but it is not there{' inline' if inline else ''}")
    # A file that is written right now has been announced before it was made, so files are listed first
    # and their rows looked up afterwards, in a newer snapshot than the one above.
    storage = core.storage
    files = [key for key in storage.list() if segment_of(key) not in rows]
    begun = [key for key in storage.list(unfinished=True) if segment_of(key) not in rows]
    if files or begun:
        with core.index.read() as later:
            known = lookup.live_segments(later, [segment_of(key) for key in (*files, *begun)])
        for key in files:
            if segment_of(key) not in known and storage.size(key) is not None:
                found.add("orphan", key, "no row knows this file")
        still = set(storage.list(unfinished=True)) if begun else set()
        for key in begun:
            if segment_of(key) not in known and key in still:
                found.notice("stray", key + UNFINISHED, "an unfinished file that no row knows; it can be deleted")
    for path in storage.strays():
        found.notice("stray", path, "no file of txstore; move it elsewhere")


def _settle(core: Core, connection: Connection, found: Findings) -> None:
    """Drop what was found wrong with segments that have been let go since the rows were read."""
    if not found.doubts:
        return
    segments = {segment for segment, _ in found.doubts}
    with core.index.read() as later:
        gone = _there(connection, segments) - _there(later, segments)
    found.problems += [problem for segment, problem in found.doubts if segment not in gone]


def _there(connection: Connection, segments: set[tuple[bytes, bool]]) -> set[tuple[bytes, bool]]:
    """Those of some segments that are in use."""
    files = lookup.live_segments(connection, [uuid for uuid, inline in segments if not inline])
    blobs = lookup.blobs(connection, [uuid for uuid, inline in segments if inline])
    return {(uuid, False) for uuid, row in files.items() if row[0] == "live"} | {(uuid, True) for uuid in blobs}


__all__ = ["Problem", "VerifyReport", "verify"]
