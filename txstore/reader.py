"""Reading one array at one version: the cells of its layers, pasted in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, wait
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box, full
from txstore.errors import CorruptionError, InvalidIndexError
from txstore.fragment import Fragment
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.layers import Layer, Overlay
from txstore.pieces import Piece, Selection
from txstore.segment import Kind, Place
from txstore.source import TileSource
from txstore.storage import MissingFileError
from txstore.storedarray import StoredArray

_Result = TypeVar("_Result")

#: How many inline segments one wave of a read brings into memory at most, and how many bytes of them are wanted.
_WAVE = 64
_WAVE_BYTES = 16 << 20
#: How many chunks are planned ahead.
_WAVE_CHUNKS = 4096
#: Parts of chunks are handed to a thread by so many bytes at least, or so many parts.
_PART_BYTES = 256 << 10
_MOST_PARTS = 16
#: Below this many chunks a read stays on the caller's thread.
_INLINE_CHUNKS = 3

_ACCUMULATE: Final[dict[Kind, np.ufunc]] = {Kind.ADD: np.add, Kind.MIN: np.minimum, Kind.MAX: np.maximum}

#: A chunk's grid coordinates, the part of it that is wanted, and which cells of that where it is not all of them.
Wanted = tuple[tuple[int, ...], Box, Piece | None]


class _Plan(NamedTuple):
    """What makes up a part of a chunk."""

    region: Box
    piece: Piece | None
    layers: list[Layer]
    covered: bool


class ArrayView(StoredArray):
    """One array at one version, with its cells; immutable but for what is loaded when it is first needed.

    Parameters
    ----------
    timeline, version, row, path, overlay
        See :class:`~txstore.layers.LayeredArray`.
    source : TileSource
        Where tiles come from.
    pool : Executor or None
        Decodes tiles of larger reads.

    Notes
    -----
    Safe for threads.
    """

    def __init__(
        self,
        timeline: Timeline,
        version: int,
        row: NodeRow,
        path: str,
        source: TileSource,
        pool: Executor | None,
        overlay: Overlay | None = None,
    ) -> None:
        super().__init__(timeline, version, row, path, overlay)
        self.source = source
        self._pool = pool

    # --- reading --------------------------------------------------------------------------------

    def read_box(self, box: Box, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The cells of a box.

        Parameters
        ----------
        box : Box
            Half-open, within the array's shape.
        out : ndarray, optional
            Where to put them: shape ``box.shape``, the array's dtype.

        Raises
        ------
        CorruptionError
            If stored bytes do not match their checksum, or are gone.
        SnapshotExpiredError
            If the version has expired meanwhile.
        """
        target = self._room(box.shape) if out is None else out
        if 0 not in box.shape:
            self._each(
                lambda: ((chunk, region, None) for chunk, region in self.grid.chunks_in(box)),
                lambda plan: self._compose(plan, plan.region.of(target, box.lo)),
            )
        return target

    def read(self, selection: Selection, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The cells of a selection, in the shape of its work array (see :mod:`txstore.selection`)."""
        if selection.box is not None:
            return self.read_box(selection.box, out)
        work = self._room(selection.work_shape) if out is None else out

        def wanted() -> Iterator[Wanted]:
            for chunk, _ in selection.chunks(self.grid):
                piece = selection.pieces(self.grid.chunk_box(chunk))
                if piece is not None:
                    yield chunk, piece.box, piece

        def paste(plan: _Plan) -> None:
            piece = plan.piece
            assert piece is not None
            cells = np.empty(piece.box.shape, self.meta.dtype)
            self._compose(plan, cells)
            work[piece.outer] = cells if piece.inner is None else cells[piece.inner]

        self._each(wanted, paste)
        return work

    def _room(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.empty(shape, self.meta.dtype)
        except (ValueError, MemoryError):
            raise InvalidIndexError(
                f"array {self.path!r}: a selection of shape {shape} does not fit into memory; read it in parts"
            ) from None

    def read_chunk(self, chunk: tuple[int, ...]) -> NDArray[Any]:
        """A whole chunk as Zarr stores it: fill outside the shape."""
        whole = self.grid.chunk_box(chunk)
        out = np.empty(whole.shape, self.meta.dtype)
        region = whole.intersect(full(self.shape))
        if region != whole:
            out[...] = self.meta.fill_value
        if region is not None:
            self.read_box(region, region.of(out, whole.lo))
        return out

    def _each(self, wanted: Callable[[], Iterable[Wanted]], work: Callable[[_Plan], None]) -> None:
        def once() -> None:
            for wave in self._waves(wanted()):
                stored = [plan for plan in wave if plan.layers]
                pool = self._pool if len(stored) > _INLINE_CHUNKS else None
                for plan in wave:
                    # To fill a part with the fill value takes less time than to hand it over.
                    if pool is None or not plan.layers:
                        work(plan)
                if pool is not None:
                    self._share(pool, stored, work)

        self._retrying(once)

    def _share(self, pool: Executor, plans: list[_Plan], work: Callable[[_Plan], None]) -> None:
        """Have a pool do what there is to do, a few small parts at a time."""
        size = max(1, min(_MOST_PARTS, _PART_BYTES // max(1, plans[0].region.size * self.meta.dtype.itemsize)))

        def some(start: int) -> None:
            for plan in plans[start : start + size]:
                work(plan)

        futures = [pool.submit(some, start) for start in range(0, len(plans), size)]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            # None may go on writing into cells that are then read again.
            wait(futures)

    def _waves(self, wanted: Iterable[Wanted]) -> Iterator[Sequence[_Plan]]:
        """Cut a read so that the inline segments of each part fit into memory, and fetch those together."""
        wave: list[_Plan] = []
        segments: set[bytes] = set()
        size = 0
        for chunk, region, piece in wanted:
            layers, covered = self.layers(chunk, region)
            for fragment, _ in layers:
                directory = None if fragment.stripped else fragment.directory(self.grid.chunks)
                if directory is not None and (inline := directory.inline_segments()):
                    segments.update(inline)
                    size += directory.nbytes
            wave.append(_Plan(region, piece, layers, covered))
            if size >= _WAVE_BYTES or len(segments) >= _WAVE or len(wave) >= _WAVE_CHUNKS:
                self.source.prefetch(segments)
                yield wave
                wave, segments, size = [], set(), 0
        self.source.prefetch(segments)
        if wave:
            yield wave

    def _retrying(self, work: Callable[[], _Result]) -> _Result:
        """Once more with fresh rows where a segment was missing: compaction and vacuum may have moved on."""
        try:
            return work()
        except MissingFileError:
            self.timeline.forget(self.node)
        try:
            return work()
        except MissingFileError as error:
            self.timeline.require_retained(self.version)
            raise CorruptionError(
                f"array {self.path!r}, version {self.version}: {error}; run txstore verify"
            ) from error

    def _compose(self, plan: _Plan, out: NDArray[Any]) -> None:
        region = plan.region
        if not plan.covered:
            out[...] = self.meta.fill_value
        for fragment, box in plan.layers:
            if fragment.kind <= Kind.FILL:
                self._paste(fragment, box, box.of(out, region.lo))
            else:
                # An overflow was the writer's to be warned of; every reader would be again.
                with np.errstate(all="ignore"):
                    self._paste(fragment, box, box.of(out, region.lo))

    def _paste(self, fragment: Fragment, box: Box, out: NDArray[Any]) -> None:
        """Apply one fragment to the cells of `box` (array coordinates), which `out` holds."""
        if fragment.stripped:
            raise MissingFileError(f"the bytes of version {fragment.version} of {self.path!r} have been vacuumed")
        chunks = self.grid.chunks
        directory = fragment.directory(chunks)
        operation = _ACCUMULATE.get(fragment.kind)
        value = None
        if fragment.kind == Kind.FILL:
            value = self.value(fragment)
            if not fragment.masked:
                out[...] = value
                return
        shift = fragment.frame.shift if fragment.frame is not None else None
        wanted = box if shift is None else box.shift([-step for step in shift])
        for index, tile in fragment.tiles(chunks).tiles_touching(wanted):
            part = tile.intersect(wanted)
            if part is None:
                continue
            cells = out if part == wanted else part.of(out, wanted.lo)
            place = directory.place(index)
            inner = part.slices(tile.lo)
            if fragment.masked:
                where_place = directory.mask_place(index)
                if where_place is None:
                    continue
                mask = self.source.mask(where_place, tile.shape)
                if value is not None:
                    np.copyto(cells, value, where=mask[inner])
                    continue
                sparse = self._unpacked(place, mask)
                if operation is None:
                    np.copyto(cells, sparse[inner], where=mask[inner])
                else:
                    operation(cells, sparse[inner], out=cells, where=mask[inner])
            elif place is None:
                if operation is None:
                    cells[...] = self.meta.fill_value
                else:
                    operation(cells, self.meta.fill_value, out=cells)
            elif operation is None and part == tile and cells.flags.c_contiguous:
                self.source.decode(place, self.codec, cells)
            else:
                whole = self.source.decoded(place, self.codec, tile.shape, keep=part != tile)
                if operation is None:
                    cells[...] = whole[inner]
                else:
                    operation(cells, whole[inner], out=cells)

    def _unpacked(self, place: Place | None, mask: NDArray[np.bool_]) -> NDArray[Any]:
        """The values of a masked tile at their cells; what is not in the mask is arbitrary."""
        out = np.empty(mask.shape, self.meta.dtype)
        if place is None:
            out[...] = self.meta.fill_value
        else:
            count = int(np.count_nonzero(mask))
            out[mask] = self.codec.decode(self.source.fetch(place), (count,))
        return out

    def stored_fragments(self, selection: Selection | None) -> list[Fragment]:
        """Bases and fragments that concern a selection (None: the whole array), oldest first."""
        bounds = full(self.shape) if selection is None else selection.bounds
        if bounds is None or bounds.empty:
            return []
        found: dict[int, Fragment] = {}
        for partition, part in self.grid.partitions_in(bounds):
            table, whole = self._tables(partition)
            for one in (table, whole):
                if one is None:
                    continue
                fragments = one.fragments(self.version)
                for fragment in [one.base, *fragments] if one.base is not None else fragments:
                    if self._shown(fragment, part) is not None:
                        found[id(fragment)] = fragment
        if self.overlay is not None:
            found.update((id(one), one) for one in self.overlay.table.fragments() if one.clip.intersect(bounds))
        if selection is not None and selection.box is None:
            found = {key: one for key, one in found.items() if self._names(selection, one)}
        return sorted(found.values(), key=lambda one: one.order)

    def _names(self, selection: Selection, fragment: Fragment) -> bool:
        """Whether a fragment writes a cell of a selection that is no box."""
        for chunk, _ in selection.chunks(self.grid):
            box = self.grid.chunk_box(chunk).intersect(fragment.clip)
            piece = None if box is None else selection.pieces(box)
            if piece is None:
                continue
            cells = piece.mask()
            if fragment.masked:
                cells &= fragment.mask(piece.box, self.grid.chunks, self.source.fetch)
            if cells.any():
                return True
        return False

    def writers(self, selection: Selection | None) -> set[int]:
        """The versions whose fragments lie in a selection, also those that later ones have covered."""
        bounds = full(self.shape) if selection is None else selection.bounds
        if bounds is None or bounds.empty or self.node < 0:
            return set()
        keys = [key for key, _ in self.grid.partitions_in(bounds)] if selection is not None else None
        found: set[int] = set()
        for fragment in self.timeline.log(self.node, keys, self.grid.ndim, self.meta.dtype.itemsize, self.version):
            if fragment.clip.intersect(bounds) is None:
                continue
            exact = selection is not None and (fragment.masked or selection.box is None) and not fragment.stripped
            if not exact or self._names(selection, fragment):  # type: ignore[arg-type]
                found.add(fragment.version)
        return found

    def fetch(self, place: Place) -> bytes:
        """The encoded bytes at a place, checked against their checksum."""
        return self._retrying(lambda: self.source.fetch(place))


__all__ = ["ArrayView"]
