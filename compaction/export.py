"""Export: a version as plain Zarr, which any reader opens without us. docs/guide-export.md is for its users.

The bytes of whole chunks go out as they are stored. What is written is a list of objects - chunks, or shards - and
each is made by itself, a bounded number at a time, so that memory does not depend on how large an array is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from txstore.compaction.arraywriter import ArrayWriter, Done
from txstore.compaction.chunkbytes import ChunkBytes
from txstore.compaction.destination import Destination
from txstore.compaction.earlier import Earlier
from txstore.compaction.exportdir import DirectoryDestination
from txstore.compaction.exportmeta import Member, documents
from txstore.compaction.exporttree import Options, Plan, plan
from txstore.compaction.exportzip import ZipDestination
from txstore.compaction.incremental import Since
from txstore.compaction.marker import MARKER, Exported, Marker, fingerprint, folders_of, read_marker
from txstore.compaction.progress import Meter, Progress
from txstore.core import Core
from txstore.errors import AlreadyExistsError, InvalidInputError, SnapshotExpiredError, StorageError
from txstore.index import commitlog
from txstore.index.commitlog import Identity
from txstore.index.engine import Head, read_head
from txstore.index.timeline import Timeline
from txstore.reader import ArrayView
from txstore.states import State

if TYPE_CHECKING:
    from txstore.store import Store


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes
    ----------
    version : int
        The commit whose state was exported.
    chunks_written, chunks_unchanged, chunks_deleted : int
        Objects: chunks, or shards where the layout has them. The last two count for incremental exports only.
    bytes_copied, bytes_encoded : int
        Encoded bytes of the chunks written: taken over as they were stored, and encoded for this export.
    arrays, groups : int
        How many of them the export holds, its root included.
    notes : tuple of str
        What was written otherwise than it was stored: codecs replaced, attributes put in place of others.
    """

    version: int
    chunks_written: int
    chunks_unchanged: int
    chunks_deleted: int
    bytes_copied: int
    bytes_encoded: int
    arrays: int
    groups: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return {**asdict(self), "notes": list(self.notes)}


def export(
    store: Store,
    dest: str | os.PathLike[str],
    *,
    path: str = "",
    version: int | None = None,
    branch: str | None = None,
    zarr_format: int = 3,
    layout: str = "chunks",
    profile: str = "native",
    consolidated: bool = True,
    chunks: Any = None,
    overwrite: bool = False,
    incremental: bool = False,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExportReport:
    """Write a version as plain Zarr; see ``Store.export``.

    Parameters
    ----------
    dest : str or path
        A directory; or a path that ends in ``.zip``, for one file. An array lands at ``dest/<name>``, a group becomes
        the root.
    path : str
        What to export; ``""`` is everything.
    version, branch
        As for ``Store.snapshot``.
    zarr_format : {3, 2}
        The version of the Zarr specification.
    layout : {"chunks", "shards"}
        One object per chunk; or one per shard, for arrays that have shards (v3).
    profile : {"native", "portable"}
        Every dtype as zarr-python writes it; or what all readers open, times as CF int64.
    consolidated : bool
        Whether the root also holds the metadata of everything below.
    overwrite : bool
        Replace what is at `dest`: an empty directory, a Zarr hierarchy or a zip file, nothing else.
    incremental : bool
        Bring the export at `dest`, if there is one, up to date: chunks that have not changed since stay. Where that
        can't be done it is refused, or with `overwrite` everything is written.
    executor : Executor, optional
        Threads that copy and encode; by default the store's.
    progress : callable, optional
        Called with a Progress for each object; raising cancels the export.

    Raises
    ------
    AlreadyExistsError
        If there is something at `dest` that may not be replaced, or can't be brought up to date.
    NotFoundError, SnapshotExpiredError
        If path or version is not there, or not any more; or it is known no longer what has changed.
    InvalidInputError
        If an argument can't be used, or the profile can't hold an array; the message names it.
    CorruptionError
        If stored bytes are damaged.
    StorageError
        If `dest` can't be written.

    Notes
    -----
    The version can't expire while it is exported. `dest` holds what it held before until everything is written and
    synced, and then all of the export; so it is after a crash, too.
    """
    options = _options(path, zarr_format, layout, profile)
    if chunks is not None:
        raise InvalidInputError("chunks=: an export keeps the chunks of the store, other ones can't be chosen yet")
    if isinstance(executor, ProcessPoolExecutor):
        raise InvalidInputError("executor= must run threads: chunks are read through this process's store")
    core = store._core
    known = _reference(version, branch)
    with _held(core, known) as (state, timeline):
        found = plan(core, state, timeline, options)

        def run(*, update: bool) -> _Run:
            destination = open_destination(dest, core.address.root, replace=overwrite or incremental)
            try:
                since = _since(core, state, timeline, destination, options, overwrite) if update else None
                one = _Run(core, options, found, destination, since, executor, Meter(progress, None, "chunks"))
                one.write_all(state, consolidated)
                destination.commit()
            except BaseException:
                destination.abort()
                raise
            return one

        try:
            return run(update=incremental).report(state.commit)
        except SnapshotExpiredError:
            if not (incremental and overwrite):
                raise
        # Vacuum has come by: it is known no longer what has changed.
        return run(update=False).report(state.commit)


def _held(core: Core, reference: dict[str, Any]) -> AbstractContextManager[tuple[State, Timeline]]:
    """A state that can't expire meanwhile."""
    try:
        assert core.holder
    except StorageError:
        if not core.read_only:
            raise
        # Who may not write there can't say what it reads; should the version expire, that shows as an error.
        return nullcontext(core.state(**reference))
    return core.pinned(**reference)


def _reference(version: int | None, branch: str | None) -> dict[str, Any]:
    return {key: value for key, value in (("version", version), ("branch", branch)) if value is not None}


def _options(path: str, zarr_format: int, layout: str, profile: str) -> Options:
    if layout == "references":
        raise InvalidInputError("layout='references' is not available yet; 'chunks' and 'shards' are")
    for what, value, allowed in (
        ("zarr_format", zarr_format, (3, 2)),
        ("layout", layout, ("chunks", "shards")),
        ("profile", profile, ("native", "portable")),
    ):
        if value not in allowed or isinstance(value, bool):
            raise InvalidInputError(f"{what}={value!r} must be one of {', '.join(map(repr, allowed))}")
    if zarr_format == 2 and layout == "shards":
        raise InvalidInputError("Zarr v2 knows no shards: layout='shards' needs zarr_format=3")
    return Options(path.strip("/"), zarr_format, layout, profile)  # type: ignore[arg-type]


def _since(
    core: Core, state: State, timeline: Timeline, destination: Destination, options: Options, overwrite: bool
) -> Since | None:
    """What has changed since the export at the destination; None where everything is to be written."""
    if isinstance(destination, ZipDestination):
        raise InvalidInputError("a zip file is written whole: incremental=True needs a directory")
    if not os.path.isdir(destination.final) or not os.listdir(destination.final):
        return None
    try:
        old = read_marker(destination.final)
        return Since(core, old, timeline.at(state.version), asdict(options), destination.final)
    except (AlreadyExistsError, InvalidInputError, SnapshotExpiredError):
        if not overwrite:
            raise
        return None


class _Run:
    """One export under way.

    Notes
    -----
    Used by the thread that exports; what it hands to the pool is :class:`ArrayWriter`.
    """

    def __init__(
        self,
        core: Core,
        options: Options,
        found: Plan,
        destination: Destination,
        since: Since | None,
        executor: Executor | None,
        meter: Meter,
    ) -> None:
        self._core = core
        self._options = options
        self._plan = found
        self._destination = destination
        self._since = since
        self._pool = core.pool if executor is None else executor
        self._workers = int(getattr(self._pool, "_max_workers", core.workers))
        self._meter = meter
        self._done = Done()

    def write_all(self, state: State, consolidated: bool) -> None:
        """Documents, marker, chunks."""
        with self._core.index.read() as connection:
            head = read_head(connection)
            made = commitlog.identity(connection, state.commit)
        for key, data in documents(self._plan.members, self._options.zarr_format, consolidated=consolidated):
            self._destination.put(key, data)
        if self._plan.arrays and not isinstance(self._destination, ZipDestination):
            key, marker = self._marker(head, made)
            self._destination.put(key, marker.encode())
        if self._meter.wanted:
            for member, view in self._plan.arrays:
                self._meter.expect(self._writer(member, view, self._since).count())
        for member, view in self._plan.arrays:
            self._write(member, self._writer(member, view, self._since))
            view.timeline.forget(view.node)
        if self._since is not None:
            gone = self._since.arrays.keys() - {view.node for _, view in self._plan.arrays}
            for node in gone:
                names = folders_of(self._destination.final, self._since.arrays[node])
                self._note(Done(deleted=sum(len(some) for _, some in names)))

    def _marker(self, head: Head, made: Identity) -> tuple[str, Marker]:
        arrays = [
            Exported(member.path, view.node, view.shape, fingerprint(member.form))
            for member, view in self._plan.arrays
            if member.form is not None
        ]
        first = min(arrays, key=lambda one: one.path.split("/")).path
        options = asdict(self._options)
        marker = Marker(head.uuid.hex(), head.epoch, made, options, tuple(arrays))
        return f"{first}/{MARKER}", marker

    def _writer(self, member: Member, view: ArrayView, since: Since | None) -> ArrayWriter:
        form = member.form
        assert form is not None
        source, zarr_format = ChunkBytes(view, form), self._options.zarr_format
        earlier = None
        if since is not None and view.node in since.arrays:
            old, changes = since.arrays[view.node], None
            if old.form == fingerprint(form):
                extent = form.meta.shards or form.meta.chunks
                changes = since.changes(view.node, extent, old.shape, view.shape, dense=form.dense)
            earlier = Earlier(self._destination.final, old, changes, zarr_format)
        return ArrayWriter(member.path, source, self._core.storage, self._options, self._destination, earlier)

    def _write(self, member: Member, writer: ArrayWriter) -> None:
        with writer.taken_over(self._pool, self._workers) as results:
            for done in results:
                self._note(done)
                for _ in range(done.unchanged):
                    self._meter.step(member.path)
        with writer.written(self._pool, self._workers) as results:
            for done in results:
                self._note(done)
                self._meter.step(member.path)

    def _note(self, done: Done) -> None:
        self._done = Done(*map(sum, zip(self._done, done, strict=True)))

    def report(self, version: int) -> ExportReport:
        """What was done."""
        done, members = self._done, self._plan.members
        notes = [
            f"array {member.path!r}: {note}"
            for member in members
            if member.form is not None
            for note in member.form.notes
        ]
        arrays = len(self._plan.arrays)
        return ExportReport(
            version,
            done.written,
            done.unchanged,
            done.deleted,
            done.copied,
            done.encoded,
            arrays,
            len(members) - arrays,
            tuple(notes),
        )


def open_destination(dest: str | os.PathLike[str], store_root: str, *, replace: bool) -> Destination:
    """The destination that a path names: a zip file where it ends in ``.zip``, a directory otherwise.

    Raises
    ------
    InvalidInputError
        If it is no local path, or lies in the store or around it.
    AlreadyExistsError, StorageError
        As :class:`Destination`.
    """
    text = os.fspath(dest)
    if not isinstance(text, str) or not text or "\x00" in text:
        raise InvalidInputError(f"{text!r} is no path to export to")
    if "://" in text.removeprefix("file://"):
        raise InvalidInputError(f"{text!r} is no local path, and only to those can be exported")
    final = os.path.realpath(os.path.expanduser(text.removeprefix("file://")))
    root = os.path.realpath(store_root)
    if os.path.commonpath([final, root]) in (final, root):
        raise InvalidInputError(f"{final} lies in the store {root} or around it; export to another place")
    kind = ZipDestination if final.endswith(".zip") else DirectoryDestination
    return kind(final, replace=replace)


__all__ = ["ExportReport", "export"]
