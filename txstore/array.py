"""An array as a handle: reads through a snapshot or a transaction, writes through a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from txstore.attributes import Attributes
from txstore.errors import InvalidIndexError, InvalidInputError, NotFoundError, TxStoreError
from txstore.fragment import Fragment
from txstore.index.lookup import NodeRow
from txstore.pieces import Selection
from txstore.selection import parse, parse_orthogonal, parse_points
from txstore.tree import Tree, find

if TYPE_CHECKING:
    from collections.abc import Callable

    from txstore.commits import Appended, Commit


class Array:
    """One array at one version, or as a transaction sees it.

    Reading gives NumPy: integers give scalars, ``[...]`` an array, always a fresh and writable one.

    A handle is no array: it has no arithmetic, and ``==`` between two handles says whether they are the same object,
    not whether their cells are equal (``a[...] == b[...]`` does). Beside an ndarray, NumPy reads the handle and
    compares cells.

    Notes
    -----
    Safe for threads. An array of a snapshot can be pickled: it travels as address and version.
    """

    __slots__ = ("_path", "_row", "_tree")

    def __init__(self, tree: Tree, row: NodeRow, path: str) -> None:
        self._tree = tree
        self._row = row
        self._path = path

    # --- what it is -----------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Where it hangs, without a leading slash."""
        return self._path

    @property
    def version(self) -> int:
        """The version that is read."""
        return self._tree.version

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of each axis. In a transaction, looking at it pins this array's appends."""
        view = self._tree.view(self._row, self._path)
        self._tree.observe(self._row, self._path, (True,) * len(view.shape))
        return view.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of a cell, in native byte order."""
        return self._tree.view(self._row, self._path).meta.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Cells along each axis of a chunk."""
        return self._tree.view(self._row, self._path).meta.chunks

    @property
    def shards(self) -> tuple[int, ...] | None:
        """Cells along each axis of a shard; None without shards."""
        return self._tree.view(self._row, self._path).meta.shards

    @property
    def codecs(self) -> tuple[dict[str, Any], ...]:
        """The codecs after ``bytes``, as Zarr v3 writes them; empty: raw."""
        return self._tree.view(self._row, self._path).meta.codecs

    @property
    def fill_value(self) -> Any:
        """What unwritten cells hold, a NumPy scalar."""
        return self._tree.view(self._row, self._path).meta.fill_value[()]

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """The names of the axes, or None."""
        return self._tree.view(self._row, self._path).meta.dimension_names

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.chunks)

    @property
    def size(self) -> int:
        """The number of cells."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        """The bytes of all cells, uncompressed."""
        return self.size * self.dtype.itemsize

    @property
    def attrs(self) -> Attributes:
        """The attributes."""
        return Attributes(self._tree, self._row.id, self._path)

    @property
    def metadata(self) -> dict[str, Any]:
        """The Zarr v3 metadata document, a fresh dict."""
        return self._tree.view(self._row, self._path).meta.to_document(self.shape, self.attrs.asdict())

    def __repr__(self) -> str:
        try:
            view = self._tree.view(self._row, self._path)
        except TxStoreError:
            return f"<txstore.Array {self._path!r}, closed>"
        return f"<txstore.Array {self._path!r} {view.shape} {view.meta.dtype} at version {self._tree.version}>"

    def __bool__(self) -> bool:
        # A handle is there, whatever it holds; len() would look at the end and pin appends.
        return True

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError("len() of an array of zero dimensions")
        return shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over an array of zero dimensions")
        for i in range(len(self)):
            yield self[i]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a stored array can't be had without a copy")
        values: NDArray[Any] = np.asarray(self[...])
        return values if dtype is None else values.astype(dtype, copy=False)

    # --- reading --------------------------------------------------------------------------------

    def _parsed(self, parser: Callable[[Any, tuple[int, ...]], Selection], sel: Any) -> Selection:
        view = self._tree.view(self._row, self._path)
        try:
            selection = parser(sel, view.shape)
        except InvalidIndexError as error:
            raise InvalidIndexError(f"array {self._path!r}: {error}") from None
        if True in selection.observes:
            self._tree.observe(self._row, self._path, selection.observes)
        return selection

    def _read(self, selection: Selection, out: NDArray[Any] | None = None) -> Any:
        self._tree.note_read(self._row, self._path, selection)
        view = self._tree.view(self._row, self._path)
        if out is None:
            return selection.result(view.read(selection))
        if not isinstance(out, np.ndarray):
            raise InvalidInputError(f"out= of array {self._path!r} must be an ndarray, not {type(out).__name__}")
        if not out.flags.writeable:
            raise InvalidInputError(f"out= of array {self._path!r} must be writable, and it is read-only")
        if out.shape != selection.result_shape or out.dtype != view.meta.dtype:
            raise InvalidInputError(
                f"out= of array {self._path!r} must be of shape {selection.result_shape} and dtype "
                f"{view.meta.dtype}; it has shape {out.shape} and dtype {out.dtype}"
            )
        if selection.work_shape == out.shape and selection.result(out) is out:
            view.read(selection, out)
        else:
            out[...] = selection.result(view.read(selection))
        return out

    def __getitem__(self, sel: Any) -> Any:
        if isinstance(sel, str) or (isinstance(sel, list) and sel and all(isinstance(name, str) for name in sel)):
            return self.read(..., fields=sel)
        return self._read(self._parsed(parse, sel))

    def read(self, sel: Any = ..., *, out: NDArray[Any] | None = None, fields: str | list[str] | None = None) -> Any:
        """The cells of a selection.

        Parameters
        ----------
        sel : index
            As in ``[]``: integers, slices, ``...``, one index list or one boolean mask.
        out : ndarray, optional
            Where to put them: the shape of the result, the array's dtype. Saves the memory of a result.
        fields : str or list of str, optional
            Fields of a structured dtype.

        Returns
        -------
        ndarray or scalar
            `out`, if given.

        Raises
        ------
        InvalidIndexError
            If the selection does not fit the array.
        InvalidInputError
            If `out` or `fields` do not fit.
        CorruptionError, SnapshotExpiredError
            If the bytes are damaged, or gone with their version.
        """
        if fields is None:
            return self._read(self._parsed(parse, sel), out)
        names = self.dtype.names or ()
        if not names:
            raise InvalidInputError(f"array {self._path!r} has no fields, its dtype is {self.dtype}; not {fields!r}")
        wanted = [fields] if isinstance(fields, str) else list(fields)
        if not wanted or any(name not in names for name in wanted):
            raise InvalidInputError(f"array {self._path!r} has the fields {list(names)}, not {fields!r}")
        values = self._read(self._parsed(parse, sel))
        picked = values[fields if isinstance(fields, str) else wanted]
        if out is None:
            return picked.copy() if isinstance(picked, np.ndarray) else picked
        if out.shape != np.shape(picked):
            raise InvalidInputError(f"out= of array {self._path!r} must have shape {np.shape(picked)}, not {out.shape}")
        out[...] = picked
        return out

    @property
    def oindex(self) -> Indexer:
        """Orthogonal indexing: each axis by an integer, a slice, a list or a mask of its own."""
        return Indexer(self, parse_orthogonal)

    @property
    def vindex(self) -> Indexer:
        """Indexing by points: one list of coordinates per axis, broadcast, or a mask of the whole shape."""
        return Indexer(self, parse_points)

    def history(self, sel: Any = None) -> list[Commit]:
        """The commits that wrote into a selection (None: into the array), newest first, as far as they are kept.

        Raises
        ------
        InvalidIndexError
            If the selection does not fit the array.
        """
        return self._tree.history(self._row, None if sel is None else self._parsed(parse, sel))

    def fragments(self, sel: Any = None) -> list[Fragment]:
        """What is stored for a selection (None: for the whole array), oldest first: bases and fragments."""
        view = self._tree.view(self._row, self._path)
        return view.stored_fragments(None if sel is None else self._parsed(parse, sel))

    # --- writing --------------------------------------------------------------------------------

    def __setitem__(self, sel: Any, values: Any) -> None:
        self.write(sel, values)

    def write(self, sel: Any, values: Any, *, casting: str | None = None) -> None:
        """Write cells.

        Parameters
        ----------
        sel : index
            As in ``[]``.
        values : array_like
            Broadcast as NumPy does.
        casting : str, optional
            A casting rule of NumPy (``"unsafe"``, ...) in place of the store's own.

        Raises
        ------
        ReadOnlyError
            Through a snapshot.
        InvalidIndexError, InvalidInputError, DTypeError
            If the selection, the shape or the dtype does not fit; nothing is staged then.
        """
        writer = self._tree.writer(f"{self._path!r}")
        writer.write(self._row, self._path, self._parsed(parse, sel), values, casting)

    def accumulate(self, sel: Any, values: Any, op: str = "add") -> None:
        """Add to cells (or take the minimum or maximum), in a way that commutes with others doing the same.

        Parameters
        ----------
        sel : index or Indexer selection
            As in ``[]``; a tuple of coordinate lists goes through ``vindex``'s twin, :meth:`Indexer.accumulate`.
        values : array_like
            Broadcast as NumPy does; cells that are named twice count twice (they are folded within the call first).
        op : {"add", "min", "max"}
            The operation.

        Raises
        ------
        ReadOnlyError, InvalidIndexError, InvalidInputError, DTypeError
            As :meth:`write`; DTypeError also for dtypes that know no such operation.

        Notes
        -----
        As ``np.add.at``: sums of integers that do not fit wrap around without a word (255 + 1 is 0 in uint8), and
        those of floats overflow to infinity. The values themselves must fit.
        """
        writer = self._tree.writer(f"{self._path!r}")
        writer.accumulate(self._row, self._path, self._parsed(parse, sel), values, op)

    def append(self, values: Any, axis: int = 0, *, casting: str | None = None) -> Appended:
        """Put cells past the end of an axis; where that is turns out at the commit.

        Parameters
        ----------
        values : array_like
            The array's shape but along `axis`; a block without that axis counts as one slab.
        axis : int
            The axis, negative from the last.

        Returns
        -------
        Appended
            Its ``box`` is final after the commit.

        Raises
        ------
        ReadOnlyError, InvalidInputError, DTypeError
            Through a snapshot, or if shape or dtype does not fit.
        """
        appended: Appended = self._tree.writer(f"{self._path!r}").append(self._row, self._path, values, axis, casting)
        return appended

    def resize(self, shape: int | tuple[int, ...]) -> None:
        """Give the array another shape; cells that are cut off are gone, new ones hold fill.

        Raises
        ------
        ReadOnlyError, InvalidInputError
            Through a snapshot, or if the shape has another number of axes or a negative extent.
        """
        self._tree.writer(f"{self._path!r}").resize(self._row, self._path, shape)

    def clear(self, sel: Any = ...) -> None:
        """Return cells to fill; stores no bytes.

        Raises
        ------
        ReadOnlyError, InvalidIndexError
            Through a snapshot, or if the selection does not fit.
        """
        writer = self._tree.writer(f"{self._path!r}")
        writer.clear(self._row, self._path, self._parsed(parse, sel))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._tree, self._path)


class Indexer:
    """Another way of indexing an array, for reading, writing and accumulating."""

    __slots__ = ("_array", "_parser")

    def __init__(self, array: Array, parser: Callable[[Any, tuple[int, ...]], Selection]) -> None:
        self._array = array
        self._parser = parser

    def __getitem__(self, sel: Any) -> Any:
        return self._array._read(self._array._parsed(self._parser, sel))

    def __setitem__(self, sel: Any, values: Any) -> None:
        self.write(sel, values)

    def write(self, sel: Any, values: Any, *, casting: str | None = None) -> None:
        """As :meth:`Array.write`, with this way of indexing."""
        array = self._array
        writer = array._tree.writer(f"{array.path!r}")
        writer.write(array._row, array.path, array._parsed(self._parser, sel), values, casting)

    def accumulate(self, sel: Any, values: Any, op: str = "add") -> None:
        """As :meth:`Array.accumulate`, with this way of indexing."""
        array = self._array
        writer = array._tree.writer(f"{array.path!r}")
        writer.accumulate(array._row, array.path, array._parsed(self._parser, sel), values, op)

    def clear(self, sel: Any) -> None:
        """As :meth:`Array.clear`, with this way of indexing."""
        array = self._array
        array._tree.writer(f"{array.path!r}").clear(array._row, array.path, array._parsed(self._parser, sel))


def _reopen(tree: Tree, path: str) -> Array:
    row = find(tree, path)
    if row is None:
        raise NotFoundError(f"there is no {path!r} at version {tree.version}")
    return Array(tree, row, path)
