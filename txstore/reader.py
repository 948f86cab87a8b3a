"""Reading one array at one version: the cells of its layers, pasted in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from txstore.boxes import Box, full
from txstore.composer import Composer
from txstore.crew import ALONE, Crew
from txstore.errors import CorruptionError, InvalidIndexError
from txstore.fragment import Fragment
from txstore.grid import WHOLE
from txstore.index.lookup import NodeRow
from txstore.index.timeline import Timeline
from txstore.layers import Layer, Overlay
from txstore.pieces import Piece, Selection
from txstore.segment import Place
from txstore.source import TileSource
from txstore.storage import MissingFileError
from txstore.storedarray import StoredArray

_Result = TypeVar("_Result")

#: Chunks are planned, and handed to a thread, by so many bytes of them at least, or so many of them.
_PART_BYTES = 512 << 10
_MOST_CHUNKS = 16
#: Zeros of so many bytes or more come straight from the system, which has cleared them as they are touched; smaller
#: ones the C library may have to clear first.
_FRESH_BYTES = 32 << 20

#: So few partitions are looked into one by one, without a look at which of them hold anything.
_FEW_PARTITIONS = 64

#: A chunk's grid coordinates, the part of it that is wanted, and which cells of that where it is not all of them.
Wanted = tuple[tuple[int, ...], Box, Piece | None]


class _Plan(NamedTuple):
    """What makes up a part of a chunk: see :meth:`~txstore.layers.LayeredArray.layers`."""

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
    crew : Crew
        Does larger reads.

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
        crew: Crew,
        overlay: Overlay | None = None,
    ) -> None:
        super().__init__(timeline, version, row, path, overlay)
        self.source = source
        self._crew = crew
        self._zero = not any(self.meta.fill_value.tobytes())

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

        def once() -> NDArray[Any]:
            target, blank = self._room(box.shape) if out is None else (out, False)

            def paste(plan: _Plan, composer: Composer) -> None:
                composer.compose(plan.region, plan.layers, plan.covered or blank, plan.region.of(target, box.lo))

            if 0 not in box.shape:
                self._share(((chunk, region, None) for chunk, region in self.grid.chunks_in(box)), paste)
            return target

        return self._retrying(once)

    def read(self, selection: Selection, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The cells of a selection, in the shape of its work array (see :mod:`txstore.selection`)."""
        if selection.box is not None:
            return self.read_box(selection.box, out)

        def wanted() -> Iterator[Wanted]:
            for chunk, _ in selection.chunks(self.grid):
                piece = selection.pieces(self.grid.chunk_box(chunk))
                if piece is not None:
                    yield chunk, piece.box, piece

        def paste(plan: _Plan, composer: Composer) -> None:
            piece = plan.piece
            assert piece is not None
            cells = np.empty(piece.box.shape, self.meta.dtype)
            composer.compose(plan.region, plan.layers, plan.covered, cells)
            composer.finish()
            work[piece.outer] = cells if piece.inner is None else cells[piece.inner]

        work = self._room(selection.work_shape)[0] if out is None else out
        self._retrying(lambda: self._share(wanted(), paste))
        return work

    def _room(self, shape: tuple[int, ...]) -> tuple[NDArray[Any], bool]:
        """Memory for cells, and whether it holds the fill value."""
        blank = self._zero and prod(shape) * self.meta.dtype.itemsize >= _FRESH_BYTES
        try:
            return (np.zeros if blank else np.empty)(shape, self.meta.dtype), blank
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

    def _share(self, wanted: Iterator[Wanted], work: Callable[[_Plan, Composer], None]) -> None:
        """Have the crew plan what is wanted and do it, a few small chunks at a time."""
        chunk_bytes = prod(self.grid.chunks) * self.meta.dtype.itemsize
        count = max(1, min(_MOST_CHUNKS, _PART_BYTES // max(chunk_bytes, 1)))

        def do(part: list[Wanted]) -> None:
            plans = []
            inline: set[bytes] = set()
            for chunk, region, piece in part:
                layers, covered = self.layers(chunk, region)
                plans.append(_Plan(region, piece, layers, covered))
                for fragment, _ in layers:
                    if not fragment.stripped:
                        inline.update(fragment.directory(self.grid.chunks).inline_segments())
            if inline:
                self.source.prefetch(inline)
            composer = Composer(self, self.source)
            for plan in plans:
                work(plan, composer)
            composer.finish()

        parts = iter(lambda: list(islice(wanted, count)), [])
        self._crew.share(parts, do, alone=1 if self.codec.slow else ALONE)

    def _retrying(self, work: Callable[[], _Result]) -> _Result:
        """Once more with fresh rows where a segment was missing: compaction and vacuum may have moved on."""
        where = f"array {self.path!r}, version {self.version}"
        try:
            try:
                return work()
            except MissingFileError:
                self.timeline.forget(self.node)
            return work()
        except MissingFileError as error:
            self.timeline.require_retained(self.version)
            raise CorruptionError(f"{where}: {error}; run txstore verify") from error
        except CorruptionError as error:
            raise CorruptionError(f"{where}: {error}", error.place) from error

    def stored_fragments(self, selection: Selection | None) -> list[Fragment]:
        """Bases and fragments that concern a selection (None: the whole array), oldest first."""
        bounds = full(self.shape) if selection is None else selection.bounds
        if bounds is None or bounds.empty:
            return []
        found: dict[int, Fragment] = {}
        for partition, part in self._held_in(bounds):
            table, _ = self._tables(partition)
            assert table is not None
            fragments = table.fragments(self.version)
            for fragment in fragments if table.base is None else [table.base, *fragments]:
                if self._shown(fragment, part) is not None:
                    found[id(fragment)] = fragment
        if self.overlay is not None:
            found.update((id(one), one) for one in self.overlay.table.fragments() if one.clip.intersect(bounds))
        if selection is not None and selection.box is None:
            found = {key: one for key, one in found.items() if self._names(selection, one)}
        return sorted(found.values(), key=lambda one: one.order)

    def _held_in(self, bounds: Box) -> Iterator[tuple[bytes, Box]]:
        """What may have rows of its own in a box: WHOLE first, then partitions, each with its part of the box."""
        if self.node < 0:
            return
        yield WHOLE, bounds
        if self.grid.count_partitions(bounds) <= _FEW_PARTITIONS:
            yield from self.grid.partitions_in(bounds)
            return
        for partition in self.timeline.partitions(self.node, self.version):
            part = self.grid.partition_box(partition).intersect(bounds)
            if part is not None:
                yield partition, part

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
        keys = [key for key, _ in self._held_in(bounds) if key != WHOLE] if selection is not None else None
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
