"""Import: a Zarr v2 or v3 hierarchy into a store, all of it in one commit.

zarr-python reads the hierarchy and says what its arrays are. Their chunks we read ourselves where we know how they
are encoded, so that memory stays bounded and bytes that fit are taken as they are; zarr-python reads the others.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from txstore.boxes import Box, full
from txstore.compaction.importmeta import ImportedArray, attributes_of, imported_array
from txstore.compaction.progress import Meter, Progress
from txstore.compaction.window import items_ahead, ordered
from txstore.compaction.zarrchunks import SourceChunk, ZarrChunks
from txstore.compaction.zarrfiles import DirectoryFiles, ZarrFiles, ZipFiles
from txstore.directory import Directory
from txstore.errors import AlreadyExistsError, InvalidInputError, NotFoundError, TxStoreError
from txstore.fragment import Fragment, Frame
from txstore.grid import TileGrid
from txstore.interrupts import let_through
from txstore.names import check_name
from txstore.segment import Kind, Place
from txstore.staging import STAGED
from txstore.transaction import Transaction

if TYPE_CHECKING:
    from txstore.store import Store


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    version : int
        The commit.
    arrays, groups : int
        How many were made.
    chunks_copied, chunks_encoded : int
        Chunks whose bytes were taken as they are, and those that were encoded anew.
    bytes_read : int
        Encoded bytes of the source; decoded ones, where only zarr-python could read them.
    bytes_written : int
        Encoded bytes in the store.
    notes : tuple of str
        What is otherwise than in the source: codecs replaced, NaN in attributes that is a string now.
    """

    version: int
    arrays: int
    groups: int
    chunks_copied: int
    chunks_encoded: int
    bytes_read: int
    bytes_written: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-able dict."""
        return {**asdict(self), "notes": list(self.notes)}


def import_zarr(
    store: Store,
    src: str | os.PathLike[str],
    *,
    path: str = "",
    branch: str = "main",
    message: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Bring a Zarr v2 or v3 hierarchy in; see ``Store.import_zarr``.

    Parameters
    ----------
    src : str or path
        A directory, a zip file, or a URL that zarr-python can open.
    path : str
        Where it goes. A group's members go below; an array goes to `path` itself, or, where that is ``""``, under the
        name that it has in `src`.
    progress : callable, optional
        Called with a Progress for each chunk; raising cancels the import, and nothing of it is visible.

    Raises
    ------
    NotFoundError
        If there is no Zarr at `src`.
    AlreadyExistsError
        If there is something at `path` already.
    InvalidInputError
        If something can't be held; the message names the array.
    CorruptionError
        If a chunk of the source can't be decoded.
    StorageError
        If something can't be read or written.
    """
    path = path.strip("/")
    with _opened(src) as source, store.transaction(branch=branch, message=message, allow_empty=True) as tx:
        run = _Run(store, tx, source, Meter(progress, None, "chunks"))
        run.write_all(path)
        tx.commit()
    assert tx.commit_info is not None
    return run.report(tx.commit_info.version)


class _Source(NamedTuple):
    """A hierarchy that is open.

    Attributes
    ----------
    name : str
        The last part of its path, without a suffix.
    root : zarr.Group or zarr.Array
        Its root.
    files : ZarrFiles or None
        Its objects, if they lie on this machine.
    """

    name: str
    root: Any
    files: ZarrFiles | None


@contextmanager
def _opened(src: str | os.PathLike[str]) -> Iterator[_Source]:
    import zarr

    text = os.fspath(src)
    if not isinstance(text, str) or not text or "\x00" in text:
        raise InvalidInputError(f"{text!r} is no path of a Zarr hierarchy")
    text = text.removeprefix("file://")
    name = os.path.basename(text.rstrip("/"))
    for suffix in (".zip", ".zarr"):
        name = name.removesuffix(suffix)
    files: ZarrFiles | None = None
    opened: Any
    if "://" in text:
        try:
            opened = zarr.storage.FsspecStore.from_url(text, read_only=True)
        except Exception as error:  # no fsspec, or nothing for this protocol
            let_through(error)
            raise InvalidInputError(
                f"{text} can't be opened: {_first_line(error)}; URLs need fsspec and what it needs for theirs (https: "
                "aiohttp and requests, s3: s3fs, gs: gcsfs)"
            ) from error
    elif os.path.isdir(text):
        opened, files = zarr.storage.LocalStore(text, read_only=True), DirectoryFiles(text)
    elif os.path.isfile(text) and zipfile.is_zipfile(text):
        opened, files = zarr.storage.ZipStore(text, mode="r"), ZipFiles(text)
    else:
        raise NotFoundError(f"there is no Zarr hierarchy at {text}")
    try:
        with warnings.catch_warnings():
            # Of dtypes without a specification, and of files that are none of Zarr's.
            warnings.simplefilter("ignore")
            try:
                root = zarr.open(opened, mode="r", use_consolidated=False if files is not None else None)
            except FileNotFoundError:
                raise NotFoundError(f"there is no Zarr hierarchy at {text}") from None
            except TxStoreError:
                raise
            except Exception as error:  # whatever zarr-python raises for metadata that it can't read
                let_through(error)
                raise InvalidInputError(f"{text} can't be opened by zarr-python: {_first_line(error)}") from error
        yield _Source(name, root, files)
    finally:
        if files is not None:
            files.close()
        opened.close()


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


class _Job(NamedTuple):
    """One array to fill."""

    row: Any
    path: str
    chunks: ZarrChunks
    imported: ImportedArray


class _Run:
    """One import under way."""

    def __init__(self, store: Store, tx: Transaction, source: _Source, meter: Meter) -> None:
        self._core = store._core
        self._tx = tx
        self._source = source
        self._meter = meter
        self._jobs: list[_Job] = []
        self._groups = 0
        self._copied = self._encoded = self._read = self._written = 0
        self._notes: list[str] = []

    def write_all(self, path: str) -> None:
        """Make everything, then fill it: what can't be held is found out before anything is read."""
        root = self._source.root
        if hasattr(root, "shape"):
            self._array("", root, path or self._source.name)
        else:
            self._group("", root, path)
            for relative, member in self._members(root):
                target = f"{path}/{relative}" if path else relative
                if hasattr(member, "shape"):
                    self._array(relative, member, target)
                else:
                    self._group(relative, member, target)
        if self._meter.wanted:
            for job in self._jobs:
                self._meter.expect(job.chunks.count())
        for job in self._jobs:
            self._fill(job)

    def _members(self, root: Any) -> list[tuple[str, Any]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = sorted(root.members(max_depth=None), key=lambda item: item[0].split("/"))
            except Exception as error:  # whatever zarr-python raises for metadata that it can't read
                let_through(error)
                what = self._culprit() or "something below the root"
                raise InvalidInputError(f"{what} can't be opened by zarr-python: {_first_line(error)}") from error
        # Something that lies there and does not come in.
        self._notes += sorted({str(one.message) for one in caught if "not recognized" in str(one.message)})
        return found

    def _culprit(self) -> str | None:
        """The first array that zarr-python can't open, for it does not say which."""
        import zarr

        if self._source.files is None:
            return None
        for key in sorted(self._source.files.below("")):
            parent, _, name = key.rpartition("/")
            if name not in (".zarray", "zarr.json"):
                continue
            try:
                zarr.open(self._source.root.store, path=parent, mode="r", use_consolidated=False)
            except Exception:
                return f"array {parent or '/'!r}"
        return None

    # --- making -------------------------------------------------------------------------------------

    def _group(self, relative: str, group: Any, target: str) -> None:
        notes: list[str] = []
        what = f"group {relative or '/'!r}"
        attributes = attributes_of(what, group, notes)
        self._note(what, notes)
        if target:
            self._checked(relative, target)
            self._tx.create_group(target, attributes=attributes)
            self._groups += 1
            return
        for key, value in attributes.items():
            if key in self._tx.attrs and self._tx.attrs[key] != value:
                raise AlreadyExistsError(f"the root group has another attribute {key!r} already; import below a path=")
            self._tx.attrs[key] = value

    def _array(self, relative: str, array: Any, target: str) -> None:
        self._checked(relative, target)
        imported = imported_array(relative, array)
        self._note(f"array {relative or '/'!r}", imported.notes)
        meta = imported.meta
        made = self._tx.create_array(
            target,
            imported.shape,
            meta.dtype,
            chunks=meta.chunks,
            shards=meta.shards,
            codecs=meta.codecs,
            fill_value=meta.fill_value,
            dimension_names=meta.dimension_names,
            attributes=imported.attributes,
        )
        grid = self._tx._tree.view(made._row, target).grid
        chunks = ZarrChunks(relative, imported, grid, array, self._source.files)
        self._jobs.append(_Job(made._row, target, chunks, imported))

    def _checked(self, relative: str, target: str) -> None:
        try:
            check_name(target)
        except InvalidInputError as error:
            raise InvalidInputError(f"{relative or '/'!r} can't be imported: {error}") from None
        if target in self._tx:
            raise AlreadyExistsError(
                f"there is something at {target!r} already; delete it, or choose another place with path="
            )

    def _note(self, what: str, notes: tuple[str, ...] | list[str]) -> None:
        self._notes += [f"{what}: {note}" for note in notes]

    # --- filling ------------------------------------------------------------------------------------

    def _fill(self, job: _Job) -> None:
        pool, writer = self._core.pool, self._tx._tree.writer(f"{job.path!r}")
        ahead = items_ahead(job.chunks.chunk_bytes, self._core.workers)
        grid, shape = self._tx._tree.view(job.row, job.path).grid, full(job.imported.shape)
        for key, chunks in job.chunks.by_partition():
            clip = grid.partition_box(key).intersect(shape)
            if clip is None:
                continue
            hi = tuple(-(-high // cells) * cells for high, cells in zip(clip.hi, grid.chunks, strict=True))
            still = (0,) * len(hi)
            tiles = TileGrid(Box(clip.lo, hi), still, grid.chunks)
            places: list[Place | None] = [None] * tiles.size
            with ordered(pool, job.chunks.encoded, chunks, ahead) as results:
                for chunk, found in zip(chunks, results, strict=True):
                    places[tiles.flat_index(chunk)] = self._put(found)
                    self._meter.step(job.path)
            if any(place is not None for place in places):
                directory, frame = Directory.tiles(places), Frame(tiles.frame, still, still)
                itemsize = job.imported.meta.dtype.itemsize
                fragment = Fragment(STAGED, 0, Kind.SET, False, clip, frame, directory, itemsize)
                writer.adopt(job.row, job.path, fragment)

    def _put(self, found: SourceChunk) -> Place | None:
        self._read += found.read
        if found.data is None:
            return None
        self._written += len(found.data)
        self._copied += found.copied
        self._encoded += not found.copied
        return self._tx._tree.put([found.data])[0]

    def report(self, version: int) -> ImportReport:
        """What was done."""
        return ImportReport(
            version,
            len(self._jobs),
            self._groups,
            self._copied,
            self._encoded,
            self._read,
            self._written,
            tuple(self._notes),
        )


__all__ = ["ImportReport", "import_zarr"]
